"""Steps of the training loop for ten_minutes.py, alone in a process; one JSON line of what each took."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.models import devices, load_model
from flashstill.distill.models.arithmetic import DTYPES
from flashstill.distill.models.empty import empty_model, files_of
from flashstill.distill.signals import Signals
from flashstill.distill.training import Batch, Offline, TrainRecipe, distillation, join_world, train
from flashstill.progress import Silent


class Timed(Offline):
    """The windows in their order; notes when each step begins."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.began: list[float] = []
        self.ended: list[float] = []

    def batch(self, *given: Any) -> Batch:
        devices.wait(devices.current())
        self.began.append(time.perf_counter())
        return super().batch(*given)

    def after_step(self, *_: Any) -> dict[str, float]:
        devices.wait(devices.current())
        self.ended.append(time.perf_counter())
        return {}


def peak_bytes() -> int:
    """Of the GPU as torch counts it; without one, of the process."""
    device = devices.current()
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(asked: dict[str, Any]) -> None:
    folder, dtype = Path(asked["folder"]), DTYPES[asked["precision"]]
    packed = Packed.load(folder / "packed.safetensors")
    signals = Signals(folder / "signals", json.loads((folder / "key.json").read_text()), dtype)
    recipe = TrainRecipe(
        tokens=asked["steps"] * asked["batch"] * packed.length, windows_per_step=asked["batch"], learning_rate=3e-4,
        schedule="constant", checkpoint_every_steps=10**6, recompute=asked["recompute"],
    )  # fmt: skip
    world = join_world()
    source, files = Timed(packed, asked["batch"], 0), None
    if asked["sharded"]:
        student = empty_model(Path(asked["student"]), dtype)
        files = files_of(Path(asked["student"]), student)
        assert files is not None
    else:
        student = load_model(Path(asked["student"]), dtype)
    train(
        student, source, distillation(signals), recipe, Path(asked["out"]), Silent(), "step", files=files,
        after_step=source.after_step,
    )  # fmt: skip
    if world.is_main:
        rows = [json.loads(line) for line in (Path(asked["out"]) / "metrics.jsonl").read_text().splitlines()]
        seconds = [end - start for start, end in zip(source.began, source.ended, strict=True)]
        print(json.dumps({"step_s": seconds, "loss": [row["loss"] for row in rows], "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
