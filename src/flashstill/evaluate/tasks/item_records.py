"""Scores by item -> QualityRecords with 95 % intervals.

items that are right or wrong   Wilson's interval of a share (Wilson 1927): with z = 1.96, p the share and n items,

                                (p + z^2/2n -+ z sqrt(p (1-p)/n + z^2/4n^2)) / (1 + z^2/n)

                                which keeps a width where all items are right, as a bootstrap does not
other values                    the bootstrap over items (evaluate/intervals.py), of a mean or of lm-eval's ratios
groups of tasks                value and standard error are lm-eval's, and the interval the value -+ z standard errors
figures of a whole corpus       (F1, BLEU and the like) no interval
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flashstill.evaluate.intervals import ends, with_intervals
from flashstill.harness.process import Score, Whole
from flashstill.records import QualityRecord
from flashstill.units import LN_2

Floats = npt.NDArray[np.float64]
NORMAL_95 = 1.959964


def wilson(right: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `right` of `count` were seen."""
    share, spread = right / count, NORMAL_95**2 / count
    middle = share + spread / 2.0
    reach = math.sqrt(spread * share * (1.0 - share) + spread**2 / 4.0)
    low, high = (middle - reach) / (1.0 + spread), (middle + reach) / (1.0 + spread)
    return max(0.0, min(low, share)), min(
        1.0, max(high, share)
    )  # of none and of all, rounding would leave the share out


def item_record(
    values: Floats, weights: Floats, kind: str, model: str, domain: str, metric: str, tokens: int, seed: int
) -> QualityRecord:
    """One record of values [N] of items, combined by `kind` (harness/child.py) with weights [N]."""
    is_share = kind == "mean" and bool(np.isin(values, (0.0, 1.0)).all())
    found, lows, highs = with_intervals(np.stack([values, weights], axis=1), lambda total: _combined(kind, total), seed)
    [(low, high)] = ends(lows, highs, 1)
    if is_share and len(values) > 1:
        low, high = wilson(float(values.sum()), len(values))
    return QualityRecord(
        model=model, domain=domain, metric=metric, value=float(found[0]), low=low, high=high, tokens=tokens,
        documents=len(values),
    )  # fmt: skip


def _combined(kind: str, total: Floats) -> Floats:
    """The metric [1, ...] of sums [2, ...] of values and weights, as lm-eval combines them."""
    ratio: Floats = total[0] / total[1]
    if kind in ("perplexity", "weighted_perplexity"):
        ratio = np.exp(-ratio)
    elif kind == "bits_per_byte":
        ratio = -ratio / LN_2
    return ratio[None]


def score_records(scores: Sequence[Score], model: str, domain: str, tokens: int, seed: int) -> list[QualityRecord]:
    """A record a metric and filter, named as lm-eval prints them: acc, or exact_match,strict-match."""
    records = []
    for score in scores:
        metric = _named(score.metric, score.filter)
        if score.kind == "other":
            records.append(QualityRecord(
                model=model, domain=domain, metric=metric, value=score.whole, low=None, high=None, tokens=tokens,
                documents=score.count,
            ))  # fmt: skip
            continue
        table = np.asarray(score.values, dtype=np.float64)
        kind = score.kind
        records.append(item_record(table[:, 0], table[:, 1], kind, model, domain, metric, tokens, seed))
    return records


def whole_record(whole: Whole, model: str, group: str, tokens: int) -> QualityRecord:
    """The record of a group of tasks; without an interval where lm-eval has no standard error, or one of 0.

    An interval of shares stays within 0 and 1."""
    low = high = None
    if whole.stderr is not None and 0.0 < whole.stderr < math.inf:
        reach = NORMAL_95 * whole.stderr
        low, high = whole.value - reach, whole.value + reach
        if whole.is_share:
            low, high = max(0.0, low), min(1.0, high)
    return QualityRecord(
        model=model, domain=group, metric=_named(whole.metric, whole.filter), value=whole.value, low=low, high=high,
        tokens=tokens, documents=whole.count, chance=whole.chance,
    )  # fmt: skip


def _named(metric: str, chosen: str) -> str:
    """A metric as lm-eval prints it."""
    return metric if chosen == "none" else f"{metric},{chosen}"
