"""Trains a model of a directory for some steps in so many processes; writes weights and memory.

    python tests/sharded_worker.py PROCESSES MODEL OUT STEPS [STOP [RATE [DTYPE]]]

The processes are forks with the variables that torchrun sets, so that torch is imported once and not by each.
STOP: end after so many steps as if killed, with a checkpoint left; 0 for never.  RATE: learn some windows at this rate,
validate on others after every step and keep the best weights; 0 for neither.  DTYPE: of passes.  Each process writes
OUT/memory-RANK.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing.connection
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.models import load_model
from flashstill.distill.models.empty import empty_model, files_of, write_plainly
from flashstill.distill.training import Offline, TrainRecipe, Validation, hard, join_world, train
from flashstill.progress import Silent

WINDOWS, LENGTH = 32, 16


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def text(vocabulary: int) -> Packed:
    """Windows of random tokens, the last targets of some of them masked."""
    drawn = np.random.default_rng(0)
    shape = (WINDOWS, LENGTH)
    mask = np.ones(shape, dtype=np.int32)
    mask[::3, LENGTH // 2 :] = 0
    return Packed(
        tokens=drawn.integers(0, vocabulary, (WINDOWS, LENGTH + 1), dtype=np.int32),
        target_bytes=np.ones(shape, dtype=np.int32), target_document=np.zeros(shape, dtype=np.int32), target_mask=mask,
    )  # fmt: skip


class Stopped(Exception):
    """As if the run had been killed."""


def main(directory: Path, out: Path, steps: int, stop: int, rate: float, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    world = join_world()
    before = peak_bytes()
    files: Any = None
    if world.size == 1:
        model = load_model(directory, dtype)
    else:
        model = empty_model(directory, dtype)
        files = files_of(directory, model)
        if files is None:  # stored under other names
            if world.is_main:
                write_plainly(directory, dtype, out / "plain" / "model.safetensors", model)
            world.barrier()
            files = files_of(out / "plain", model)
        assert files is not None
    recipe = TrainRecipe(
        tokens=steps * 8 * LENGTH, windows_per_step=8, micro_windows=2, learning_rate=1e-3, checkpoint_every_steps=2,
        weight_decay=0.1,
    )  # fmt: skip
    whole, validation = text(model.config.vocab_size), None
    if rate:
        recipe = dataclasses.replace(recipe, learning_rate=rate, schedule="constant", diverged_at=0.0)
        validation = Validation(packed=whole.taken(slice(8, 13)), objective=hard, every_steps=1, keep_best=True)
        whole = whole.taken(slice(8))

    def after(model: Any, step: int) -> dict[str, float]:
        if step == 1:
            (out / f"memory-{world.rank}.json").write_text(json.dumps({"before": before, "peak": peak_bytes()}))
        if stop and step > stop:
            raise Stopped
        return {}

    out.mkdir(parents=True, exist_ok=True)
    trained = train(
        model, Offline(whole, 8, 0), hard, recipe, out / "training", Silent(), "t", after_step=after, files=files,
        validation=validation,
    )  # fmt: skip
    if world.is_main:
        from safetensors.torch import save_file

        own = {name: weight.detach().clone() for name, weight in trained.named_parameters()}
        save_file(own, out / "weights.safetensors")


def worker(rank: int, environment: dict[str, str], given: list[str]) -> None:
    """One of the processes."""
    os.environ.update(environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
    with contextlib.suppress(Stopped):
        stop, rate = int(given[3]) if len(given) > 3 else 0, float(given[4]) if len(given) > 4 else 0.0
        dtype = getattr(torch, given[5]) if len(given) > 5 else torch.float32
        main(Path(given[0]), Path(given[1]), int(given[2]), stop, rate, dtype)


def forked(count: int, given: list[str]) -> None:
    """As many processes; exits with 1 if one of them fails, and ends the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "TORCHELASTIC_RUN_ID": "forked",
    }  # fmt: skip
    context = multiprocessing.get_context("fork")
    left = [context.Process(target=worker, args=(rank, environment, given)) for rank in range(count)]
    for process in left:
        process.start()
    while left:
        multiprocessing.connection.wait([process.sentinel for process in left])
        codes = [process.exitcode for process in left]
        if any(codes):
            for process in left:
                process.kill()
            sys.exit(1)
        left = [process for process, code in zip(left, codes, strict=True) if code is None]


if __name__ == "__main__":
    forked(int(sys.argv[1]), sys.argv[2:])
