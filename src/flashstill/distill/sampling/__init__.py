"""Text from a causal language model: many rows at a time, cached, seeded row by row."""

from flashstill.distill.sampling.drawing import Sampling, choose
from flashstill.distill.sampling.generate import Samples, decoder_of, sample

__all__ = ["Samples", "Sampling", "choose", "decoder_of", "sample"]
