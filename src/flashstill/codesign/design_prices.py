"""The full price of designs: each becomes a chip, and the cost arm prices it on all deployments of a load.

    dollars a token = hour of a package (economics/tco.py, at the watts predicted) x packages / tokens a second
    hour            = purchase + share of the design's own dollars, board, host, building, power, interest

One call prices the designs of one structure (hardware/stacked.py), on the deployments that any of them has room for.
What does not fit on one of them, or breaks a bound, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.codesign.block_facts import BlockFacts
from flashstill.codesign.design_chips import (
    archetype,
    stacked_chip,
    weights_tier,
)
from flashstill.codesign.design_columns import Designs, columns_of
from flashstill.codesign.designs import DesignSpace, Values
from flashstill.codesign.loads import DesignLoad, conditions_for
from flashstill.codesign.silicon import Silicon
from flashstill.economics.tco import OwnedChip, Terms, owned_hour
from flashstill.facts import Facts
from flashstill.plan.scenario import Scenario, broken_bounds
from flashstill.plan.tables import Candidates, Priced, priced, room_for
from flashstill.units import SECONDS_PER_HOUR

USD, JOULES, LATENCY = "usd", "joules", "latency"
OBJECTIVES = (USD, JOULES, LATENCY)
"""dollars, joules and seconds of an output token"""
FIGURES = ("usd", "joules", "latency", "ttft_s", "chips", "batch", "tp", "pp", "dp", "ep", "tokens_per_s", "watts")
_ELEMENTS, _LEAST = 16_384, 16
"""steps of all designs in one call, and designs at the least"""


def owned(terms_chip: tuple[Terms, float], silicon: Silicon, volume: float) -> OwnedChip:
    """Packages as their owner sees them. terms_chip: terms, and server power over that of chips.  volume: of them."""
    return OwnedChip(
        purchase_usd=silicon.purchase_usd,
        limit_w=silicon.limit_w,
        idle_w=silicon.idle_w,
        server_power_ratio=terms_chip[1],
        price_holds_server=True,
        design_usd=silicon.design_usd / volume,
    )


Asks = tuple[tuple[str, float], ...]
"""pairs of an objective, and the packages over which the design's own dollars are spread"""
Figures = dict[str, Values]
"""of each design the deployment that is best by one objective: FIGURES, infinite where none keeps the bounds"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceQuestion:
    """A load that designs of a block are priced for, and the terms of their owner; one answer for each of `asks`."""

    facts: Facts
    space: DesignSpace
    block_facts: BlockFacts
    load: DesignLoad
    terms: Terms
    asks: Asks


def prices_of(question: PriceQuestion, designs: Designs) -> tuple[Figures, ...]:
    """One answer for each pair asked for."""
    count = len(designs.macs)
    tables = tuple({name: np.full(count, np.inf) for name in FIGURES} for _ in question.asks)
    choices, links = question.space.memories_of(designs.block), question.space.links
    structure = [
        (bool(choices[memory].weights_kind), bool(links[link].lanes))
        for memory, link in zip(designs.memory, designs.links, strict=True)
    ]
    at_once = max(_ELEMENTS // len(question.load.chosen.groups.by_number), _LEAST)
    for kind in dict.fromkeys(structure):
        places = np.flatnonzero([one == kind for one in structure])
        for start in range(0, len(places), at_once):
            some = places[start : start + at_once]
            for table, answer in zip(tables, _priced(question, designs.part(some)), strict=True):
                for name, values in answer.items():
                    table[name][some] = values
    return tables


def _priced(question: PriceQuestion, designs: Designs) -> list[Figures]:
    """The answers for designs of one structure: all of them on all deployments that one of them has room for."""
    facts, space, load, terms = question.facts, question.space, question.load, question.terms
    memory, links = space.memories_of(designs.block)[designs.memory[0]], space.links[designs.links[0]]
    chip = archetype(facts, designs.block, memory, links)
    stacked = stacked_chip(chip, columns_of(facts, space, question.block_facts, designs))
    conditions = conditions_for(facts, load, stacked, weights_tier(memory))
    chosen = load.chosen if links.lanes else load.alone
    room = room_for(load.model, conditions, chosen.layout, load.requests, None)
    runs = (room >= chosen.batches) & (chosen.batches >= np.asarray(chosen.layout.dp))
    possible = np.flatnonzero(runs.reshape(-1, *chosen.shape).any(axis=0))
    if not len(possible):
        return [{name: np.full(len(designs.macs), np.inf) for name in FIGURES} for _ in question.asks]
    chosen = chosen.taken(possible)
    table = priced(load.model, conditions, chosen, load.requests)
    refused, figures = _refused(load, chosen, table), _figures(load, chosen, table)
    watts, ratio, silicon = figures["watts"], chip.system.server_power_ratio, _leading(designs.silicon)
    figures["joules"] = np.asarray(table.pace.joules_per_output_token) * ratio * terms.pue_ratio
    answers = []
    for objective, volume in question.asks:
        hour = owned_hour(terms, owned((terms, ratio), silicon, volume), watts).usd
        figures["usd"] = hour / SECONDS_PER_HOUR * figures["chips"] / figures["tokens_per_s"]
        answers.append(_best(objective, figures, refused))
    return answers


def _refused(load: DesignLoad, chosen: Candidates, table: Priced) -> npt.NDArray[np.bool_]:
    """What does not fit or breaks a bound of the load."""
    share, pace = load.share, table.pace
    asked = Scenario(model=load.model, max_ttft_s=share.max_ttft_s, max_tpot_s=share.max_tpot_s)
    refused: npt.NDArray[np.bool_] = table.room < chosen.batches
    for broken in broken_bounds(asked, pace.ttft_s, pace.tpot_s, np.asarray(pace.output_tokens_per_s)).values():
        refused = refused | broken
    return refused


def _figures(load: DesignLoad, chosen: Candidates, table: Priced) -> Figures:
    """FIGURES of designs and deployments, without those that the owner's terms decide."""
    pace = table.pace
    return {
        "latency": np.asarray(pace.tpot_s if load.share.osl > 1 else pace.ttft_s),
        "ttft_s": np.asarray(pace.ttft_s),
        "chips": np.asarray(np.broadcast_to(chosen.layout.chips, chosen.shape), dtype=np.float64),
        "batch": chosen.batches,
        **dict(zip(("tp", "pp", "ep", "dp"), chosen.degrees, strict=False)),
        "tokens_per_s": np.asarray(pace.output_tokens_per_s),
        "watts": np.asarray(pace.watts_per_chip),
    }


def _best(objective: str, figures: Figures, refused: npt.NDArray[np.bool_]) -> Figures:
    """The figures of each design on the deployment that is best by an objective; infinite where all are refused."""
    designs = len(refused)
    whole = {name: np.broadcast_to(values, refused.shape).reshape(designs, -1) for name, values in figures.items()}
    wanted = np.where(refused.reshape(designs, -1), np.inf, whole[objective])
    best = wanted.argmin(axis=1)
    none = ~np.isfinite(wanted.min(axis=1))
    return {name: np.where(none, np.inf, np.take_along_axis(whole[name], best[:, None], 1)[:, 0]) for name in FIGURES}


def _leading(silicon: Silicon) -> Silicon:
    """The same with two axes behind that of the designs, for layouts and batches."""
    names = (name for name in Silicon.__dataclass_fields__ if name != "flops_per_s")
    return Silicon(
        flops_per_s=silicon.flops_per_s, **{name: np.asarray(getattr(silicon, name))[:, None, None] for name in names}
    )
