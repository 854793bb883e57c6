"""Converts fits to fact rows: measured values for a chip, estimates for its class.

of a chip     kind "measured", with two standard errors; "estimate", set by a prior, if the data do not identify it
of a class    kind "estimate": the joint fit over all timed chips of the class or the mean of their fits, ranging over
              their own values; if only one was timed, the range is the typical distance between chips for other
              coefficients
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flashstill.facts import Fact
from flashstill.validation.calibration.fit import LARGEST, Fit

SCRIPT = "(scripts/calibrate)"
LEAST_SPREAD = 0.1
"""range in logs of a coefficient that a prior holds, at least"""
APART_SHARE = 0.8
"""quantile of the distances between chips that gives the range of a class with one timed chip"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedKind:
    """Fits of one kind of kernel or collective under one condition: of each chip, and of the class, together over all
    chips or `typical` of them.  chip_class: "" where the chips of another maker stand for the class."""

    kind: str
    condition: str
    chip_class: str
    together: Fit
    alone: Mapping[str, Fit]
    note: str = ""


def typical(fits: Sequence[Fit]) -> Fit:
    """The geometric mean of the coefficients that several chips share, as wide as the widest of them."""
    names = [name for name in fits[0].values if all(name in fit.values for fit in fits)]
    means = {name: float(np.mean([math.log(fit.values[name]) for fit in fits])) for name in names}
    return Fit(
        values={name: math.exp(mean) for name, mean in means.items()},
        spread={name: max(fit.spread[name] for fit in fits) for name in names},
        n=sum(fit.n for fit in fits),
        median_absolute_error=float(np.mean([fit.median_absolute_error for fit in fits])),
        held=frozenset[str]().union(*(fit.held for fit in fits)),
    )


def apart(fitted: Iterable[FittedKind]) -> float:
    """Distance in logs between coefficients of a chip and its class, identified ones only; quantile `APART_SHARE`."""
    distances = [
        abs(math.log(fit.values[name] / each.together.values[name]))
        for each in fitted
        if len(each.alone) > 1
        for fit in each.alone.values()
        for name in fit.values
        if fit.identified(name) and each.together.identified(name)
    ]
    return float(np.quantile(distances, APART_SHARE)) if distances else math.log(2.0)


def kind_rows(kind_fit: FittedKind, between: float) -> list[Fact]:
    """Fact rows of every timed chip and of its class. between: range in logs for a class with one timed chip."""
    rows = []
    for chip, fit in sorted(kind_fit.alone.items()):
        source = f"fit of {fit.n} published kernel timings on {chip} {SCRIPT}"
        note = _note(f"median absolute error of the fit {fit.median_absolute_error:.1%}", kind_fit.note)
        rows += [
            fitted_row(chip, f"{kind_fit.kind}.{name}", kind_fit.condition, fit, name, source, note, per="chip")
            for name in fit.values
        ]
    if not kind_fit.chip_class:
        return rows
    chips = ", ".join(sorted(kind_fit.alone))
    for name, value in kind_fit.together.values.items():
        own = [fit.values[name] for fit in kind_fit.alone.values()]
        width = max(kind_fit.together.spread[name], between if len(own) == 1 else 0.0)
        low, high = min(value * math.exp(-width), *own), max(value * math.exp(width), *own)
        rows.append(
            fact(
                owner=kind_fit.chip_class,
                quantity=f"{kind_fit.kind}.{name}",
                value=rounded(value, width),
                low=low,
                high=high,
                per="class",
                condition=kind_fit.condition,
                kind="estimate",
                source=f"estimate from the kernels of {chips}, together, for chips of the class {SCRIPT}",
            )
        )
    return rows


DIGITS = 0.01
"""Coefficients of a fit are written as if their spread were this small, with three digits: with two, the ratio 1.05 of
vLLM's experts is 1.0 or 1.1, which moves times of mixtures by up to a twentieth"""


def fitted_row(
    owner: str, quantity: str, condition: str, fit: Fit, name: str, source: str, note: str, per: str
) -> Fact:
    """Fact row of a coefficient of `owner`: measured, or an estimate if the data do not identify it."""
    value, spread = fit.values[name], fit.spread[name]
    held_by_prior = name in fit.held
    identified = fit.identified(name) and not held_by_prior
    spread = spread if identified else max(spread, LEAST_SPREAD)
    return fact(
        owner=owner,
        quantity=quantity,
        value=rounded(value, DIGITS),
        low=value * math.exp(-spread),
        high=value * math.exp(spread),
        per=per,
        condition=condition,
        kind="measured" if identified else "estimate",
        source=source,
        note=note
        if identified
        else _note("not identified by the data" + (", held by a prior" if held_by_prior else ""), note),
    )


def left_out_row(
    owner: str, quantity: str, value: float, condition: str, per: str, source: str, unit: str = ""
) -> Fact:
    """A coefficient fitted without a group, which `condition` names; without a range, as it only scores that group."""
    value = rounded(value, 0.01)
    return fact(
        owner=owner, quantity=quantity, condition=condition, value=value, low=value, high=value, per=per,
        kind="estimate", source=f"{source} {SCRIPT}", unit=unit,
    )  # fmt: skip


def fact(
    *,
    owner: str,
    quantity: str,
    value: float,
    low: float,
    high: float,
    per: str,
    kind: str,
    source: str,
    condition: str = "",
    unit: str = "",
    note: str = "",
) -> Fact:
    """A fact row dated today; its range is rounded outwards and capped at the coefficient's upper bound."""
    most = LARGEST.get(quantity.rsplit(".", 1)[-1], math.inf)
    value = min(value, most)
    return Fact(
        name=owner,
        quantity=quantity,
        value=value,
        low=value if low == value else min(rounded(low, 0.1), value),
        high=value if high == value else max(min(rounded(high, 0.1), most), value),
        unit=unit or _unit(quantity),
        per=per,
        condition=condition,
        kind=kind,
        source=source,
        as_of=datetime.date.today().isoformat(),
        note=note,
    )


def _unit(quantity: str) -> str:
    """The unit that the name of a coefficient ends in; "1" for a share or an exponent."""
    return next((unit for ending, unit in (("_bytes_per_s", "B/s"), ("_s", "s")) if quantity.endswith(ending)), "1")


def rounded(value: float, spread: float) -> float:
    """Round to the digits that are significant for a spread in logs: two, or three if the spread is below 0.1.

    Coefficients are fitted jointly, so coarser rounding of one would invalidate the others.
    """
    digits = int(np.clip(math.ceil(-math.log10(max(spread, 1e-6))) + 1, 2, 3))
    return float(f"{value:.{digits}g}")


def _note(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
