"""Anchor files of whole attention mixers: projections, small kernels and attention of one layer, one after another.

MLA (DeepSeek-V3), sparse MLA (DeepSeek-V3.2, GLM-5) and sparse grouped attention (MiniMax-M3).  The operations are
those that a prediction of the model builds, for one chip's share of the heads.  Some rows show in `kernel_source` what
the engine chose: a short prompt in the absorbed form of decoding, a short context without selection, or a layer that
reads the tokens selected by an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from flashstill.arch import Attention, Indexer, LatentAttention
from flashstill.arch.model import Mixer
from flashstill.cost import make_conditions, uniform
from flashstill.cost.operations import kernel_kind
from flashstill.hardware import Chip
from flashstill.validation.anchors.tables import MILLI, PRECISIONS, KernelSet, Rows, column, engine_in_name, split
from flashstill.validation.comparison import Values
from flashstill.workload import Attention as AttentionWork
from flashstill.workload import SmallKernels
from flashstill.workload.mixers import mix
from flashstill.workload.seen import NewTokens

SPARSE_MODULE = "DSA module"
ABSORBED_PROMPTS = ("FLASH_ATTN_MLA", "FLASHMLA")
"""kernels of vLLM that compute short prompts in the absorbed form"""

DEEPSEEK_WIDTH, GLM_WIDTH, MINIMAX_WIDTH = 7168, 6144, 6144
DEEPSEEK = LatentAttention(heads=128, query_rank=1536, kv_rank=512, rope_width=64, nope_width=128, value_width=128)
DEEPSEEK_SPARSE = replace(DEEPSEEK, indexer=Indexer(heads=64, head_width=128, top=2048))
GLM = LatentAttention(
    heads=64,
    query_rank=2048,
    kv_rank=512,
    rope_width=64,
    nope_width=192,
    value_width=256,
    indexer=Indexer(heads=32, head_width=128, top=2048),
)
MINIMAX = Attention(
    heads=64,
    kv_heads=4,
    head_width=128,
    indexer=Indexer(heads=4, head_width=128, top=17 * 128, weighted=False, shared=False),
)
"""the mixers of DeepSeek-V3 and V3.2, GLM-5 and MiniMax-M3, as their published configurations give them"""


def latent_modules(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """MLA with and without an indexer, in prompts and decode steps."""
    decoding, sparse = "generation" in anchor, "dsa" in anchor
    for row in rows:
        row.setdefault("kernel_source", "")
        row.setdefault("model", "")
    for (model, heads, gemm, cache, source), group in split(
        rows, "model", "num_heads", "gemm_type", "kv_cache_dtype", "kernel_source"
    ):
        glm = "GLM" in model
        mixer = (GLM if glm else DEEPSEEK_SPARSE) if sparse else DEEPSEEK
        if "dense" in source:
            mixer = replace(mixer, indexer=None)
        elif "skip_indexer" in source and mixer.indexer:
            mixer = replace(mixer, indexer=None, top=mixer.indexer.top)
        yield _module(
            anchor,
            chip,
            SPARSE_MODULE if sparse else "MLA module",
            replace(mixer, heads=int(heads)),
            GLM_WIDTH if glm else DEEPSEEK_WIDTH,
            (gemm, cache),
            group,
            prompt=not decoding and source not in ABSORBED_PROMPTS,
        )


def latent_prompts(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """The attention of MLA alone in prompts, with keys and values of every head.

    SGLang's table times the latent form, with 3.4 times the FLOPs, which no prediction makes without a selection.
    """
    if engine_in_name(anchor) == "sglang":
        return
    for (heads, cache), group in split(rows, "num_heads", "kv_cache_dtype"):
        batch, precision = column(group, "batch_size"), PRECISIONS[cache]
        widths = make_conditions(chip, uniform("bf16", precision)).widths
        new = NewTokens(sequences=batch, queries=column(group, "isl"), past=np.zeros_like(batch), prompt=True)
        works = mix(DEEPSEEK_WIDTH, replace(DEEPSEEK, heads=int(heads)), new, widths)
        (work,) = (work for work in works if isinstance(work, AttentionWork))
        yield KernelSet(
            anchor=anchor,
            chip=chip.name,
            kind=kernel_kind(work),
            precision=precision,
            engine=engine_in_name(anchor),
            work=work,
            seconds=column(group, "latency") * MILLI,
        )


def block_selection(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """Grouped attention over blocks that an indexer selects; key/value heads are split with the query heads."""
    for (heads, gemm, cache), group in split(rows, "num_heads", "gemm_type", "kv_cache_dtype"):
        share = max(int(heads) * MINIMAX.kv_heads // MINIMAX.heads, 1)
        assert MINIMAX.indexer is not None
        indexer = replace(MINIMAX.indexer, heads=share)
        mixer = replace(MINIMAX, heads=int(heads), kv_heads=share, indexer=indexer)
        yield _module(
            anchor,
            chip,
            "MSA module",
            mixer,
            MINIMAX_WIDTH,
            (gemm, cache),
            group,
            prompt="generation" not in anchor,
        )


def _module(
    anchor: str, chip: Chip, kind: str, mixer: Mixer, width: int, formats: tuple[str, str], rows: Rows, *, prompt: bool
) -> KernelSet:
    """One mixer; a row of a prompt has `isl` new tokens after `step` cached ones, of a decode step one after `step`."""
    precision, cache = (PRECISIONS[name] for name in formats)
    batch, past = column(rows, "batch_size"), _column_or_zeros(rows, "step")
    queries = column(rows, "isl") if "isl" in rows[0] else np.ones_like(batch)
    widths = make_conditions(chip, uniform(precision, cache)).widths
    works = mix(width, mixer, NewTokens(sequences=batch, queries=queries, past=past, prompt=prompt), widths)
    if kind == SPARSE_MODULE:  # a context too short to select from still has the kernels of a mixer that selects
        works = [replace(work, selecting=True) if isinstance(work, SmallKernels) else work for work in works]
    return KernelSet(
        anchor=anchor,
        chip=chip.name,
        kind=kind,
        precision=precision,
        engine=engine_in_name(anchor),
        work=tuple(works),
        seconds=column(rows, "latency") * MILLI,
        cache=cache,
    )


def _column_or_zeros(rows: Rows, name: str) -> Values:
    return column(rows, name) if name in rows[0] else np.zeros(len(rows))
