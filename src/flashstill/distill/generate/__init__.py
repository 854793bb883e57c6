"""Text from a causal language model: many rows at a time, cached, seeded row by row."""

from flashstill.distill.generate.drawing import Sampling, choose
from flashstill.distill.generate.generate import decoder_of, sample
from flashstill.distill.generate.rows import Samples
from flashstill.distill.generate.windows import continued

__all__ = ["Samples", "Sampling", "choose", "continued", "decoder_of", "sample"]
