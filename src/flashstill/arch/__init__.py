"""Model architectures: shapes, parameter counts, and the adapter from Hugging Face configurations."""

from flashstill.arch.adapter import from_hf
from flashstill.arch.attention import Attention, Indexer, LatentAttention
from flashstill.arch.catalogue import hub_id, known_models, load_architecture, with_heads
from flashstill.arch.compressed import CompressedAttention
from flashstill.arch.config_file import architecture_of
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.formats import Formats, Stored
from flashstill.arch.model import Architecture, Layer, Mixer
from flashstill.arch.recurrent import LinearAttention, MatrixState

__all__ = [
    "Architecture",
    "Attention",
    "CompressedAttention",
    "FeedForward",
    "Formats",
    "Indexer",
    "LatentAttention",
    "Layer",
    "LinearAttention",
    "MatrixState",
    "Mixer",
    "Stored",
    "architecture_of",
    "from_hf",
    "hub_id",
    "known_models",
    "load_architecture",
    "with_heads",
]
