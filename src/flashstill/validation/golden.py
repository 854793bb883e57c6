"""The project's own golden figures: a few published measurements, written anew, for machines without the anchors.

Sources: ML.ENERGY leaderboard 2025 (vLLM on H100 SXM, median inter-token latency); Pope et al. 2022, section 4.4.
"""

from __future__ import annotations

import numpy as np

from flashstill.facts import Facts
from flashstill.plan.predict import Case, predict
from flashstill.validation.errors import Comparison

# model, chips, sequences in flight, mean output tokens, inter-token latency in seconds
_ML_ENERGY = (
    ("qwen3-30b-a3b", 1, 8, 927, 0.01285),
    ("qwen3-30b-a3b", 1, 16, 925, 0.01755),
    ("qwen3-30b-a3b", 1, 32, 922, 0.02257),
)


def golden_comparisons(facts: Facts) -> list[Comparison]:
    """Inter-token latencies that were published for vLLM on one H100."""
    chip = "h100-sxm"
    cases = [
        Case(model=model, chip=chip, tp=tp, isl=128, osl=osl, concurrency=batch, engine="vllm")
        for model, tp, batch, osl, _ in _ML_ENERGY
    ]
    answers = predict(facts, cases)
    return [
        Comparison(
            anchor="golden: ML.ENERGY leaderboard",
            quantity="inter-token latency",
            measured=np.array([row[-1] for row in _ML_ENERGY]),
            predicted=np.array([answer.tpot_s or np.nan for answer in answers]),
            chip=(chip,) * len(cases),
            engine=("vllm",) * len(cases),
        )
    ]
