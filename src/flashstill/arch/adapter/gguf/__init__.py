"""Configurations in the terms of GGUF, the file format of llama.cpp."""

from flashstill.arch.adapter.gguf.families import FAMILIES, gguf_layout
from flashstill.arch.adapter.gguf.layout import GgufLayout

__all__ = ["FAMILIES", "GgufLayout", "gguf_layout"]
