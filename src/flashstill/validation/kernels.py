"""Anchor files of single kernels: rows -> the operation that each measures, as arrays, with its measured seconds.

File names tell the chip (kernels_<chip>_...) and the column names the kind, so that a file of another chip needs no code.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashstill.facts import Facts
from flashstill.parallel import Exchange
from flashstill.validation.errors import Values
from flashstill.workload import EVEN, Attention, Experts, Matmul, Operation

Rows = list[dict[str, str]]
MILLI, MICRO = 1e-3, 1e-6
PRECISIONS = {"bfloat16": "bf16", "float16": "bf16", "half": "bf16", "fp8": "fp8", "fp8_block": "fp8-block"}


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSet:
    """Kernels of one kind, precision and chip. work: an operation or an exchange whose fields are arrays."""

    anchor: str
    chip: str
    kind: str
    precision: str
    engine: str
    work: Operation | Exchange
    seconds: Values


def read_rows(path: Path) -> Rows:
    """All rows of a CSV file as text."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def chip_in_name(facts: Facts, name: str) -> str | None:
    """The known chip that a file name starts with after `kernels_`, or None."""
    words = name.removeprefix("kernels_").split("_")
    for count in (3, 2, 1):
        found = facts.machines.get(facts.chip_name("-".join(words[:count])) or "")
        if found:
            return found.name
    return None


def kernel_sets(facts: Facts, directory: Path) -> Iterator[KernelSet]:
    """Every kernel file of a directory whose columns are understood."""
    for path in sorted(directory.glob("kernels_*.csv")):
        chip = chip_in_name(facts, path.stem)
        if chip is None:
            continue
        rows = read_rows(path)
        for columns, make in _READERS:
            if rows and columns <= rows[0].keys():
                yield from make(path.stem, chip, rows)
                break
    path = directory / "collectives_gpu.csv"
    if path.exists():
        yield from _collective_table(facts, read_rows(path))


def _column(rows: Rows, name: str) -> Values:
    return np.array([float(row[name]) for row in rows])


def _split(rows: Rows, *names: str) -> Iterator[tuple[tuple[str, ...], Rows]]:
    groups: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    yield from sorted(groups.items())


def _engine(anchor: str) -> str:
    return next((engine for engine in ("trtllm", "sglang", "vllm") if engine in anchor), "trtllm")


def _gemms(anchor: str, chip: str, rows: Rows) -> Iterator[KernelSet]:
    for (dtype,), group in _split(rows, "gemm_dtype"):
        if dtype not in PRECISIONS:
            continue
        precision = PRECISIONS[dtype]
        m, n, k = (_column(group, name) for name in ("m", "n", "k"))
        value = 2.0 if precision == "bf16" else 1.0
        work = Matmul(
            name="gemm",
            rows=m,
            columns=n,
            depth=k,
            value_bytes=value,
            activation_bytes=m * k * value + m * n * 2.0,
        )
        yield KernelSet(
            anchor=anchor,
            chip=chip,
            kind="matmul",
            precision=precision,
            engine=_engine(anchor),
            work=work,
            seconds=_column(group, "latency") * MILLI,
        )


def _decode_attention(anchor: str, chip: str, rows: Rows) -> Iterator[KernelSet]:
    for (dtype,), group in _split(rows, "kv_cache_dtype"):
        width = _column(group, "head_dim")
        heads, cached = _column(group, "num_heads"), _column(group, "num_key_value_heads")
        work = _attention(
            _column(group, "batch_size"),
            _column(group, "isl") + _column(group, "step") - 1.0,
            heads,
            cached,
            float(width[0]),
            float(width[0]),
            cached * 2.0 * width[0],
            1.0 if dtype == "fp8" else 2.0,
            latent=False,
        )
        yield _kernel_set(anchor, chip, "decode-attention", PRECISIONS[dtype], work, group)


def _latent_attention(anchor: str, chip: str, rows: Rows) -> Iterator[KernelSet]:
    for (dtype,), group in _split(rows, "kv_cache_dtype"):
        if "latency" not in group[0] or not group[0].get("num_heads"):
            continue
        heads = _column(group, "num_heads")
        work = _attention(
            _column(group, "batch_size"),
            _column(group, "isl") + _column(group, "step") - 1.0,
            heads,
            np.ones_like(heads),
            576.0,
            512.0,
            np.full_like(heads, 576.0),
            1.0 if dtype == "fp8" else 2.0,
            latent=True,
        )
        yield _kernel_set(anchor, chip, "latent-attention", PRECISIONS[dtype], work, group)


def _attention(
    batch: Values,
    seen: Values,
    heads: Values,
    cached: Values,
    key: float,
    value: float,
    kv_values: Values,
    kv_bytes: float,
    latent: bool,
) -> Attention:
    return Attention(
        name="attention",
        sequences=batch,
        queries=np.ones_like(batch),
        seen=seen,
        pairs=seen + 1.0,
        heads=heads,
        kv_heads=cached,
        key_width=key,
        value_width=value,
        kv_values=kv_values,
        kv_value_bytes=kv_bytes,
        activation_bytes=2.0 * heads * (key + value) * batch,
        prompt=False,
        latent=latent,
    )


def _prompt_attention(anchor: str, chip: str, rows: Rows) -> Iterator[KernelSet]:
    for (dtype, kv), group in _split(rows, "attn_dtype", "kv_cache_dtype"):
        if dtype not in PRECISIONS or kv != dtype:
            continue
        batch, length = _column(group, "batch_size"), _column(group, "isl")
        heads, cached = _column(group, "num_heads"), _column(group, "num_key_value_heads")
        width = float(group[0]["head_dim"])
        work = Attention(
            name="attention",
            sequences=batch,
            queries=length,
            seen=np.zeros_like(batch),
            pairs=length * (length + 1.0) / 2.0,
            heads=heads,
            kv_heads=cached,
            key_width=width,
            value_width=width,
            kv_values=cached * 2.0 * width,
            kv_value_bytes=1.0 if kv == "fp8" else 2.0,
            activation_bytes=2.0 * heads * 2.0 * width * batch * length,
            prompt=True,
        )
        yield _kernel_set(anchor, chip, "prompt-attention", PRECISIONS[dtype], work, group)


def _experts(anchor: str, chip: str, rows: Rows) -> Iterator[KernelSet]:
    # The shapes of one model share scalars of the operation; one set for each keeps its fields arrays.
    keys = ("moe_dtype", "hidden_size", "inter_size", "topk", "num_experts", "distribution")
    for (dtype, hidden, inter, chosen, count, distribution), group in _split(rows, *keys):
        if dtype not in PRECISIONS:
            continue
        tokens = _column(group, "num_tokens")
        share, slices = _column(group, "moe_ep_size"), _column(group, "moe_tp_size")
        ffn = float(inter) / slices
        precision = PRECISIONS[dtype]
        skew = float(distribution.rsplit("_", 1)[-1]) if distribution.startswith("power_law") else EVEN
        work = Experts(
            name="experts",
            tokens=tokens,
            experts=int(count),
            chosen=int(chosen),
            held=float(count) / share,
            width=int(hidden),
            ffn_width=ffn,
            matrices=3,
            value_bytes=2.0 if precision == "bf16" else 1.0,
            skew=skew,
            activation_bytes=2.0 * 2.0 * (float(hidden) + 2.0 * ffn * float(chosen) / share) * tokens
            + 4.0 * float(hidden) * (float(chosen) / share - 1.0) * tokens,
        )
        yield _kernel_set(anchor, chip, "experts", precision, work, group)


def _kernel_set(anchor: str, chip: str, kind: str, precision: str, work: Operation, rows: Rows) -> KernelSet:
    return KernelSet(
        anchor=anchor,
        chip=chip,
        kind=kind,
        precision=precision,
        engine=_engine(anchor),
        work=work,
        seconds=_column(rows, "latency") * MILLI,
    )


def _custom_all_reduce(anchor: str, chip: str, rows: Rows) -> Iterator[KernelSet]:
    for (source,), group in _split(rows, "kernel_source"):
        if source.endswith("eager"):
            continue  # launched from Python each time; engines replay graphs
        engine = "vllm" if source.lower().startswith("vllm") else source.lower()
        yield _exchange_set(anchor, chip, "all-reduce", group, 2.0, _column(group, "latency") * MILLI, engine)


def _library(anchor: str, chip: str, rows: Rows) -> Iterator[KernelSet]:
    for (name, dtype), group in _split(rows, "op_name", "nccl_dtype"):
        width = 2.0 if dtype == "half" else 1.0
        seconds = _column(group, "latency") * MILLI
        yield _exchange_set(anchor, chip, _COLLECTIVE[name], group, width, seconds, "")


def _collective_table(facts: Facts, rows: Rows) -> Iterator[KernelSet]:
    for (gpu, name), group in _split(rows, "gpu", "op"):
        chip = facts.chip_name(gpu)
        if chip is None or name not in _COLLECTIVE:
            continue
        renamed = [{**row, "num_gpus": row["gpus"]} for row in group]
        seconds = _column(group, "latency_us") * MICRO
        yield _exchange_set("collectives_gpu", chip, _COLLECTIVE[name], renamed, 2.0, seconds, "")


def _exchange_set(
    anchor: str, chip: str, kind: str, rows: Rows, width: float, seconds: Values, source: str
) -> KernelSet:
    work = Exchange(
        name=kind,
        kind=kind,
        count=1.0,
        bytes=_column(rows, "message_size") * width,
        group=_column(rows, "num_gpus"),
        tier="tensor",
    )
    return KernelSet(
        anchor=anchor, chip=chip, kind=kind, precision="", engine=source, work=work, seconds=seconds
    )


_COLLECTIVE = {
    "all_reduce": "all-reduce",
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "alltoall": "all-to-all",
}
_READERS: Sequence[tuple[set[str], Callable[[str, str, Rows], Iterator[KernelSet]]]] = (
    ({"gemm_dtype", "m", "n", "k", "latency"}, _gemms),
    ({"mla_dtype", "kv_cache_dtype", "num_heads", "tp_size", "step", "latency"}, _latent_attention),
    ({"attn_dtype", "kv_cache_dtype", "step", "num_key_value_heads", "batch_size"}, lambda a, c, r: _by_phase(a, c, r)),
    ({"moe_dtype", "num_tokens", "topk", "distribution"}, _experts),
    ({"allreduce_dtype", "message_size", "num_gpus"}, _custom_all_reduce),
    ({"op_name", "nccl_dtype", "message_size", "num_gpus"}, _library),
)


def _by_phase(anchor: str, chip: str, rows: Rows) -> Iterator[KernelSet]:
    prompt = "context" in anchor or all(row["step"] == "0" for row in rows)
    yield from (_prompt_attention if prompt else _decode_attention)(anchor, chip, rows)
