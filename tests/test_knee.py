"""The knee: the closed form beside the event loop, on made-up engines and on real deployments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from flashstill.simulate.capacity import mix_of
from flashstill.simulate.engine import Outcome, run
from flashstill.simulate.loop import Arrivals
from flashstill.simulate.saturated import saturated
from flashstill.simulate.saturation import Measured, measured, saturated_rate, student_95
from flashstill.simulate.state import Limits
from flashstill.simulate.tally import TOKENS, TOKENS_OUT
from tests.batching import arrivals, limits, tables


def lengths(prompt: int, output: int, count: int = 1000) -> Arrivals:
    """Requests of lengths between half of those given and these."""
    numbers = np.random.default_rng(3)
    first, last = (numbers.integers((mean + 1) // 2, mean + 1, count) for mean in (prompt, output))
    return Arrivals(np.zeros(count), first, last, np.zeros(count, dtype=np.int64))


def both(prompt: int, output: int, asked: Limits, replicas: int = 1) -> tuple[float, Measured, str]:
    """Requests per second of a replica in closed form and by simulation, and what binds."""
    requests = lengths(prompt, output)
    form = saturated(tables(), asked, mix_of(requests.prompt, requests.output, requests.cached))

    def serve(pieces: Iterator[Arrivals], seed: int) -> Outcome:
        return run(tables(), asked, pieces, replicas, seed=seed)

    outputs = float(requests.output.mean())
    stay = form.step_s * outputs
    found = saturated_rate(serve, requests, outputs, form.rate * replicas, stay, 500 * replicas, range(2))
    return form.rate * replicas, found, form.binds


@pytest.mark.parametrize(
    ("prompt", "output", "settings", "binds"),
    [
        (40, 40, {}, "sequences"),
        (60, 24, {"sequences": 60, "blocks": 60, "reserves": True}, "memory"),
        (300, 12, {"sequences": 60}, "prefill"),
    ],
)
def test_the_closed_form_is_the_throughput_of_a_line_that_never_empties(
    prompt: int, output: int, settings: dict[str, Any], binds: str
) -> None:
    form, found, met = both(prompt, output, limits(**settings))
    assert met == binds
    assert form == pytest.approx(found.value, rel=0.03)
    assert found.low < found.value < found.high


def test_every_output_token_is_in_the_time_line() -> None:
    numbers = np.random.default_rng(4)
    rows = [(0.01 * i, int(numbers.integers(1, 500)), int(numbers.integers(1, 9))) for i in range(200)]
    tally = run(tables(), limits(blocks=40), [arrivals(rows)], 2).tally
    assert tally.lines[:, TOKENS].sum() == pytest.approx(tally.totals[TOKENS_OUT], rel=1e-12)


def test_the_interval_is_the_wider_of_batches_and_seeds() -> None:
    """Of batches that agree within a seed and not between seeds, only the seeds count."""
    steady = measured([np.array([9.9, 10.1, 10.0, 10.0])])
    assert steady.high - steady.value == pytest.approx(student_95(3) * np.std([9.9, 10.1, 10, 10], ddof=1) / 2.0)
    apart = measured([np.array([9.0, 9.0]), np.array([11.0, 11.0])])
    assert (apart.value, apart.batches) == (10.0, 4)
    assert apart.high - apart.value == pytest.approx(student_95(1) * np.sqrt(2.0) / np.sqrt(2.0))
    assert student_95(20) == pytest.approx(2.09, abs=0.01)
