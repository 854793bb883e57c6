"""Sorting logits takes given seconds, so that a faster memory must not make a power limit stretch them."""

from __future__ import annotations

import pytest

import flashstill as fs


@pytest.mark.parametrize("chip", ["h20", "mi250", "b200", "l4"])
def test_more_bandwidth_never_makes_a_sampled_step_slower(chip: str) -> None:
    own = fs.chip(chip).memory.bytes_per_s
    seconds = [
        fs.explain(
            model="gemma-3-270m", chip=chip, batch=64, context=4096, sampling="top-p",
            set={f"{chip}.memory_bytes_per_s": own * times},
        ).as_dict()["seconds"]
        for times in (1.0, 1.25, 2.0, 4.0)
    ]  # fmt: skip
    assert seconds == sorted(seconds, reverse=True)


def test_sampling_alone_meets_no_power_limit() -> None:
    """An H20 of 16 TB/s would draw four times its 400 W: what sampling adds in seconds is the same as at 4 TB/s."""
    added = []
    for bytes_per_s in (4e12, 16e12):
        steps = [
            fs.explain(
                model="gemma-3-270m", chip="h20", batch=64, context=64, sampling=sampling,
                set={"h20.memory_bytes_per_s": bytes_per_s},
            ).as_dict()["seconds"]
            for sampling in ("greedy", "top-p")
        ]  # fmt: skip
        added.append(steps[1] - steps[0])
    assert added[1] == pytest.approx(added[0], rel=1e-9)
