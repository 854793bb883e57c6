"""Weights and cache in SRAM or in main memory: which is faster, by size of the model and number of chips."""

from __future__ import annotations

from math import inf

from flashstill.errors import BadInput, FlashstillError
from flashstill.explore.commands import Given, command_line, explain_words
from flashstill.explore.engine import Engine
from flashstill.explore.kinds import Kind
from flashstill.explore.limits import check_setups
from flashstill.explore.sources import sources_of
from flashstill.explore.state import State
from flashstill.explore.view import Cell, Chart, Table, View
from flashstill.explore.views.asked import deployment_of, nothing, step_case
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts
from flashstill.plan.case import Case
from flashstill.plan.explain import Explanation
from flashstill.plan.explained import explanations
from flashstill.report.axes import Axis
from flashstill.report.heat import heat
from flashstill.report.line_chart import line_chart
from flashstill.report.svg import Line

COUNTS = tuple(2**power for power in range(10))
MEMORY, SRAM = "memory", "sram"
Place = tuple[str, str]
"""a chip and one of its memory tiers"""
Steps = dict[tuple[str, int, Place], Explanation | FlashstillError]
"""(model, chips, place) -> the step there"""
Rows = dict[tuple[str, int, Place], tuple[Cell, ...]]
"""(model, chips, place) -> the row of the table"""
Fastest = dict[tuple[str, int, str], tuple[float, str]]
"""(model, chips, tier) -> seconds of the fastest step, and its chip"""
COLUMNS = ("model", "parameters", "chips", "chip", "memory", "seconds", "joules_per_token", "usd_per_million_tokens",
           "bound", "reason")  # fmt: skip


def build(engine: Engine, facts: Facts, state: State) -> View:
    """The view: every model on every number of chips, from each tier of each chip that it could be read from."""
    places = places_of(facts, state)
    if not places and state.memory is not None:
        chip_from_facts(facts, state.chips_from[0]).tier(state.memory)  # says which memories it has
    if not places:
        raise BadInput(f"none of {', '.join(state.chips_from)} has main memory or SRAM with a bandwidth")
    check_setups(len(state.models), len(places))
    scenarios = {model: step_case(engine, state, model=model).scenario for model in state.models}
    deployments = {
        (count, place): deployment_of(state, chip=place[0], chips=count, weights_in=place[1], kv_in=place[1])
        for place in places for count in COUNTS
    }  # fmt: skip
    asked = {
        (model, count, place): Case(scenario, deployment)
        for model, scenario in scenarios.items()
        for (count, place), deployment in deployments.items()
    }
    steps: Steps = dict(zip(asked, explanations(facts, list(asked.values()), state.price, bounded=False), strict=True))
    if not any(isinstance(step, Explanation) for step in steps.values()):
        failed = [
            (f"{model} on {chip} from {memory}", step)
            for (model, _, (chip, memory)), step in steps.items()
            if isinstance(step, FlashstillError)
        ]
        raise nothing("none of these models fits on any of these numbers of chips", failed)
    fastest = _fastest(steps)
    own = state.model if state.model in state.models else state.models[0]
    rows = {key: _row(key, step) for key, step in steps.items()}
    return View(
        name="placement",
        title="SRAM or main memory",
        lead=_lead(fastest, state),
        charts=(_ratios(rows, fastest, state), _lines(rows, steps, state, own, places)),
        command=command(engine.given, state),
        sources=sources_of(facts, state.chips_from),
        notes=(
            "A row of a table is what the command prints with the row's --model, --chip, --chips and --memory.",
            "Each number of chips is one copy of the model, tensor-parallel as far as its heads divide.",
        ),
    )


def places_of(facts: Facts, state: State) -> list[Place]:
    """Every chip of the state with each of its main memory and SRAM, or the memory that the state names."""
    return [
        (name, tier.name)
        for name in state.chips_from
        for tier in chip_from_facts(facts, name).tiers
        if (tier.name in (MEMORY, SRAM) if state.memory is None else tier.name == state.memory)
    ]


def command(given: Given, state: State) -> str:
    """`explain` of the first model from the state's memory on each chip, with so many chips."""
    count = state.chips or 1
    return command_line(
        *(explain_words(given, state, model=state.models[0], chip=chip, chips=count) for chip in state.chips_from)
    )


KIND = Kind(
    name="placement",
    title="SRAM or memory",
    controls=(
        "models",
        "chips_from",
        "batch",
        "context",
        "precision",
        "kv_precision",
        "memory",
        "engine",
        "price",
        "set",
    ),
    build=build,
    command=command,
)  # fmt: skip


def _fastest(steps: Steps) -> Fastest:
    """The fastest step of each model on each number of chips out of each tier, over the chips."""
    fastest: Fastest = {}
    for (model, count, (chip, memory)), step in steps.items():
        if isinstance(step, Explanation):
            key, found = (model, count, memory), (float(step.cost.seconds), chip)
            fastest[key] = min(fastest.get(key, found), found)
    return fastest


def _ratios(rows: Rows, fastest: Fastest, state: State) -> Chart:
    """Seconds from the fastest main memory over seconds from the fastest SRAM: above 1, SRAM is faster."""
    title = (
        "Seconds from main memory over seconds from SRAM, by model and number of chips,"
        f" batch {state.batch:,}, context {state.context:,}"
    )
    values: list[list[float | None]] = []
    for model in state.models:
        row: list[float | None] = []
        for count in COUNTS:
            memory, sram = fastest.get((model, count, MEMORY)), fastest.get((model, count, SRAM))
            row.append(memory[0] / sram[0] if memory and sram else None)
        values.append(row)
    svg = heat(state.models, [str(count) for count in COUNTS], values, title, middle=1.0, log=True,
               legend=("main memory is faster", "SRAM is faster"))  # fmt: skip
    caption = "Decode steps by model, number of chips, chip and memory"
    table = Table(caption=caption, columns=COLUMNS, rows=tuple(rows.values()))
    return Chart(name="ratio", title=title, svg=svg, table=table)


def _lines(rows: Rows, steps: Steps, state: State, model: str, places: list[Place]) -> Chart:
    title = f"Seconds of a step of {model} against chips, batch {state.batch:,}, context {state.context:,}"
    lines = [
        Line(
            name=f"{chip}, {memory}",
            points=[(float(count), _seconds(steps[model, count, (chip, memory)])) for count in COUNTS],
        )
        for chip, memory in places
    ]
    svg = line_chart(lines, Axis(title="chips", log=True), Axis(title="seconds of a step", unit="s", log=True), title)
    mine = tuple(rows[model, count, place] for place in places for count in COUNTS)
    return Chart(name="seconds", title=title, svg=svg, table=Table(caption=title, columns=COLUMNS, rows=mine))


def _row(key: tuple[str, int, Place], step: Explanation | FlashstillError) -> tuple[Cell, ...]:
    model, count, (chip, memory) = key
    if not isinstance(step, Explanation):
        return (model, None, count, chip, memory, None, None, None, None, str(step))
    return (
        model, step.resolved.model.parameters, count, chip, memory, float(step.cost.seconds),
        step.joules_per_token["total"], step.usd_per_million_tokens, str(step.cost.bound), "",
    )  # fmt: skip


def _seconds(step: Explanation | FlashstillError) -> float | None:
    return float(step.cost.seconds) if isinstance(step, Explanation) else None


def _lead(fastest: Fastest, state: State) -> str:
    """For each model, the fewest chips at which SRAM is faster than any main memory on as many."""
    parts = []
    for model in state.models:
        first = next(
            (
                (count, sram[1])
                for count in COUNTS
                if (sram := fastest.get((model, count, SRAM)))
                and sram[0] < fastest.get((model, count, MEMORY), (inf, ""))[0]
            ),
            None,
        )
        parts.append(f"{model} {first[0]} x {first[1]}" if first else f"{model} none")
    return f"The fewest chips at which SRAM is faster than as many with main memory: {'; '.join(parts)}."
