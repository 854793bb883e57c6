"""The class of Tenstorrent's chips against the maker's own table (tt-metal, models/tt_transformers/PERF.md)."""

from __future__ import annotations

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.cost import make_conditions, precisions_of
from flashstill.cost.phases import decode_step, prefill_step
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.hardware.launches import software_of_chip
from flashstill.parallel import Layout

FACTS = load()
CHIP = chip_from_facts(FACTS, "wormhole-n150")
SOFTWARE = software_of_chip(FACTS, "none", CHIP)
FIRST = [  # model, chips, tokens of the prompt, milliseconds
    ("llama-3.2-1b", 1, 128, 29), ("llama-3.1-8b", 1, 128, 138), ("llama-3.1-8b", 2, 128, 79),
    ("phi-4", 2, 128, 146), ("llama-3.1-70b", 8, 128, 168), ("qwen3-32b", 8, 128, 119),
    ("llama-3.2-1b", 1, 65536, 20066), ("llama-3.1-8b", 1, 65536, 64385), ("llama-3.2-3b", 2, 65536, 22921),
    ("llama-3.1-8b", 8, 65536, 16165), ("llama-3.1-70b", 8, 65536, 74363),
]  # fmt: skip
RATES = [  # model, chips, tokens/s of one user
    ("llama-3.2-1b", 1, 84.7), ("llama-3.1-8b", 1, 25.2), ("llama-3.1-8b", 2, 38.8), ("phi-4", 2, 20.48),
    ("llama-3.1-8b", 8, 60.8), ("llama-3.1-70b", 8, 16.5), ("qwen3-32b", 8, 19.6),
]  # fmt: skip


def seconds(model: str, chips: int, prompt: int | None = None) -> float:
    """Of a prompt by itself, or of a token of one user after 256."""
    shape, layout = load_architecture(model), Layout(tp=float(chips))
    conditions = make_conditions(CHIP, precisions_of(shape, "fp8"), software=SOFTWARE)
    if prompt is None:
        return float(decode_step(shape, conditions, layout, 1.0, 256.0).seconds)
    return float(prefill_step(shape, conditions, layout, 1.0, float(prompt)).seconds)


def test_prompts_take_what_the_maker_measures() -> None:
    ratios = np.array([seconds(model, chips, prompt) * 1e3 / taken for model, chips, prompt, taken in FIRST])
    assert np.mean(np.abs(ratios - 1.0)) < 0.25
    assert ratios.min() > 0.6
    assert ratios.max() < 1.45


@pytest.mark.parametrize(("model", "chips", "rate"), RATES)
def test_one_user_gets_what_the_maker_measures(model: str, chips: int, rate: float) -> None:
    assert seconds(model, chips) * rate == pytest.approx(1.0, abs=0.25)
