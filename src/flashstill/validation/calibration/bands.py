"""Bands from the errors of left-out rows: 10 % and 90 % quantiles of measured / predicted, by what was new of a case.

A quantile of an engine is taken over its own rows and, with the weight of SHARED stacks, those of all other engines:
an engine of which few stacks were measured keeps a band near that of its siblings.  Rows of a stack have together the
weight of their number to the power GROWTH.  A basis that leaves more open is at least as wide as one that leaves less.

Of n exchangeable stacks the k-th smallest error has k / (n + 1) of new ones below it, so that the quantile q of new
stacks is the place q (n + 1) among n, the share (q (n + 1) - 1/2) / n; n counts the engine's stacks and SHARED.  A new
row of a measured stack needs no such allowance.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from flashstill.facts import Fact
from flashstill.plan.bands import (
    COMBINATION,
    NEW_CHIP,
    NEW_ENGINE,
    NEW_MODEL,
    NEW_MODEL_AND_CHIP,
    STACK,
)
from flashstill.validation.calibration.leave_out import FOLD, PAIR, LeftOut
from flashstill.validation.calibration.rows import SCRIPT, fact, rounded
from flashstill.validation.calibration.software import GROWTH, ServedRows
from flashstill.validation.comparison import Values

BAND = (0.1, 0.9)
SHARED = 2.0
"""number of stacks as which the rows of all other engines count"""
ESTIMATED = 0.5
"""range, as a share of its logarithm, of a band that stands for engines or chips on which it was not measured"""
ERRORS_OF = {
    STACK: FOLD,
    COMBINATION: "stack",
    NEW_MODEL: "model",
    NEW_CHIP: "chip",
    NEW_MODEL_AND_CHIP: PAIR,
    NEW_ENGINE: "engine",
}
"""what was left out for the errors of a basis"""
WITHIN = {
    STACK: (),
    COMBINATION: (STACK,),
    NEW_MODEL: (STACK, COMBINATION),
    NEW_CHIP: (STACK, COMBINATION),
    NEW_MODEL_AND_CHIP: (NEW_MODEL, NEW_CHIP),
    NEW_ENGINE: (),
}
"""bases that leave less open, in order"""
BAND_OF = {"tpot": "tpot_s", "ttft": "ttft_s", "output_rate": "output_tokens_per_s"}
"""band -> the quantity of predictions and served rows"""

Ends = tuple[float, float]


def engine_bands(
    served: ServedRows, left_out: LeftOut, engine: str, unseen: npt.NDArray[np.bool_] | None = None
) -> dict[str, dict[str, Ends]]:
    """Ends of the bands by basis and quantity, of the bases whose kinds were left out.

    unseen: rows whose errors must not count.
    """
    scored = np.array([not row.group for row in served.rows])
    own = np.array([row.case.deployment.engine == engine for row in served.rows])
    measured = {"tpot": served.tpot_s, "ttft": served.ttft_s, "output_rate": served.rate}
    bands: dict[str, dict[str, Ends]] = {}
    for basis, kind in ERRORS_OF.items():
        if kind not in left_out.predicted:
            continue
        ends = {}
        for name, quantity in BAND_OF.items():
            errors = np.log(measured[name] / left_out.predicted[kind][quantity])
            used = scored & np.isfinite(errors) & (True if unseen is None else ~unseen)
            weights = _weights(served.stacks, own, used)
            counted = used if basis == NEW_ENGINE or not (used & own).any() else used & own
            outer = BAND[0] if basis == STACK else _outer_share(len(np.unique(served.stacks[counted])) + SHARED)
            low, high = (weighted_quantile(errors, weights, share) for share in (outer, 1.0 - outer))
            narrower = [bands[less][name] for less in WITHIN[basis] if less in bands]
            ends[name] = (
                min(float(np.exp(low)), 1.0, *(each[0] for each in narrower)),
                max(float(np.exp(high)), 1.0, *(each[1] for each in narrower)),
            )
        bands[basis] = ends
    return bands


def kernels_ends(ratios: Values) -> Ends:
    """Ends of a band from measured / predicted of rows that count alike."""
    known = ratios[np.isfinite(ratios)]
    low, high = (float(np.quantile(known, share)) for share in BAND)
    return min(low, 1.0), max(high, 1.0)


def joules_rows(chip: str, ratios: Values) -> list[Fact]:
    """The band of energy of a chip whose power was measured, with engines that were. ratios: measured / predicted, each
    row's model left out; other chips and engines have the wider band of class `engine`."""
    source = f"{int(np.isfinite(ratios).sum())} energies per token, each model left out"
    ends = {"joules": kernels_ends(ratios)}
    return band_rows(chip, dict.fromkeys((STACK, COMBINATION, NEW_MODEL), ends), source)


def _weights(stacks: npt.NDArray[np.int64], own: npt.NDArray[np.bool_], used: npt.NDArray[np.bool_]) -> Values:
    counts = np.bincount(stacks[used], minlength=int(stacks.max()) + 1)
    weights = np.where(used, np.maximum(counts[stacks], 1.0) ** (GROWTH - 1.0), 0.0)
    others = weights[~own].sum()
    typical = weights.sum() / max(int((counts > 0).sum()), 1)
    return weights * np.where(own, 1.0, SHARED * typical / others if others else 1.0)


def _outer_share(count: float) -> float:
    """The share of the errors of `count` stacks below the low end of a band for new stacks."""
    return max(BAND[0] * (count + 1.0) - 0.5, 0.0) / count


def weighted_quantile(values: Values, weights: Values, share: float) -> float:
    """The value below which `share` of the weight lies."""
    used = weights > 0.0
    order = np.argsort(values[used])
    ordered, reached = values[used][order], np.cumsum(weights[used][order])
    centres = (reached - weights[used][order] / 2.0) / reached[-1]
    return float(np.interp(share, centres, ordered))


def band_rows(owner: str, bands: Mapping[str, Mapping[str, Ends]], source: str, prefix: str = "") -> list[Fact]:
    """Fact rows of bands by basis and quantity. prefix: put before the basis in the condition."""
    own = owner.startswith("engine-")
    spread = 0.0 if own else ESTIMATED
    return [
        fact(
            owner=owner,
            quantity=f"{name}_{side}",
            condition=f"{prefix}{basis}",
            value=rounded(value, 0.1),
            low=min(rounded(value, 0.1) ** (1.0 + spread), rounded(value, 0.1) ** (1.0 - spread)),
            high=max(rounded(value, 0.1) ** (1.0 + spread), rounded(value, 0.1) ** (1.0 - spread)),
            per="engine",
            kind="measured" if own else "estimate",
            source=f"10 % to 90 % quantile of measured over predicted by fits that did not see it: {source} {SCRIPT}",
        )
        for basis, by_name in bands.items()
        for name, ends in by_name.items()
        for side, value in zip(("low", "high"), ends, strict=True)
    ]
