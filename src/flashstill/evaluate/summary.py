"""Aggregates token scores to metrics of a text, with intervals.

bits per byte  sum of NLL / (ln 2 x sum of UTF-8 bytes)         perplexity  exp(mean NLL)
KL to teacher  mean KL(teacher || model), nats a token          agreement   share of tokens with the teacher's top-1
accuracy       share of tokens whose top-1 prediction is the text's next token

The calibration error has a module of its own (calibration.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from flashstill.evaluate import calibration
from flashstill.evaluate.intervals import ends, with_intervals
from flashstill.evaluate.token_scores import METRICS, TokenScores
from flashstill.records import QualityRecord
from flashstill.units import LN_2

AT_LEAST = "kl_to_teacher_at_least"
PLAIN = ("nll", "kl", "agrees", "bytes", "tokens", "is_right")
COLUMNS = (*PLAIN, *calibration.COLUMNS)
Sums = npt.NDArray[np.float64]
"""sums over a document for each of COLUMNS: the first axis, or the last axis in a table of documents"""

FORMULAS: dict[str, Callable[[Sums], Sums]] = {
    "bits_per_byte": lambda sums: sums[0] / (LN_2 * sums[3]),
    "perplexity": lambda sums: np.exp(sums[0] / sums[4]),
    "kl_to_teacher": lambda sums: sums[1] / sums[4],
    "agreement": lambda sums: sums[2] / sums[4],
    "accuracy": lambda sums: sums[5] / sums[4],
}
"""sums in the order of COLUMNS [C, ...] -> the metric [...]"""


def document_sums(scores: TokenScores) -> Sums:
    """[documents, C], in the order of COLUMNS; without a teacher the columns of KL and agreement are zero."""
    _, owner = np.unique(scores.document, return_inverse=True)
    nothing = np.zeros_like(scores.nll)
    columns = (
        scores.nll, nothing if scores.kl is None else scores.kl, nothing if scores.agrees is None else scores.agrees,
        scores.bytes, np.ones_like(scores.nll), scores.is_right,
    )  # fmt: skip
    plain = np.stack([np.bincount(owner, weights=column) for column in columns], axis=-1)
    return np.concatenate([plain, calibration.binned(scores.confidence, scores.is_right, owner)], axis=-1)


def summarise(scores: TokenScores, model: str, domain: str, seed: int, is_whole: bool = True) -> list[QualityRecord]:
    """One record for each of METRICS.

    is_whole: whether the teacher's full distribution is known; else the KL is a lower bound, and its metric says so.
    """
    found = metric_records(document_sums(scores), METRICS, model, domain, seed)
    if is_whole:
        return found
    return [
        dataclasses.replace(record, metric=AT_LEAST) if record.metric == "kl_to_teacher" else record for record in found
    ]


def metric_records(sums: Sums, metrics: Sequence[str], model: str, domain: str, seed: int) -> list[QualityRecord]:
    """One record a metric. sums [documents, C]; metrics: names of FORMULAS, or the calibration error."""
    if calibration.CALIBRATION_ERROR in metrics:
        others = [metric for metric in metrics if metric != calibration.CALIBRATION_ERROR]
        one = calibration.calibration_record(sums[:, len(PLAIN) :], model, domain, seed)
        return [*(metric_records(sums, others, model, domain, seed) if others else []), one]
    values, low, high = with_intervals(sums, lambda total: np.stack([FORMULAS[name](total) for name in metrics]), seed)
    return [
        QualityRecord(
            model=model, domain=domain, metric=metric, value=float(value), low=lower, high=upper,
            tokens=int(sums[:, 4].sum()), documents=len(sums),
        )
        for metric, value, (lower, upper) in zip(metrics, values, ends(low, high, len(metrics)), strict=True)
    ]  # fmt: skip
