"""Whose directory this is: one family's, and one run's at a time."""

from __future__ import annotations

import contextlib
import fcntl
import tomllib
from collections.abc import Iterator
from pathlib import Path

from flashstill.errors import BadInput
from flashstill.files import disk_errors, make_directory, write_text
from flashstill.recipes import FamilyRecipe, to_toml


def claim(recipe: FamilyRecipe, out: Path) -> None:
    """Make the directory this family's, or refuse it."""
    wanted = to_toml(recipe)
    recorded = out / "family.toml"
    if recorded.is_file():
        if recorded.read_text(encoding="utf-8") != wanted:
            raise BadInput(f"{out} belongs to another family ({_difference(recorded, wanted)}); give another --out")
        return
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; give a directory as --out")
    if out.is_dir() and any(entry.name not in (".lock",) for entry in out.iterdir()):
        raise BadInput(f"{out} is not empty and holds no family.toml; give an empty or new directory as --out")
    make_directory(out)
    write_text(recorded, wanted)


def _difference(recorded: Path, wanted: str) -> str:
    try:
        old, new = tomllib.loads(recorded.read_text(encoding="utf-8")), tomllib.loads(wanted)
    except tomllib.TOMLDecodeError:
        return "its family.toml is broken"
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    shown = [f"{key} was {old.get(key)!r}" for key in keys if not isinstance(new.get(key), (dict, list))]
    return ", ".join(shown or [f"another [{key}]" for key in keys])


@contextlib.contextmanager
def lock(out: Path) -> Iterator[None]:
    """One run at a time in a directory; the system drops the lock with the process."""
    with disk_errors(out), (out / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(f"another run is at work in {out}; wait for it or give another --out") from error
        yield
