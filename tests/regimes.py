"""How a student's own text is mixed in and sampled in tests; processes that tests start read it from here as well."""

from __future__ import annotations

from flashstill.distill.generate import Sampling
from flashstill.distill.training import Mixing

SAMPLING = Sampling(new_tokens=27, stop=(0,), seed=4)
MIXING = Mixing(mix=0.6, replay=0.4, buffer=12, prompt_tokens=6)
