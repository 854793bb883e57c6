"""Scores of an interrupted evaluation, by model and text, stored beside the output file.

    OUT.unfinished/DIGEST.json    a model on a text or a task: document sums, or scores by item, and their key

The key contains digests of weights, tokens, arithmetic and teacher, so that only matching scores are reused.
The directory is removed when OUT is written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flashstill.evaluate.summary import COLUMNS, Sums
from flashstill.files import make_directory, write_text


class Unfinished:
    """Scores stored until all are finished; out: the output file, None to store nothing."""

    def __init__(self, out: Path | None) -> None:
        self.folder = None if out is None else out.with_name(f"{out.name}.unfinished")
        if self.folder is not None:
            make_directory(self.folder)

    def _file(self, key: Mapping[str, Any]) -> Path | None:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return None if self.folder is None else self.folder / f"{digest[:32]}.json"

    def read(self, key: Mapping[str, Any]) -> Sums | None:
        """The scores of this key; None if missing or damaged."""
        try:
            sums = np.asarray(self._held(key)["sums"], dtype=np.float64)
        except (ValueError, KeyError, TypeError):
            return None
        is_whole = sums.ndim == 2 and sums.shape[1] == len(COLUMNS)
        return sums if is_whole and np.isfinite(sums).all() else None

    def read_values(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The values of this key; None if missing or damaged."""
        values = self._held(key).get("values")
        return values if isinstance(values, dict) else None

    def _held(self, key: Mapping[str, Any]) -> dict[str, Any]:
        """The file of a key; empty if it is missing, damaged or another key's."""
        path = self._file(key)
        try:
            held = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return held if isinstance(held, dict) and held.get("key") == dict(key) else {}

    def write(self, key: Mapping[str, Any], sums: Sums) -> None:
        """Store the scores of this key."""
        self._store(key, {"sums": sums.tolist()})

    def write_values(self, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Store plain values under this key."""
        self._store(key, {"values": dict(values)})

    def _store(self, key: Mapping[str, Any], held: Mapping[str, Any]) -> None:
        path = self._file(key)
        if path is not None:
            write_text(path, json.dumps({"key": dict(key), **held}))

    def remove(self) -> None:
        """Remove all stored scores."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
