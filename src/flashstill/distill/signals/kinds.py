"""Kinds of signal: what is stored of the teacher's output for each token, and how it is decoded.

    hidden    the hidden state after the final norm, d_model bf16 values; the teacher's head turns it into all logits
    sampled   ids sampled from the teacher, with counts (about a dozen distinct ids); the cross-entropy to them has, in
              expectation, the gradient of the forward KL (Anshumann et al. 2025, "Sparse Logit Sampling")
    topk      the k likeliest ids with their log-probabilities; the remaining mass is one tail bucket

Sampling is systematic: one uniform u per token gives the n points (i + u)/n, i < n, which are mapped through the
inverse CDF.  An id of probability p is drawn n p times in expectation, as with independent sampling, but its count
always differs from n p by less than 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.losses import Head, Sparse, as_head
from flashstill.distill.models import STORED
from flashstill.distill.models.devices import widest
from flashstill.errors import BadInput, unknown

STRIP = 16  # tokens whose full distributions are in memory at a time


class Kind(Protocol):
    """A kind of signal: how the teacher's output is encoded for storage."""

    @property
    def key(self) -> dict[str, Any]:
        """The kind's name and settings, as recorded in the manifest."""
        ...

    def encode(self, hidden: Tensor, head: Tensor | Head, windows: Sequence[int]) -> dict[str, Tensor]:
        """The tensors to store for B windows: hidden [B, L, d] that arrive at the head; windows: indices."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Hidden:
    """Exact signals: the final hidden states in bfloat16."""

    @property
    def key(self) -> dict[str, Any]:
        return {"kind": "hidden"}

    def encode(self, hidden: Tensor, head: Tensor | Head, windows: Sequence[int]) -> dict[str, Tensor]:
        return {"hidden": hidden.to(STORED)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """Unbiased sampled signals. draws: samples per token, 1 to 255; stored as distinct ids and their counts."""

    draws: int = 26
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.draws <= 255:
            raise BadInput(f"{self.draws} draws per token are out of range; give 1 to 255")

    @property
    def key(self) -> dict[str, Any]:
        return {"kind": "sampled", **asdict(self)}

    def encode(self, hidden: Tensor, head: Tensor | Head, windows: Sequence[int]) -> dict[str, Tensor]:
        """ids [M] and counts [M] of all tokens, concatenated; unique [B, L]: number of distinct ids of each token."""
        batch, length, width = hidden.shape
        wide = widest(hidden.device)
        starts = torch.cat([_uniform(self.seed, window, length) for window in windows]).to(hidden.device, wide)
        parts = [
            _counted(systematic(_probabilities(rows, head), self.draws, start))
            for rows, start in zip(torch.split(hidden.view(-1, width), STRIP), torch.split(starts, STRIP), strict=True)
        ]
        ids, counts, unique = (torch.cat(each) for each in zip(*parts, strict=True))
        return {
            "ids": ids.to(narrowest(head.shape[0])),
            "counts": counts.to(torch.uint8),
            "unique": unique.view(batch, length).to(torch.uint8),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class TopK:
    """Top-k signals: biased, since probabilities outside the top k are unknown; the tail bucket limits the bias."""

    k: int = 64

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadInput(f"top-k signals need k of at least 1, not {self.k}")

    @property
    def key(self) -> dict[str, Any]:
        return {"kind": "topk", **asdict(self)}

    def encode(self, hidden: Tensor, head: Tensor | Head, windows: Sequence[int]) -> dict[str, Tensor]:
        """ids and log_p (float16) [B, L, k], likeliest first; equally likely ids in any order."""
        batch, length, width = hidden.shape
        parts = [_probabilities(rows, head).topk(self.k) for rows in torch.split(hidden.view(-1, width), STRIP)]
        ids, p = torch.cat([each.indices for each in parts]), torch.cat([each.values for each in parts])
        return {
            "ids": ids.view(batch, length, self.k).to(narrowest(head.shape[0])),
            "log_p": p.log().view(batch, length, self.k).half(),
        }


KINDS = ("hidden", "sampled", "topk")


def kind(name: str, draws: int, k: int, seed: int) -> Kind:
    """A kind by name: `draws` and `seed` apply to "sampled", `k` to "topk"; BadInput for an unknown name."""
    if name not in KINDS:
        raise BadInput(unknown("kind of signal", name, KINDS))
    return Hidden() if name == "hidden" else Sampled(draws=draws, seed=seed) if name == "sampled" else TopK(k=k)


def narrowest(vocabulary: int) -> torch.dtype:
    """The smaller of uint16 and int32 that holds every id of a vocabulary."""
    return torch.uint16 if vocabulary <= 2**16 else torch.int32


def systematic(probabilities: Tensor, draws: int, start: Tensor) -> Tensor:
    """Systematic sampling: ids [N, draws], ascending per row, from probabilities [N, V] and one uniform per row, start
    [N]."""
    wide = widest(probabilities.device)
    summed = probabilities.to(wide).cumsum(-1)
    steps = torch.arange(draws, dtype=wide, device=summed.device)
    points = (steps + start.to(wide)[:, None]) / draws * summed[:, -1:]
    return torch.searchsorted(summed, points, right=True).clamp_(max=probabilities.shape[-1] - 1)


def sampled_teacher(ids: Tensor, counts: Tensor, unique: Tensor, draws: int) -> Sparse:
    """A sparse teacher with weights count/draws, from the stored ids [M], counts [M] and unique [N] of N tokens."""
    lengths = unique.long()
    most = max(1, int(lengths.max()))
    places = torch.arange(most, device=ids.device)[None, :] < lengths[:, None]
    wide_ids = torch.zeros(places.shape, dtype=torch.int64, device=ids.device)
    weights = torch.zeros(places.shape, device=ids.device)
    wide_ids[places] = ids.long()
    weights[places] = counts.float() / draws
    return Sparse(ids=wide_ids, weights=weights)


def topk_teacher(ids: Tensor, log_p: Tensor) -> Sparse:
    """A sparse teacher with a tail bucket, from the stored ids and log-probabilities [N, k]."""
    return Sparse(ids=ids.long(), weights=log_p.float().exp(), tail=True)


def _probabilities(hidden: Tensor, head: Tensor | Head) -> Tensor:
    linear = as_head(head)
    return torch.softmax(linear.finish_(linear.raw(hidden).float()), -1)


def _counted(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Run-length encode ascending rows [N, draws]: distinct ids [M], counts [M], number of distinct ids per row [N]."""
    rows = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
    span = int(ids.max()) + 1
    distinct, counts = torch.unique_consecutive((rows * span + ids).flatten(), return_counts=True)
    return distinct % span, counts, torch.bincount(distinct // span, minlength=len(ids))


def _uniform(seed: int, window: int, length: int) -> Tensor:
    """Uniforms [length] of a window, one per token, which depend only on the seed and the window index."""
    # NumPy's generator, because torch's uses only 32 bits of the seed: all seeds n << 32 would give the same draws
    return torch.from_numpy(np.random.default_rng([seed, window]).random(length))
