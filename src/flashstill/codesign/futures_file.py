"""A user's own futures, from a TOML file.

    [[future]]
    name = "agents"
    probability = 0.4
    demand = 10                   # output tokens of the first year over today's
    years = 4                     # of service
    [future.growth]               # times as many in each year after the first
    demand = 2.0
    osl = 1.3
    [[future.mix]]                # what is served in the first year
    model = "qwen3-30b-a3b"
    weight = 3
    isl = 4000
    osl = 800
    max_tpot_s = 0.02
    parameters = 2.0              # times those that a token of the model uses; experts likewise

Every mistake is one sentence that names its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from flashstill.arch import load_architecture
from flashstill.arch.scaling import expansion
from flashstill.bounded import check_regular
from flashstill.checked import between, built, one_of, sized, toml_tree
from flashstill.codesign.future import KINDS, Future, Share, mix_of
from flashstill.codesign.futures import MOST_TOKENS, grown, years_of_service
from flashstill.codesign.search_question import LEAST_TIMES, MOST_TIMES
from flashstill.errors import BadInput, shortened
from flashstill.facts import Facts
from flashstill.units import short_count

OWN = "own"
_ROUNDING = 1e-6
Times = Annotated[float, between(1e-3, 1e3)]
Tokens = Annotated[int, between(1, MOST_TOKENS)]
Amount = Annotated[float, between(LEAST_TIMES, MOST_TIMES)]
Seconds = Annotated[float, between(0, 1e6, open_low=True)]
Name = Annotated[str, sized(1, 80)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """Times as many in each year after the first."""

    demand: Times = 1.0
    parameters: Times = 1.0
    isl: Times = 1.0
    osl: Times = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """One model of a mix. parameters, experts: times those of the model. Bounds in seconds."""

    model: Name
    isl: Tokens
    osl: Tokens
    weight: Amount = 1.0
    parameters: Times = 1.0
    experts: Times = 1.0
    precision: str = ""
    max_ttft_s: Seconds | None = None
    max_tpot_s: Seconds | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A future as it is written. probability: default: an equal share of what the others leave.

    years: default: the row roadmap.service_years.
    """

    name: Name
    mix: Annotated[tuple[Served, ...], sized(1, 50)]
    kind: Annotated[str, one_of((*KINDS, OWN))] = OWN
    demand: Amount = 1.0
    probability: Annotated[float, between(0, 1, open_low=True)] | None = None
    years: Annotated[int, between(1, 20)] | None = None
    growth: Growth = field(default_factory=Growth)


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """The whole file."""

    future: Annotated[tuple[Written, ...], sized(1, 50)]


def read_futures(facts: Facts, path: Path) -> tuple[Future, ...]:
    """The futures of a TOML file; BadInput names the file and the key of a mistake."""
    check_regular(path)
    return futures_of(facts, toml_tree(path), shortened(str(path), 200))


def futures_of(facts: Facts, tree: Mapping[str, Any], where: str = "the futures") -> tuple[Future, ...]:
    """The futures of nested tables, such as a TOML file holds."""
    written = built(File, tree, where).future
    names = [future.name for future in written]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{where}: two futures are called {name!r}; give each a name of its own")
    given = sum(future.probability or 0.0 for future in written)
    open_ones = sum(future.probability is None for future in written)
    if given > 1.0 + _ROUNDING or (not open_ones and abs(given - 1.0) > _ROUNDING):
        raise BadInput(f"{where}: the probabilities of the futures sum to {given:g}, not to 1")
    left = max(1.0 - given, 0.0) / max(open_ones, 1)
    if open_ones and left <= _ROUNDING:
        raise BadInput(f"{where}: futures without a probability are left none, as the others' sum to 1")
    life = years_of_service(facts)
    return tuple(
        _future(future, future.years or life, future.probability or left, f"{where}: future[{place}]")
        for place, future in enumerate(written)
    )


def _future(written: Written, years: int, probability: float, where: str) -> Future:
    growth = written.growth
    first = [_share(served, f"{where}.mix[{place}]") for place, served in enumerate(written.mix)]
    mixes = []
    for after in range(years):
        times = {name: getattr(growth, name) ** after for name in ("parameters", "isl", "osl")}
        for name, share in ((name, share) for name in ("isl", "osl") for share in first):
            tokens = getattr(share, name) * times[name]
            if not 0.5 <= tokens <= MOST_TOKENS:
                raise BadInput(
                    f"{where}.growth.{name} makes {short_count(tokens)} tokens in year {after + 1}; they must lie"
                    f" between 1 and {MOST_TOKENS:,}"
                )
        mixes.append(mix_of(f"{written.name}, year {after + 1}", tuple(grown(share, **times) for share in first)))
    demand = tuple(written.demand * growth.demand**after for after in range(years))
    return Future(name=written.name, kind=written.kind, mixes=tuple(mixes), demand=demand, probability=probability)


def _share(served: Served, where: str) -> Share:
    model = load_architecture(served.model)
    if served.experts * expansion(model) < 1.0 - _ROUNDING:
        raise BadInput(
            f"{where}.experts is {served.experts:g}, with which {model.name} has fewer than a token uses; at least"
            f" {1.0 / expansion(model):.3g}"
        )
    share = Share(
        model=model,
        weight=served.weight,
        isl=served.isl,
        osl=served.osl,
        max_ttft_s=served.max_ttft_s,
        max_tpot_s=served.max_tpot_s,
        precision=served.precision or None,
    )
    return grown(share, parameters=served.parameters, experts=served.experts)
