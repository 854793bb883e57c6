"""Chips side by side: time, joules, dollars and watts of serving the same requests."""

from __future__ import annotations

from flashstill.errors import FlashstillError
from flashstill.explore.commands import Given, command_line, predict_words
from flashstill.explore.engine import Engine
from flashstill.explore.kinds import Kind
from flashstill.explore.sources import kernel_note, sources_of
from flashstill.explore.state import State
from flashstill.explore.view import Chart, Table, View
from flashstill.explore.views.asked import in_words, nothing, serving_case
from flashstill.facts import Facts
from flashstill.plan.answer import Answer, answers
from flashstill.report.axes import Axis
from flashstill.report.scatter import Point, scatter
from flashstill.report.stacks import Stack, stacks
from flashstill.units import show

KINDS = ("input", "cached", "output")
TIME = Axis(title="time per output token", unit="s", log=True)
DOLLARS = Axis(title="dollars per million output tokens", unit="USD", log=True)
Each = list[tuple[str, Answer | FlashstillError]]


def build(engine: Engine, facts: Facts, state: State) -> View:
    """The view: each chip serves the requests with as few as hold them, unless the state says how many."""
    cases = [serving_case(engine, state, chip=chip) for chip in state.chips_from]
    each: Each = list(zip(state.chips_from, answers(facts, cases, state.price), strict=True))
    fitting = [(chip, answer) for chip, answer in each if isinstance(answer, Answer)]
    if not fitting:
        failed = [(chip, answer) for chip, answer in each if isinstance(answer, FlashstillError)]
        raise nothing("none of these chips serves the requests", failed)
    asked = f"{state.isl:,} tokens in, {state.osl:,} out, {in_words(state.batch, 'request')} in flight"
    return View(
        name="chips",
        title=f"{fitting[0][1].scenario.model_name} on {in_words(len(each), 'kind')} of chip",
        lead=_lead(fitting),
        charts=(
            _time_and_dollars(each, asked),
            _dollars(each, asked),
            _bars(each, "joules", "joules_per_output_token", "J", f"Joules of an output token, {asked}"),
            _bars(each, "watts", "watts_per_chip", "W", f"Watts of a chip, {asked}"),
        ),
        command=command(engine.given, state),
        sources=sources_of(facts, state.chips_from),
        notes=(*_notes(fitting), *kernel_note(facts, state.chips_from)),
    )


def command(given: Given, state: State) -> str:
    """`predict` for each chip."""
    return command_line(*(predict_words(given, state, chip=chip) for chip in state.chips_from))


KIND = Kind(
    name="chips",
    title="Chips side by side",
    controls=(
        "model", "chips_from", "chips", "batch", "isl", "osl", "precision", "kv_precision", "memory", "engine", "price",
        "set",
    ),
    build=build,
    command=command,
)  # fmt: skip


def _notes(fitting: list[tuple[str, Answer]]) -> list[str]:
    return [
        note if note.startswith(f"{chip}:") else f"{chip}: {note}"
        for chip, answer in fitting
        for note in (*answer.note.split("; "), answer.price_basis)
        if note
    ]


def _lead(fitting: list[tuple[str, Answer]]) -> str:
    timed = [(answer.tpot_s, chip) for chip, answer in fitting if answer.tpot_s is not None]
    priced = [
        (answer.usd_per_million_output_tokens, chip)
        for chip, answer in fitting
        if answer.usd_per_million_output_tokens is not None
    ]
    joules = [
        (answer.joules_per_output_token, chip) for chip, answer in fitting if answer.joules_per_output_token is not None
    ]
    parts = [
        f"{named}: {chip} with {show(value, unit)}"
        for named, unit, found in (("fastest", "s", timed), ("cheapest", "USD", priced), ("fewest joules", "J", joules))
        if found
        for value, chip in [min(found)]
    ]
    said = "; ".join(parts)
    return f"{said[:1].upper()}{said[1:]}." if parts else "No figure is known of these chips."


def _table(each: Each, caption: str, names: tuple[str, ...]) -> Table:
    """A row for each chip: how many it takes, these figures, and the reason where it has none."""
    rows = []
    for chip, answer in each:
        if isinstance(answer, Answer):
            rows.append((chip, answer.deployment.chips, *(getattr(answer, name) for name in names), ""))
        else:
            rows.append((chip, None, *[None] * len(names), str(answer)))
    return Table(caption=caption, columns=("chip", "chips", *names, "reason"), rows=tuple(rows))


def _time_and_dollars(each: Each, asked: str) -> Chart:
    title = f"Dollars against time, {asked}"
    points = [
        Point(
            x=answer.tpot_s,
            y=answer.usd_per_million_output_tokens,
            label=chip,
            series=number,
            x_low=answer.tpot_low_s,
            x_high=answer.tpot_high_s,
        )
        for number, (chip, answer) in enumerate(each, start=1)
        if isinstance(answer, Answer) and answer.tpot_s is not None and answer.usd_per_million_output_tokens is not None
    ]
    names = (
        "tpot_s", "tpot_low_s", "tpot_high_s", "ttft_s", "output_tokens_per_s", "usd_per_million_output_tokens",
        "usd_per_chip_hour", "bound",
    )  # fmt: skip
    table = _table(each, f"{title}; low and high: ends of the 80 % band", names)
    return Chart(name="time-dollars", title=title, svg=scatter(points, TIME, DOLLARS, title), table=table)


def _dollars(each: Each, asked: str) -> Chart:
    title = f"Dollars of a million output tokens, {asked}"
    names = ("usd_per_million_output_tokens", *(f"{kind}_usd_per_million_tokens" for kind in KINDS))
    table = _table(each, f"{title}, and of a million input, cached and output tokens each", names)
    rows = []
    for chip, answer in each:
        if isinstance(answer, Answer) and answer.usd_per_million_output_tokens is not None:
            rows.append(Stack(name=chip, parts={"all tokens": answer.usd_per_million_output_tokens}))
    return Chart(
        name="dollars", title=title, svg=stacks(rows, "USD", title, "dollars per million output tokens"), table=table
    )


def _bars(each: Each, name: str, figure: str, unit: str, title: str) -> Chart:
    values = [
        (chip, getattr(answer, figure))
        for chip, answer in each
        if isinstance(answer, Answer) and getattr(answer, figure) is not None
    ]
    words = figure.replace("_", " ")
    rows = [Stack(name=chip, parts={chip: value}) for chip, value in values]
    ends = tuple(f"{figure}_{end}" for end in ("low", "high")) if hasattr(Answer, f"{figure}_low") else ()
    return Chart(
        name=name, title=title, svg=stacks(rows, unit, title, words), table=_table(each, title, (figure, *ends))
    )
