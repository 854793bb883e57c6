"""Export a Hugging Face directory to a GGUF file, for llama.cpp and what is built on it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flashstill.arch.adapter.gguf import gguf_layout
from flashstill.distill.export.formats import byte_count, file_type, kind_of, tensor_kind
from flashstill.distill.export.tensors import Weights, planned
from flashstill.distill.export.vocabulary import vocabulary
from flashstill.distill.export.writing import padded, write_gguf
from flashstill.distill.models import check_tensors, load_tokenizer
from flashstill.distill.models.checksums import verify_checksums
from flashstill.distill.models.configuration import plain_config
from flashstill.distill.models.directories import check_directory, check_small_files
from flashstill.errors import BadInput, DiskTrouble
from flashstill.progress import Progress
from flashstill.units import show

__all__ = ["Exported", "export_gguf"]

_PHI3 = ("</s>", "<unk>", "<s>", "<|endoftext|>")
"""tokens that llama.cpp looks up in models whose name says Phi-3"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A written file. kinds: bytes of its tensors by number format; notes: what it cannot say."""

    out: Path
    architecture: str
    number_format: str
    bytes: int
    tensors: int
    kinds: dict[str, int]
    notes: tuple[str, ...]


def export_gguf(directory: Path, out: Path, number_format: str, progress: Progress) -> Exported:
    """Write the model in a Hugging Face directory as GGUF, its matrices in `number_format` (formats.TYPES).

    BadInput, before anything is written, for architectures, fields and tokenizers that llama.cpp cannot express.
    """
    asked = kind_of(number_format)
    verify_checksums(directory)
    check_directory(directory)
    check_small_files(directory)
    if out.suffix != ".gguf":
        raise BadInput(f"--out is {out}; give a file that ends in .gguf")
    config = plain_config(directory)
    layout = gguf_layout(config.to_dict(), type(config)().to_dict())
    check_tensors(directory)
    words = vocabulary(load_tokenizer(directory), layout.vocabulary)
    tensors = [(tensor, tensor_kind(tensor.name, tensor.shape, asked)) for tensor in planned(directory, layout)]
    notes = [*layout.notes, *words.notes]
    if odd := [tensor.name for tensor, kind in tensors if kind.name == "F16" != asked.name]:
        notes.append(f"{len(odd)} tensors whose rows are no whole blocks of 32 are in f16, the first {odd[0]}")
    kinds: dict[str, int] = {}
    for tensor, kind in tensors:
        kinds[kind.name.lower()] = kinds.get(kind.name.lower(), 0) + byte_count(tensor.shape, kind)
    _check_room(out, sum(padded(byte_count(tensor.shape, kind)) for tensor, kind in tensors), progress)
    general = {
        "type": "model", "name": _name(directory, words.entries["tokens"]), "file_type": file_type(asked),
        "quantization_version": 2,
    }  # fmt: skip
    write_gguf(out, layout.architecture, general, layout.metadata, words, tensors, Weights(directory), progress)
    return Exported(
        out=out, architecture=layout.architecture, number_format=number_format, bytes=out.stat().st_size,
        tensors=len(tensors), kinds=kinds, notes=tuple(notes),
    )  # fmt: skip


def _name(directory: Path, tokens: Sequence[str]) -> str:
    """The directory's name, unless llama.cpp takes it for a family whose tokens these are not."""
    name = directory.resolve().name
    like_phi = any(word in name.lower() for word in ("phi-3", "phi3"))
    other = any(word in name.lower() for word in ("jina-v2", "jina-v3", "modern-bert"))
    return "model" if other or (like_phi and not set(_PHI3).issubset(tokens)) else name


def _check_room(out: Path, wanted: int, progress: Progress) -> None:
    """Say how large the file will be; DiskTrouble if that does not fit."""
    place = next(parent for parent in (out.resolve().parent, *out.resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(place).free
    progress.say(f"{out} will have about {show(wanted, 'B')}")
    if wanted > free:
        raise DiskTrouble(f"{out} needs {show(wanted, 'B')}, but only {show(free, 'B')} are free in {place}")
