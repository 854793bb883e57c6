"""Which number of the chip buys most: what one per cent of each does to dollars, joules and seconds per token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flashstill.explore.commands import Given, codesign_words, command_line
from flashstill.explore.engine import Engine
from flashstill.explore.kinds import Kind
from flashstill.explore.limits import check_work
from flashstill.explore.sources import kernel_note, sources_of
from flashstill.explore.state import State
from flashstill.explore.view import Chart, Table, View
from flashstill.explore.views.front import question
from flashstill.facts import Facts
from flashstill.report.elasticities import OBJECTIVES, elasticity_tornado

if TYPE_CHECKING:
    from flashstill.codesign.whatif_answer import Pair

COLUMNS = ("number", "value", "unit", "elasticity", "jumps")


def build(engine: Engine, facts: Facts, state: State) -> View:
    """The view of one model on one chip; the deployment is chosen anew for each change."""
    from flashstill.what_ifs import codesign  # only this view needs it

    scenario, space = question(engine, replace(state, chips_from=(state.chip,)))
    check_work(facts, scenario, space)
    answer = codesign(
        model=scenario.model,
        chip=state.chip,
        isl=state.isl,
        osl=state.osl,
        max_chips=state.max_chips,
        max_ttft_s=state.max_ttft,
        max_tpot_s=state.max_tpot,
        min_tokens_per_s=state.min_throughput,
        precisions=space.precisions,
        kv_precisions=space.kv_precisions,
        tiers=space.tiers,
        engine=state.engine,
        price=state.price,
        doubling=False,
        facts=facts,
    )
    (pair,) = answer.pairs
    return View(
        name="numbers",
        title=f"Which number of {pair.chip} buys most for {pair.model}",
        lead=_lead(pair),
        charts=tuple(_chart(pair, objective, words) for objective, words in OBJECTIVES.items()),
        command=command(engine.given, state),
        sources=sources_of(facts, [pair.chip]),
        notes=(
            "Each cost has its own best configuration; where another takes over within one per cent, the figure jumps,"
            " and beyond 1 it is in the table alone.",
            *(note for note in answer.notes if "--doubling" not in note),
            *kernel_note(facts, [pair.chip]),
        ),
    )


def command(given: Given, state: State) -> str:
    """`codesign` of the same model and chip."""
    return command_line(codesign_words(given, state))


KIND = Kind(
    name="numbers",
    title="Which number counts",
    controls=(
        "model", "chip", "max_chips", "isl", "osl", "max_ttft", "max_tpot", "min_throughput", "precision",
        "kv_precision", "memory", "engine", "price", "set",
    ),
    build=build,
    command=command,
)  # fmt: skip


def _lead(pair: Pair) -> str:
    parts = [
        f"{words}: {one.parameter} ({one.gain:.2g} % less for one per cent{_jump(pair, one.parameter, objective)})"
        for objective, words in OBJECTIVES.items()
        if (one := pair.binding.get(objective)) is not None
    ]
    return f"What binds, by cost of a token: {'; '.join(parts)}." if parts else "No number of this chip binds."


def _jump(pair: Pair, number: str, objective: str) -> str:
    """Says where a figure is not a slope: a larger batch or another configuration comes into reach."""
    found = pair.sensitivity.elasticities[number][objective]
    return ", as another configuration comes into reach" if found.jumps else ""


def _chart(pair: Pair, objective: str, words: str) -> Chart:
    found = {name: value for name, of in pair.elasticities.items() if (value := of[objective]) is not None}
    parameters = {one.name: one for one in pair.parameters}
    jumping = {name for name, of in pair.sensitivity.elasticities.items() if of[objective].jumps}
    rows = tuple(
        (name, parameters[name].value, parameters[name].unit, value, name in jumping)
        for name, value in sorted(found.items(), key=lambda item: -abs(item[1]))
    )
    svg, left_out = elasticity_tornado(found, jumping, words)
    caption = f"d ln({words} per token) / d ln(number), and whether another configuration takes over. {left_out}"
    return Chart(
        name=words,
        title=f"Per cent of {words} per token for one per cent of a number",
        svg=svg,
        table=Table(caption=caption.strip(), columns=COLUMNS, rows=rows),
    )
