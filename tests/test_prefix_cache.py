"""The prefix cache of the simulation: against a plain second implementation, by hand, and by what it conserves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flashstill.simulate import tally as counted
from flashstill.simulate.engine import Outcome, run
from flashstill.simulate.state import FREE, IDLE, REFERENCES, Limits
from tests.batching import arrivals, limits, step_s, tables
from tests.marks import examples
from tests.plain_batching import Request, Server, walk

Row = tuple[float, int, int]


def with_cache(unit: int, **changed: object) -> Limits:
    found = limits(**changed)
    return found._replace(unit=unit, unit_blocks=unit // found.block)


def conversations(
    numbers: np.random.Generator, count: int, unit: int, heads: int, longest: int
) -> tuple[list[Row], list[tuple[int, ...]]]:
    """Requests whose prompts begin with one of a few texts, all of which begin alike; keys as a trace has them."""
    rows: list[Row] = []
    keys: list[tuple[int, ...]] = []
    clock = 0.0
    for number in range(count):
        clock += float(numbers.exponential(0.05)) * float(numbers.random() < 0.7)
        prompt, output = int(numbers.integers(1, longest)), int(numbers.integers(1, 50))
        head, common = int(numbers.integers(0, heads)), int(numbers.integers(0, 5))
        own = int(numbers.integers(common, 40))
        named = (prompt + output if numbers.random() < 0.3 else prompt) // unit
        path = [
            i if i < common else 1000 * (head + 1) + i if i < own else 10**6 * (number + 1) + i for i in range(named)
        ]
        rows.append((clock, prompt, output))
        keys.append(tuple(path) if numbers.random() < 0.9 else ())
    return rows, keys


def conserved(outcome: Outcome, chosen: Limits) -> None:
    """All blocks are free at the end, nobody holds a unit, and those that stay fit into the memory."""
    assert (outcome.fleet.counts[:, FREE] == chosen.blocks).all()
    assert not outcome.fleet.prefix[:, REFERENCES].any()
    assert (outcome.fleet.counts[:, IDLE] * chosen.unit_blocks <= chosen.blocks).all()


@examples(15)
@example(  # a planned step names more units than the table has entries, before idle ones make room for them
    seed=39113, servers=2, sequences=1, tokens=103, block=1, ratio=1, spare=600, prefill_first=False, reserves=False,
    swap_s=0.0, ahead=False,
)  # fmt: skip
@given(
    seed=st.integers(0, 10**6), servers=st.integers(1, 3), sequences=st.integers(1, 8), tokens=st.integers(1, 200),
    block=st.sampled_from([1, 4, 16]), ratio=st.sampled_from([1, 2, 8]), spare=st.integers(0, 600),
    prefill_first=st.booleans(), reserves=st.booleans(), swap_s=st.sampled_from([0.0, 1e-3]),
    ahead=st.booleans(),
)  # fmt: skip
@pytest.mark.slow
def test_it_agrees_with_a_plain_walk(
    seed: int, servers: int, sequences: int, tokens: int, block: int, ratio: int, spare: int,
    prefill_first: bool, reserves: bool, swap_s: float, ahead: bool,
) -> None:  # fmt: skip
    unit = block * ratio
    rows, keys = conversations(np.random.default_rng(seed), 30, unit, 3, 300)
    blocks = -(-(max(prompt + output for _, prompt, output in rows) + spare) // block)
    chosen = with_cache(
        unit, sequences=sequences, tokens=tokens, block=block, blocks=blocks, prefill_first=prefill_first,
        reserves=reserves, swap_s=swap_s, ahead=int(ahead),
    )  # fmt: skip
    outcome = run(tables(), chosen, [arrivals(rows, keys=keys)], servers)
    requests = [Request(at, prompt, output, keys=path) for (at, prompt, output), path in zip(rows, keys, strict=True)]
    plain = [
        Server(step_s, sequences, tokens, block, blocks, prefill_first, reserves, unit=unit, swap_s=swap_s, ahead=ahead)
        for _ in range(servers)
    ]
    end = walk(plain, requests)
    totals = outcome.tally.totals
    assert totals[counted.DONE] == len(requests)
    assert totals[counted.PREEMPTED] == sum(server.preemptions for server in plain)
    assert totals[counted.CACHED_IN] == sum(server.hits for server in plain)
    assert totals[counted.EVICTED] == sum(server.evictions for server in plain)
    assert (outcome.fleet.counts[:, IDLE] == [len(server.idle) for server in plain]).all()
    assert outcome.end_s == pytest.approx(end, rel=1e-9)
    first = sum(each.first - each.arrival for each in requests if each.first is not None)
    assert outcome.tally.sums[counted.TTFT].sum() == pytest.approx(first, rel=1e-8)
    conserved(outcome, chosen)


def test_the_hit_ratio_of_one_shared_text() -> None:
    """Of N prompts of a shared text and their own, all but the first find the shared whole units."""
    count, unit = 50, 16
    rows = [(5.0 * i, 100, 4) for i in range(count)]
    keys = [tuple(range(4)) + tuple(1000 * (i + 1) + j for j in range(2)) for i in range(count)]
    outcome = run(tables(), with_cache(unit), [arrivals(rows, keys=keys)])
    assert outcome.tally.totals[counted.CACHED_IN] == (count - 1) * 4 * unit


def test_the_last_token_is_always_computed() -> None:
    """The same prompt again, a whole number of units long: one unit is computed once more."""
    outcome = run(tables(), with_cache(16), [arrivals([(0.0, 64, 2), (9.0, 64, 2)], keys=[(1, 2, 3, 4)] * 2)])
    assert outcome.tally.totals[counted.CACHED_IN] == 48
    conserved(outcome, with_cache(16))


def test_requests_of_one_step_share_their_prefix() -> None:
    """As in vLLM, a unit is known from the moment that its step is planned: four equal prompts compute one of it."""
    rows = [(0.0, 65, 2)] * 4
    outcome = run(tables(), with_cache(16, tokens=4096), [arrivals(rows, keys=[(1, 2, 3, 4)] * 4)])
    assert outcome.tally.totals[counted.CACHED_IN] == 3 * 64


def test_the_least_recently_used_goes_first_and_its_end_before_its_beginning() -> None:
    """Of two cached texts of four units and a memory of ten, a third of four takes the older one's last two."""
    texts = [tuple(10 * i + j for j in range(4)) for i in range(1, 4)]
    asked = [texts[0], texts[1], texts[2], texts[0]]
    rows = [(9.0 * i, 65, 1) for i in range(4)]
    chosen = with_cache(16, blocks=12)
    outcome = run(tables(), chosen, [arrivals(rows, keys=asked)])
    # each holds 5 blocks while it runs, of which 4 stay: 4, 8, then the third needs 5 of 12 - 8, and takes one
    assert outcome.tally.totals[counted.CACHED_IN] == 3 * 16
    conserved(outcome, chosen)


@pytest.mark.slow
def test_more_units_than_the_table_first_holds() -> None:
    """Tables and keys grow with what is cached, and pieces of a trace are one trace."""
    rows, keys = conversations(np.random.default_rng(4), 250, 4, 40, 400)
    chosen = with_cache(4, block=4, blocks=3000)
    whole = run(tables(), chosen, [arrivals(rows, keys=keys)], 2)
    parts = [arrivals(rows[i : i + 70], keys=keys[i : i + 70]) for i in range(0, len(rows), 70)]
    again = run(tables(), chosen, parts, 2)
    assert whole.fleet.prefix.shape[2] > 1024
    assert whole.tally.totals.tolist() == again.tally.totals.tolist()
    assert whole.tally.totals[counted.EVICTED] > 0
    conserved(whole, chosen)


def test_what_is_swapped_is_not_computed_again() -> None:
    """Two sequences outgrow the memory: one goes to the host and comes back, which takes the link both ways."""
    rows = [(0.0, 60, 60), (0.0, 60, 60)]
    chosen = with_cache(16, blocks=9)._replace(unit=0)
    again = run(tables(), chosen, [arrivals(rows)])
    swapped = run(tables(), chosen._replace(swap_s=1e-6), [arrivals(rows)])
    slow = run(tables(), chosen._replace(swap_s=1.0), [arrivals(rows)])
    totals = swapped.tally.totals
    assert totals[counted.PREEMPTED] == again.tally.totals[counted.PREEMPTED] == 1
    assert totals[counted.SWAPPED] == 2 * 4
    assert totals[counted.TOKENS_OUT] == 120
    assert swapped.end_s < again.end_s
    assert slow.end_s == pytest.approx(swapped.end_s + 8.0, rel=1e-3)
    conserved(slow, chosen)


def test_swapping_needs_the_link_of_the_chip() -> None:
    import flashstill as fs

    asked: dict[str, Any] = {"model": "qwen3-8b", "rate": 1.0, "requests": 4, "osl": 4, "preemption": "swap"}
    assert fs.simulate(chip="h100-sxm", **asked).finished == 4
    with pytest.raises(fs.MissingFact, match="host_link_bytes_per_s"):
        fs.simulate(chip="trainium2", **asked)
