"""Ownership of a run directory: one recipe, and one running process at a time.

A run may go on with a recipe that differs in some keys (recipes/resuming.py).  changes.jsonl has a line for each such
key: what it was, what it is, and when.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flashstill.checked import built, toml_tree
from flashstill.errors import BadInput
from flashstill.files import disk_errors, full_disk, make_directory, write_text
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe, to_toml
from flashstill.recipes.resuming import Change, changes_of, rule_of
from flashstill.runs.origins import FILE as ORIGINS
from flashstill.runs.workdir import ARITHMETIC

CHANGES = "changes.jsonl"
BEGINNINGS = (ARITHMETIC, ORIGINS)
"""files that are written before any work"""


def claim(recipe: Any, out: Path, name: str = "family.toml") -> list[Change]:
    """Claim a directory for a recipe, stored in its file `name`; returns the keys that changed since, all allowed.

    Raises BadInput if the directory belongs to another recipe, naming the keys with both values.  The stored recipe
    stays as it is until `adopt`.
    """
    recorded = out / name
    if recorded.is_file():
        changes = _changes(recorded, recipe, out)
        alone = isinstance(recipe, DistillRecipe)
        refused = [change for change in changes if rule_of(change, alone) is None]
        if refused:
            was = ", ".join(str(change).split(" and is ")[0] for change in refused)
            now = ", ".join(f"{change.key} is {str(change).rpartition(' and is ')[2]}" for change in refused)
            raise BadInput(
                f"{out} belongs to another recipe ({was}); now {now}: leave it as it was, or give another --out"
            )
        return changes
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; give a directory as --out")
    if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise BadInput(f"{out} is not empty and holds no {name}; give an empty or new directory as --out")
    make_directory(out)
    write_text(recorded, to_toml(recipe))
    return []


def _changes(recorded: Path, recipe: Any, out: Path) -> list[Change]:
    try:
        tree = toml_tree(recorded)
    except BadInput as error:
        raise BadInput(
            f"{out} belongs to another recipe (its {recorded.name} is broken); give another --out"
        ) from error
    try:
        return changes_of(built(type(recipe), tree, str(recorded)), recipe)
    except BadInput as error:
        raise BadInput(
            f"{out} was begun by another version of flashstill or for another kind of run ({error}); give another --out"
        ) from error


def adopt(recipe: Any, out: Path, name: str, changes: Sequence[Change], progress: Progress) -> None:
    """Store the recipe with the changes that `claim` allowed; call it with the directory's lock held."""
    if not changes:
        return
    alone, now = isinstance(recipe, DistillRecipe), time.strftime("%Y-%m-%d %H:%M:%S %Z")
    log = (out / CHANGES).read_text(encoding="utf-8") if (out / CHANGES).is_file() else ""
    for change in changes:
        rule = rule_of(change, alone)
        assert rule is not None, "claim refuses it"
        progress.say(f"{change}: {rule.follows}")
        row = {"key": change.key, "was": change.was, "now": change.now, "follows": rule.follows, "at": now}
        log += json.dumps(row) + "\n"
    write_text(out / CHANGES, log)
    write_text(out / name, to_toml(recipe))


@contextlib.contextmanager
def free_if_unused(out: Path, name: str) -> Iterator[None]:
    """Give a directory back if a mistake of the user is found before anything is made in it: the corrected recipe may
    then use it. Call it with the directory's lock held."""
    try:
        yield
    except BadInput:
        ours = {name, *BEGINNINGS}
        if all(entry.name in ours or entry.name.startswith(".lock") for entry in out.iterdir()):
            for each in ours:
                (out / each).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def lock(out: Path, name: str = ".lock", wait: bool = False) -> Iterator[None]:
    """An exclusive lock on a directory, released by the OS when the process ends. wait: for the lock, else raise."""
    with disk_errors(out):
        stream = (out / name).open("w")
    with stream, full_disk(out):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise BadInput(f"another run is at work in {out}; wait for it or give another --out") from error
        yield
