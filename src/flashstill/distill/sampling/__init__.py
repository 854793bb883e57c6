"""Text from a causal language model: many rows at a time, cached, seeded row by row."""

from flashstill.distill.sampling.drawing import Sampling, choose
from flashstill.distill.sampling.generate import decoder_of, sample
from flashstill.distill.sampling.rows import Samples
from flashstill.distill.sampling.windows import continued

__all__ = ["Samples", "Sampling", "choose", "continued", "decoder_of", "sample"]
