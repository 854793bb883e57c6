"""Speculative features: what a few per cent of area cost while no model uses them, and what they save if one does.

premium     mean rise of the cost over the futures as they are, weighted by probability
gain        mean fall of the cost where models use the feature:  a narrower format, by weights in it;  skipping two
            weights of four, by pruned ones (all products twice as fast: the most that it can save);  more SRAM,
            links or multipliers, in the future that they help most
pays above  premium / (premium + gain): the probability of that world from which the feature is worth its area
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from flashstill.codesign.block_facts import BlockFacts, block_facts_of
from flashstill.codesign.described import designs_of
from flashstill.codesign.design_chips import archetype, draw_of
from flashstill.codesign.design_columns import Designs
from flashstill.codesign.design_prices import PriceQuestion, prices_of
from flashstill.codesign.designs import FORMATS, DesignSpace, Links
from flashstill.codesign.hunt import Hunt
from flashstill.codesign.loads import DesignLoad, conditions_for
from flashstill.codesign.silicon import silicon_of

MORE_AREA = 0.03
"""of a package, for features that have no size of their own"""
_ROUNDS = 3
_NARROWER = {"bf16": "fp8", "fp16": "fp8", "fp8": "fp4", "fp8-block": "fp4"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """One feature. area, multipliers, purchase: changes, as shares.  as_is: change of cost by future.

    world: where it helps.  pays_above: None where it saves nothing.
    """

    name: str
    area: float
    multipliers: float
    purchase: float
    as_is: dict[str, float]
    world: str
    premium: float
    gain: float
    pays_above: float | None

    def as_dict(self) -> dict[str, Any]:
        """The feature as a JSON document."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One design that may lie between those of the space: with a space and facts of its block of its own."""

    space: DesignSpace
    block_facts: BlockFacts
    design: Designs


def features_of(
    hunt: Hunt, design: int, futures: Sequence[int], names: Sequence[str], probabilities: Sequence[float]
) -> list[Feature]:
    """Every feature that can be added to a design, best insurance first; those that cannot be built are left out."""
    one = designs_of(hunt, design)
    base = Subject(space=hunt.space, block_facts=hunt.block_facts_of(one), design=one)
    narrow = {place: _narrower(hunt, base, load) for place, load in enumerate(hunt.loads)}
    found = []
    for name, make, world in _features(hunt, base):
        subject = make()
        if subject is None:
            continue
        if subject.design.silicon.reason[0] >= 0:
            subject = _in_place(base, subject)
        if subject.design.silicon.reason[0] >= 0:
            continue
        as_is = [_cost(hunt, subject, future) / _cost(hunt, base, future) - 1.0 for future in futures]
        if not np.all(np.isfinite(as_is)):
            continue
        premium = max(sum(chance * rise for chance, rise in zip(probabilities, as_is, strict=True)), 0.0)
        gain, where = _gain(hunt, base, subject, futures, names, probabilities, world, narrow, as_is)
        mine, theirs = subject.design.silicon, base.design.silicon
        found.append(
            Feature(
                name=name,
                area=float(mine.package_mm2[0] / theirs.package_mm2[0] - 1.0),
                multipliers=float(subject.design.macs[0] / base.design.macs[0] - 1.0),
                purchase=float(mine.purchase_usd[0] / theirs.purchase_usd[0] - 1.0),
                as_is=dict(zip(names, map(float, as_is), strict=True)),
                world=where,
                premium=float(premium),
                gain=float(gain),
                pays_above=float(premium / (premium + gain)) if gain > 0.0 else None,
            )
        )
    return sorted(found, key=lambda one: (one.pays_above is None, one.pays_above or 0.0, -one.gain))


def _gain(
    hunt: Hunt,
    base: Subject,
    subject: Subject,
    futures: Sequence[int],
    names: Sequence[str],
    probabilities: Sequence[float],
    world: str,
    narrow: dict[int, DesignLoad],
    as_is: Sequence[float],
) -> tuple[float, str]:
    if not world:
        best = int(np.argmin(as_is))
        return max(-as_is[best], 0.0), names[best]
    if world == _PRUNED:
        loads, ratio = dict(enumerate(hunt.loads)), hunt.facts.value("sparsity", "rate_ratio")
        flops = {name: rate * ratio for name, rate in subject.design.silicon.flops_per_s.items()}
        silicon = replace(subject.design.silicon, flops_per_s=flops)
        subject = replace(subject, design=replace(subject.design, silicon=silicon))
    else:
        loads = narrow
    falls = [1.0 - _cost(hunt, subject, future, loads) / _cost(hunt, base, future, loads) for future in futures]
    mean = sum(chance * fall for chance, fall in zip(probabilities, falls, strict=True))
    return (max(float(mean), 0.0) if np.isfinite(mean) else 0.0), world


_PRUNED, _NARROW = "weights pruned to two of four", "weights one format narrower"
Make = Callable[[], Subject | None]


def _features(hunt: Hunt, base: Subject) -> list[tuple[str, Make, str]]:
    return [
        ("a narrower format", lambda: _with_format(hunt, base), _NARROW),
        ("skipping pruned weights", lambda: _with_sparsity(hunt, base), _PRUNED),
        ("more SRAM", lambda: _with_sram(hunt, base), ""),
        ("more links", lambda: _with_lanes(hunt, base), ""),
        ("more multipliers", lambda: _with_macs(base), ""),
    ]


def _cost(hunt: Hunt, subject: Subject, future: int, loads: dict[int, DesignLoad] | None = None) -> float:
    """Cost in a future, with other loads in place of its own."""
    one, total = hunt.wanted[future], 0.0
    for place, part in one.loads:
        question = PriceQuestion(
            facts=hunt.facts,
            space=subject.space,
            block_facts=subject.block_facts,
            load=loads[place] if loads else hunt.loads[place],
            terms=hunt.terms,
            asks=((one.objective, one.volume),),
        )
        (found,) = prices_of(question, subject.design)
        total += part * float(found[one.objective][0])
    return total


def _narrower(hunt: Hunt, base: Subject, load: DesignLoad) -> DesignLoad:
    """The load with weights one format narrower; the same load where there is none."""
    memory = base.space.memories_of(base.design.block)[int(base.design.memory[0])]
    chip = archetype(hunt.facts, base.design.block, memory, base.space.links[int(base.design.links[0])])
    stored = conditions_for(hunt.facts, load, chip, None).precisions
    widest = stored.experts if load.model.routed else stored.linear
    narrow = _NARROWER.get(widest)
    return load if narrow is None else replace(load, share=replace(load.share, precision=narrow))


def _again(subject: Subject, macs: float = 1.0, sram: float = 1.0) -> Subject:
    """The subject's silicon anew, with so many times its multipliers and SRAM."""
    design = subject.design
    columns = design.macs * macs, design.sram_bytes * sram
    silicon = silicon_of(subject.block_facts, *columns, design.memory, design.links, design.limited)
    return replace(subject, design=replace(design, macs=columns[0], sram_bytes=columns[1], silicon=silicon))


def _in_place(base: Subject, subject: Subject) -> Subject:
    """The subject with as many fewer multipliers as its feature takes the area of, where a die has no room for both."""
    room, times = float(base.design.silicon.package_mm2[0]), 1.0
    for _ in range(_ROUNDS):
        mine, fewer = (_again(subject, macs=times * part).design.silicon.package_mm2[0] for part in (1.0, 0.9))
        times *= 1.0 - 0.1 * float((mine - room) / max(mine - fewer, 1e-9))
    return _again(subject, macs=times * (1.0 - 1e-9))


def _with_format(hunt: Hunt, base: Subject) -> Subject | None:
    place = FORMATS.index(base.design.block.narrowest) + 1
    if place == len(FORMATS):
        return None
    block = replace(base.design.block, narrowest=FORMATS[place])
    block_facts = block_facts_of(hunt.facts, base.space, block, draw_of(hunt.facts, base.space, block))
    return _again(replace(base, block_facts=block_facts, design=replace(base.design, block=block)))


def _with_sparsity(hunt: Hunt, base: Subject) -> Subject:
    more = hunt.facts.value("sparsity", "area_ratio")
    return _again(replace(base, block_facts=replace(base.block_facts, more_array=more)))


def _mm2(base: Subject) -> float:
    """What may be added to the content of a package: `MORE_AREA` of it, without what surrounds it."""
    return float(base.design.silicon.package_mm2[0]) * MORE_AREA * (1.0 - base.block_facts.rules.other_ratio)


def _with_sram(hunt: Hunt, base: Subject) -> Subject:
    needed, spare = (hunt.facts.value("spares", name) for name in ("needed_units", "spare_units"))
    bytes_ = _mm2(base) / base.block_facts.rules.byte_mm2 * needed / (needed + spare)
    return _again(base, sram=1.0 + bytes_ / float(base.design.sram_bytes[0]))


def _with_macs(base: Subject) -> Subject:
    """As many more multipliers as take `MORE_AREA`, found from the area of a tenth more."""
    tenth = _again(base, macs=1.1).design.silicon.package_mm2[0] / base.design.silicon.package_mm2[0] - 1.0
    return _again(base, macs=1.0 + 0.1 * MORE_AREA / max(float(tenth), MORE_AREA / 10.0))


def _with_lanes(hunt: Hunt, base: Subject) -> Subject | None:
    links = base.space.links[int(base.design.links[0])]
    if not links.lanes:
        return None
    lane = hunt.facts.value("optics" if links.wiring == "optics" else "serdes", "lane_mm2")
    more = Links(wiring=links.wiring, lanes=links.lanes + max(int(_mm2(base) / lane), 1))
    space = replace(base.space, links=(*base.space.links, more))
    block_facts = block_facts_of(hunt.facts, space, base.design.block, draw_of(hunt.facts, space, base.design.block))
    design = replace(base.design, links=np.array([len(space.links) - 1]))
    return _again(Subject(space=space, block_facts=block_facts, design=design))
