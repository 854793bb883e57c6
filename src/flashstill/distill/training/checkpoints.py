"""Training checkpoints: one directory a checkpoint, whole or absent, the newest whole one wins.

    step-00000040/checkpoint.json          step, key, history, processes
                  share-0-of-2.safetensors each process writes its own

A checkpoint remembers the key of its run (recipe, data, objective, arithmetic, threads); another run's is refused:
continuing from it would give weights that belong to neither.  A run may go on with another number of processes: shares
are joined along their first axis, as FSDP2 cut them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flashstill.distill.training.sharded import World
from flashstill.errors import BadInput
from flashstill.files import disk_errors, sync

_PREFIX = "step-"
_APART = ("master/", "exp_avg/", "exp_avg_sq/")  # what processes hold shares of; all else is the same for each


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The state after `step` optimiser steps. extra: small things that are not tensors."""

    step: int
    tensors: dict[str, Tensor]
    metrics: list[dict[str, float]]
    extra: dict[str, Any] = field(default_factory=dict)


def write(directory: Path, snapshot: Snapshot, key: dict[str, Any], world: World | None = None) -> None:
    """Write a checkpoint, then remove the older ones; every process of the run takes part."""
    world = world or World()
    target = directory / f"{_PREFIX}{snapshot.step:08d}"
    building = directory / f".{target.name}.part"
    with disk_errors(target):
        if world.is_main:
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
        world.barrier()
        share = building / f"share-{world.rank}-of-{world.size}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in snapshot.tensors.items()}, share)
        sync(share)
        world.barrier()
        if world.is_main:
            record = {
                "step": snapshot.step, "key": key, "metrics": snapshot.metrics, "processes": world.size,
                "extra": snapshot.extra,
            }  # fmt: skip
            (building / "checkpoint.json").write_text(json.dumps(record), encoding="utf-8")
            sync(building / "checkpoint.json")
            shutil.rmtree(target, ignore_errors=True)
            building.replace(target)
            sync(directory)
            for older in _all(directory):
                if older != target:
                    shutil.rmtree(older, ignore_errors=True)
        world.barrier()


def latest(directory: Path, key: dict[str, Any], world: World | None = None) -> Snapshot | None:
    """The newest whole checkpoint, its shares joined; None where there is none; BadInput where it is another run's."""
    world = world or World()
    wanted = json.loads(json.dumps(key))
    for path in reversed(world.broadcast(_all(directory))):
        try:
            record = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
            size = record["processes"]
            shares = [load_file(path / f"share-{rank}-of-{size}.safetensors") for rank in range(size)]
        except (OSError, ValueError, KeyError, SafetensorError):
            continue
        if record["key"] != wanted:
            held = record["key"]
            differs = sorted(name for name in {**wanted, **held} if held.get(name) != wanted.get(name))
            raise BadInput(
                f"checkpoint {path} belongs to a run with another {' and '.join(differs)}; remove {directory}"
            )
        tensors = shares[0]
        if size > 1:
            for name in [name for name in tensors if name.startswith(_APART)]:
                tensors[name] = torch.cat([share[name] for share in shares])
        return Snapshot(step=record["step"], tensors=tensors, metrics=record["metrics"], extra=record["extra"])
    return None


def clear(directory: Path) -> None:
    """Remove all checkpoints of a finished run; its metrics stay."""
    for path in [*_all(directory), *directory.glob(f".{_PREFIX}*.part")]:
        shutil.rmtree(path, ignore_errors=True)


def _all(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{_PREFIX}[0-9]*"))
