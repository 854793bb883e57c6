"""Prefill and decode time of several models at several batch sizes, on this machine.

Models alternate within every repeat, so that drift of the machine's speed affects all alike; the records hold the
median, minimum and maximum of the repeats.  If time is limited there are fewer repeats, at least one.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from flashstill.arch.adapter.sizes import VOCABULARY, size
from flashstill.distill.models import Model
from flashstill.distill.models.arithmetic import precision_of
from flashstill.distill.models.devices import wait
from flashstill.progress import Progress
from flashstill.records import MeasuredRecord

MACHINE = "this-machine"
DECODE_STEPS_PER_REPEAT = 6


def measure_models(
    models: Mapping[str, Model],
    batches: Sequence[int],
    context: int,
    repeats: int,
    progress: Progress,
    seconds: float = math.inf,
) -> list[MeasuredRecord]:
    """Seconds of a prefill of `context` tokens and of a decode step after it, for every model and batch.

    seconds: about how long all of it may take; every batch is timed at least once.
    """
    records, began = [], time.perf_counter()
    with progress.task("measure", len(batches) * (repeats + 1) * len(models), "runs") as advance:
        for number, batch in enumerate(batches):
            until = began + seconds * sum(batches[: number + 1]) / sum(batches)
            times: dict[tuple[str, str], list[float]] = {}
            for repeat in range(repeats + 1):  # the first is a warm-up
                started = time.perf_counter()
                for name, model in models.items():
                    prefill_s, decode_s = time_model(model, batch, context)
                    times.setdefault((name, "prefill"), []).append(prefill_s)
                    times.setdefault((name, "decode"), []).extend(decode_s)
                    advance(1, f"batch {batch}")
                left = until - time.perf_counter()
                if left < time.perf_counter() - started:  # no time for another repeat: the warm-up may be the only one
                    advance((repeats - repeat) * len(models))
                    break
                if not repeat:
                    times.clear()
            for (name, phase), step_times in times.items():
                records.append(
                    MeasuredRecord(
                        model=name,
                        machine=MACHINE,
                        phase=phase,
                        batch=batch,
                        context=context,
                        seconds=statistics.median(step_times),
                        low=min(step_times),
                        high=max(step_times),
                        repeats=len(step_times),
                        precision=precision_of(models[name].dtype),
                    )
                )
    return records


def time_model(model: Model, batch: int, context: int) -> tuple[float, list[float]]:
    """Seconds of one prefill, and of each decode step that follows it; the cache is cut back after every step."""
    generator = torch.Generator().manual_seed(batch)
    tokens = torch.randint(0, size(model.config, VOCABULARY), (batch, context), generator=generator).to(model.device)
    with torch.inference_mode():
        started = time.perf_counter()
        output = model(input_ids=tokens, use_cache=True, logits_to_keep=1)
        wait(model.device)
        prefill_s = time.perf_counter() - started
        cache: Any = output.past_key_values
        token = output.logits[:, -1:].argmax(-1)
        decode_s = []
        for _ in range(DECODE_STEPS_PER_REPEAT):
            started = time.perf_counter()
            model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1).cpu()
            decode_s.append(time.perf_counter() - started)
            cache.crop(-1)
    return prefill_s, decode_s
