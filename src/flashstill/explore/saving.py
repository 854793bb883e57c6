"""--save PAGE.html: the page in one file, with answers for a grid of states, that opens from a disk without a network.

Answers are kept in parts of gzip in base64, each opened when it is needed; fact rows that many answers rest on are kept
once. The style and the scripts are allowed by their hashes; nothing else may run or load. What is not in the page is
said beside its control, which is off. A grid that would make the file too large is computed smaller.
"""

from __future__ import annotations

import base64
import datetime
import gzip
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from flashstill import __version__
from flashstill.errors import BadInput, DiskTrouble, FlashstillError, shortened
from flashstill.explore.answers import Answers
from flashstill.explore.grid import Grid, grid_of, query_of
from flashstill.explore.shell import saved_script, script, style, whole_page
from flashstill.outputs import written_out
from flashstill.progress import Progress

MOST_BYTES = 6_000_000
MOST_STATES, MOST_SECONDS = 160, 90.0
"""of a view; of all views together, by what the first states took"""
PER_PART = 24
"""states of a part"""
TRIES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """What was written."""

    bytes: int
    states: int


def save_page(answers: Answers, out: Path, progress: Progress) -> Saved:
    """Write the page; BadInput or DiskTrouble for what cannot be written."""
    most = MOST_STATES
    asked = _Asked(answers)
    for _ in range(TRIES):
        page, states = _page(asked, _grids(asked, most), progress)
        size = len(page.encode())
        if size <= MOST_BYTES:
            with written_out(out) as stream:
                stream.write(page)
            return Saved(bytes=size, states=states)
        most = max(math.floor(most * 0.8 * MOST_BYTES / size), 1)
        progress.say(f"{size / 1e6:.1f} MB are more than {MOST_BYTES / 1e6:.0f} MB; fewer states are kept")
    raise BadInput(
        f"the page would be larger than {MOST_BYTES / 1e6:.0f} MB with one state of each view;"
        " give a smaller RESULT, or none"
    )


class _Asked:
    """Answers that are remembered: a smaller grid holds states of the larger one."""

    def __init__(self, answers: Answers) -> None:
        self.kinds, self._answers = answers.kinds, answers
        self._kept: dict[str, dict[str, Any]] = {}

    def states(self, name: str) -> dict[str, Any]:
        """What `/states` says of the first state of a view."""
        told: dict[str, Any] = json.loads(self._answers.states_json(query_of(name, {})))
        return told

    def view(self, name: str, query: str) -> dict[str, Any]:
        """A view as the protocol has it, or the sentence that says why there is none."""
        if query not in self._kept:
            try:
                answer = json.loads(self._answers.view_json(name, query))
            except FlashstillError as error:
                answer = {"error": str(error)}
            self._kept[query] = {key: held for key, held in answer.items() if key not in ("query", "state")}
        return self._kept[query]


def _grids(asked: _Asked, most: int) -> list[tuple[Grid, Mapping[str, Any]]]:
    """The grid of each view, with what `/states` says of its first state."""
    grids: list[tuple[Grid, Mapping[str, Any]]] = []
    for name in asked.kinds:
        told = asked.states(name)
        begun = time.process_time()
        asked.view(name, told["query"])
        each_s = max(time.process_time() - begun, 1e-4)
        affordable = math.floor(MOST_SECONDS / len(asked.kinds) / each_s)
        limit = max(min(most, affordable), 1)
        heard = asked.kinds[name].controls
        grids.append((grid_of(name, heard, told["controls"], told["state"], limit), told))
    return grids


def _page(asked: _Asked, grids: Sequence[tuple[Grid, Mapping[str, Any]]], progress: Progress) -> tuple[str, int]:
    """The whole page, and how many states it has."""
    total = sum(grid.count for grid, _ in grids)
    places: dict[str, list[tuple[str, int]]] = {}
    parts: dict[str, str] = {}
    sources: dict[str, int] = {}
    with progress.task("states of the page", total, "states") as advance:
        for grid, told in grids:
            rows: list[Mapping[str, Any]] = []
            places[grid.view] = []
            for number, query in enumerate(grid.queries(told["state"])):
                part = f"part-{grid.view}-{number // PER_PART}"
                rows.append(_without_sources(asked.view(grid.view, query), sources))
                places[grid.view].append((part, number % PER_PART))
                if len(rows) == PER_PART or number + 1 == grid.count:
                    parts[part], rows = _packed(rows), []
                advance(1.0, grid.view)
    parts["part-sources"] = _packed([json.loads(text) for text in sources])
    saved = {
        "about": _about(total),
        "views": [{"name": name, "title": kind.title} for name, kind in asked.kinds.items()],
        "controls": {grid.view: list(_controls(asked, grid, told)) for grid, told in grids},
        "places": places,
    }
    return _assembled(saved, parts), total


def _without_sources(answer: dict[str, Any], sources: dict[str, int]) -> dict[str, Any]:
    """The answer with the place of its fact rows among all in place of the rows."""
    if "sources" not in answer:
        return answer
    text = json.dumps(answer["sources"])
    return {**answer, "sources": sources.setdefault(text, len(sources))}


def _packed(held: Any) -> str:
    raw = json.dumps(held, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode()


def _controls(asked: _Asked, grid: Grid, told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The controls of a view in the saved page: `values` of those that vary, what the others always are."""
    axes = {axis.name: axis.values for axis in grid.axes}
    for control in told["controls"]:
        name = control["name"]
        if name not in asked.kinds[grid.view].controls:
            continue
        now = told["state"].get(name)
        labels = {each["value"]: each.get("label") or each["value"] for each in control.get("choices") or ()}
        if name not in axes:
            few = [
                each for each in control.get("choices") or () if control["kind"] != "edits" and _is_chosen(each, now)
            ]
            fixed = (
                "left out"
                if now in (None, [], "")
                else f"always {', '.join(labels.get(each, str(each)) for each in _listed(now))}"
            )
            yield {**control, "choices": few, "stops": [now] if now is not None else [], "now": now, "fixed": fixed}
        elif control["kind"] == "number":
            stops = [value for value in axes[name] if value is not None]
            yield {**control, "stops": stops, "now": now, "values": axes[name]}
        else:
            chosen = [each for each in control["choices"] if (each["value"] or None) in axes[name]]
            yield {**control, "choices": chosen, "now": now, "values": axes[name]}


def _is_chosen(choice: Mapping[str, Any], now: Any) -> bool:
    return (choice["value"] or None) in (now if isinstance(now, list) else [now])


def _listed(now: Any) -> list[Any]:
    return now if isinstance(now, list) else [now]


def _about(states: int) -> str:
    day = datetime.datetime.now(tz=datetime.UTC).date()
    return (
        f"Saved on {day} by flashstill {__version__}: {states:,} states were priced then, and settings that are off"
        " have one value here. For every other state run flashstill explore."
    )


def _assembled(saved: Mapping[str, Any], parts: Mapping[str, str]) -> str:
    scripts, sheet = (saved_script(), script()), style()
    if any("</" in text or "<!--" in text for text in (*scripts, sheet)):
        raise AssertionError("a script or the style would end its element")
    policy = (
        f"default-src 'none'; script-src {' '.join(_hash(text) for text in scripts)}; style-src {_hash(sheet)};"
        " img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n<style>{sheet}</style>'
    # "</script" or "<!--" in a name could end or hide the element that holds the data
    told = json.dumps(saved, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    data = [f'<script type="application/json" id="saved">{told}</script>']
    data += [f'<script type="text/plain" id="{escape(name)}">{text}</script>' for name, text in parts.items()]
    data += [f"<script>{text}</script>" for text in scripts]
    return whole_page(head, "\n".join(data))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def check_place(out: Path) -> None:
    """BadInput for a page that is not named as one, or whose directory is not there: said before any work."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise BadInput(f"--save writes a page, so its name ends in .html, not {shortened(out.name)!r}")
    if not out.parent.is_dir():
        raise DiskTrouble(f"cannot write {out}: there is no directory {out.parent}; make it first")
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise DiskTrouble(f"cannot write {out}: permission denied")
