"""--json: the JSON document that a command prints.

Every JSON object has, besides its own keys, `schema` (flashstill.COMMAND/1; the number increases when a key changes
meaning), `version`, `question` (the parsed options with defaults) and, for commands that read facts, `edits` (changes
made by --set).  Lists (chips, models, validate) have no such keys.  If nothing is feasible, the document has the keys
fits, reason and reasons.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from flashstill import __version__
from flashstill.errors import BadInput, InfeasiblePlan

if TYPE_CHECKING:
    from flashstill.facts import Facts

_F = TypeVar("_F", bound=Callable[..., Any])
_PRINTED = "flashstill.printed"
_ASKED = "flashstill.asked"
_EDITS = "flashstill.edits"
_NAMES = {"facts_directories": "facts", "edits": "set"}
"""parameter -> its name in `question`, if different"""


def json_option(command: _F) -> _F:
    """Add --json; with it, InfeasiblePlan is printed as a document too. Must be the innermost decorator."""

    @functools.wraps(command)
    def documented(*values: Any, as_json: bool, **named: Any) -> Any:
        try:
            return command(*values, as_json=as_json, **named)
        except InfeasiblePlan as error:
            if as_json:
                print_infeasible(error)
            raise

    help_text = "Print one JSON document on standard output."
    return click.option("--json", "as_json", is_flag=True, help=help_text)(cast("_F", documented))


def print_infeasible(error: InfeasiblePlan, **more: Any) -> None:
    """Print the document of an InfeasiblePlan, unless a document was already printed."""
    if not click.get_current_context().meta.get(_PRINTED):
        print_json({"fits": False, "reason": str(error), "reasons": error.reasons, **more})


def understood(question: Mapping[str, Any]) -> None:
    """Set parsed values that replace the raw options of the same names under `question`."""
    click.get_current_context().meta[_ASKED] = dict(question)


def echo_edits(facts: Facts, as_json: bool, on_stderr: bool = False) -> None:
    """Report the rows that --set changed or added: one line each, or the key `edits` of the document."""
    click.get_current_context().meta[_EDITS] = {"edits": [edit.as_json() for edit in facts.edits]}
    if not as_json:
        for edit in facts.edits:
            click.echo(str(edit), err=on_stderr)


def asked_facts(
    directories: Sequence[Path],
    edits: Sequence[str],
    as_json: bool,
    on_stderr: bool = False,
    chips: Sequence[str | None] = (),
) -> Facts:
    """The fact rows with those of --facts and --set; what --set changed is reported (`echo_edits`).

    chips: those that are asked about, if they are known. BadInput for an edit of another one.
    """
    from flashstill.facts import load
    from flashstill.hardware.idle_edits import check_edits

    facts = load(directories, edits)
    check_edits(facts, facts.edits, chips)
    echo_edits(facts, as_json, on_stderr)
    return facts


def facts_and_edits(directories: Sequence[Path], edits: Sequence[str]) -> tuple[Facts, Facts, dict[str, float | str]]:
    """The fact rows with those of --facts, the same with what --set changes (to be reported with `echo_edits`), and
    these changes: for functions that know only from a plan which chips are asked about, and refuse edits of others."""
    from flashstill.facts import load

    facts = load(directories)
    named = (text.partition("=") for text in edits)
    return facts, facts.edited(edits), {name: amount for name, _, amount in named}


def print_json(document: Any) -> None:
    """Print one document, adding the common keys to an object; BadInput for NaN or infinity."""
    context = click.get_current_context(silent=True)
    if isinstance(document, dict) and context is not None:
        document = with_common_keys(document)
    place = _not_finite(document)
    if place:
        raise BadInput(
            f"the answer has no finite number at {place}; check the numbers that were asked for and any edited facts"
        )
    click.echo(json.dumps(document, indent=1, allow_nan=False, default=_plain))
    if context is not None:
        context.meta[_PRINTED] = True


def with_common_keys(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of the running command with the keys that all have: schema, version, question, edits."""
    context = click.get_current_context()
    return {
        "schema": f"flashstill.{context.info_name}/1",
        "version": __version__,
        "question": _question(context),
        **context.meta.get(_EDITS, {}),
        **document,
    }


def _question(context: click.Context) -> dict[str, Any]:
    asked = {_NAMES.get(name, name): value for name, value in context.params.items() if name != "as_json"}
    return {**asked, **context.meta.get(_ASKED, {})}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is nothing for JSON")


def _not_finite(value: Any, place: str = "") -> str:
    """Path of the first NaN or infinite number in a document; "" if there is none."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else place or "the top"
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(number), item) for number, item in enumerate(value)]
    else:
        return ""
    places = (_not_finite(item, f"{place}.{key}" if place else key) for key, item in items)
    return next(filter(None, places), "")
