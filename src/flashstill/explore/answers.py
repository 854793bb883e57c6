"""Answers of the page as JSON or CSV: each state is computed once, and the last answers are kept.

One lock lets one computation run at a time: Python would interleave them anyway, and fifty requests for the same state
then cost one computation.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from flashstill.errors import BadInput, InfeasiblePlan, MissingFact, unknown
from flashstill.explore.controls import CONTROLS, EDITS
from flashstill.explore.engine import Engine
from flashstill.explore.kinds import Kind
from flashstill.explore.sources import numbers_of
from flashstill.explore.state import State, query_of, read_state
from flashstill.explore.view import Chart, Table, View

KEPT_ANSWERS = 64


class Answers:
    """What the server says; kinds: the views that it has."""

    def __init__(self, engine: Engine, kinds: Sequence[Kind]) -> None:
        self.engine = engine
        self.kinds = {kind.name: kind for kind in kinds}
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, View] = OrderedDict()

    def state(self, query: str) -> State:
        """The state of a query; BadInput for a mistake."""
        return read_state(query, self.engine.catalogue)

    def view(self, state: State) -> View:
        """The view of a state: computed, or kept from before. Raises the errors of the engine, but for infeasible."""
        key = query_of(state)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            made = self._made(state)
            self._kept[key] = made
            if len(self._kept) > KEPT_ANSWERS:
                self._kept.popitem(last=False)
            return made

    def _made(self, state: State) -> View:
        kind = self.kinds[state.view]
        try:
            return kind.build(self.engine, self.engine.edited(state.set), state)
        except InfeasiblePlan as error:
            return _infeasible(kind, error, kind.command(self.engine.given, state))

    def view_json(self, name: str, query: str) -> bytes:
        """The answer of /view/NAME; BadInput for an unknown name."""
        if name not in self.kinds:
            raise MissingFact(unknown("view", name, self.kinds))
        says = any(field.startswith("view=") for field in query.split("&"))
        state = self.state(query if says else f"view={name}&{query}".rstrip("&"))
        if state.view != name:
            raise BadInput(f"the state is of the view {state.view}, not {name}; ask for /view/{state.view}")
        return as_json({**self.view(state).as_dict(), "query": query_of(state), "state": state.as_dict()})

    def table_csv(self, name: str, query: str) -> bytes:
        """The table of one chart of the state's view, as CSV."""
        charts = {chart.name: chart for chart in self.view(self.state(query)).charts}
        if name not in charts:
            raise MissingFact(unknown("table of this view", name, charts))
        return charts[name].table.as_csv().encode()

    def states_json(self, query: str) -> bytes:
        """The answer of /states: the state, the views and what each control may be."""
        state = self.state(query)
        views = [
            {"name": kind.name, "title": kind.title, "controls": list(kind.controls)} for kind in self.kinds.values()
        ]
        return as_json(
            {"state": state.as_dict(), "query": query_of(state), "views": views, "controls": self._controls(state)}
        )

    def _controls(self, state: State) -> list[dict[str, Any]]:
        catalogue = self.engine.catalogue
        defaults = catalogue.defaults(state.model, state.chip)
        longest = catalogue.architecture(state.model).context
        listed = []
        for control in CONTROLS:
            if control.kind == EDITS:
                listed.append(control.as_dict([], self._editable(state)))
                continue
            high = longest if control.unit == "tokens" else None
            choices = [choice.as_dict() for choice in catalogue.choices(control.key)]
            if control.optional and choices:
                choices.insert(0, {"value": "", "label": "as it comes"})
            default = defaults[control.key]
            default = list(default) if isinstance(default, tuple) else default
            listed.append(control.as_dict(default, choices, high))
        return listed

    def _editable(self, state: State) -> list[dict[str, Any]]:
        """The numbers of the state's chips that an edit can change, as they are before the state's own edits."""
        facts = self.engine.facts
        chips = (state.chip,) if "chip" in self.kinds[state.view].controls else state.chips_from
        rows = [(row, len(facts.rows[row.name, row.quantity]) > 1) for chip in chips for row in numbers_of(facts, chip)]
        return [
            {
                "value": f"{row.name}.{row.quantity}" + (f"[{row.condition}]" if several else ""),
                "label": f"{row.name}, {row.quantity}{f', {row.condition}' if row.condition else ''}",
                "chip": row.name,
                "unit": row.unit,
                "now": row.value,
                "low": row.low,
                "high": row.high,
            }
            for row, several in rows
        ]


def _infeasible(kind: Kind, error: InfeasiblePlan, command: str) -> View:
    """The view of a state that nothing can do: the sentence, and the counted reasons."""
    rows = tuple((reason, count) for reason, count in sorted(error.reasons.items(), key=lambda pair: -pair[1]))
    table = Table(caption="Why configurations were left out", columns=("reason", "configurations"), rows=rows)
    charts = (Chart(name="reasons", title="Reasons", svg="", table=table),)
    return View(name=kind.name, title=kind.title, lead=str(error), charts=charts, command=command)


def as_json(document: Mapping[str, Any]) -> bytes:
    """One JSON document in UTF-8; BadInput where a figure is not finite, or a text no Unicode."""
    try:
        return json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadInput("a text of this view has a character that UTF-8 has not") from error
    except ValueError as error:
        raise BadInput(
            "a figure of this view is not finite; check the numbers that were asked for and the edited facts"
        ) from error
