"""The [signals] of a recipe: what is stored of the teachers' outputs, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from flashstill.checked import between, one_of
from flashstill.errors import BadInput
from flashstill.recipes.ranges import Source, Width

SIGNALS = ("hidden", "sampled", "topk", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalRecipe:
    """What is stored of the teachers' outputs: hidden, sampled, topk; or none: they run during training. dir: a
    directory that runs share, where signals are found by their key; empty for one in the run's own directory."""

    kind: Annotated[str, one_of(SIGNALS)] = "hidden"
    draws: Annotated[int, between(1, 255)] = 26
    k: Width = 64
    dir: Source = ""


def named_by_directory(tree: dict[str, Any]) -> dict[str, Any]:
    """The tables of a recipe, in which `signals = "DIR"` stands for a table with this `dir`."""
    named = tree.get("signals")
    return {**tree, "signals": {"dir": named}} if isinstance(named, str) else tree


def signal_problems(signals: SignalRecipe) -> Iterator[str]:
    """Errors in combinations of values that are each in range, as sentences."""
    if signals.dir and signals.kind == "none":
        yield "signals.dir means nothing where signals.kind is none: nothing is stored; leave it out"


def with_directory(signals: SignalRecipe, where: Path, key: str) -> SignalRecipe:
    """The table with an absolute `dir`, taken from the directory of the file `where`; it need not exist yet.

    Raises BadInput if it exists and is no directory; key: its name in messages.
    """
    if not signals.dir:
        return signals
    try:
        place = (where.parent / Path(signals.dir).expanduser()).resolve()
        is_other = place.exists() and not place.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(f"{where}: {key} is {signals.dir!r}, which names no directory ({error})") from error
    if is_other:
        raise BadInput(
            f"{where}: {key} is {signals.dir!r}, which is not a directory; give one for signals that runs share"
        )
    return dataclasses.replace(signals, dir=str(place))
