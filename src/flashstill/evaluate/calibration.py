"""Calibration of the next-token distribution: does a token that a model holds for 70 % likely come in 70 % of cases?

    ECE = sum_b n_b/N |right_b - confidence_b|         expected calibration error (Naeini et al. 2015; Guo et al. 2017)

confidence: probability of the likeliest token; right: whether it is the text's next token; both as means over the n_b
tokens of a bin.  The BINS bins have equally many tokens of the text, in the order of their confidence: bins of equal
width leave most tokens of a language model in two of them, and have the larger bias (Roelofs et al. 2022).

The estimate is biased upwards, as noise of any sign adds to |...|.  A calibrated model, whose tokens are independent,
would show about

    E[ECE] = sum_b n_b/N sqrt(2 confidence_b (1 - confidence_b) / (pi n_b))

which stands beside each figure: a calibration error near it says nothing against the model.

Interval: the bootstrap over documents of sum_b s_b (right_b - confidence_b) n_b/N with the bins of the whole text and
s_b the signs of its gaps.  (With the signs of each draw, the draws' noise would add to every |...|, and the whole
interval could lie above the figure.)
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from flashstill.evaluate.intervals import ends, with_intervals
from flashstill.records import QualityRecord
from flashstill.reliability import Reliability

Floats = npt.NDArray[np.float64]
CALIBRATION_ERROR = "calibration_error"
BINS = 15
COLUMNS = tuple(f"{name}_{place}" for name in ("tokens_in", "confidence_in", "right_in") for place in range(BINS))
"""sums over a document, by bin: number of tokens, their confidences, how many were right"""


def binned(confidence: Floats, is_right: Floats, owner: npt.NDArray[np.intp]) -> Floats:
    """Sums [documents, 3 BINS] in the order of COLUMNS, of tokens [N]; owner [N]: number of a token's document."""
    order = np.argsort(confidence, kind="stable")
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order)) * BINS // max(len(order), 1)
    documents = int(owner.max(initial=-1)) + 1
    cell = owner * BINS + place
    parts = [np.bincount(cell, weights, documents * BINS) for weights in (None, confidence, is_right)]
    return np.concatenate([part.reshape(documents, BINS) for part in parts], axis=1).astype(np.float64)


def calibration_error(sums: Floats) -> Floats:
    """The ECE of sums [3 BINS, ...] over documents."""
    tokens, confidence, right = sums.reshape(3, BINS, *sums.shape[1:])
    error: Floats = np.abs(right - confidence).sum(axis=0) / tokens.sum(axis=0)
    return error


def calibration_record(sums: Floats, model: str, domain: str, seed: int) -> QualityRecord:
    """The ECE with its interval. sums [documents, 3 BINS]: in the order of COLUMNS."""
    whole = sums.sum(axis=0)
    sign = np.where(whole[2 * BINS :] >= whole[BINS : 2 * BINS], 1.0, -1.0)

    def signed(total: Floats) -> Floats:
        tokens, confidence, right = total.reshape(3, BINS, *total.shape[1:])
        error: Floats = np.tensordot(sign, right - confidence, axes=1) / tokens.sum(axis=0)
        return error[None]

    _, lows, highs = with_intervals(sums, signed, seed)
    [(low, high)] = ends(lows, highs, 1)
    return QualityRecord(
        model=model, domain=domain, metric=CALIBRATION_ERROR, value=float(calibration_error(whole)),
        low=None if low is None else max(low, 0.0), high=high, tokens=int(whole[:BINS].sum()), documents=len(sums),
    )  # fmt: skip


def reliability(sums: Floats, model: str, domain: str) -> Reliability:
    """The table of sums [documents, 3 BINS]; bins without a token, of texts of fewer tokens than bins, are left out."""
    tokens, confidence, right = sums.sum(axis=0).reshape(3, BINS)
    filled = tokens > 0
    tokens, confidence, right = tokens[filled], confidence[filled], right[filled]
    mean = np.clip(confidence / tokens, 0.0, 1.0)
    noise = np.sqrt(2.0 * mean * (1.0 - mean) / (math.pi * tokens))
    return Reliability(
        model=model, domain=domain, tokens=tuple(int(count) for count in tokens),
        confidence=tuple(mean.tolist()), right=tuple((right / tokens).tolist()),
        error=float(np.abs(right - confidence).sum() / tokens.sum()),
        if_calibrated=float((tokens * noise).sum() / tokens.sum()),
    )  # fmt: skip
