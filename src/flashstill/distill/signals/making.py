"""Build signals: run the teacher over a packing and store its outputs; resumable, in one or several processes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.data.packing import Packed
from flashstill.distill.data.views import View
from flashstill.distill.losses import Head
from flashstill.distill.models import STORED, Model, parts
from flashstill.distill.models.causality import check_causal
from flashstill.distill.models.devices import windows_a_pass
from flashstill.distill.models.documents import states_of
from flashstill.distill.signals import finite
from flashstill.distill.signals.kinds import Hidden, Kind
from flashstill.distill.signals.store import Store, shard
from flashstill.errors import BadInput, UnsupportedArchitecture
from flashstill.progress import Progress

WINDOWS_PER_PASS = 4
"""on the CPU"""
HEAD = "head"
_LOGIT_TOLERANCE = 0.05  # relative; allows for bf16 rounding, while a softcap or bias differs by far more


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """Summary of a build: tokens that this process made, its seconds, and the directory's size in bytes."""

    tokens: int
    seconds: float
    bytes: int


def hidden_states(model: Model, tokens: Tensor, starts: Tensor | None = None) -> Tensor:
    """Final hidden states [B, L, d] of token ids [B, L] of any device, on the device of the LM head; starts: of
    documents (models/documents.py)."""
    return states_of(parts(model), tokens, starts)


def inputs_of(packed: Packed, windows: range) -> tuple[Tensor, Tensor | None]:
    """Token ids [B, L] of some windows, and where documents start in them [B, L]."""
    part = slice(windows.start, windows.stop)
    rows = torch.from_numpy(packed.tokens[part, :-1].astype(np.int64))
    return rows, None if packed.starts is None else torch.from_numpy(packed.starts[part] != 0)


def aligned(states: Tensor, place: Tensor) -> Tensor:
    """States [B, L, d] at the student's targets, of a teacher's [B, M, d] (data/views.py); place [B, L], any at -1."""
    wanted = place.clamp(min=0).to(states.device, torch.int64)
    return states.gather(1, wanted[..., None].expand(-1, -1, states.shape[-1]))


def signal_key(kind: Kind, teacher: str, tokenizer: str, packed: Packed, view: View | None = None) -> dict[str, Any]:
    """The key that identifies signals in their manifest. teacher, tokenizer: fingerprints (models/fingerprints.py)."""
    kind_key: Mapping[str, Any] = kind.key
    key = {**kind_key, "teacher": teacher, "tokenizer": tokenizer, "packing": packed.hash, "windows": packed.windows}
    return {**key, "view": view.hash} if view else key


def build(
    model: Model,
    kind: Kind,
    key: Mapping[str, Any],
    packed: Packed,
    directory: Path,
    progress: Progress,
    name: str,
    share: tuple[int, int] = (0, 1),
    teacher: str = "",
    view: View | None = None,
) -> Built:
    """Build the missing shards in `directory`; with share = (i, n), only the shards i, i + n, i + 2n, ...

    name: label of the progress bar; teacher: its name in messages; view: what it reads, if not the packed
    text.  Raises BadInput if the directory was built for
    another teacher, tokenizer or packing, if the packing holds token ids outside the teacher's vocabulary, or if the
    teacher's outputs are not finite.
    """
    store = Store(directory, key, packed.windows)
    store.begin()
    mine, missing = store.shared(share), store.missing(share)
    if not missing and store.has(HEAD):
        return Built(tokens=0, seconds=0.0, bytes=store.bytes)
    head = parts(model).head.detach()
    finite.check_head(head.weight, teacher or name)
    _check_vocabulary(packed, head.shape[0])
    check_head(model, packed)
    if isinstance(kind, Hidden) and not store.has(HEAD):
        store.write(HEAD, head_tensors(head.to(STORED)))
    whole, left = (sum(len(store.range(start)) for start in each) * packed.length for each in (mine, missing))
    step = windows_a_pass(head.device, packed.length, WINDOWS_PER_PASS)
    started, counted = time.perf_counter(), 0
    with progress.task(name, whole, "tokens", whole - left) as advance:
        for start in missing:
            pieces = []
            for first in store.range(start)[::step]:
                windows = range(first, min(first + step, store.range(start).stop))
                rows, starts = inputs_of(view.packed if view else packed, windows)
                with torch.inference_mode():
                    states = hidden_states(model, rows, starts)
                    if view:
                        states = aligned(states, torch.from_numpy(view.place[windows.start : windows.stop]))
                    finite.check_teacher(states, teacher or name, windows, packed.target_document)
                    tensors = kind.encode(states, head, windows)
                pieces.append({part: tensor.cpu() for part, tensor in tensors.items()})
                counted += len(windows) * packed.length
                advance(len(windows) * packed.length)
            store.write(shard(start), {part: torch.cat([piece[part] for piece in pieces]) for part in pieces[0]})
    return Built(tokens=counted, seconds=time.perf_counter() - started, bytes=store.bytes)


def check_head(model: Model, packed: Packed) -> None:
    """UnsupportedArchitecture if the model's logits are not those of its head on the start of the first window."""
    probe = torch.from_numpy(packed.tokens[:1, : min(16, packed.length)].astype(np.int64))
    check_causal(model, probe)
    check_head_on(model, probe)


def check_head_on(model: Model, tokens: Tensor) -> None:
    """UnsupportedArchitecture if the model's logits are not those of its head on token ids [1, L]."""
    tokens = tokens.to(parts(model).head.device)
    with torch.inference_mode():
        ours = parts(model).head.widened().logits(hidden_states(model, tokens))
        theirs = model(input_ids=tokens, use_cache=False).logits.to(ours.device).float()
    scale = float(theirs.abs().max()) or 1.0
    if float((ours - theirs).abs().max()) > _LOGIT_TOLERANCE * scale:
        raise UnsupportedArchitecture(f"{type(model).__name__} makes its logits in another way than by its head")


def head_tensors(head: Head) -> dict[str, Tensor]:
    """A head as tensors to store: "head" [V, d]; "bias" [V] if it has one; "rule": multiplier and cap, if any."""
    tensors = {"head": head.weight.contiguous()}
    if head.bias is not None:
        tensors["bias"] = head.bias.contiguous()
    if not head.is_linear:
        tensors["rule"] = torch.tensor([head.scale, head.cap or 0.0], dtype=torch.float64)
    return tensors


def head_of(tensors: Mapping[str, Tensor]) -> Head:
    """The head of `head_tensors`."""
    scale, cap = tensors["rule"].tolist() if "rule" in tensors else (1.0, 0.0)
    return Head(weight=tensors["head"], bias=tensors.get("bias"), scale=scale, cap=cap or None)


def _check_vocabulary(packed: Packed, vocabulary: int) -> None:
    largest = int(packed.tokens.max())
    if largest >= vocabulary:
        raise BadInput(f"the text holds token {largest}, but the teacher knows only {vocabulary}: another tokenizer's")
