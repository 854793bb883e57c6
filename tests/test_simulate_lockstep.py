"""Replicas of attention that share experts step together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.simulate import tally as counted
from flashstill.simulate.drafting import accepted_drafts
from flashstill.simulate.engine import run
from flashstill.simulate.state import BUSY_S, CENTRAL, FREE
from tests.batching import arrivals, limits, step_s, tables
from tests.marks import examples
from tests.plain_batching import Request, Server, walk


def alone_s(count: int, mean: float, prompt: int, attended: float) -> float:
    """A step in which the other ranks have no tokens: less for the experts."""
    return 0.8 * step_s(count, mean, prompt, attended)


@examples(40)
@given(
    rows=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 300), st.integers(1, 40)), min_size=1, max_size=30),
    groups=st.integers(1, 2), ranks=st.integers(2, 4), sequences=st.integers(1, 8), tokens=st.integers(1, 200),
    blocks=st.integers(22, 60), prefill_first=st.booleans(), central=st.booleans(),
    concurrency=st.one_of(st.none(), st.integers(1, 8)), drafts=st.sampled_from([0, 0, 2]),
    ahead=st.booleans(),
)  # fmt: skip
@pytest.mark.slow
def test_ranks_agree_with_a_plain_walk(
    rows: list[tuple[int, int, int]], groups: int, ranks: int, sequences: int, tokens: int, blocks: int,
    prefill_first: bool, central: bool, concurrency: int | None, drafts: int, ahead: bool,
) -> None:  # fmt: skip
    asked = [(0.01 * at, prompt, output) for at, prompt, output in sorted(rows) if -(-(prompt + output) // 16) <= 22]
    if concurrency is not None:
        concurrency = min(concurrency, len(asked))
        asked = [(0.0 if i < concurrency else math.inf, prompt, output) for i, (_, prompt, output) in enumerate(asked)]
    if central and concurrency is not None:  # replicas in step end at the same time, and either may come first
        blocks = 10_000
    chosen = limits(
        sequences=sequences, tokens=tokens, blocks=blocks, prefill_first=prefill_first, ranks=ranks,
        router=CENTRAL if central else 1, ahead=int(ahead),
    )  # fmt: skip
    likely = 0.8 ** np.arange(1.0, drafts + 1.0)
    usual, alone = tables(), tables(alone_s)
    both = usual._replace(accepted=likely, alone_decode_s=alone.decode_s, alone_extra_s=alone.extra_s)
    outcome = run(both, chosen, [arrivals(asked)], groups * ranks, closed=concurrency is not None)

    requests = [Request(at, prompt, output, number=i) for i, (at, prompt, output) in enumerate(asked)]
    plain = [
        Server(
            step_s, sequences, tokens, 16, blocks, prefill_first, drafts=drafts, ahead=ahead,
            accepted=lambda number, left: accepted_drafts(likely, 0, number, left),
        )
        for _ in range(groups * ranks)
    ]  # fmt: skip
    end = walk(plain, requests, concurrency, central, ranks=ranks, alone_s=alone_s)
    tally = outcome.tally
    assert outcome.end_s == pytest.approx(end, rel=1e-9)
    assert tally.totals[counted.DONE] == len(requests)
    assert tally.totals[counted.PREEMPTED] == sum(server.preemptions for server in plain)
    assert (outcome.fleet.counts[:, FREE] == blocks).all()
    assert (outcome.fleet.clock[:, BUSY_S] <= outcome.end_s * (1.0 + 1e-12)).all()
    for metric, values in (
        (counted.TTFT, [each.first - each.arrival for each in requests if each.first is not None]),
        (counted.END_TO_END, [each.done - each.arrival for each in requests if each.done is not None]),
    ):
        assert tally.sums[metric].sum() == pytest.approx(sum(values), rel=1e-8, abs=1e-9)
