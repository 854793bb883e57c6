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
from flashstill.bounded import check_regular
from flashstill.checked import between, built, one_of, sized, toml_tree
from flashstill.codesign.future import KINDS, Future, Share, mix_of
from flashstill.codesign.futures import MOST_TOKENS, grown, years_of_service
from flashstill.errors import BadInput, shortened
from flashstill.facts import Facts

OWN = "own"
_ROUNDING = 1e-6
Times = Annotated[float, between(1e-3, 1e3)]
Tokens = Annotated[int, between(1, MOST_TOKENS)]
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
    """One model of a mix. parameters, experts: times those of the model. Bounds in seconds; 0: none."""

    model: Name
    isl: Tokens
    osl: Tokens
    weight: Annotated[float, between(0, 1e9, open_low=True)] = 1.0
    parameters: Times = 1.0
    experts: Times = 1.0
    precision: str = ""
    max_ttft_s: Annotated[float, between(0, 1e6)] = 0.0
    max_tpot_s: Annotated[float, between(0, 1e6)] = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A future as it is written. probability: 0 for an equal share of what the others leave."""

    name: Name
    mix: Annotated[tuple[Served, ...], sized(1, 50)]
    kind: Annotated[str, one_of((*KINDS, OWN))] = OWN
    demand: Annotated[float, between(0, 1e9, open_low=True)] = 1.0
    probability: Annotated[float, between(0, 1)] = 0.0
    years: Annotated[int, between(0, 20)] = 0
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
    given = sum(future.probability for future in written)
    open_ones = sum(not future.probability for future in written)
    if given > 1.0 + _ROUNDING or (not open_ones and abs(given - 1.0) > _ROUNDING):
        raise BadInput(f"{where}: the probabilities of the futures sum to {given:g}, not to 1")
    left = max(1.0 - given, 0.0) / max(open_ones, 1)
    if open_ones and left <= _ROUNDING:
        raise BadInput(f"{where}: futures without a probability are left none, as the others' sum to 1")
    life = years_of_service(facts)
    return tuple(_future(future, future.years or life, future.probability or left) for future in written)


def _future(written: Written, years: int, probability: float) -> Future:
    growth = written.growth
    first = [_share(served) for served in written.mix]
    mixes = []
    for after in range(years):
        times = {name: getattr(growth, name) ** after for name in ("parameters", "isl", "osl")}
        mixes.append(mix_of(f"{written.name}, year {after + 1}", tuple(grown(share, **times) for share in first)))
    demand = tuple(written.demand * growth.demand**after for after in range(years))
    return Future(name=written.name, kind=written.kind, mixes=tuple(mixes), demand=demand, probability=probability)


def _share(served: Served) -> Share:
    share = Share(
        model=load_architecture(served.model),
        weight=served.weight,
        isl=served.isl,
        osl=served.osl,
        max_ttft_s=served.max_ttft_s or None,
        max_tpot_s=served.max_tpot_s or None,
        precision=served.precision or None,
    )
    return grown(share, parameters=served.parameters, experts=served.experts)
