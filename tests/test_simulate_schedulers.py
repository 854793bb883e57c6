"""Schedulers of the event loop: those built in, and functions of the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import flashstill as fs
from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.simulate import tally as counted
from flashstill.simulate.engine import Outcome, run
from flashstill.simulate.state import BEHIND, FREE, OWED, QUEUED, TURNED_DOWN
from flashstill.simulate.view import Scheduler
from tests.batching import arrivals, limits, step_s, tables
from tests.commands import refuse
from tests.marks import examples
from tests.plain_batching import Request, Server, walk

Rows = list[tuple[int, int, int]]
REQUESTS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 300), st.integers(1, 40)), min_size=1, max_size=30)


def asked_of(rows: Rows) -> list[tuple[float, int, int]]:
    return sorted((0.01 * at, prompt, output) for at, prompt, output in rows)


def chunked(view: fs.ReplicaView) -> fs.Decision:
    """Prompts share the steps of decoding."""
    return fs.Decision()


def prefill_first(view: fs.ReplicaView) -> fs.Decision:
    """Prompts stall the decoding."""
    return fs.Decision(decodes=False)


def shortest_first(view: fs.ReplicaView) -> fs.Decision:
    """Short prompts overtake long ones."""
    line = view.waiting
    return fs.Decision(admit=sorted(range(len(line)), key=lambda each: line[each].prompt_tokens))


def same(one: Outcome, other: Outcome) -> bool:
    """Whether two runs agree event for event."""
    alike = [(one.tally.sums == other.tally.sums).all(), (one.tally.histograms == other.tally.histograms).all()]
    return all(alike) and one.end_s == other.end_s and (one.tally.totals == other.tally.totals).all()


@examples(30)
@given(
    rows=REQUESTS, servers=st.integers(1, 3), sequences=st.integers(1, 8), tokens=st.integers(1, 200),
    blocks=st.integers(22, 60), stalls=st.booleans(), router=st.integers(0, 4), ahead=st.integers(0, 1),
)  # fmt: skip
def test_built_in_schedulers_written_by_a_user_agree(
    rows: Rows, servers: int, sequences: int, tokens: int, blocks: int, stalls: bool, router: int, ahead: int
) -> None:
    own: Scheduler = prefill_first if stalls else chunked
    built_in = limits(
        sequences=sequences, tokens=tokens, blocks=blocks, prefill_first=stalls, router=router, ahead=ahead
    )
    asked = built_in._replace(prefill_first=False, asks=True)
    pieces = [arrivals(asked_of(rows))]
    assert same(run(tables(), built_in, pieces, servers), run(tables(), asked, pieces, servers, scheduler=own))


@examples(30)
@given(
    rows=REQUESTS, servers=st.integers(1, 3), blocks=st.integers(22, 60), seed=st.integers(0, 99),
    ahead=st.integers(0, 1),
)  # fmt: skip
def test_whatever_a_user_decides_nothing_is_lost(rows: Rows, servers: int, blocks: int, seed: int, ahead: int) -> None:
    """Random orders, budgets, stalls and refusals: requests, tokens and cache blocks are conserved."""
    numbers = np.random.default_rng(seed)

    def random(view: fs.ReplicaView) -> fs.Decision:
        line = view.waiting
        assert len(line) == view.waiting_count
        assert len(view.running) == view.decoding_count + view.prefilling_count
        assert sum(-(-each.context // view.block_tokens) for each in view.running) == view.blocks - view.free_blocks
        order = [int(each) for each in numbers.permutation(len(line))]
        new = [each for each in order if numbers.random() < 0.1 and line[each].generated_tokens == 0]
        refused = [each for each in new if line[each].arrival_s not in begun]
        kept = [each for each in order if each not in refused]
        begun.update(line[each].arrival_s for each in kept)
        tokens = int(numbers.integers(0, 200)) if view.decoding_count else None
        return fs.Decision(prompt_tokens=tokens, admit=kept, refuse=refused, decodes=bool(numbers.random() < 0.7))

    begun: set[float] = set()
    asked = [(at + 1e-6 * i, prompt, output) for i, (at, prompt, output) in enumerate(asked_of(rows))]
    outcome = run(tables(), limits(blocks=blocks, asks=True, ahead=ahead), [arrivals(asked)], servers, scheduler=random)
    totals = outcome.tally.totals
    assert totals[counted.ARRIVED] == totals[counted.DONE] + totals[counted.REFUSED] + totals[counted.TOO_LATE]
    assert (outcome.fleet.counts[:, FREE] == blocks).all()
    assert not outcome.fleet.counts[:, [OWED, QUEUED]].any()
    if not totals[counted.TOO_LATE]:
        kept = [output for _, prompt, output in asked if -(-(prompt + output) // 16) <= blocks]
        assert totals[counted.TOKENS_OUT] == sum(kept)


@examples(60)
@given(
    rows=REQUESTS, servers=st.integers(1, 2), sequences=st.integers(1, 8), tokens=st.integers(1, 200),
    blocks=st.integers(22, 60), away=st.booleans(), ttft=st.floats(0.005, 0.5), tpot=st.floats(0.005, 0.05),
    ahead=st.booleans(),
)  # fmt: skip
@example(
    rows=[(87, 1, 38), (126, 65, 1), (122, 286, 12), (127, 1, 1)], servers=1, sequences=2, tokens=92, blocks=22,
    away=True, ttft=0.125, tpot=0.03125, ahead=False,
)  # fmt: skip
@pytest.mark.slow
def test_slo_aware_agrees_with_a_plain_walk(
    rows: Rows,
    servers: int,
    sequences: int,
    tokens: int,
    blocks: int,
    away: bool,
    ttft: float,
    tpot: float,
    ahead: bool,
) -> None:
    asked = [row for row in asked_of(rows) if -(-(row[1] + row[2]) // 16) <= blocks] or [(0.0, 5, 5)]
    chosen = limits(
        sequences=sequences, tokens=tokens, blocks=blocks, ttft_s=ttft, tpot_s=tpot,
        late=TURNED_DOWN if away else BEHIND, ahead=int(ahead),
    )  # fmt: skip
    tally = run(tables(), chosen, [arrivals(asked)], servers).tally
    requests = [Request(at, prompt, output) for at, prompt, output in asked]
    plain = [
        Server(
            step_s, sequences, tokens, 16, blocks, False,
            late="away" if away else "behind", ttft=ttft, tpot=tpot, ahead=ahead,
        )
        for _ in range(servers)
    ]  # fmt: skip
    walk(plain, requests)
    assert tally.totals[counted.TOO_LATE] == sum(len(each.refused) for each in plain)
    done = [each for each in requests if each.done is not None]
    assert tally.totals[counted.DONE] == len(done)
    assert tally.totals[counted.PREEMPTED] == sum(each.preemptions for each in plain)
    ends = sum(each.done - each.arrival for each in done if each.done is not None)
    assert tally.sums[counted.END_TO_END].sum() == pytest.approx(ends, rel=1e-8, abs=1e-9)


@pytest.mark.slow
def test_slo_aware_keeps_its_bounds() -> None:
    """At a load beyond what the replica serves, those that are admitted keep the bounds."""
    numbers = np.random.default_rng(4)
    rows = [(float(at), 200, 30) for at in np.cumsum(numbers.exponential(0.02, 300))]
    bounds = limits(tokens=512, ttft_s=0.4, tpot_s=0.02)
    usual, aware = (run(tables(), bounds._replace(late=late), [arrivals(rows)]).tally for late in (0, TURNED_DOWN))
    assert usual.totals[counted.GOOD] < 0.5 * len(rows)
    assert aware.totals[counted.TOO_LATE] > 0
    assert aware.totals[counted.GOOD] > 0.95 * aware.totals[counted.DONE] > usual.totals[counted.GOOD]


def test_decode_priority_serves_in_batches() -> None:
    """All that came meanwhile start together when the last of a batch is done; no token waits for a prompt."""
    rows = [(0.0, 100, 10), *((0.05, 100, 10) for _ in range(5))]
    tally = run(tables(), limits(prefill_first=True, few=0, tokens=1000), [arrivals(rows)]).tally
    one, alone = step_s(0, 0.0, 100, 50.0), sum(step_s(1, 100.0 + i, 0, 0.0) for i in range(9))
    five = sum(step_s(5, 100.0 + i, 0, 0.0) for i in range(9))
    assert tally.sums[counted.WAITING].sum() == pytest.approx(5 * (one + alone - 0.05))
    assert tally.sums[counted.GAP].sum() == pytest.approx(alone + 5 * five)


class TestOwnScheduler:
    ASKED: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm", "rate": 40.0, "requests": 60, "osl": 20}  # noqa: RUF012

    def test_short_prompts_first(self) -> None:
        asked = self.ASKED | {"least_ratio": 0.1, "isl": 4096}
        first, shortest = (fs.simulate(**asked, scheduler=each) for each in (chunked, shortest_first))
        assert shortest.finished == 60
        assert shortest.latencies["ttft_s"].mean_s < first.latencies["ttft_s"].mean_s
        assert shortest.as_dict()["policy"]["scheduler"].startswith("shortest_first (")

    @pytest.mark.parametrize(
        ("decision", "sentence"),
        [
            (fs.Decision(prompt_tokens=-1), "prompt_tokens is -1, not a whole number of at least 0"),
            (fs.Decision(admit=[0, 0]), "admit is [0, 0], not a number of requests or different positions"),
            (fs.Decision(admit=-1), "admit is -1, not a number"),
            (fs.Decision(admit=[0, 7]), "positions from 0 to 0"),
            (fs.Decision(admit=[0], refuse=[0]), "it admits and refuses the same request"),
            (fs.Decision(decodes=2), "decodes is 2, not True or False"),  # type: ignore[arg-type]
            (7, "it returned int, not a Decision"),
            (fs.Decision(admit=0), "left 60 requests in line with nothing running"),
        ],
    )
    def test_decisions_that_cannot_be(self, decision: Any, sentence: str) -> None:
        with pytest.raises(BadInput) as caught:
            fs.simulate(**self.ASKED, scheduler=lambda view: decision)
        assert sentence in str(caught.value)
        assert "test_simulate_schedulers.py" in str(caught.value)

    def test_refusing_in_a_closed_loop(self) -> None:
        asked = {name: value for name, value in self.ASKED.items() if name != "rate"}
        with pytest.raises(BadInput, match="refuses requests of a closed loop"):
            fs.simulate(**asked, concurrency=2, scheduler=lambda view: fs.Decision(refuse=[0]))

    FLAGS = ("simulate", "--model", "qwen3-8b", "--chip", "h100-sxm", "--osl", "20", "--requests", "60", "--rate", "9")

    def test_from_a_file(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """Imported only as it is named; an error names its line, a misspelt function its neighbour."""
        path = tmp_path / "mine.py"
        path.write_text(
            "import flashstill as fs\n\ndef calm(view):\n    return fs.Decision(prompt_tokens=view.step_tokens)\n\n"
            "def wrong(view):\n    return view.nothing\n",
            encoding="utf-8",
        )
        main([*self.FLAGS, "--scheduler", f"{path}:calm", "--json"])
        answer = json.loads(capsys.readouterr().out)
        assert answer["finished"] == 60
        assert answer["policy"]["scheduler"] == f"calm ({path}:3)"
        message = refuse(capsys, *self.FLAGS, "--scheduler", f"{path}:wrong")
        assert f"failed at {path}:7 at" in message
        assert "AttributeError" in message
        assert "the nearest known: calm" in refuse(capsys, *self.FLAGS, "--scheduler", f"{path}:clam")
        assert "is not a file with Python code" in refuse(capsys, *self.FLAGS, "--scheduler", "none.py:calm")
        path.write_text("x = 1\nx = 1 / 0\n", encoding="utf-8")
        assert f"{path}:2 cannot be run: ZeroDivisionError" in refuse(capsys, *self.FLAGS, "--scheduler", f"{path}:x")

    @pytest.mark.parametrize(
        ("flags", "sentence"),
        [
            (("--scheduler", "slo-aware"), "slo-aware needs a bound to keep: max_ttft_s, max_tpot_s or both"),
            (("--refuse-late",), "refuse_late is of the scheduler slo-aware with max_ttft_s"),
            (("--refill-sequences", "3"), "refill_sequences is of the scheduler decode-priority"),
            (("--draft", "qwen3-0.6b", "--acceptance", "1"), "acceptance must lie between 0 and 1, not 1.0"),
        ],
    )
    def test_mistakes(self, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], sentence: str) -> None:
        assert sentence in refuse(capsys, *self.FLAGS, *flags)
