"""Signals that several runs share: a directory in which those of one teacher, text and kind have a place by their key.

    DIR/KEY/signals.json, windows-*.safetensors     KEY: digest of teacher, tokenizer, packed text and kind

Runs that need the same signals find them, whatever else differs in their recipes.  Two runs at once do not make them
twice: the second waits for the first, and makes what is then missing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flashstill.files import disk_errors, make_directory
from flashstill.progress import Progress


def shared_place(directory: Path, key: Mapping[str, Any]) -> Path:
    """The place of the signals with this key in a shared directory."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return directory / f"{key['kind']}-{digest[:32]}"


@contextlib.contextmanager
def one_builder(place: Path, share: tuple[int, int], progress: Progress) -> Iterator[None]:
    """Context in which no other run makes the same share of the signals at `place`; waits for one that does.

    share: (i, n), as in `build`; processes that make different shares do not wait for each other.
    """
    make_directory(place)
    with disk_errors(place), (place / f".lock-{share[0]}-of-{share[1]}").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"another run makes the signals in {place}; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
