"""Write a GGUF file: header and metadata by the gguf package, then the tensors, a few rows in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from flashstill.distill.export.formats import Kind, byte_count, encoded
from flashstill.distill.export.tensors import PlannedTensor, Weights
from flashstill.distill.export.vocabulary import Vocabulary
from flashstill.files import replacing
from flashstill.progress import Progress

_ALIGNMENT = 32
_PLAIN: np.dtype[Any] = np.dtype(np.float32)


def padded(count: int) -> int:
    """Bytes up to the next boundary of the alignment."""
    return -(-count // _ALIGNMENT) * _ALIGNMENT


def write_gguf(
    out: Path,
    architecture: str,
    general: Mapping[str, Any],
    metadata: Mapping[str, Any],
    words: Vocabulary,
    tensors: Iterable[tuple[PlannedTensor, Kind]],
    weights: Weights,
    progress: Progress,
) -> None:
    """Write the file atomically. general, metadata: entries under "general." and under the architecture's name."""
    from gguf import GGUFWriter

    typed = list(tensors)
    sizes = [byte_count(tensor.shape, kind) for tensor, kind in typed]
    with replacing(out) as temporary, progress.task(f"writing {out.name}", sum(sizes), "bytes") as advance:
        writer = GGUFWriter(None, architecture)
        for key, value in general.items():
            _add(writer, f"general.{key}", value)
        for key, value in metadata.items():
            _add(writer, f"{architecture}.{key}", value)
        for key, value in words.entries.items():
            _add(writer, f"tokenizer.ggml.{key}", value)
        if words.chat_template is not None:
            writer.add_chat_template(words.chat_template)
        for (tensor, kind), size in zip(typed, sizes, strict=True):
            writer.add_tensor_info(tensor.name, tensor.shape, _PLAIN, size, raw_dtype=kind)
        writer.write_header_to_file(temporary)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        with temporary.open("ab") as file:
            _pad(file)
            for tensor, kind in typed:
                for rows in weights.rows(tensor):
                    advance(file.write(encoded(rows, kind, tensor.name)), tensor.name)
                _pad(file)


def _pad(file: IO[bytes]) -> None:
    place = file.tell()
    file.write(b"\0" * (padded(place) - place))


def _add(writer: Any, key: str, value: Any) -> None:
    """One entry, of the type that llama.cpp expects: counts are unsigned, and other numbers float32."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
