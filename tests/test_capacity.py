"""The closed form of what a replica sustains, against the event loop under more work than it can do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.capacity import BUDGET, MEMORY, SLOTS, capacity, mix_of
from flashstill.simulate.engine import run
from flashstill.simulate.tally import DONE
from tests.batching import limits, tables
from tests.marks import slow


def requests(count: int, prompt: int, output: int) -> Arrivals:
    """All at once, of lengths between half and one and a half of those given."""
    numbers = np.random.default_rng(3)
    lengths = (numbers.integers(mean - mean // 2, mean + mean // 2 + 1, count) for mean in (prompt, output))
    first, last = (np.maximum(each, 1) for each in lengths)
    return Arrivals(np.zeros(count), first, last, np.zeros(count, dtype=np.int64))


@pytest.mark.parametrize(
    ("prompt", "output", "settings", "limit"),
    [
        (200, 20, {"sequences": 60}, BUDGET),
        *slow((400, 20, {"prefill_first": True}, SLOTS)),
        *slow((40, 60, {}, SLOTS), (40, 60, {"prefill_first": True}, SLOTS)),
        *slow((100, 60, {"sequences": 60, "blocks": 80, "reserves": True}, MEMORY)),
    ],
)
def test_the_rate_is_that_of_a_replica_with_too_much_to_do(
    prompt: int, output: int, settings: dict[str, Any], limit: str
) -> None:
    asked, arrivals, table = limits(**settings), requests(500, prompt, output), tables()
    closed = capacity(table, asked, mix_of(arrivals.prompt, arrivals.output, arrivals.cached))
    outcome = run(table, asked, [arrivals])
    rate = outcome.tally.totals[DONE] / outcome.end_s
    assert closed.limit == limit
    assert closed.best[0] == pytest.approx(rate, rel=0.06)


def test_a_bound_on_the_step_lies_between_batches() -> None:
    closed = capacity(tables(), limits(), mix_of(*(np.array([each]) for each in (100, 50, 0))))
    middle = (closed.step_s[4] + closed.step_s[5]) / 2.0
    rate, batch = closed.within(middle)
    assert batch == pytest.approx(5.5)
    assert closed.requests_per_s[4] < rate < closed.requests_per_s[5]
    assert closed.within(closed.step_s[0] / 2.0) == (0.0, 0.0)


def test_requests_of_one_token_are_prefilled_in_whole_steps() -> None:
    closed = capacity(tables(), limits(), mix_of(*(np.array([each]) for each in (100, 1, 0))))
    step_s = 1e-2 + 2e-5 * 256 + 1e-8 * 256 * 50.0
    assert closed.best[0] == pytest.approx(256 / 100 / step_s)
    assert closed.best[1] == 0.0
    none = capacity(tables(), limits(blocks=4), mix_of(*(np.array([each]) for each in (100, 1, 0))))
    assert none.best == (0.0, 0.0)
