"""A model on a chip: time and joules of a decode step by level, against batch and against context, and the knees."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flashstill.cost import LEVELS
from flashstill.errors import FlashstillError
from flashstill.explore.commands import Given, command_line, explain_words
from flashstill.explore.engine import Engine
from flashstill.explore.kinds import Kind
from flashstill.explore.sources import kernel_note, sources_of
from flashstill.explore.state import State
from flashstill.explore.view import Cell, Chart, Table, View
from flashstill.explore.views.asked import COLOURS, STEP_CONTROLS, step_case
from flashstill.facts import Facts
from flashstill.plan.crossover import knees
from flashstill.plan.explain import Explanation
from flashstill.plan.explained import explanations
from flashstill.report.axes import Axis
from flashstill.report.line_chart import line_chart
from flashstill.report.stacks import Stack, stacks
from flashstill.report.svg import Line
from flashstill.units import show

TITLE = "A model on a chip"
BATCHES = tuple(2**power for power in range(15))
CONTEXTS = tuple(2**power for power in range(7, 25))
TIMES = ("compute", "memory", "links", "overhead", "power")
DRAWN = ("memory", "overhead", "compute", "links", "power")
"""in the order of their colours: first what every step has"""
Steps = list[tuple[int, Explanation | FlashstillError]]
"""a batch or a context, and the step at it"""


def build(engine: Engine, facts: Facts, state: State) -> View:
    """The view: the state's own step decides the chips and their layout, which all points of the curves share."""
    own = _only(explanations(facts, [step_case(engine, state)], state.price))
    fixed = {"chips": own.resolved.chips, **own.resolved.degrees._asdict()}
    longest = engine.model(state.model).context
    batches = sorted({*BATCHES, state.batch})
    contexts = sorted({*(each for each in CONTEXTS if each < longest), longest, state.context})
    cases = [step_case(engine, state, batch=batch, **fixed) for batch in batches]
    cases += [step_case(engine, state, context=context, **fixed) for context in contexts]
    answers = explanations(facts, cases, state.price)
    by_batch: Steps = list(zip(batches, answers, strict=False))
    by_context: Steps = list(zip(contexts, answers[len(batches) :], strict=True))
    found = knees(own.resolved)
    at, where = f"at context {state.context:,}", f"{own.resolved.chips} x {own.resolved.chip.name}"
    charts = (
        _seconds("batch", by_batch, f"Seconds of a step against batch, {at}", _marks(found)),
        _joules("batch", by_batch, f"Joules of a token by level against batch, {at}"),
        _seconds("context", by_context, f"Seconds of a step against context, at batch {state.batch:,}", ()),
        _joules("context", by_context, f"Joules of a token by level against context, at batch {state.batch:,}"),
    )
    return View(
        name="model",
        title=f"{own.resolved.model.name} on {where}",
        lead=_lead(own, found),
        charts=charts,
        command=command(engine.given, state),
        sources=sources_of(facts, [own.resolved.chip.name]),
        notes=(*_notes(own, where), *kernel_note(facts, [own.resolved.chip.name])),
    )


def command(given: Given, state: State) -> str:
    """`explain` of the state's own step."""
    return command_line(explain_words(given, state))


KIND = Kind(
    name="model",
    title=TITLE,
    controls=STEP_CONTROLS,
    build=build,
    command=command,
)


def _only(answers: Sequence[Explanation | FlashstillError]) -> Explanation:
    (answer,) = answers
    if isinstance(answer, FlashstillError):
        raise answer
    return answer


def _lead(own: Explanation, found: dict[str, int | None]) -> str:
    each = own.joules_per_token["total"]
    movement = found["arithmetic_dominates_from"]
    knee = (
        f"arithmetic takes as long as memory from batch {movement:,} on"
        if movement is not None
        else "memory takes longer than arithmetic at every batch"
    )
    return (
        f"At batch {own.batch:,} and context {own.context:,}, a step takes {show(float(own.cost.seconds), 's')} and a"
        f" token {show(each, 'J')}; most of the time goes to {own.cost.bound}, and {knee}."
    )


def _notes(own: Explanation, where: str) -> tuple[str, ...]:
    fixed = f"All points of the curves are on {where} as the state's own step is laid out."
    same = "A row of a table is what the command prints with the row's --batch or --context, and these chips."
    return (fixed, same, *own.resolved.notes, f"Dollars: {own.paid.basis}.")


def _marks(found: dict[str, int | None]) -> tuple[tuple[float, str], ...]:
    below, since = found["weights_dominate_below"], found["arithmetic_dominates_from"]
    marks = [(float(below), "weights: half the joules")] if below is not None else []
    return (*marks, *([(float(since), "arithmetic: half the time")] if since is not None else []))


def _seconds(axis: str, steps: Steps, title: str, marks: Sequence[tuple[float, str]]) -> Chart:
    columns = (
        axis,
        "seconds",
        "seconds_perfect",
        *(f"seconds_{name}" for name in TIMES),
        "tokens_per_s",
        "bound",
        "reason",
    )

    def cells(step: Explanation) -> list[Cell]:
        parts: list[Cell] = [float(step.cost.shares_s[name]) for name in TIMES]
        return [float(step.cost.seconds), step.perfect_seconds, *parts, step.tokens_per_s, str(step.cost.bound)]

    table = _table(f"{title}: the whole step, its lower bound, and its parts", columns, steps, cells)
    drawn = {"whole step": 1, "lower bound": 2, **{name: columns.index(f"seconds_{name}") for name in DRAWN}}
    lines = [Line(name=name, points=_column(table, place)) for name, place in drawn.items()]
    lines = [line for line in lines if any(value for _, value in line.points)]
    x = Axis(title=f"{axis}, {'sequences' if axis == 'batch' else 'tokens in the cache'}", unit="tokens", log=True)
    svg = line_chart(lines, x, Axis(title="seconds of a step", unit="s", log=True), title, marks)
    return Chart(name=f"seconds-{axis}", title=title, svg=svg, table=table)


def _joules(axis: str, steps: Steps, title: str) -> Chart:
    columns = (axis, "joules_per_token", *(f"joules_{name}" for name in LEVELS), "usd_per_million_tokens", "reason")

    def cells(step: Explanation) -> list[Cell]:
        joules = step.joules_per_token
        parts: list[Cell] = [joules[name] for name in LEVELS]
        return [joules["total"], *parts, step.usd_per_million_tokens]

    table = _table(f"{title}: chips only, without host and facility", columns, steps, cells)
    rows = [
        Stack(
            name=f"{at:,}",
            parts={name.replace("_", " "): step.joules_per_token[name] for name in LEVELS},
        )
        for at, step in steps
        if isinstance(step, Explanation)
    ]
    svg = stacks(rows, "J", title, f"share of a token's joules, by {axis}", is_share=True, colours=COLOURS)
    return Chart(name=f"joules-{axis}", title=title, svg=svg, table=table)


def _table(caption: str, columns: tuple[str, ...], steps: Steps, cells: Callable[[Explanation], list[Cell]]) -> Table:
    """A row for each step, with the reason in place of the figures where it does not fit."""
    rows: list[tuple[Cell, ...]] = []
    for at, step in steps:
        if isinstance(step, Explanation):
            rows.append((at, *cells(step), ""))
        else:
            rows.append((at, *[None] * (len(columns) - 2), str(step)))
    return Table(caption=caption, columns=columns, rows=tuple(rows))


def _column(table: Table, place: int) -> list[tuple[float, float | None]]:
    points: list[tuple[float, float | None]] = []
    for row in table.rows:
        at, value = row[0], row[place]
        assert isinstance(at, int)
        points.append((float(at), value if isinstance(value, float) else None))
    return points
