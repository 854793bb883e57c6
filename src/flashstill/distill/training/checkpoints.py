"""Training checkpoints: one directory each, written atomically; a run resumes from the newest undamaged one.

    step-00000040/checkpoint.json          step, key, history, processes, SHA-256 of every share
                  share-0-of-2.safetensors each process writes its own

A checkpoint stores the key of its run (recipe, data, objective, arithmetic); that of a different run is refused, as
resuming it would mix two runs.  A run may resume under other conditions (segments.py), also with a different number of
processes: shares are joined along their first axis, as FSDP2 splits them, one tensor at a time.

Why not torch.distributed.checkpoint (measured 2026-11-28, docs/log.md): its index is a pickle, it writes four times as
slowly, and none of its formats notices a flipped bit.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flashstill.distill.training.segments import Segment, as_rows, differences
from flashstill.distill.training.sharded import World
from flashstill.errors import BadInput
from flashstill.files import disk_errors, sha256, sync

_PREFIX = "step-"
_SHARDED = (
    "master/",
    "exp_avg/",
    "exp_avg_sq/",
    "best/weight/",
)  # sharded over processes; all other tensors are replicated


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The state after `step` optimiser steps. record: the whole of checkpoint.json, of a checkpoint that was read."""

    step: int
    tensors: Mapping[str, Tensor]
    metrics: list[dict[str, float]]
    segments: list[Segment] = field(default_factory=list)
    record: Mapping[str, Any] = field(default_factory=dict)


class Joined(Mapping[str, Tensor]):
    """The tensors of a checkpoint, read and joined lazily, so that no process holds all of them at once."""

    def __init__(self, shares: list[Path]) -> None:
        self._shares = shares
        with safe_open(shares[0], framework="pt") as opened:
            self._names = list(opened.keys())

    def __getitem__(self, name: str) -> Tensor:
        shares = self._shares if name.startswith(_SHARDED) else self._shares[:1]
        parts = []
        for share in shares:
            with safe_open(share, framework="pt") as opened:
                parts.append(opened.get_tensor(name))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def part(self, name: str, rows: slice) -> Tensor:
        """Some rows of a sharded tensor; only these are read."""
        first, parts = 0, list[Tensor]()
        for share in self._shares:
            with safe_open(share, framework="pt") as opened:
                own = opened.get_slice(name)
                size = own.get_shape()[0]
                low, high = max(rows.start - first, 0), min(rows.stop - first, size)
                if low < high or (share == self._shares[-1] and not parts):  # an empty shard is a part without rows
                    parts.append(own[low : max(low, high)])
                first += size
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


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
        share = _share(building, world.rank, world.size)
        save_file({name: tensor.contiguous() for name, tensor in snapshot.tensors.items()}, share)
        sync(share)
        checksums = world.all_gather(sha256(share))
        if world.is_main:
            record = {
                "step": snapshot.step, "key": key, "segments": as_rows(snapshot.segments),
                "metrics": snapshot.metrics, "processes": world.size, "sha256": checksums,
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


def latest(
    directory: Path, key: dict[str, Any], world: World | None = None, may_change: Collection[str] = ()
) -> Snapshot | None:
    """The newest undamaged checkpoint; None if there is none; BadInput if it belongs to a different run.

    may_change: fields of the key's recipe that may differ.  Every process takes part: each checks some of the shares,
    and all skip a checkpoint with a damaged share.
    """
    world = world or World()
    for path in reversed(world.broadcast(_all(directory))):
        record = _whole_record(path, world)
        if not all(world.all_gather(record is not None)) or record is None:
            continue
        differs = differences(key, record["key"], may_change)
        if differs:
            raise BadInput(
                f"checkpoint {path} belongs to a run with another {' and '.join(differs)}; remove {directory}"
            )
        shares = [_share(path, rank, record["processes"]) for rank in range(record["processes"])]
        return Snapshot(step=record["step"], tensors=Joined(shares), metrics=record["metrics"], record=record)
    return None


def _whole_record(path: Path, world: World) -> dict[str, Any] | None:
    """The contents of checkpoint.json; None if it, or one of the shares that this process checks, is damaged."""
    try:
        record: dict[str, Any] = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
        shares = [_share(path, rank, record["processes"]) for rank in range(record["processes"])]
        for share in shares:
            with safe_open(share, framework="pt"):  # checks the header and the file's length
                pass
        checksums = record.get("sha256") or [None] * len(shares)  # before 2026-11-28 there were none
        for share, checksum in list(zip(shares, checksums, strict=True))[world.rank :: world.size]:
            if checksum is not None and sha256(share) != checksum:
                return None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
    return record


def clear(directory: Path) -> None:
    """Remove all checkpoints of a finished run; its metrics stay."""
    for path in [*_all(directory), *directory.glob(f".{_PREFIX}*.part")]:
        shutil.rmtree(path, ignore_errors=True)


def _all(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{_PREFIX}[0-9]*"))


def _share(checkpoint: Path, rank: int, processes: int) -> Path:
    return checkpoint / f"share-{rank}-of-{processes}.safetensors"
