"""Four futures of what is served today: in each one driver grows by its trend, and the others stay.

    dense           parameters of a token, with no experts
    sparse          parameters in all; a token uses as many as today
    long context    tokens of a prompt
    thinking        tokens of an answer

    a driver of year t over today's:  2^(slope (t - today)),  slope: doublings a year of its dated rows (model-trend)

The mixes are those of each year of service from the year that the chip lands.  A user's own futures come from a TOML
file (futures_file.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from flashstill.arch import Architecture
from flashstill.arch.scaling import expansion, scaled
from flashstill.codesign.dated import check_year, known_by, known_until
from flashstill.codesign.future import DENSE, KINDS, LONG_CONTEXT, SPARSE, THINKING, Future, Mix, Share
from flashstill.codesign.regression import Trend
from flashstill.codesign.trends import quote_trend
from flashstill.errors import BadInput, unknown
from flashstill.facts import Facts

DRIVERS = {
    DENSE: ("parameters of the largest model", "largest_parameters"),
    SPARSE: ("parameters of the largest model", "largest_parameters"),
    LONG_CONTEXT: ("tokens of a prompt", "input_tokens"),
    THINKING: ("tokens of an answer", "output_tokens"),
}
"""kind of future -> (words, quantity of the rows `model-trend`) of the driver that grows"""
MOST_TOKENS = 10_000_000
"""tokens of one request to which prompts and answers grow at the most"""


def driver_trend(facts: Facts, kind: str) -> Trend:
    """The line through the dated rows of what grows in a kind of future; MissingFact with fewer than three."""
    if kind not in DRIVERS:
        raise BadInput(unknown("kind of future", kind, KINDS))
    words, quantity = DRIVERS[kind]
    return quote_trend(facts, words, quantity, ("model-trend",))


def years_of_service(facts: Facts) -> int:
    """Years for which a chip serves after it lands, whole ones."""
    return math.ceil(facts.value("roadmap", "service_years"))


def landing_year(facts: Facts, decided: int) -> int:
    """The year in which a chip lands that is decided in `decided`."""
    return decided + round(facts.value("roadmap", "design_years"))


def standard_futures(
    facts: Facts,
    today: Mix,
    year: int,
    as_of: int | None = None,
    kinds: Sequence[str] = KINDS,
    demand: float = 1.0,
) -> tuple[Future, ...]:
    """The futures of `kinds`, equally probable, for a chip that lands in `year`. today: what is served now.

    demand: output tokens of the year over today's, the same in all; above 0.  Raises BadInput for an unknown kind,
    MissingFact where too few dated rows are known at the end of as_of.
    """
    check_year("year", year)
    now = known_until(facts, as_of)
    if year < now:
        raise BadInput(f"the year must be {now} or later, not {year}")
    known = known_by(facts, now)
    chosen = tuple(dict.fromkeys(kinds))
    if not chosen:
        raise BadInput(f"no kind of future is asked for; known: {', '.join(KINDS)}")
    life = years_of_service(known)
    return tuple(
        _future(driver_trend(known, kind), kind, today, year, now, life, demand, 1 / len(chosen)) for kind in chosen
    )


def _future(
    trend: Trend, kind: str, today: Mix, year: int, now: int, life: int, demand: float, probability: float
) -> Future:
    times = [2.0 ** (trend.slope * (year + after - now)) for after in range(life)]
    mixes = tuple(
        Mix(
            name=f"{kind} {year + after}",
            shares=tuple(GROWN[kind](share, factor) for share in today.shares),
        )
        for after, factor in enumerate(times)
    )
    notes = [f"{trend.basis}; {times[0]:.3g} times those of {now} in {year}"]
    if any(MOST_TOKENS in (share.isl, share.osl) for mix in mixes for share in mix.shares):
        notes.append(f"the tokens of a prompt or an answer grow up to {MOST_TOKENS:,}, and no further")
    return Future(
        name=kind,
        kind=kind,
        mixes=mixes,
        demand=(demand,) * life,
        probability=probability,
        notes=tuple(notes),
    )


def grown(share: Share, parameters: float = 1.0, experts: float = 1.0, isl: float = 1.0, osl: float = 1.0) -> Share:
    """A share of which some drivers are so many times today's.

    parameters: those that a token uses.  experts: FFN weights over those that a token uses, times as many as today's.
    """
    model = share.model
    if parameters != 1.0 or experts != 1.0:
        every = max(expansion(model) * experts, 1.0) if experts != 1.0 else None
        model = scaled(model, model.active_parameters * parameters, every)
    prompt = max(1, min(round(share.isl * isl), MOST_TOKENS))
    answer = max(1, min(round(share.osl * osl), MOST_TOKENS))
    return replace(share, model=_reaching(model, prompt + answer), isl=prompt, osl=answer)


def _reaching(model: Architecture, tokens: int) -> Architecture:
    """The model, made for so many tokens at least: a model of its year will be."""
    return model if tokens <= model.context else replace(model, context=tokens)


def _dense(share: Share, times: float) -> Share:
    model = scaled(share.model, share.model.active_parameters * times, 1.0)
    return replace(share, model=_reaching(model, share.isl + share.osl))


def _sparse(share: Share, times: float) -> Share:
    """`times` the parameters in all. The FFN, of which experts are copies, grows by more than the whole."""
    model = share.model
    every = expansion(model)
    ffn = (model.parameters - model.active_parameters) / (every - 1.0) if every > 1.0 else None
    if ffn is None:  # a dense model: as many FFN weights as its layers have
        twice = scaled(model, model.active_parameters, 2.0)
        ffn = float(twice.parameters - twice.active_parameters)
    wanted = every + model.parameters * (times - 1.0) / ffn
    return grown(share, experts=wanted / every)


GROWN: dict[str, Callable[[Share, float], Share]] = {
    DENSE: _dense,
    SPARSE: _sparse,
    LONG_CONTEXT: lambda share, times: grown(share, isl=times),
    THINKING: lambda share, times: grown(share, osl=times),
}
"""kind of future -> a share of today with its driver so many times as large"""
