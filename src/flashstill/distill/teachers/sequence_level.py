"""Sequence-level knowledge distillation (Kim and Rush 2016, section 3.2): train on text that the teacher generates.

    L = - sum_t log q(y_t | y_<t, x),    y sampled from the teacher (the paper uses beam search; closest: temperature 0)

The first tokens of every window of a packing are a prompt, which the teacher continues one or more times.  Text is
sampled in whole shards of rows, so that a build that was interrupted or split over processes gives the same text.  The
result is a packing whose mask excludes the prompts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.data.pieces import Ints
from flashstill.distill.data.prompts import digest_of, prompts_of
from flashstill.distill.generate import Samples, Sampling, continued, sample
from flashstill.distill.losses import Workspace
from flashstill.distill.models import Model
from flashstill.distill.signals.making import Built
from flashstill.distill.signals.store import Store, shard
from flashstill.errors import BadInput
from flashstill.progress import Progress

ROWS_PER_SHARD = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuations:
    """What to generate: `samples` continuations of every prompt: of conversations all before the last answer, of text
    the first `prompt_tokens` tokens of every window."""

    prompt_tokens: int
    samples: int
    sampling: Sampling


def text_key(teacher: str, tokenizer: str, packed: Packed, continuations: Continuations) -> dict[str, Any]:
    """The key that identifies a teacher's generated text in its manifest. teacher, tokenizer: fingerprints."""
    key = {"teacher": teacher, "tokenizer": tokenizer, "packing": packed.hash, **asdict(continuations)}
    prompts = _prompts(packed, continuations)
    if len(prompts) != packed.windows or any(len(prompt) != continuations.prompt_tokens for prompt in prompts):
        key["prompts"] = digest_of(prompts)
    plain: dict[str, Any] = json.loads(json.dumps(key))  # tuples become lists, as when the manifest is read back
    return plain


def write_text(
    model: Model,
    packed: Packed,
    continuations: Continuations,
    key: Mapping[str, Any],
    directory: Path,
    progress: Progress,
    name: str,
    share: tuple[int, int] = (0, 1),
) -> Built:
    """Generate the missing shards in `directory`; with share = (i, n), only the shards i, i + n, i + 2n, ...

    name: label of the progress bar.  Raises BadInput if the directory was made for another teacher, packing or
    settings, or if a window is shorter than a prompt.
    """
    if continuations.prompt_tokens > packed.length + 1:
        raise BadInput(f"prompts of {continuations.prompt_tokens} tokens do not fit windows of {packed.length + 1}")
    prompts = _prompts(packed, continuations)
    store = _store(directory, key, packed, continuations)
    store.begin()
    missing = store.missing(share)
    whole, left = (sum(len(store.range(start)) for start in each) for each in (store.shared(share), missing))
    started, counted, space = time.perf_counter(), 0, Workspace()
    with progress.task(name, whole, "rows", whole - left) as advance:
        for start in missing:
            rows = np.asarray(store.range(start))
            asked = [prompts[row // continuations.samples] for row in rows.tolist()]
            samples = sample(model, asked, continuations.sampling, rows.tolist(), advance, space)
            _check_finite(samples, rows // continuations.samples, name)
            store.write(
                shard(start), {"tokens": torch.from_numpy(samples.tokens), "log_p": torch.from_numpy(samples.log_p)}
            )
            counted += int(samples.lengths.sum())
    return Built(tokens=counted, seconds=time.perf_counter() - started, bytes=store.bytes)


def _check_finite(samples: Samples, windows: np.ndarray, name: str) -> None:
    """BadInput if the log-probability of a sampled token is not finite. windows [R]: of the prompts; name: a label."""
    bad = (samples.tokens >= 0) & ~np.isfinite(samples.log_p)
    if bad.any():
        row, place = (int(each) for each in np.argwhere(bad)[0])
        raise BadInput(
            f"{name}: the teacher's outputs are not finite (NaN or infinity) at new token {place} after the prompt of"
            f" window {int(windows[row])}; look at its weights, or run it in another arithmetic (train.arithmetic)"
        )


def text_of(packed: Packed, continuations: Continuations, key: Mapping[str, Any], directory: Path) -> Packed:
    """All generated text as a packing: each row is a prompt with one continuation, and only the latter is a target.

    target_document is the index of the prompt; target_bytes is 0.  Raises BadInput if a shard is missing.
    """
    lacking = missing_shards(packed, continuations, key, directory)
    if lacking:
        raise BadInput(f"the teacher's text in {directory} lacks {lacking} shards; run it again to make them")
    store = _store(directory, key, packed, continuations)
    drawn = np.concatenate([store.open(start).get_tensor("tokens").numpy() for start in store.starts])
    prompts = _prompts(packed, continuations)
    windows = np.arange(store.windows) // continuations.samples
    longest = max(len(prompt) for prompt in prompts)
    length = min(packed.length, longest + continuations.sampling.new_tokens - 1)
    tokens, mask = continued([prompts[window] for window in windows.tolist()], drawn, length)
    return Packed(
        tokens=tokens,
        target_bytes=np.zeros(mask.shape, dtype=np.int32),
        target_document=np.repeat(windows[:, None], length, 1).astype(np.int32),
        target_mask=mask.astype(np.int32),
    )


def missing_shards(packed: Packed, continuations: Continuations, key: Mapping[str, Any], directory: Path) -> int:
    """Number of shards of the teacher's text that are missing or damaged."""
    store = _store(directory, key, packed, continuations)
    return len(store.missing() if store.check() else store.starts)


def _store(directory: Path, key: Mapping[str, Any], packed: Packed, continuations: Continuations) -> Store:
    count = len(_prompts(packed, continuations)) * continuations.samples
    return Store(directory, key, count, ROWS_PER_SHARD, "texts")


def _prompts(packed: Packed, continuations: Continuations) -> list[Ints]:
    return prompts_of(packed, continuations.prompt_tokens, packed.length)
