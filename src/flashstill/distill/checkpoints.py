"""Training checkpoints: one directory a checkpoint, whole or absent, the newest whole one wins.

A checkpoint remembers the key of its run (recipe, packing, threads); another run's checkpoint is refused, since
continuing from it would give weights that belong to neither.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flashstill.errors import BadInput
from flashstill.files import replacing_directory

_PREFIX = "step-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The state after `step` optimiser steps."""

    step: int
    tensors: dict[str, Tensor]
    metrics: list[dict[str, float]]


def write(directory: Path, snapshot: Snapshot, key: dict[str, Any]) -> None:
    """Write a checkpoint, then remove the older ones."""
    target = directory / f"{_PREFIX}{snapshot.step:08d}"
    with replacing_directory(target) as temporary:
        save_file(snapshot.tensors, temporary / "state.safetensors")
        record = {"step": snapshot.step, "key": key, "metrics": snapshot.metrics}
        (temporary / "checkpoint.json").write_text(json.dumps(record), encoding="utf-8")
    for older in _all(directory):
        if older != target:
            shutil.rmtree(older, ignore_errors=True)


def latest(directory: Path, key: dict[str, Any]) -> Snapshot | None:
    """The newest whole checkpoint in `directory`, None where there is none; BadInput where it is another run's."""
    for path in reversed(_all(directory)):
        try:
            record = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
            tensors = load_file(path / "state.safetensors")
        except (OSError, ValueError, SafetensorError):
            continue
        if record["key"] != json.loads(json.dumps(key)):
            differs = sorted(name for name in key if record["key"].get(name) != json.loads(json.dumps(key[name])))
            raise BadInput(
                f"checkpoint {path} belongs to a run with another {' and '.join(differs)}; remove {directory}"
            )
        return Snapshot(step=record["step"], tensors=tensors, metrics=record["metrics"])
    return None


def clear(directory: Path) -> None:
    """Remove all checkpoints of a finished run; its metrics stay."""
    for path in _all(directory):
        shutil.rmtree(path, ignore_errors=True)


def _all(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{_PREFIX}[0-9]*"))
