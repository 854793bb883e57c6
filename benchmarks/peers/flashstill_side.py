"""Our side of vs_trl: build the teacher's signals, or train a student on them; one JSON line of what it took."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from turns import report, wait

from flashstill.distill.data.packing import Packed
from flashstill.distill.models import fingerprint, load_model, tokenizer_fingerprint
from flashstill.distill.models.product_speed import DTYPES
from flashstill.distill.signals import Hidden, Signals, build, signal_key
from flashstill.distill.training import Batch, Offline, TrainRecipe, distillation, train
from flashstill.progress import Silent


def key_of(asked: dict[str, Any], packed: Packed) -> dict[str, Any]:
    teacher = Path(asked["teacher"])
    return signal_key(Hidden(), fingerprint(teacher), tokenizer_fingerprint(teacher), packed)


def make_signals(asked: dict[str, Any]) -> dict[str, Any]:
    packed = Packed.load(Path(asked["packed"]))
    model, key = load_model(Path(asked["teacher"]), DTYPES[asked["precision"]]), key_of(asked, packed)
    built = build(model, Hidden(), key, packed, Path(asked["signals"]), Silent(), "build")
    return {"tokens_per_s": built.tokens / built.seconds, "bytes": built.bytes}


class Turns(Offline):
    """The windows in their order, each batch when this side's turn has come; keeps when steps began and ended."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.began: list[tuple[float, float]] = []
        self.ended: list[tuple[float, float]] = []

    def batch(self, *given: Any) -> Batch:
        wait()
        self.began.append((time.perf_counter(), time.process_time()))
        return super().batch(*given)

    def after_step(self, *_: Any) -> dict[str, float]:
        self.ended.append((time.perf_counter(), time.process_time()))
        return {}


def distil(asked: dict[str, Any]) -> dict[str, Any]:
    packed = Packed.load(Path(asked["packed"]))
    dtype = DTYPES[asked["precision"]]
    signals = Signals(Path(asked["signals"]), key_of(asked, packed), dtype)
    recipe = TrainRecipe(
        tokens=asked["steps"] * asked["batch"] * packed.length, windows_per_step=asked["batch"],
        learning_rate=asked["rate"], warmup_fraction=asked["warmup"] / asked["steps"],
        schedule="constant", checkpoint_every_steps=10**6,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        source = Turns(packed, recipe.windows_per_step, recipe.seed)
        student = load_model(Path(asked["student"]), dtype)
        train(
            student, source, distillation(signals), recipe, Path(folder), Silent(), "train",
            after_step=source.after_step,
        )  # fmt: skip
        rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    turns = list(zip(source.began, source.ended, strict=True))
    seconds, processor = ([end[clock] - start[clock] for start, end in turns] for clock in (0, 1))
    return {"step_s": seconds, "processor_s": processor, "loss": [row["loss"] for row in rows]}


asked = json.loads(sys.argv[1])
torch.set_num_threads(asked["threads"])
report(**(make_signals if asked["job"] == "build" else distil)(asked))
