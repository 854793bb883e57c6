"""Ownership of a run directory: one recipe, and one running process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import tomllib
from collections.abc import Iterator
from pathlib import Path

from flashstill.bounded import read_bounded
from flashstill.checked import toml_tree
from flashstill.errors import BadInput
from flashstill.files import disk_errors, make_directory, write_text


def claim(recipe: str, out: Path, name: str = "family.toml") -> None:
    """Claim a directory for a recipe; BadInput if it holds a different one. recipe: as TOML, stored in file `name`."""
    recorded = out / name
    if recorded.is_file():
        if read_bounded(recorded, 2**20) != recipe.encode():
            raise BadInput(f"{out} belongs to another recipe ({_difference(recorded, recipe)}); give another --out")
        return
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; give a directory as --out")
    if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise BadInput(f"{out} is not empty and holds no {name}; give an empty or new directory as --out")
    make_directory(out)
    write_text(recorded, recipe)


def _difference(recorded: Path, recipe: str) -> str:
    try:
        old, new = toml_tree(recorded), tomllib.loads(recipe)
    except BadInput:
        return f"its {recorded.name} is broken"
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    shown = [f"{key} was {old.get(key)!r}" for key in keys if not isinstance(new.get(key), (dict, list))]
    return ", ".join(shown or [f"another [{key}]" for key in keys])


@contextlib.contextmanager
def lock(out: Path, name: str = ".lock", wait: bool = False) -> Iterator[None]:
    """An exclusive lock on a directory, released by the OS when the process ends. wait: for the lock, else raise."""
    with disk_errors(out), (out / name).open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise BadInput(f"another run is at work in {out}; wait for it or give another --out") from error
        yield
