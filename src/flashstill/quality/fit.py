"""A law of the user's own runs: at least five, fitted together, each left out once to see how well it is foretold.

The law's coefficients are draws (posterior.py); `Law.loss` takes the draw in the middle of them, `Law.interval` all,
with the scatter of a single run.  It refuses questions beyond ten times its largest run unless `extrapolate`.
"""

from __future__ import annotations

import math
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.errors import BadInput
from flashstill.quality.held_out import HeldOut, foretold
from flashstill.quality.law import FITTED, Law
from flashstill.quality.own_runs import Run, Runs
from flashstill.quality.posterior import DEGREES, Draws, Prior, draws
from flashstill.quality.spread import Spread
from flashstill.quality.support import FAR, Support
from flashstill.units import short_count

Values = npt.NDArray[np.float64]
FEWEST, MOST = 5, 1000
"""runs of a fit; more are steps of learning curves, which are no runs of their own"""
_FOLDS, _MANY, _KEPT = 12, 48, 2000
_BAD = 0.05
"""median error of runs left out from which the runs hardly follow one law"""
_PRIORS = Path(__file__).parent / "priors.toml"


@cache
def prior() -> Prior:
    """The packaged prior."""
    with _PRIORS.open("rb") as stream:
        table = tomllib.load(stream)
    return Prior(
        exponent=table["exponent"]["centre"],
        exponent_spread=table["exponent"]["spread"],
        scatter=table["scatter"]["centre"],
        scatter_spread=table["scatter"]["spread"],
    )


def fitted(told: Runs, *, name: str = "own runs", extrapolate: bool = False, seed: int = 0) -> Law:
    """The law of these runs; BadInput for fewer than five, or for runs that do not belong to one law."""
    runs = told.runs
    if len(runs) > MOST:
        raise BadInput(
            f"a quality law is fitted to at most {MOST:,} runs, and there are {len(runs):,}; give the last loss of each"
            " run, not its learning curve"
        )
    teacher_loss = _one_teacher(runs)
    if len(runs) < FEWEST:
        raise BadInput(
            f"a quality law needs at least {FEWEST} runs, and there are {len(runs)}; train more small models"
        )
    size, tokens, losses = (np.array([getattr(run, key) for run in runs]) for key in ("parameters", "tokens", "loss"))
    if len({(run.parameters, run.tokens) for run in runs}) < FEWEST - 1:
        raise BadInput(
            "a quality law needs runs of different sizes and tokens; these are repetitions of"
            f" {len({(run.parameters, run.tokens) for run in runs})}"
        )
    used, groups = _subsets(len(runs))
    drawn = draws(size, tokens, losses, used, prior(), seed)
    held_out = foretold(runs, [_samples(drawn, number + 1, seed) for number in range(len(groups))], groups)
    samples = _samples(drawn, 0, seed)
    return Law(
        name=name,
        title=f"fit to {len(runs)} runs",
        form="additive",
        coefficients=_middle(samples, size, tokens),
        kind=FITTED,
        source=f"{len(runs)} runs of {short_count(size.min())} to {short_count(size.max())} parameters on"
        f" {short_count(tokens.min())} to {short_count(tokens.max())} tokens",
        corpus=told.corpus,
        tokeniser="the user's own tokeniser",
        counted="parameters as the runs count them",
        support=Support(
            parameters=(float(size.min()), float(size.max())),
            tokens=(float(tokens.min()), float(tokens.max())),
            teacher_loss=teacher_loss,
        ),
        spread=Spread(samples=samples),
        unit=told.unit,
        notes=(*_unvaried(size, tokens), _said(held_out)),
        limit=math.inf if extrapolate else FAR,
        held_out=held_out,
    )


def _one_teacher(runs: tuple[Run, ...]) -> float | None:
    losses = [run.teacher_loss for run in runs]
    taught = [loss for loss in losses if loss is not None]
    if not taught:
        return None
    if len(taught) < len(losses) or max(taught) > min(taught) * 1.001:
        raise BadInput(
            f"the runs had teachers of different losses ({min(taught):.4g} to {max(taught):.4g}) or none"
            f" ({len(losses) - len(taught)} of {len(losses)}); a law is fitted to students of one teacher, or to models"
            " without any"
        )
    return taught[0]


def _subsets(count: int) -> tuple[Values, list[list[int]]]:
    """(which runs each subset uses: all first, then without each group; the groups): each run is in one group."""
    folds = min(count, _FOLDS if count <= _MANY else _FOLDS // 2)
    groups = [list(range(number, count, folds)) for number in range(folds)]
    used = np.ones((folds + 1, count))
    for number, group in enumerate(groups, start=1):
        used[number, group] = 0.0
    return used, groups


def _samples(drawn: Draws, subset: int, seed: int) -> dict[str, Any]:
    """Coefficients of one subset, and a factor for the scatter of a single run."""
    every = max(1, drawn.E.shape[1] // _KEPT)
    kept = {name: getattr(drawn, name)[subset, ::every] for name in ("E", "A", "B", "alpha", "beta")}
    sigma = drawn.sigma[subset, ::every]
    scatter = np.random.default_rng([seed, subset]).standard_t(DEGREES, sigma.shape)
    return {**kept, "noise": np.exp(sigma * scatter)}


def _middle(samples: dict[str, Any], size: Values, tokens: Values) -> dict[str, float]:
    """The draw nearest to the median of all, judged at the runs and at the corner of their doubles and tenfolds."""
    at_size = np.log(np.append(size, size.max() * np.array([2.0, FAR, 1.0, FAR])))
    at_tokens = np.log(np.append(tokens, tokens.max() * np.array([2.0, FAR, FAR, 1.0])))
    columns = {name: np.asarray(values)[:, None] for name, values in samples.items()}
    losses = np.log(
        columns["E"]
        + np.exp(np.log(columns["A"]) - columns["alpha"] * at_size)
        + np.exp(np.log(columns["B"]) - columns["beta"] * at_tokens)
    )
    best = int(np.argmin(((losses - np.median(losses, axis=0)) ** 2).sum(axis=1)))
    return {name: float(values[best]) for name, values in samples.items() if name != "noise"}


def _unvaried(size: Values, tokens: Values) -> list[str]:
    """What the runs cannot tell, so that it is the prior's."""
    said = []
    for what, amounts in (("sizes", size), ("tokens", tokens)):
        if amounts.max() < 1.5 * amounts.min():
            said.append(f"the runs hardly differ in {what}: how the loss falls with them is the prior's guess")
    if not said and abs(np.corrcoef(np.log(size), np.log(tokens))[0, 1]) > 0.98:
        said.append("tokens rose with size in all runs: what each does alone is the prior's guess")
    return said


def _said(held_out: tuple[HeldOut, ...]) -> str:
    errors = [abs(row.predicted / row.loss - 1) for row in held_out]
    inside = sum(row.low <= row.loss <= row.high for row in held_out)
    bad = "; the runs hardly follow one law" if np.median(errors) > _BAD else ""
    return (
        f"each run left out in turn is foretold within {np.median(errors):.2%} (median) and {max(errors):.2%} (worst),"
        f" {inside} of {len(held_out)} inside their {held_out[0].level:.0%} intervals{bad}"
    )
