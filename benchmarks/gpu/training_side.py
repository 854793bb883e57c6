"""Runs of the training loop for ten_minutes.py, alone in a process; one JSON line of what each took."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for runs with deterministic kernels; read at the start

import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.models import Model, devices, load_model
from flashstill.distill.models.empty import empty_model, files_of
from flashstill.distill.models.product_speed import DTYPES
from flashstill.distill.signals import Signals
from flashstill.distill.training import Batch, Offline, TrainRecipe, distillation, join_world, train
from flashstill.progress import Silent


class Stopped(Exception):
    """As if the run had been killed."""


class Timed(Offline):
    """The windows in their order; notes when each step begins and ends, and stops after some."""

    def __init__(self, packed: Packed, batch: int, stop: int) -> None:
        super().__init__(packed, batch, 0)
        self.stop = stop
        self.began: list[float] = []
        self.ended: list[float] = []
        self.fused: set[str] = set()

    def batch(self, *given: Any) -> Batch:
        devices.wait(devices.current())
        self.began.append(time.perf_counter())
        return super().batch(*given)

    def after_step(self, model: Model, step: int) -> dict[str, float]:
        devices.wait(devices.current())
        self.ended.append(time.perf_counter())
        kinds = {type(module) for module in model.modules()}
        self.fused |= {kind.__name__ for kind in kinds if kind.forward.__module__.startswith("flashstill.")}
        if self.stop and step > self.stop:
            raise Stopped
        return {}


def peak_bytes() -> int:
    """Of the GPU as torch counts it; without one, of the process."""
    device = devices.current()
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def digest(model: Model) -> str:
    """Of the bits of all weights."""
    hashed = hashlib.sha256()
    for weight in model.parameters():
        hashed.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()[:16]


def slowest(recorded: Any) -> dict[str, float]:
    """Milliseconds of a device, or of the CPU if there is no other, by operation; the largest twenty."""
    device = "self_cpu_time_total" if devices.current().type == "cpu" else "self_device_time_total"
    rows = sorted(recorded.key_averages(), key=lambda row: -getattr(row, device))
    return {row.key[:90]: round(getattr(row, device) / 1000, 2) for row in rows[:20]}


def run(asked: dict[str, Any]) -> dict[str, Any]:
    """One run: sizes and settings as ten_minutes.py asks for them."""
    gc.collect()
    if devices.current().type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.use_deterministic_algorithms(bool(asked.get("deterministic")), warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    folder, dtype = Path(asked["folder"]), DTYPES[asked["precision"]]
    packed = Packed.load(folder / "packed.safetensors")
    signals = Signals(folder / "signals", json.loads((folder / "key.json").read_text()), dtype)
    recipe = TrainRecipe(
        tokens=asked["steps"] * asked["batch"] * packed.length, windows_per_step=asked["batch"], learning_rate=3e-4,
        schedule="constant", checkpoint_every_steps=asked.get("checkpoint_every", 10**6),
        recompute=asked.get("recompute", False),
    )  # fmt: skip
    source, files = Timed(packed, asked["batch"], asked.get("stop", 0)), None
    if asked.get("sharded"):
        student = empty_model(Path(asked["student"]), dtype)
        files = files_of(Path(asked["student"]), student)
        assert files is not None
    else:
        student = load_model(Path(asked["student"]), dtype)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(Stopped))
        recorded = stack.enter_context(torch.profiler.profile()) if asked.get("profile") else None
        train(
            student, source, distillation(signals), recipe, Path(asked["out"]), Silent(), "step", files=files,
            after_step=source.after_step,
        )  # fmt: skip
    rows = [json.loads(line) for line in (Path(asked["out"]) / "metrics.jsonl").read_text().splitlines()]
    return {
        "step_s": [end - start for start, end in zip(source.began, source.ended, strict=True)],
        "loss": [row["loss"] for row in rows],
        "peak_bytes": peak_bytes(), "fused": sorted(source.fused), "weights": "" if files else digest(student),
        "operations": slowest(recorded) if recorded else {},
    }  # fmt: skip


if __name__ == "__main__":
    world = join_world()
    found = [run(asked) for asked in json.loads(sys.argv[1])]
    if world.is_main:
        print(json.dumps({"runs": found}))
