"""What a configuration says in the terms of GGUF, llama.cpp's file format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Entry = int | float | bool | str | tuple[bool, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufLayout:
    """The metadata of a GGUF file, and how its tensors differ from those of the Hugging Face directory.

    metadata: values by key, without the architecture's name in front.  interleaved: projection -> heads, of those whose
    rows are reordered for rotary embeddings of neighbouring pairs.  offset_norms: norms are stored with 1 added.
    transposed: linear layers are stored as [in, out].  tied: the head is not stored, as it is the embedding.
    rope_factors: the tensor of divisors of rotary frequencies, empty for none.  notes: what the file cannot say.
    """

    architecture: str
    metadata: Mapping[str, Entry]
    blocks: int
    experts: int = 0
    vocabulary: int
    interleaved: Mapping[str, int] = field(default_factory=dict)
    offset_norms: bool = False
    transposed: bool = False
    tied: bool = False
    rope_factors: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
