"""Anchor files of single kernels: rows -> the operation that each measures, as arrays, with its measured seconds.

File names tell the chip (kernels_<chip>_...) and the columns the kind, so that a file of another chip needs no code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from flashstill.facts import Facts
from flashstill.validation.anchors.collectives import collective_table, custom_all_reduce, library
from flashstill.validation.anchors.tables import MILLI, PRECISIONS, KernelSet, Rows, column, read_rows, split
from flashstill.validation.comparison import Values
from flashstill.workload import EVEN, Attention, Experts, Matmul, Operation


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
        yield from collective_table(facts, read_rows(path))


def _engine(anchor: str) -> str:
    return next((engine for engine in ("trtllm", "sglang", "vllm") if engine in anchor), "trtllm")


def _gemms(anchor: str, chip: str, rows: Rows) -> Iterator[KernelSet]:
    for (dtype,), group in split(rows, "gemm_dtype"):
        if dtype not in PRECISIONS:
            continue
        precision = PRECISIONS[dtype]
        m, n, k = (column(group, name) for name in ("m", "n", "k"))
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
            seconds=column(group, "latency") * MILLI,
        )


def _decode_attention(anchor: str, chip: str, rows: Rows) -> Iterator[KernelSet]:
    for (dtype,), group in split(rows, "kv_cache_dtype"):
        width = column(group, "head_dim")
        heads, cached = column(group, "num_heads"), column(group, "num_key_value_heads")
        work = _attention(
            column(group, "batch_size"),
            column(group, "isl") + column(group, "step") - 1.0,
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
    for (dtype,), group in split(rows, "kv_cache_dtype"):
        if "latency" not in group[0] or not group[0].get("num_heads"):
            continue
        heads = column(group, "num_heads")
        work = _attention(
            column(group, "batch_size"),
            column(group, "isl") + column(group, "step") - 1.0,
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
    for (dtype, kv), group in split(rows, "attn_dtype", "kv_cache_dtype"):
        if dtype not in PRECISIONS or kv != dtype:
            continue
        batch, length = column(group, "batch_size"), column(group, "isl")
        heads, cached = column(group, "num_heads"), column(group, "num_key_value_heads")
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
    for (dtype, hidden, inter, chosen, count, distribution), group in split(rows, *keys):
        if dtype not in PRECISIONS:
            continue
        tokens = column(group, "num_tokens")
        share, slices = column(group, "moe_ep_size"), column(group, "moe_tp_size")
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
        seconds=column(rows, "latency") * MILLI,
    )


_READERS: Sequence[tuple[set[str], Callable[[str, str, Rows], Iterator[KernelSet]]]] = (
    ({"gemm_dtype", "m", "n", "k", "latency"}, _gemms),
    ({"mla_dtype", "kv_cache_dtype", "num_heads", "tp_size", "step", "latency"}, _latent_attention),
    ({"attn_dtype", "kv_cache_dtype", "step", "num_key_value_heads", "batch_size"}, lambda a, c, r: _by_phase(a, c, r)),
    ({"moe_dtype", "num_tokens", "topk", "distribution"}, _experts),
    ({"allreduce_dtype", "message_size", "num_gpus"}, custom_all_reduce),
    ({"op_name", "nccl_dtype", "message_size", "num_gpus"}, library),
)


def _by_phase(anchor: str, chip: str, rows: Rows) -> Iterator[KernelSet]:
    prompt = "context" in anchor or all(row["step"] == "0" for row in rows)
    yield from (_prompt_attention if prompt else _decode_attention)(anchor, chip, rows)
