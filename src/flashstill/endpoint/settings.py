"""With which settings a model is served: as planned, as asked, or the defaults of a question to `predict`.

    sequences, length   requests in flight and tokens of the longest (prompt and answer), from --plan, a document of
                        `plan --emit ... --json` or `predict --json`; else the defaults of a `Scenario`, as a note says
    step tokens         prompt tokens of one step: a longest request, at most as many as the engine takes by itself
    precision, threads  distill/models/arithmetic.py: what this processor multiplies fastest

Memory on a CPU, where an engine would take what it finds:

    cache bytes = blocks x block tokens x bytes of a cached token,    each = ceil(length / block tokens)
    blocks      = the larger of sequences x each and (sequences - 1) x each / (1 - spare ratio)
    weights     = parameters x bytes of a number
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashstill.arch import Architecture, from_hf
from flashstill.checked import json_object
from flashstill.errors import BadInput, InfeasiblePlan, check_counts
from flashstill.plan.engines import serving_row, spare_ratio
from flashstill.plan.scenario import Scenario
from flashstill.units import show

BYTES = {"bf16": 2, "fp32": 4}
MEMORY = "weights and cache take more memory than is free"
DEFAULTS = Scenario(model="")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What an engine is told. sequences: requests in flight; length, step_tokens: tokens; tp: devices that share it.

    precision: "bf16" or "fp32" of arithmetic and cache; threads: of torch on a CPU; on_cpu: whether this machine has no
    accelerator; blocks, cache_bytes: of the cache; quantise, kv_precision: formats of a plan, "" for none.
    """

    sequences: int
    length: int
    step_tokens: int
    precision: str
    threads: int
    on_cpu: bool
    blocks: int
    cache_bytes: float
    tp: int = 1
    quantise: str = ""
    kv_precision: str = ""
    notes: tuple[str, ...] = ()


def settings_of(
    directory: Path,
    config: Mapping[str, Any],
    engine: str,
    plan: Path | None,
    sequences: int | None,
    length: int | None,
    arithmetic: str,
) -> Settings:
    """The settings of a model directory. BadInput for a plan of another kind; InfeasiblePlan if memory lacks."""
    import torch

    from flashstill.distill.models.arithmetic import decided, shape_of

    check_counts({"sequences": sequences, "length": length})
    planned = read_plan(plan) if plan is not None else {}
    architecture = from_hf(dict(config), str(directory))
    notes = []
    asked = sequences or planned.get("sequences")
    if asked is None:
        asked = DEFAULTS.batch
        notes.append(f"{asked} requests at a time, which is a default; --plan or --sequences says how many")
    longest = length or planned.get("length")
    if longest is None:
        longest = min(DEFAULTS.isl + DEFAULTS.osl, architecture.context)
        notes.append(f"requests of up to {longest:,} tokens, which is a default; --plan or --length says how long")
    if longest > architecture.context:
        raise BadInput(
            f"requests of {longest:,} tokens are longer than the {architecture.context:,} that {directory} was made"
            " for; give a smaller --length"
        )
    chosen = decided(arithmetic, shape_of(directory))
    on_cpu = not torch.cuda.is_available()
    block = serving_row(engine, "block_tokens")
    blocks = _blocks(asked, math.ceil(longest / block), spare_ratio(engine))
    cache_bytes = float(blocks * block * architecture.kv_values_per_token * BYTES[chosen.precision])
    if on_cpu:
        _check_memory(architecture, cache_bytes, BYTES[chosen.precision], asked, longest)
    return Settings(
        sequences=asked,
        length=longest,
        step_tokens=min(serving_row(engine, "step_tokens"), max(longest, asked)),
        precision=chosen.precision,
        threads=chosen.threads,
        on_cpu=on_cpu,
        blocks=blocks,
        cache_bytes=cache_bytes,
        tp=planned.get("tp", 1),
        quantise=planned.get("quantise", ""),
        kv_precision=planned.get("kv_precision", ""),
        notes=tuple(notes),
    )


def _blocks(sequences: int, each: int, spare: float) -> int:
    """Blocks of the cache: the last sequence is taken in while the others leave a share of them free."""
    return max(sequences * each, math.ceil((sequences - 1) * each / (1.0 - spare)))


def _check_memory(architecture: Architecture, cache_bytes: float, width: int, sequences: int, length: int) -> None:
    import psutil

    from flashstill.distill.models.host_memory import host_bytes

    needed = architecture.parameters * width + cache_bytes
    free = min(float(psutil.virtual_memory().available), host_bytes())
    if needed > free:
        raise InfeasiblePlan(
            f"the weights and the cache of {sequences:,} requests of {length:,} tokens take {show(needed, 'B')}, and"
            f" {show(free, 'B')} are free; give fewer --sequences or a smaller --length",
            {MEMORY: 1},
        )


def read_plan(path: Path) -> dict[str, Any]:
    """The settings in a document of `plan --emit ENGINE --json` or of `predict --json`."""
    document = json_object(path)
    schema, question = str(document.get("schema", "")), document.get("question")
    if not isinstance(question, dict) or not schema.startswith(("flashstill.plan/", "flashstill.predict/")):
        raise BadInput(f"{path} is no document of flashstill; write it with plan --emit vllm --json, or predict --json")
    if schema.startswith("flashstill.predict/"):
        point: Mapping[str, Any] = {**question, "batch": question.get("concurrency")}
    else:
        launched = document.get("launch")
        configuration = launched.get("configuration") if isinstance(launched, dict) else None
        point = configuration if isinstance(configuration, dict) else {}
        if not point:
            raise BadInput(f"{path} holds no configuration to start; write it with plan --emit vllm --json")
    if point.get("prefill_instances") or any(_count(path, name, point.get(name) or 1) > 1 for name in ("pp", "ep")):
        raise BadInput(
            f"{path} plans several servers or stages, and one is started here; plan --emit writes the commands or"
            " manifests of such a deployment"
        )
    replicas = _count(path, "dp", point.get("dp") or 1)
    precision, kv_precision = str(point.get("precision") or ""), str(point.get("kv_precision") or "")
    return {
        "sequences": -(-_count(path, "batch", point.get("batch")) // replicas),
        "length": sum(_count(path, name, question.get(name)) for name in ("isl", "osl")),
        "tp": _count(path, "tp", point.get("tp") or 1),
        "quantise": precision if precision == "fp8" else "",
        "kv_precision": kv_precision if kv_precision == "fp8" else "",
    }


def _count(path: Path, name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"{path} says {name} is {value!r}, not a whole number of at least 1")
    return value
