"""Energy to bring one byte to the multiplier: a picture of the chip, and where a token's joules go."""

from __future__ import annotations

from flashstill.cost import LEVELS
from flashstill.explore.commands import Given, chip_words, command_line, explain_words
from flashstill.explore.engine import Engine
from flashstill.explore.kinds import Kind
from flashstill.explore.sources import kernel_note, sources_of
from flashstill.explore.state import State
from flashstill.explore.view import Cell, Chart, Table, View
from flashstill.explore.views.asked import COLOURS, STEP_CONTROLS, step_case
from flashstill.facts import Facts
from flashstill.hardware.byte_energies import ACROSS, LINK, NEAR, ByteEnergy, byte_energies
from flashstill.plan.explain import Explanation, explain
from flashstill.report.axes import amount
from flashstill.report.byte_path import Place, byte_path
from flashstill.report.stacks import Stack, stacks
from flashstill.units import PICO, show


def build(engine: Engine, facts: Facts, state: State) -> View:
    """The view of the state's decode step."""
    case = step_case(engine, state)
    own = explain(facts, case.scenario, case.deployment, state.price)
    energies = byte_energies(own.resolved.chip, own.resolved.runs_in)
    step = f"batch {own.batch:,}, context {own.context:,}"
    crowded = own.resolved.chips > own.resolved.chip.system.domain_chips
    return View(
        name="byte",
        title=f"A byte's way on {own.resolved.chip.name}",
        lead=_lead(own),
        charts=(_picture(own, energies, step), _token(own, step)),
        command=command(engine.given, state),
        sources=sources_of(facts, [own.resolved.chip.name]),
        notes=(
            f"The multiplier itself takes {show(float(own.cost.pj_per_mac['compute']), 'pJ')} of arithmetic for each"
            " multiply-accumulate.",
            "A share is of all joules of a token on these chips, idle and clock power included.",
            *(["Joules of the network beyond the fast links are with the link to a chip."] if crowded else []),
            *own.resolved.notes,
            *kernel_note(facts, [own.resolved.chip.name]),
        ),
    )


def command(given: Given, state: State) -> str:
    """`chips` has the energies of a byte, `explain` the joules of a token."""
    return command_line([*chip_words(given, state, state.chip), "--json"], explain_words(given, state))


KIND = Kind(
    name="byte",
    title="A byte's way",
    controls=STEP_CONTROLS,
    build=build,
    command=command,
)


def _levels_at(own: Explanation) -> dict[str, tuple[str, ...]]:
    """Place -> the levels of the cost model whose bytes come from there."""
    weights, cache = own.resolved.conditions.weights.name, own.resolved.conditions.cache.name
    at: dict[str, tuple[str, ...]] = {NEAR: ("near_sram",), ACROSS: ("far_sram",), LINK: ("links",)}
    for tier, level in ((weights, "weights"), (cache, "kv"), (own.resolved.chip.memory.name, "activations")):
        at[tier] = (*at.get(tier, ()), level)
    return at


def _picture(own: Explanation, energies: tuple[ByteEnergy, ...], step: str) -> Chart:
    title = f"Energy to bring a byte to a multiplier of {own.resolved.chip.name}, {step}"
    levels, joules = _levels_at(own), own.joules_per_token
    places, rows = [], []
    for each in energies:
        spent = sum(joules[level] for level in levels.get(each.place, ()))
        share = spent / joules["total"]
        words = f"{amount(share, 'ratio')} of the joules" if spent else ""
        places.append(Place(name=_named(each), pj_per_byte=each.pj_per_byte, on_die=each.on_die, words=words))
        for segment, picojoules in each.segments.items():
            rows.append((each.place, segment, picojoules, each.pj_per_byte, spent, share))
    table = Table(
        caption=f"{title}, by segment of the way, and what a token spends on bytes of each place",
        columns=(
            "place",
            "segment",
            "pj_per_byte",
            "pj_per_byte_of_place",
            "joules_per_token_of_place",
            "share_of_place",
        ),
        rows=tuple(rows),
    )
    return Chart(name="way", title=title, svg=byte_path(places, title), table=table)


def _named(each: ByteEnergy) -> str:
    """A memory with its kind: memory (HBM3)."""
    first = next(iter(each.segments))
    return f"{each.place} ({first.removesuffix(' cells')})" if first.endswith(" cells") else each.place


def _token(own: Explanation, step: str) -> Chart:
    title = f"Where the joules of a token go, {step}"
    joules, macs = own.joules_per_token, float(own.cost.macs) / own.batch
    rows: list[tuple[Cell, ...]] = [
        (level, joules[level], joules[level] / joules["total"], joules[level] / macs / PICO) for level in LEVELS
    ]
    rows.append(("total", joules["total"], 1.0, joules["total"] / macs / PICO))
    table = Table(
        caption=f"{title}: by level, and per multiply-accumulate",
        columns=("level", "joules_per_token", "share", "pj_per_mac"),
        rows=tuple(rows),
    )
    parts = {level.replace("_", " "): joules[level] for level in LEVELS}
    svg = stacks([Stack(name="a token", parts=parts)], "J", title, "joules of a token", colours=COLOURS)
    return Chart(name="token", title=title, svg=svg, table=table)


def _lead(own: Explanation) -> str:
    weights = own.resolved.conditions.weights
    picojoules = weights.joules_per_byte_total / PICO
    moved = own.cost.pj_per_mac["movement"]
    return (
        f"A byte of weights costs {show(picojoules, 'pJ')} on its way from {weights.name}; at batch {own.batch:,}"
        f" moving data takes {show(float(moved), 'pJ')} for each multiply-accumulate, which itself takes"
        f" {show(float(own.cost.pj_per_mac['compute']), 'pJ')}."
    )
