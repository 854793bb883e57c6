"""From per-token scores to metrics with intervals.

    bits per byte  sum of nats / (ln 2 x sum of UTF-8 bytes)        perplexity  exp(mean nats)
    KL to teacher  mean KL, nats a token                            agreement   share of equal top tokens

Intervals are 95 % percentile bootstraps over documents (Efron and Tibshirani 1993, chapter 13): tokens of one
document are not independent, so whole documents are drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from flashstill.evaluate.quality import METRICS, TokenScores
from flashstill.records import QualityRecord
from flashstill.units import LN_2

DRAWS = 1000
AT_LEAST = "kl_to_teacher_at_least"
Sums = npt.NDArray[np.float64]
"""[..., 5]: nats, KL, agreements, bytes, tokens"""

_FORMULAS: dict[str, Callable[[Sums], Sums]] = {
    "bits_per_byte": lambda sums: sums[..., 0] / (LN_2 * sums[..., 3]),
    "perplexity": lambda sums: np.exp(sums[..., 0] / sums[..., 4]),
    "kl_to_teacher": lambda sums: sums[..., 1] / sums[..., 4],
    "agreement": lambda sums: sums[..., 2] / sums[..., 4],
}


def document_sums(scores: TokenScores) -> Sums:
    """[documents, 5]"""
    _, owner = np.unique(scores.document, return_inverse=True)
    columns = (scores.nats, scores.kl, scores.agrees, scores.bytes, np.ones_like(scores.nats))
    return np.stack([np.bincount(owner, weights=column) for column in columns], axis=-1)


def summarise(scores: TokenScores, model: str, domain: str, seed: int, is_whole: bool = True) -> list[QualityRecord]:
    """One record a metric. The draws depend on the seed alone, so that models meet the same documents.

    is_whole: whether the teacher's whole distribution is known; else the KL is the least that it can be, and says so.
    """
    sums = document_sums(scores)
    drawn = np.random.default_rng(seed).integers(0, len(sums), size=(DRAWS, len(sums)))
    resampled = sums[drawn].sum(axis=1)
    records = []
    for metric in METRICS:
        spread = _FORMULAS[metric](resampled)
        records.append(
            QualityRecord(
                model=model,
                domain=domain,
                metric=metric if is_whole or metric != "kl_to_teacher" else AT_LEAST,
                value=float(_FORMULAS[metric](sums.sum(axis=0))),
                low=float(np.quantile(spread, 0.025)),
                high=float(np.quantile(spread, 0.975)),
                tokens=int(sums[:, 4].sum()),
                documents=len(sums),
            )
        )
    return records
