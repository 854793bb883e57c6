"""Which tensor of a GGUF file comes from which of a Hugging Face directory, and its rows, a few at a time.

Names follow the gguf package's table.  The experts of a layer become one tensor [E, N, C].  In architectures whose
rotary embeddings turn neighbouring pairs, the rows of each head are reordered from halves (x_i, x_{i + d/2}) to pairs
(x_2i, x_2i+1), so that attention is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from flashstill.arch.adapter.gguf import GgufLayout
from flashstill.distill.models.directories import shapes, weight_files
from flashstill.errors import BadInput

Rows = np.ndarray[Any, Any]
CHUNK_BYTES = 32 * 2**20
"""of float32 values in memory at a time"""
_EXPERT = re.compile(r"\.experts\.(\d+)\.")
_NO_WEIGHTS = re.compile(r"(rotary_emb\.inv_freq|\.attn\.(masked_)?bias)$")
"""buffers that old checkpoints hold and that a model computes itself"""
_TRANSPOSED = re.compile(r"attn_qkv|attn_output|ffn_up|ffn_down")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTensor:
    """One tensor of the file. shape: [..., rows, columns], outermost first; sources: names in the directory, several
    for experts; values: given instead of sources."""

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...] = ()
    heads: int = 0
    offset: float = 0.0
    transposed: bool = False
    values: tuple[float, ...] = ()


def planned(path: Path, layout: GgufLayout) -> list[PlannedTensor]:
    """All tensors of the file, in the order of their names; BadInput for one that the architecture does not have."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = next(key for key, name in MODEL_ARCH_NAMES.items() if name == layout.architecture)
    known = get_tensor_name_map(architecture, layout.blocks)
    sources: dict[str, dict[int, str]] = {}
    stored = shapes(path)
    for name in stored:
        if _NO_WEIGHTS.search(name) or (layout.tied and name == "lm_head.weight"):
            continue
        plain, _, suffix = _EXPERT.sub(".experts.", name).replace("correction_bias", "correction.bias").rpartition(".")
        target = known.get_name(plain)
        if target is None:
            raise BadInput(f"{path}: {name} has no name in GGUF files of architecture {layout.architecture}")
        expert = _EXPERT.search(name)
        sources.setdefault(f"{target}.{suffix}", {})[int(expert[1]) if expert else 0] = name
    tensors = [_tensor(target, [by[i] for i in sorted(by)], stored, layout) for target, by in sources.items()]
    if layout.rope_factors:
        count = len(layout.rope_factors)
        tensors.append(PlannedTensor(name="rope_freqs.weight", shape=(count,), values=layout.rope_factors))
    return sorted(tensors, key=lambda tensor: _in_order(tensor.name))


def _tensor(
    target: str, names: Sequence[str], stored: Mapping[str, tuple[int, ...]], layout: GgufLayout
) -> PlannedTensor:
    shape = stored[names[0]]
    stem, _, suffix = target.rpartition(".")
    part = stem.rpartition(".")[2]
    transposed = layout.transposed and suffix == "weight" and bool(_TRANSPOSED.search(part))
    shape = tuple(reversed(shape)) if transposed else shape
    if part == "ffn_gate_inp_shexp":  # [1, C] in the directory
        shape = shape[-1:]
    if "_exps" in part:
        if len(names) != layout.experts:
            raise BadInput(
                f"{names[0]} and its like are {len(names)} tensors, not one for each of {layout.experts} experts"
            )
        shape = (len(names), *shape)
    elif len(names) > 1:
        raise BadInput(f"{names[0]} and {names[1]} would be the same tensor {target}")
    return PlannedTensor(
        name=target, shape=shape, sources=tuple(names), heads=layout.interleaved.get(part, 0),
        offset=1.0 if layout.offset_norms and part.endswith("norm") else 0.0, transposed=transposed,
    )  # fmt: skip


def _in_order(name: str) -> tuple[int, str]:
    block = re.match(r"blk\.(\d+)\.", name)
    return (int(block[1]), name) if block else (-1, name)


class Weights:
    """The weights of a directory, its files opened once; rows are read when they are asked for."""

    def __init__(self, path: Path) -> None:
        opened: list[Any] = [safe_open(file, framework="pt") for file in weight_files(path)]
        self._of = {name: each for each in opened for name in each.keys()}  # noqa: SIM118 - not a dictionary

    def rows(self, tensor: PlannedTensor) -> Iterator[Rows]:
        """The tensor's rows in float32, [N, C] at a time; of a vector a single row."""
        if tensor.values:
            yield np.asarray(tensor.values, dtype=np.float32)[None]
        for name in tensor.sources:
            yield from self._rows(name, tensor)

    def _rows(self, name: str, tensor: PlannedTensor) -> Iterator[Rows]:
        stored = self._of[name].get_slice(name)
        if len(tensor.shape) == 1:
            values = _float32(stored[:]).reshape(-1)
            yield (_interleaved(values[:, None], tensor.heads)[:, 0] if tensor.heads else values + tensor.offset)[None]
            return
        count, width = tensor.shape[-2:]
        whole = count // tensor.heads if tensor.heads else 1
        step = max(1, CHUNK_BYTES // (4 * width) // whole) * whole
        for begin in range(0, count, step):
            end = min(begin + step, count)
            part = _float32(stored[:, begin:end]).T if tensor.transposed else _float32(stored[begin:end])
            yield _interleaved(part, (end - begin) // whole) if tensor.heads else part


def _float32(stored: torch.Tensor) -> Rows:
    return stored.to(torch.float32).numpy()


def _interleaved(rows: Rows, heads: int) -> Rows:
    """Rows of `heads` heads [H * D, C], the two halves of each head interleaved."""
    return rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)
