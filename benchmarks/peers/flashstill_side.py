"""Our side of vs_trl: build the teacher's signals, or train a student on them; one JSON line of what it took."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from flashstill.distill.models import fingerprint, load_model, parts
from flashstill.distill.packing import Packed
from flashstill.distill.signals import build_hidden, load_hidden
from flashstill.distill.trainer import TrainRecipe, soft_objective, train
from flashstill.progress import Silent


def build(asked: dict[str, Any]) -> dict[str, Any]:
    packed, teacher = Packed.load(Path(asked["packed"])), Path(asked["teacher"])
    model = load_model(teacher)
    started = time.perf_counter()
    build_hidden(model, fingerprint(teacher), packed, Path(asked["signals"]), Silent(), "build")
    return {"tokens_per_s": packed.token_count / (time.perf_counter() - started)}


def distil(asked: dict[str, Any]) -> dict[str, Any]:
    packed, teacher = Packed.load(Path(asked["packed"])), Path(asked["teacher"])
    signals = load_hidden(Path(asked["signals"]), fingerprint(teacher), packed)
    head = parts(load_model(teacher)).head.detach()
    recipe = TrainRecipe(
        tokens=asked["steps"] * asked["batch"] * packed.length, windows_per_step=asked["batch"],
        learning_rate=asked["rate"], warmup_fraction=0.0, final_fraction=1.0, checkpoint_every_steps=10**6,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        train(load_model(Path(asked["student"])), soft_objective(signals, head, 1.0), packed, recipe, Path(folder),
              Silent(), "train")  # fmt: skip
        rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return {"step_s": [row["step_s"] for row in rows], "loss": [row["loss"] for row in rows]}


asked = json.loads(sys.argv[1])
torch.set_num_threads(asked["threads"])
found = (build if asked["job"] == "build" else distil)(asked)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(found | {"peak_bytes": peak}), flush=True)
