"""Number formats of a GGUF file: those that the gguf package writes, and which tensor gets which.

Norms, biases, routers and learned positions stay in f32, as in llama.cpp's own files.  A block format needs rows of
whole blocks; other tensors are kept in f16.  In formats below 8 bits embedding and head are q8_0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flashstill.errors import BadInput, unknown

TYPES = ("f32", "bf16", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
_ENDS = ("token_embd.weight", "output.weight")
_ALWAYS_F32 = ("norm.weight", "ffn_gate_inp.weight", "position_embd.weight", "rope_freqs.weight", ".bias")
Kind = Any  # gguf.GGMLQuantizationType; the package is imported only when something is written


def kind_of(name: str) -> Kind:
    """The ggml type of a name in TYPES; BadInput for another."""
    from gguf import GGMLQuantizationType

    if name not in TYPES:
        raise BadInput(unknown("number format", name, TYPES))
    return GGMLQuantizationType[name.upper()]


def tensor_kind(name: str, shape: Sequence[int], asked: Kind) -> Kind:
    """The type of one tensor of a file that was asked for in `asked`."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) == 1 or name.endswith(_ALWAYS_F32):
        return GGMLQuantizationType.F32
    if asked.name in ("Q5_1", "Q5_0", "Q4_1", "Q4_0") and name in _ENDS:
        asked = GGMLQuantizationType.Q8_0
    block, _ = GGML_QUANT_SIZES[asked]
    return GGMLQuantizationType.F16 if shape[-1] % block else asked


def byte_count(shape: Sequence[int], kind: Kind) -> int:
    """Bytes of a tensor, without padding."""
    from gguf import GGML_QUANT_SIZES

    block, size = GGML_QUANT_SIZES[kind]
    count: int = math.prod(shape) // block * size
    return count


def file_type(asked: Kind) -> int:
    """The number under which llama.cpp lists files of this type."""
    from gguf import LlamaFileType

    return int(LlamaFileType.ALL_F32 if asked.name == "F32" else LlamaFileType[f"MOSTLY_{asked.name}"])


def encoded(values: np.ndarray[Any, Any], kind: Kind, name: str) -> bytes:
    """Rows [N, C] of float32 in a format; BadInput for NaN, infinity and what f16 cannot hold."""
    from gguf import quants

    rows = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise BadInput(f"{name} holds values that are not finite numbers; such a model writes nothing of use")
    if kind.name == "F16" and rows.size and float(np.abs(rows).max()) > float(np.finfo(np.float16).max):
        raise BadInput(f"{name} holds values beyond {np.finfo(np.float16).max:g}, the most of f16; take bf16 or f32")
    return bytes(quants.quantize(rows, kind).tobytes())
