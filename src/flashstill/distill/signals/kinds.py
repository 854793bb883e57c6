"""What is kept of the teacher's output for a token, and how it is read back.

    hidden    the state after the final norm; with the teacher's head it gives every logit: d_model bf16 values
    sampled   ids drawn from the teacher, and how often: the cross-entropy to them has the gradient of the forward KL in
              expectation (Anshumann et al. 2025, "Sparse Logit Sampling"); about a dozen ids
    topk      the k likeliest ids with their log-probabilities; the rest of the mass is one bucket

Draws are systematic: with one uniform u a token, (i + u)/n for i < n through the cumulated probabilities.  An id of
probability p is drawn n p times in expectation, as with independent draws, but never more than one draw away from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.losses import Sparse
from flashstill.distill.models import STORED
from flashstill.errors import BadInput, unknown

STRIP = 16  # tokens whose full distributions are in memory at a time


class Kind(Protocol):
    """A way to keep the teacher's output."""

    @property
    def key(self) -> dict[str, Any]:
        """The kind's name and settings, as the manifest records them."""
        ...

    def encode(self, hidden: Tensor, head: Tensor, windows: Sequence[int]) -> dict[str, Tensor]:
        """Arrays to keep, of final hidden states [B, L, d] of these windows."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Hidden:
    """The final hidden states themselves: exact."""

    @property
    def key(self) -> dict[str, Any]:
        return {"kind": "hidden"}

    def encode(self, hidden: Tensor, head: Tensor, windows: Sequence[int]) -> dict[str, Tensor]:
        return {"hidden": hidden.to(STORED)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """Unbiased. draws: how many a token; ids found and their counts are kept, one after another."""

    draws: int = 26
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.draws <= 255:
            raise BadInput(f"{self.draws} draws per token are out of range; give 1 to 255")

    @property
    def key(self) -> dict[str, Any]:
        return {"kind": "sampled", **asdict(self)}

    def encode(self, hidden: Tensor, head: Tensor, windows: Sequence[int]) -> dict[str, Tensor]:
        """ids [M], counts [M], unique [B, L]: how many of them belong to each token."""
        batch, length, width = hidden.shape
        starts = torch.cat([_uniform(self.seed, window, length) for window in windows])
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
    """The likeliest ids; biased as far as the rest is not known one by one, which the bucket keeps in bounds."""

    k: int = 64

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadInput(f"top-k signals need k of at least 1, not {self.k}")

    @property
    def key(self) -> dict[str, Any]:
        return {"kind": "topk", **asdict(self)}

    def encode(self, hidden: Tensor, head: Tensor, windows: Sequence[int]) -> dict[str, Tensor]:
        """ids and log_p [B, L, k], the likeliest first."""
        batch, length, width = hidden.shape
        parts = [_probabilities(rows, head).topk(self.k) for rows in torch.split(hidden.view(-1, width), STRIP)]
        ids, p = torch.cat([each.indices for each in parts]), torch.cat([each.values for each in parts])
        return {
            "ids": ids.view(batch, length, self.k).to(narrowest(head.shape[0])),
            "log_p": p.log().view(batch, length, self.k).half(),
        }


KINDS = ("hidden", "sampled", "topk")


def kind(name: str, draws: int, k: int, seed: int) -> Kind:
    """A kind by name, with the setting that belongs to it."""
    if name not in KINDS:
        raise BadInput(unknown("kind of signal", name, KINDS))
    return Hidden() if name == "hidden" else Sampled(draws=draws, seed=seed) if name == "sampled" else TopK(k=k)


def narrowest(vocabulary: int) -> torch.dtype:
    """The narrowest integer format that holds every id of a vocabulary."""
    return torch.uint16 if vocabulary <= 2**16 else torch.int32


def systematic(probabilities: Tensor, draws: int, start: Tensor) -> Tensor:
    """Ids [N, draws] in ascending order, drawn from probabilities [N, V] with one uniform each, start [N]."""
    summed = probabilities.double().cumsum(-1)
    steps = torch.arange(draws, dtype=torch.float64, device=summed.device)
    points = (steps + start.double()[:, None]) / draws * summed[:, -1:]
    return torch.searchsorted(summed, points, right=True).clamp_(max=probabilities.shape[-1] - 1)


def sampled_teacher(ids: Tensor, counts: Tensor, unique: Tensor, draws: int) -> Sparse:
    """Ids [M] and counts [M] of N tokens, unique [N] of them each, as a teacher of weights count/draws."""
    lengths = unique.long()
    most = max(1, int(lengths.max()))
    places = torch.arange(most)[None, :] < lengths[:, None]
    wide_ids = torch.zeros(places.shape, dtype=torch.int64)
    weights = torch.zeros(places.shape)
    wide_ids[places] = ids.long()
    weights[places] = counts.float() / draws
    return Sparse(ids=wide_ids, weights=weights)


def topk_teacher(ids: Tensor, log_p: Tensor) -> Sparse:
    """Ids and log-probabilities [N, k] as a teacher with a bucket for the rest."""
    return Sparse(ids=ids.long(), weights=log_p.float().exp(), tail=True)


def _probabilities(hidden: Tensor, head: Tensor) -> Tensor:
    return torch.softmax((hidden.to(head.dtype) @ head.T).float(), -1)


def _counted(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct ids of each row of ascending ones, how often each came, and how many there are of a row."""
    rows = torch.arange(len(ids))[:, None].expand_as(ids)
    span = int(ids.max()) + 1
    distinct, counts = torch.unique_consecutive((rows * span + ids).flatten(), return_counts=True)
    return distinct % span, counts, torch.bincount(distinct // span, minlength=len(ids))


def _uniform(seed: int, window: int, length: int) -> Tensor:
    """One uniform a token of a window, whatever else is drawn with it."""
    # NumPy's generator: torch's takes 32 bits of a seed and would give every seed << 32 the same draws
    return torch.from_numpy(np.random.default_rng([seed, window]).random(length))
