"""Sample text from a causal language model: batched, with a KV cache, and with its own random draws for each row."""

from flashstill.distill.generate.drawing import Sampling, choose
from flashstill.distill.generate.generate import decoder_of, sample
from flashstill.distill.generate.rows import Samples
from flashstill.distill.generate.windows import continued

__all__ = ["Samples", "Sampling", "choose", "continued", "decoder_of", "sample"]
