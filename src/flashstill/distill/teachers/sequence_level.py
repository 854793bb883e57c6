"""Text that a teacher writes for its student: sequence-level knowledge distillation (Kim and Rush 2016, section 3.2).

    L = - sum_t log q(y_t | y_<t, x),    y drawn from the teacher (their beam's best: temperature 0 is its nearest here)

Every window of a packing gives a prompt, its first tokens, and the teacher continues it one or several times.  Shards
of rows are sampled as a whole, so that a build that was stopped, or shared by several processes, ends with the same
text; together they are a packing whose mask leaves the prompts out.
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
from flashstill.distill.generate import Sampling, continued, sample
from flashstill.distill.losses import Workspace
from flashstill.distill.models import Model
from flashstill.distill.signals.making import Built
from flashstill.distill.signals.store import Store, shard
from flashstill.errors import BadInput
from flashstill.progress import Progress

ROWS_PER_SHARD = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuations:
    """What is asked of the teacher: `samples` continuations of the first `prompt_tokens` of every window."""

    prompt_tokens: int
    samples: int
    sampling: Sampling


def text_key(teacher: str, tokenizer: str, packed: Packed, continuations: Continuations) -> dict[str, Any]:
    """The key under which a teacher's text is stored. teacher, tokenizer: fingerprints."""
    key = {"teacher": teacher, "tokenizer": tokenizer, "packing": packed.hash, **asdict(continuations)}
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
    """Fill `directory` with the shards that are not there; share = (i, n) makes only every n-th, from the i-th.

    Raises BadInput where the directory is another teacher's, packing's or settings', or a window too short.
    """
    if continuations.prompt_tokens > packed.length + 1:
        raise BadInput(f"prompts of {continuations.prompt_tokens} tokens do not fit windows of {packed.length + 1}")
    store = _store(directory, key, packed, continuations)
    store.begin()
    missing = store.missing(share)
    whole, left = (sum(len(store.range(start)) for start in each) for each in (store.shared(share), missing))
    started, counted, space = time.perf_counter(), 0, Workspace()
    with progress.task(name, whole, "rows", whole - left) as advance:
        for start in missing:
            rows = np.asarray(store.range(start))
            prompts = packed.tokens[rows // continuations.samples, : continuations.prompt_tokens]
            samples = sample(model, list(prompts), continuations.sampling, rows.tolist(), advance, space)
            store.write(
                shard(start), {"tokens": torch.from_numpy(samples.tokens), "log_p": torch.from_numpy(samples.log_p)}
            )
            counted += int(samples.lengths.sum())
    return Built(tokens=counted, seconds=time.perf_counter() - started, bytes=store.bytes)


def text_of(packed: Packed, continuations: Continuations, key: Mapping[str, Any], directory: Path) -> Packed:
    """All that was written, as a packing: a row is a window of prompt and continuation, learned from by the latter.

    target_document is the window that the prompt is from.  BadInput where a shard is missing.
    """
    lacking = missing_shards(packed, continuations, key, directory)
    if lacking:
        raise BadInput(f"the teacher's text in {directory} lacks {lacking} shards; run it again to make them")
    store = _store(directory, key, packed, continuations)
    drawn = np.concatenate([store.open(start).get_tensor("tokens").numpy() for start in store.starts])
    windows = np.arange(store.windows) // continuations.samples
    length = continuations.prompt_tokens + continuations.sampling.new_tokens - 1
    tokens, mask = continued(packed.tokens[windows, : continuations.prompt_tokens], drawn, length)
    return Packed(
        tokens=tokens,
        target_bytes=np.zeros(mask.shape, dtype=np.int32),
        target_document=np.repeat(windows[:, None], length, 1).astype(np.int32),
        target_mask=mask.astype(np.int32),
    )


def missing_shards(packed: Packed, continuations: Continuations, key: Mapping[str, Any], directory: Path) -> int:
    """How many shards of the teacher's text are absent or damaged."""
    store = _store(directory, key, packed, continuations)
    return len(store.missing() if store.check() else store.starts)


def _store(directory: Path, key: Mapping[str, Any], packed: Packed, continuations: Continuations) -> Store:
    return Store(directory, key, packed.windows * continuations.samples, ROWS_PER_SHARD, "texts")
