"""Sample text from a causal language model: batched, with a KV cache and own random draws for each row; or drafted."""

from flashstill.distill.generate.cached import note_on_cache
from flashstill.distill.generate.drawing import Sampling, choose, probabilities
from flashstill.distill.generate.generate import decoder_of, sample
from flashstill.distill.generate.rows import Samples
from flashstill.distill.generate.speculative import Drafter, Drafts, Draws, ModelDrafter, Speculated, speculate
from flashstill.distill.generate.windows import continued

__all__ = [
    "Drafter",
    "Drafts",
    "Draws",
    "ModelDrafter",
    "Samples",
    "Sampling",
    "Speculated",
    "choose",
    "continued",
    "decoder_of",
    "note_on_cache",
    "probabilities",
    "sample",
    "speculate",
]
