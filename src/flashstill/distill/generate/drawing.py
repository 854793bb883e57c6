"""Sample the next token of every row from its logits, with temperature, top-k and top-p.

    p = softmax(z / T) over the k likeliest ids, cut to the smallest set with a mass of at least top_p (Holtzman et al.
        2020, "The Curious Case of Neural Text Degeneration", 3.1)
    id = the first i with p_1 + ... + p_i > u (p_1 + ... + p_V),    u uniform in [0, 1)

u depends only on (seed, row, position).  Up to rounding of the logits, a row's text is therefore the same whatever the
other rows of the batch are, and however the work was split over processes or resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.generate.philox import uniform
from flashstill.errors import BadInput

LOGITS_AT_A_TIME = 2**22
_STREAM = 0x5A4D  # a random stream separate from other uses of the seed (window order, sampled signals)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Sampling settings. temperature: 0 is greedy; top_k: 0 is unlimited; stop: token ids that end a row.

    vocabulary: sample only ids below this, if the head is padded (0: all).  batch: number of decoder rows; samples
    that have the same text so far share one.  Raises BadInput for values out of range.
    """

    new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[int, ...] = ()
    vocabulary: int = 0
    batch: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.new_tokens < 1 or self.batch < 1:
            raise BadInput("new_tokens and batch must be at least 1 to sample")
        if not 0 <= self.temperature < float("inf"):
            raise BadInput(f"the sampling temperature is {self.temperature:g}; give 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise BadInput(f"top_p is {self.top_p:g}; give more than 0 and at most 1")
        if self.top_k < 0 or self.vocabulary < 0 or not 0 <= self.seed < 2**64:
            raise BadInput("top_k, vocabulary and seed must not be negative, nor the seed beyond 64 bits")

    @property
    def key(self) -> dict[str, Any]:
        """What texts depend on of the settings: not on the batch size, but for the rounding of logits."""
        return {name: value for name, value in asdict(self).items() if name != "batch"}


def uniforms(settings: Sampling, rows: Sequence[int]) -> Tensor:
    """[R, new_tokens] float64 in [0, 1): one uniform for each new token of each of the rows with these ids."""
    return torch.from_numpy(uniform(settings.seed, _STREAM, np.asarray(rows, dtype=np.int64), settings.new_tokens))


def choose(logits: Tensor, draws: Tensor, settings: Sampling) -> tuple[Tensor, Tensor]:
    """Sample K ids per row: ids [B, K], and their log-probabilities [B, K] at temperature 1 without top-k or top-p.

    logits [B, V]; draws [B, K]: one uniform in [0, 1) for each sample.
    """
    if settings.vocabulary:
        logits = logits[:, : settings.vocabulary]
    rows = max(1, LOGITS_AT_A_TIME // logits.shape[1])
    if len(logits) <= rows:
        return _chosen(logits, draws, settings)
    parts = zip(torch.split(logits, rows), torch.split(draws, rows), strict=True)
    ids, log_p = zip(*(_chosen(part, u, settings) for part, u in parts), strict=True)
    return torch.cat(ids), torch.cat(log_p)


def probabilities(logits: Tensor, settings: Sampling) -> Tensor:
    """The distribution [B, V] that `choose` samples from, which sums to 1: temperature, top-k and top-p applied to
    logits [B, V]; at temperature 0 all of it lies on the likeliest id."""
    logits = logits[:, : settings.vocabulary] if settings.vocabulary else logits
    logits = logits.float() if logits.dtype != torch.float64 else logits
    if settings.temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(-1, keepdim=True), 1.0)
    if settings.top_k == 0 and settings.top_p == 1:
        return torch.softmax(logits / settings.temperature, -1)
    p, order = _cut(logits / settings.temperature, settings)
    return torch.zeros_like(logits).scatter_(1, order, p / p.sum(-1, keepdim=True))


def _chosen(logits: Tensor, draws: Tensor, settings: Sampling) -> tuple[Tensor, Tensor]:
    logits = logits.float() if logits.dtype != torch.float64 else logits
    p = torch.softmax(logits, -1)
    largest = logits.amax(-1)
    log_z = largest - p.amax(-1).log()
    if settings.temperature == 0:
        ids = logits.argmax(-1, keepdim=True).expand_as(draws)
    elif settings.top_k == 0 and settings.top_p == 1:
        ids = drawn(p if settings.temperature == 1 else torch.softmax(logits / settings.temperature, -1), draws)
    else:
        p, order = _cut(logits / settings.temperature, settings)
        ids = order.gather(1, drawn(p, draws))
    return ids, logits.gather(1, ids) - log_z[:, None]


def drawn(p: Tensor, draws: Tensor) -> Tensor:
    """Indices [B, K] at which the cumulative sum of p [B, V], divided by its total, exceeds the draws [B, K]."""
    summed = p.cumsum(-1, dtype=draws.dtype)
    points = draws * summed[:, -1:]
    return torch.searchsorted(summed, points, right=True).clamp_(max=p.shape[1] - 1)


def _cut(logits: Tensor, settings: Sampling) -> tuple[Tensor, Tensor]:
    """Probabilities after top-k and top-p in descending order (0 where cut, not renormalised), and their ids."""
    count = min(settings.top_k or logits.shape[1], logits.shape[1])
    highest, order = logits.topk(count)
    p = torch.softmax(highest, -1)
    return p * (p.cumsum(-1) - p < settings.top_p), order
