"""The Pareto front of configurations: time, throughput, joules and dollars under the state's bounds and edits."""

from __future__ import annotations

from dataclasses import fields

from flashstill.explore.commands import Given, command_line, plan_words
from flashstill.explore.engine import Engine
from flashstill.explore.kinds import Kind
from flashstill.explore.limits import check_work
from flashstill.explore.sources import kernel_note, sources_of
from flashstill.explore.state import State
from flashstill.explore.view import Cell, Chart, Table, View
from flashstill.facts import Facts
from flashstill.frontier import on_front
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import BATCHES, Configuration, SearchResult, SearchSpace
from flashstill.report.axes import Axis
from flashstill.report.scatter import Front, Point, scatter
from flashstill.units import show

TIME = Axis(title="time per output token", unit="s", log=True)
AXES = {
    "usd_per_million_output_tokens": Axis(title="dollars per million output tokens", unit="USD", log=True),
    "tokens_per_s_per_chip": Axis(title="tokens/s of a chip", log=True),
    "joules_per_output_token": Axis(title="joules of an output token", unit="J", log=True),
}
BIGGER_IS_BETTER = ("tokens_per_s_per_chip",)
COLUMNS = tuple(field.name for field in fields(Configuration))


def build(engine: Engine, facts: Facts, state: State) -> View:
    """The view; the engine's InfeasiblePlan with counted reasons where no configuration keeps the bounds."""
    scenario, space = question(engine, state)
    check_work(facts, scenario, space)
    result = search(facts, scenario, space, state.price)
    colours = {name: number for number, name in enumerate(state.chips_from, start=1)}
    charts = tuple(_chart(result, figure, axis, colours, state) for figure, axis in AXES.items())
    return View(
        name="front",
        title=f"Front of {scenario.model_name} on up to {state.max_chips:,} chips",
        lead=_lead(result),
        charts=charts,
        command=command(engine.given, state),
        sources=sources_of(facts, state.chips_from),
        notes=(*_notes(result), *kernel_note(facts, state.chips_from)),
    )


def question(engine: Engine, state: State) -> tuple[Scenario, SearchSpace]:
    """What `plan` is asked with the state's options."""
    scenario = Scenario(
        model=engine.model(state.model),
        isl=state.isl,
        osl=state.osl,
        max_ttft_s=state.max_ttft,
        max_tpot_s=state.max_tpot,
        min_tokens_per_s=state.min_throughput,
    )
    space = SearchSpace(
        chips=state.chips_from,
        max_chips=state.max_chips,
        batches=BATCHES,
        precisions=(state.precision,),
        kv_precisions=(state.kv_precision,),
        tiers=("memory", "sram") if state.memory is None else (state.memory,),
        engine=state.engine,
    )
    return scenario, space


def command(given: Given, state: State) -> str:
    """`plan` of the same search."""
    return command_line(plan_words(given, state))


KIND = Kind(
    name="front",
    title="Pareto front",
    controls=(
        "model", "chips_from", "max_chips", "isl", "osl", "max_ttft", "max_tpot", "min_throughput", "precision",
        "kv_precision", "memory", "engine", "price", "set",
    ),
    build=build,
    command=command,
)  # fmt: skip


def _lead(result: SearchResult) -> str:
    parts = []
    fastest = result.front[0]
    if fastest.tpot_s is not None:
        parts.append(f"the fastest takes {show(fastest.tpot_s, 's')} a token on {_named(fastest)}")
    priced = [
        (point.usd_per_million_output_tokens, number)
        for number, point in enumerate(result.front)
        if point.usd_per_million_output_tokens is not None
    ]
    if priced:
        dollars, number = min(priced)
        parts.append(f"the cheapest costs {show(dollars, 'USD')} per million tokens on {_named(result.front[number])}")
    return f"{len(result.front)} of {result.feasible:,} feasible configurations are on the front; {'; '.join(parts)}."


def _notes(result: SearchResult) -> tuple[str, ...]:
    counted = "; ".join(f"{reason}: {count:,}" for reason, count in result.infeasible.items())
    tried = f"{result.evaluated:,} configurations were tried{f' ({counted})' if counted else ''}."
    prices = tuple(f"{chip}: {price.basis}." for chip, price in result.prices.items())
    on_a_line = (
        "A dotted line joins what no other beats in both figures of a chart; all points are on the front of four."
    )
    return (tried, on_a_line, *prices, *([result.note] if result.note else []))


def _named(point: Configuration) -> str:
    places = (
        ""
        if point.weights_in == point.kv_in == "memory"
        else f", weights in {point.weights_in}, cache in {point.kv_in}"
    )
    return f"{point.chips} x {point.chip} at batch {point.batch:,}{places}"


def _chart(result: SearchResult, figure: str, axis: Axis, colours: dict[str, int], state: State) -> Chart:
    words = figure.replace("_", " ").replace("usd", "dollars")
    title = f"{words.capitalize()} against time per output token, {state.isl:,} tokens in, {state.osl:,} out"
    known = [
        (point, point.tpot_s, value)
        for point in result.front
        if point.tpot_s is not None and (value := getattr(point, figure)) is not None
    ]
    points = [
        Point(x=time, y=value, words=_named(point), series=colours[point.chip], label=f"b{point.batch} x{point.chips}")
        for point, time, value in known
    ]
    sign = -1.0 if figure in BIGGER_IS_BETTER else 1.0
    best = on_front([(time, sign * value) for _, time, value in known]) if known else []
    front = Front(points=[(time, value) for (_, time, value), is_best in zip(known, best, strict=True) if is_best])
    names = [(name, number) for name, number in colours.items() if any(point.chip == name for point in result.front)]
    rows: list[tuple[Cell, ...]] = [tuple(getattr(point, name) for name in COLUMNS) for point in result.front]
    table = Table(
        caption=f"Configurations of the front, fastest first: {words} and all else", columns=COLUMNS, rows=tuple(rows)
    )
    return Chart(
        name=figure.replace("_", "-"),
        title=title,
        svg=scatter(points, TIME, axis, title, fronts=[front], names=names),
        table=table,
    )
