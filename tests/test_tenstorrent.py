"""The class of Tenstorrent's chips against the maker's own table (tt-metal, models/tt_transformers/PERF.md)."""

from __future__ import annotations

import pytest

from flashstill.arch import load_architecture
from flashstill.cost import make_conditions, precisions_of
from flashstill.cost.phases import prefill_step
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.hardware.launches import software_of_chip
from flashstill.parallel import Layout

FACTS = load()
CHIP = chip_from_facts(FACTS, "wormhole-n150")
SOFTWARE = software_of_chip(FACTS, "none", CHIP)
FIRST = [  # model, chips, milliseconds until the first token of a prompt of 65,536
    ("llama-3.2-1b", 1, 20066), ("llama-3.1-8b", 1, 64385), ("llama-3.2-3b", 2, 22921), ("llama-3.1-8b", 2, 36229),
    ("llama-3.1-8b", 8, 16165), ("llama-3.1-70b", 8, 74363),
]  # fmt: skip


@pytest.mark.parametrize(("model", "chips", "milliseconds"), FIRST)
def test_long_prompts_take_what_the_maker_measures(model: str, chips: int, milliseconds: float) -> None:
    """Within a factor of two; a fifth of it where attention multiplied at the rate of products."""
    shape = load_architecture(model)
    conditions = make_conditions(CHIP, precisions_of(shape, "fp8"), software=SOFTWARE)
    step = prefill_step(shape, conditions, Layout(tp=float(chips)), 1.0, 65536.0)
    assert 0.5 < 1e3 * float(step.seconds) / milliseconds < 1.25
