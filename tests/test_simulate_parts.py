"""Requests come to the event loop in parts: where these end changes nothing, and a closed loop is never held whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.simulate import feeding
from flashstill.simulate import tally as counted
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.engine import run
from flashstill.simulate.feeding import Feed
from flashstill.simulate.state import JOULES
from flashstill.simulate.traffic import Traffic, generated
from tests.batching import arrivals, limits, tables
from tests.marks import examples


def outcome_of(pieces: list[Arrivals], first: int, **more: Any) -> tuple[Any, ...]:
    """All that is counted, with parts that begin with so many requests and grow to twice that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeding, "FIRST", first)
        patch.setattr(feeding, "MOST", 2 * first)
        copies = [piece._replace(arrival_s=piece.arrival_s.copy()) for piece in pieces]
        found = run(blocks=copies, **more)
    tally = found.tally
    joules = found.fleet.clock[:, JOULES].tolist()
    return joules, found.end_s, tally.totals.tolist(), tally.sums.tolist(), tally.histograms.sum(), tally.area.tolist()


@examples(30)
@given(
    seed=st.integers(0, 10**6), first=st.sampled_from([1, 3, 17]), in_flight=st.one_of(st.none(), st.integers(1, 12)),
    spacing=st.sampled_from([0.0, 0.02]), keyed=st.booleans(), large=st.booleans(), ties=st.sampled_from([0, 1, 2]),
)  # fmt: skip
def test_where_parts_end_changes_nothing(
    seed: int, first: int, in_flight: int | None, spacing: float, keyed: bool, large: bool, ties: int
) -> None:
    numbers = np.random.default_rng(seed)
    count = 60
    times = np.round(np.cumsum(numbers.exponential(0.02, count)), 4 - 2 * ties)
    if in_flight is not None:
        times = np.where(np.arange(count) < in_flight, np.arange(count) * spacing, np.inf)
    prompts = numbers.integers(1, 200, count)
    if large:
        prompts[numbers.integers(0, count, 9)] = 5000  # refused
    rows = [(float(at), int(prompt), int(numbers.integers(1, 30))) for at, prompt in zip(times, prompts, strict=True)]
    keys = [list(range(prompt // 16)) for prompt in prompts] if keyed and in_flight is None else None
    chosen = limits(sequences=6, blocks=60, return_s=0.003, unit=16 if keys else 0, unit_blocks=1)
    more = {"tables": tables(), "limits": chosen, "replicas": 2, "closed": in_flight is not None}
    whole, parts = [arrivals(rows, keys=keys)], [arrivals(rows[:40], keys=keys and keys[:40])]
    parts.append(arrivals(rows[40:], keys=keys and keys[40:]))
    if in_flight is None:
        parts[1:] = [arrivals(rows[40:41], keys=keys and keys[40:41]), arrivals(rows[41:], keys=keys and keys[41:])]
    one = outcome_of(whole, 10**6, **more)
    assert one[2][counted.ARRIVED] == count
    assert outcome_of(whole, first, **more) == one
    assert outcome_of(parts, first, **more) == one


def test_a_long_closed_loop_is_never_held_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are made as they are needed, and all requests come."""
    from flashstill.simulate import traffic as module

    monkeypatch.setattr(module, "WHOLE", 100)
    monkeypatch.setattr(module, "PIECE", 50)
    asked = Traffic(concurrency=20, requests=420, isl=20, osl=4, least_ratio=0.5)
    made: list[int] = []
    ahead: list[int] = []

    def watched() -> Any:
        for piece in generated(asked, 0):
            made.append(len(piece.prompt))
            yield piece

    outcome = run(
        tables(), limits(return_s=0.003), watched(), closed=True, told=lambda came: ahead.append(sum(made) - came)
    )
    assert outcome.tally.totals[counted.DONE] == sum(made) == 420
    assert max(made) == 50
    assert max(ahead) <= 4 * 50
    assert outcome.tally.area[2] == 0.0


def test_parts_grow_while_they_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(float(at), 5, 1) for at in range(2000)]
    clock = iter([0.0, *(0.01 * at for at in range(1, 5)), 9.0, 18.0])
    monkeypatch.setattr(feeding, "perf_counter", lambda: next(clock))
    feed = Feed([arrivals(rows)])
    assert [len(feed.next().prompt) for _ in range(7)] == [64, 128, 256, 512, 1024, 16, 0]
    assert feed.is_last
