"""What a model is: its shape, its parameter counts, and the adapter from Hugging Face configurations."""

from flashstill.arch.adapter import from_hf
from flashstill.arch.catalogue import known_models, load_architecture
from flashstill.arch.model import Architecture, Attention, FeedForward, Layer

__all__ = ["Architecture", "Attention", "FeedForward", "Layer", "from_hf", "known_models", "load_architecture"]
