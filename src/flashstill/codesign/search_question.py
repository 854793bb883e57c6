"""The question of a chip search: which designs, for which futures, and what they are judged by.

Every future is a weighted list of loads: each share of its mixes in the first and in the last year of service, weighted
with that year's tokens.  The dollars of a design (masks, engineering) are spread over a volume of packages, times the
mean demand of a future.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flashstill.codesign.design_prices import JOULES, LATENCY, OBJECTIVES, USD
from flashstill.codesign.designs import DesignSpace
from flashstill.codesign.future import Future, Mix, Share
from flashstill.codesign.loads import DesignLoad, load_of
from flashstill.codesign.screened import Wanted
from flashstill.errors import BadInput, unknown

REGRET = "regret"
ASKED = (*OBJECTIVES, REGRET)
"""what a design can be chosen by"""
MOST_LOADS = 64
"""models with their traffic in all futures together: each is priced on every design that may be the best"""
LEAST_TIMES, MOST_TIMES = 1e-9, 1e9
"""between which weights and demands lie"""
TODAY = "today"
"""name of the one future of a search without futures"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A search. objective: one of ASKED; regret compares dollars.  volume: packages at today's demand.

    max_chips, max_batch: of a deployment.
    """

    space: DesignSpace
    futures: tuple[Future, ...]
    objective: str
    volume: float
    max_chips: int
    max_batch: int

    def __post_init__(self) -> None:
        if self.objective not in ASKED:
            raise BadInput(unknown("objective", self.objective, ASKED))
        if not self.futures:
            raise BadInput("a search needs at least one future")
        if self.objective == REGRET and len(self.futures) < 2:
            raise BadInput("regret compares futures: ask for at least two of them")

    @property
    def base(self) -> str:
        """What each future is judged by."""
        return USD if self.objective == REGRET else self.objective


@dataclass(frozen=True, kw_only=True, slots=True)
class Tasks:
    """The loads of all futures, once each, and what is minimised.

    wanted: first one for each future, then one of each objective over all of them (`mean`: place by objective).
    """

    loads: tuple[DesignLoad, ...]
    wanted: tuple[Wanted, ...]
    mean: dict[str, int]


def today(mix: Mix) -> Future:
    """What is served now, for good."""
    return Future(name=TODAY, kind=TODAY, mixes=(mix,), demand=(1.0,), probability=1.0)


def parts_of(future: Future) -> list[tuple[Share, float]]:
    """Shares of the first and of the last year of service, with their part of the tokens; parts sum to one."""
    years = max(len(future.mixes), len(future.demand))
    ends = dict.fromkeys((0, years - 1))
    tokens = {year: future.tokens(year) for year in ends}
    total = sum(tokens.values())
    return [(share, share.weight * tokens[year] / total) for year in ends for share in future.mix(year).shares]


def tasks_of(question: Question) -> Tasks:
    """Loads and objectives; BadInput for a load beyond its model's context."""
    loads: dict[Share, int] = {}
    lists = []
    for future in question.futures:
        parts: dict[int, float] = {}
        for share, part in parts_of(future):
            place = loads.setdefault(replace(share, weight=1.0), len(loads))
            parts[place] = parts.get(place, 0.0) + part
        lists.append(parts)
    if len(loads) > MOST_LOADS:
        raise BadInput(
            f"the futures ask for {len(loads)} different loads in their first and last years, more than"
            f" the {MOST_LOADS} of a search; merge some"
        )
    demands = [sum(future.demand) / len(future.demand) for future in question.futures]
    for future, demand in zip(question.futures, demands, strict=True):
        if question.volume * demand < 1.0:
            raise BadInput(
                f"a volume of {question.volume:g} packages and a demand of {demand:g} times today's in the future"
                f" {future.name!r} make less than one package"
            )
    wanted = [
        Wanted(loads=tuple(parts.items()), volume=question.volume * demand, objective=question.base)
        for parts, demand in zip(lists, demands, strict=True)
    ]
    mean: dict[str, int] = {}
    for objective in (USD, JOULES, LATENCY):
        together: dict[int, float] = {}
        for future, parts in zip(question.futures, lists, strict=True):
            for place, part in parts.items():
                together[place] = together.get(place, 0.0) + part * future.probability
        volume = question.volume * sum(
            demand * future.probability for demand, future in zip(demands, question.futures, strict=True)
        )
        one = Wanted(loads=tuple(together.items()), volume=volume, objective=objective)
        if one in wanted:
            mean[objective] = wanted.index(one)
        else:
            mean[objective] = len(wanted)
            wanted.append(one)
    made = tuple(load_of(share, question.max_chips, question.max_batch) for share in loads)
    return Tasks(loads=made, wanted=tuple(wanted), mean=mean)


def check_volume(volume: float) -> float:
    """The volume; BadInput if it is no number of packages."""
    if not 1.0 <= volume <= 1e9:
        raise BadInput(f"volume must lie between 1 and 1e9 packages, not {volume:g}")
    return volume


def names_of(futures: Sequence[Future]) -> tuple[str, ...]:
    """Names of futures, in their order."""
    return tuple(future.name for future in futures)
