"""The event loop against queueing theory, against a plain second implementation, and against conservation laws."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.simulate import tally as counted
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.drafting import accepted_drafts
from flashstill.simulate.engine import Outcome, run
from flashstill.simulate.results import latencies, value_at
from flashstill.simulate.state import (
    BUSY_S,
    CENTRAL,
    COMMITTED,
    CONTEXT,
    DECODING,
    FILLING,
    FREE,
    OWED,
    OWED_TOKENS,
    QUEUED,
    Values,
)
from tests.batching import arrivals, limits, step_s, tables
from tests.commands import Cli, refuse
from tests.marks import examples, slow
from tests.plain_batching import Request, Server, walk


def served_one_by_one(seconds: Values, gaps: Values, servers: int = 1) -> Outcome:
    """Requests of one token each, whose prefill takes the given seconds, on replicas that take one at a time."""
    unit = 1e-4  # seconds of a prompt token
    count, times = len(gaps), np.cumsum(gaps)
    prompt = np.maximum(np.round(seconds / unit), 1).astype(np.int64)
    cost = tables(lambda b, s, p, a: unit * p, longest=1e6)
    cost = cost._replace(tokens=np.array([0.0, 1.0, 1e6]), extra_s=np.array([[[0, 0], [unit, unit], [1e2, 1e2]]] * 3))
    one = limits(sequences=1, tokens=10**6, blocks=10**6, router=0)
    pieces = [Arrivals(times, prompt, np.ones(count, dtype=np.int64), np.zeros(count, dtype=np.int64))]
    return run(cost, one, pieces, servers)


def mean_waiting(outcome: Outcome) -> float:
    return float(outcome.tally.sums[counted.WAITING].sum() / outcome.tally.counts[counted.WAITING].sum())


@given(
    seconds=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    gaps=st.lists(st.integers(0, 60), min_size=40, max_size=40),
    servers=st.integers(1, 3),
    faster=st.floats(1.0, 20.0),
)
@examples(60)
def test_no_percentile_of_a_line_falls_as_requests_come_faster(
    seconds: list[int], gaps: list[int], servers: int, faster: float
) -> None:
    """Of replicas that take one request at a time: each request's wait is max(0, that of the one before it plus its
    time of service less the gap between them) (Lindley 1952), which a shorter gap only makes longer."""
    served_s, apart_s = np.array(seconds) * 1e-2, np.array(gaps[: len(seconds)]) * 1e-2
    slow, fast = (served_one_by_one(served_s, gap, servers).tally for gap in (apart_s, apart_s / faster))
    for share in (0.0, 0.5, 0.9, 0.95, 0.99, 1.0):
        assert value_at(fast, counted.TTFT, share) >= value_at(slow, counted.TTFT, share) * (1.0 - 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.5, 0.7, 0.9, 0.95])
@pytest.mark.parametrize("kind", ["M/D/1", "M/M/1"])
def test_waiting_is_that_of_pollaczek_and_khinchine(kind: str, load: float) -> None:
    """W = load s (1 + cv^2) / (2 (1 - load)), cv = 0 for constant and 1 for exponential service (Kleinrock 1975)."""
    numbers = np.random.default_rng(5)
    mean = 0.05
    count = 2_000_000 if load < 0.9 else 8_000_000
    service = np.full(count, mean) if kind == "M/D/1" else numbers.exponential(mean, count)
    outcome = served_one_by_one(service, numbers.exponential(mean / load, count))
    expected = load * mean / (1.0 - load) * (0.5 if kind == "M/D/1" else 1.0)
    assert mean_waiting(outcome) == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
def test_waiting_at_a_moderate_load() -> None:
    numbers = np.random.default_rng(6)
    outcome = served_one_by_one(np.full(6_000, 0.05), numbers.exponential(0.1, 6_000))
    assert mean_waiting(outcome) == pytest.approx(0.5 * 0.05 / 0.5 * 0.5, rel=0.1)


REQUESTS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 300), st.integers(1, 40)), min_size=1, max_size=40)


@examples(60)
@given(
    rows=REQUESTS, seed=st.integers(0, 10**6), servers=st.integers(1, 3), sequences=st.integers(1, 8),
    tokens=st.integers(1, 200), block=st.sampled_from([1, 4, 16]), spare=st.integers(0, 400),
    prefill_first=st.booleans(), reserves=st.booleans(),
    concurrency=st.one_of(st.none(), st.integers(1, 6)), cached=st.integers(0, 50), central=st.booleans(),
    few=st.one_of(st.just(2**31), st.integers(0, 4)), drafts=st.sampled_from([0, 0, 1, 3]),
    return_s=st.sampled_from([0.0, 0.003, 0.1]), spacing_s=st.sampled_from([0.0, 0.001, 0.3]), ahead=st.booleans(),
    margin=st.sampled_from([0, 0, 1, 3, 20]),
)  # fmt: skip
def test_it_agrees_with_a_plain_walk_through_every_step(
    rows: list[tuple[int, int, int]], seed: int, servers: int, sequences: int, tokens: int, block: int, spare: int,
    prefill_first: bool, reserves: bool, concurrency: int | None, cached: int, central: bool,
    few: int, drafts: int, return_s: float, spacing_s: float, ahead: bool, margin: int,
) -> None:  # fmt: skip
    numbers = np.random.default_rng(seed)
    asked = sorted((0.01 * at + 1e-4 * numbers.random(), prompt, output) for at, prompt, output in rows)
    if concurrency is not None:
        concurrency = min(concurrency, len(asked))
        between = spacing_s if return_s > 0.0 else 0.0
        times = [between * i if i < concurrency else math.inf for i in range(len(asked))]
        asked = [(at, prompt, output) for at, (_, prompt, output) in zip(times, asked, strict=True)]
    blocks = -(-(max(prompt + output for _, prompt, output in asked) + spare) // block)
    if central and concurrency is not None:  # replicas in step end at the same time, and either may come first
        blocks += 10_000
    chosen = limits(
        sequences=sequences,
        tokens=tokens,
        block=block,
        blocks=blocks,
        prefill_first=prefill_first,
        reserves=reserves,
        router=CENTRAL if central else 1,
        few=few,
        return_s=return_s,
        ahead=int(ahead),
        spare=margin,
    )
    likely = 0.8 ** np.arange(1.0, drafts + 1.0)
    outcome = run(
        tables()._replace(accepted=likely), chosen, [arrivals(asked, cached)], servers, closed=concurrency is not None
    )

    requests = [Request(at, prompt, output, min(cached, prompt - 1)) for at, prompt, output in asked]
    for number, request in enumerate(requests):
        request.number = number
    plain = [
        Server(
            step_s, sequences, tokens, block, blocks, prefill_first, reserves, few, drafts,
            lambda number, left: accepted_drafts(likely, 0, number, left), ahead=ahead, margin=margin,
        )
        for _ in range(servers)
    ]  # fmt: skip
    end = walk(plain, requests, concurrency, central, return_s)
    tally = outcome.tally
    assert tally.totals[counted.DONE] == len(requests)
    assert not (reserves and tally.totals[counted.PREEMPTED])
    assert tally.totals[counted.PREEMPTED] == sum(server.preemptions for server in plain)
    assert tally.totals[counted.TOKENS_OUT] == sum(request.output for request in requests)
    assert outcome.end_s == pytest.approx(end, rel=1e-9)
    for metric, values in (
        (counted.TTFT, [each.first - each.arrival for each in requests if each.first is not None]),
        (counted.WAITING, [each.started - each.arrival for each in requests if each.started is not None]),
        (counted.END_TO_END, [each.done - each.arrival for each in requests if each.done is not None]),
    ):
        assert tally.counts[metric].sum() == len(values)
        assert tally.sums[metric].sum() == pytest.approx(sum(values), rel=1e-8, abs=1e-9)


def test_the_better_of_two_is_of_two_different_ones() -> None:
    """With two replicas both are drawn, so that whoever comes second goes to the idle one and does not wait."""
    rows = [(10.0 * i + at, 100, 20) for i in range(20) for at in (0.0, 0.001)]
    alone = run(tables(), limits(router=2, sequences=1), [arrivals(rows[:1])], 2).tally
    outcome = run(tables(), limits(router=2, sequences=1), [arrivals(rows)], 2)
    mean = alone.sums[counted.END_TO_END].sum()
    assert outcome.tally.sums[counted.END_TO_END].sum() == pytest.approx(40 * mean, rel=1e-9)


@examples(60)
@given(rows=REQUESTS, servers=st.integers(1, 4), router=st.integers(0, 4), seed=st.integers(0, 99))
def test_nothing_is_lost(rows: list[tuple[int, int, int]], servers: int, router: int, seed: int) -> None:
    """Requests and tokens are conserved, the cache is free again, and Little's law holds: N = rate x time in system."""
    asked = sorted((0.01 * at, prompt, output) for at, prompt, output in rows)
    outcome = run(tables(), limits(blocks=30, router=router), [arrivals(asked)], servers, seed=seed)
    tally, fleet = outcome.tally, outcome.fleet
    totals = tally.totals
    assert totals[counted.ARRIVED] == len(asked) == totals[counted.DONE] + totals[counted.REFUSED]
    kept = [(prompt, output) for _, prompt, output in asked if -(-(prompt + output) // 16) <= 30]
    assert totals[counted.TOKENS_IN] == sum(prompt for prompt, _ in kept)
    assert totals[counted.TOKENS_OUT] == sum(output for _, output in kept)
    assert (fleet.counts[:, FREE] == 30).all()
    assert not fleet.counts[:, [OWED, OWED_TOKENS, DECODING, FILLING, QUEUED, CONTEXT, COMMITTED]].any()
    assert not fleet.residues.any()
    assert tally.area[0] == pytest.approx(tally.sums[counted.END_TO_END].sum(), rel=1e-12)
    assert (fleet.clock[:, BUSY_S] <= outcome.end_s * (1 + 1e-12)).all()


@pytest.mark.slow
def test_pieces_of_a_trace_are_one_trace() -> None:
    numbers = np.random.default_rng(1)
    rows = [(0.02 * i, int(numbers.integers(1, 500)), int(numbers.integers(1, 60))) for i in range(200)]
    whole = run(tables(), limits(), [arrivals(rows)], 2)
    pieces = run(tables(), limits(), [arrivals(rows[i : i + 7]) for i in range(0, len(rows), 7)], 2)
    assert whole.end_s == pieces.end_s
    assert (whole.tally.histograms == pieces.tally.histograms).all()
    again = run(tables(), limits(), [arrivals(rows)], 2)
    assert (whole.tally.sums == again.tally.sums).all()


@pytest.mark.parametrize("requests", [20, *slow(3_000)])
def test_a_brief_run_counts_the_same_latencies(requests: int) -> None:
    """Without time lines, and without parts of the run, which are joined on the way in the longer one."""
    numbers = np.random.default_rng(2)
    times = np.cumsum(numbers.exponential(0.02, requests))
    rows = [(at, int(numbers.integers(1, 500)), int(numbers.integers(1, 60))) for at in times]
    whole, brief = (run(tables(), limits(), [arrivals(rows)], 2, is_brief=each) for each in (False, True))
    assert not brief.tally.lines.any()
    assert (whole.tally.histograms.sum(axis=1) == brief.tally.histograms[:, 0]).all()
    assert brief.tally.histograms[:, 1:].sum() == 0
    assert (
        np.delete(whole.tally.totals, counted.PART_SIZE).tolist()
        == np.delete(brief.tally.totals, counted.PART_SIZE).tolist()
    )
    assert (whole.fleet.clock == brief.fleet.clock).all()
    assert (whole.tally.area == brief.tally.area).all()


RANDOM_RUN = """
import numpy as np, sys
from tests.batching import arrivals, limits, tables
from flashstill.simulate.drafting import accepted_drafts
from flashstill.simulate.engine import run
numbers = np.random.default_rng(9)
times = np.cumsum(numbers.exponential(0.02, 4000))
rows = [(at, int(numbers.integers(1, 700)), int(numbers.integers(1, 90))) for at in times]
for prefill_first, ahead in ((False, 0), (True, 1), (False, 1)):
    asked = limits(blocks=120, router=2, prefill_first=prefill_first, ahead=ahead)
    outcome = run(tables(), asked, [arrivals(rows)], 3)
    tally = outcome.tally
    print(repr(outcome.end_s), tally.totals.tolist(), tally.histograms.sum(axis=(1, 2)))
    print([repr(each) for each in tally.sums.ravel()])
"""


@pytest.mark.slow
def test_the_compiled_loop_is_the_plain_one() -> None:
    """Event for event: the same sums to the last digit, where Numba is installed."""
    pytest.importorskip("numba")
    printed = []
    for plain in ("0", "1"):
        variables = {**os.environ, "NUMBA_DISABLE_JIT": plain}
        done = subprocess.run(
            [sys.executable, "-c", RANDOM_RUN], env=variables, capture_output=True, text=True, check=True
        )
        printed.append(done.stdout)
    assert printed[0] == printed[1]
    assert len(printed[0].splitlines()) >= 2


@pytest.mark.slow
def test_more_requests_than_the_pool_first_holds() -> None:
    outcome = run(tables(), limits(), [arrivals([(0.0, 10, 2)] * 5_000)], 1)
    assert outcome.tally.totals[counted.DONE] == 5_000


def test_a_percentile_has_its_interval_or_none() -> None:
    """Of 71 requests the 99th percentile's upper end is not known; of many it is within a bin of the exact one."""
    few = latencies(run(tables(), limits(), [arrivals([(float(i), 50, 5) for i in range(71)])], 1).tally)["ttft_s"]
    assert few.percentiles[99][2] is None
    numbers = np.random.default_rng(3)
    service = numbers.exponential(0.05, 1_500)
    outcome = served_one_by_one(service, np.full(1_500, 10.0))
    exact = np.maximum(np.round(service / 1e-4), 1) * 1e-4
    for at, (value, low, high) in latencies(outcome.tally)["ttft_s"].percentiles.items():
        assert value == pytest.approx(float(np.quantile(exact, at / 100.0)), rel=0.011)
        assert low is not None
        assert high is not None
        assert low < value < high


class TestCommand:
    ASKED = ("simulate", "--model", "qwen3-8b", "--chip", "h100-sxm", "--osl", "20", "--requests", "60")

    @pytest.mark.slow
    def test_json(self, cli: Cli) -> None:
        """The whole answer as one document; a slow prefill counts for goodput, and the same seed gives the same."""
        one, two = (json.loads(cli(*self.ASKED, "--rate", "5", "--max-ttft", "1s", "--json").stdout) for _ in range(2))
        assert one == two
        assert one["finished"] == one["requests"] == 60
        assert one["output_tokens"] == 60 * 20
        assert one["input_tokens"] == 60 * 1024
        assert one["goodput_ratio"] == 1.0
        ttft = one["latencies"]["ttft_s"]
        assert ttft["n"] == 60
        assert ttft["p50"]["value"] <= ttft["p99"]["value"]
        assert ttft["p99"]["high"] is None
        assert one["deployment"]["engine"] == "vllm"

    def test_from_python(self, tmp_path: Path) -> None:
        """The same figures as flat rows and as a table; a keyword that is unknown is refused with its neighbour."""
        import flashstill as fs

        asked: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm", "rate": 5.0, "requests": 40, "osl": 10}
        found = fs.simulate(**asked, replicas=2, router="round-robin")
        assert found.finished == 40
        rows = {row["latency"]: row for row in found.as_records()}
        assert rows["ttft_s"]["p50"] == found.latencies["ttft_s"].percentiles[50][0]
        assert "<table" in found._repr_html_()
        with pytest.raises(fs.BadInput, match="unknown keyword of simulate 'replica'; the nearest known: replicas"):
            fs.simulate(**asked, replica=2)
        path = tmp_path / "trace.csv"
        path.write_text("arrival_s,input_tokens,output_tokens\n0,100,5\n1,50,1\n", encoding="utf-8")
        assert fs.simulate(model="qwen3-8b", chip="h100-sxm", trace=path).output_tokens == 6

    @pytest.mark.slow
    def test_the_closed_form_is_near(self, cli: Cli) -> None:
        """A closed loop at the same mean lengths: time per token within a tenth of what `predict` says."""
        asked = (*self.ASKED[1:5], "--concurrency", "8", "--json")
        drawn = ("--isl", "1024", "--osl", "256", "--least-ratio", "0.5", "--requests", "300")
        loop = json.loads(cli("simulate", *asked, *drawn).stdout)
        form = json.loads(cli("predict", *asked, "--isl", "768", "--osl", "192", "--burst-share", "0").stdout)
        assert loop["latencies"]["tpot_s"]["mean_s"] == pytest.approx(form["tpot_s"], rel=0.1)
        assert loop["output_tokens_per_s"] == pytest.approx(form["output_tokens_per_s"], rel=0.1)

    @pytest.mark.parametrize(
        ("flags", "sentence"),
        [
            ((), "give one of trace, rate, concurrency, daily and agents, not none of them"),
            (
                ("--rate", "1", "--concurrency", "2"),
                "give one of trace, rate, concurrency, daily and agents, not rate and concurrency",
            ),
            (("--rate", "-1"), "rate must lie between 1e-09 and 1e+09, not -1"),
            (("--rate", "1", "--cv", "1e300"), "cv must lie between 0.001 and 1000, not 1e+300"),
            (("--rate", "1", "--scheduler", "chunkd"), "unknown scheduler 'chunkd'; the nearest known: chunked"),
            (("--rate", "1", "--router", "robin"), "unknown router 'robin'"),
            (("--rate", "1", "--replicas", "0"), "replicas must be at least 1, not 0"),
            (
                ("--rate", "1", "--daily", "x.csv"),
                "give one of trace, rate, concurrency, daily and agents, not rate and daily",
            ),
            (("--concurrency", "100"), "60 requests cannot keep 100 in flight; give more requests"),
        ],
    )
    def test_mistakes(self, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], sentence: str) -> None:
        assert sentence in refuse(capsys, *self.ASKED, *flags)

    @pytest.mark.parametrize("flags", [("--step-tokens", "1", "--sequences", "1"), ("--block-tokens", "1")])
    def test_the_smallest_settings(self, flags: tuple[str, ...]) -> None:
        import flashstill as fs

        asked: dict[str, Any] = {
            "model": "qwen3-8b",
            "chip": "tpu-v5e",
            "rate": 1.0,
            "requests": 5,
            "isl": 30,
            "osl": 3,
        }
        for flag, value in zip(flags[::2], flags[1::2], strict=True):
            asked[flag.removeprefix("--").replace("-", "_")] = int(value)
        found = fs.simulate(**asked)
        assert (found.finished, found.output_tokens) == (5, 15)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "is empty; a line for each request is expected"),
            ("arrival,input_tokens,output_tokens\n", "has no column 'arrival_s'; is it 'arrival'?"),
            ("arrival_s,input_tokens,output_tokens\n", "holds no requests"),
            ("arrival_s,input_tokens,output_tokens\n1,5,5\n-2,5,5\n", "line 3: arrival_s is '-2', not a time"),
            ("arrival_s,input_tokens,output_tokens\nnan,5,5\n", "line 2: arrival_s is 'nan', not a time"),
            (
                "arrival_s,input_tokens,output_tokens\n1,0,5\n",
                "line 2: input_tokens is '0', not a whole number of at least 1",
            ),
            ("arrival_s,input_tokens,output_tokens\n1,5,2.5\n", "line 2: output_tokens is '2.5', not a whole number"),
            ("arrival_s,input_tokens,output_tokens\n2,5,5\n1,5,5\n", "line 3: arrives before the request above it"),
            ("arrival_s,input_tokens,output_tokens\n2,5\n", "line 2: 2 of 3 columns"),
            ("arrival_s," + ",".join("abc" for _ in range(1000)), "has 1,001 columns"),
        ],
    )
    def test_bad_traces_name_the_line(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, sentence: str
    ) -> None:
        path = tmp_path / "trace.csv"
        path.write_text(text, encoding="utf-8")
        assert sentence in refuse(capsys, *self.ASKED, "--trace", path)

    @pytest.mark.slow
    def test_a_request_larger_than_the_cache_is_refused_and_counted(self, cli: Cli, tmp_path: Path) -> None:
        path = tmp_path / "trace.csv"
        path.write_text("arrival_s,input_tokens,output_tokens\n0,100,5\n1,40000,5\n2,100,5\n", encoding="utf-8")
        done = cli(*self.ASKED, "--chip", "l4", "--trace", str(path), "--json")
        answer = json.loads(done.stdout)
        assert (answer["finished"], answer["refused"]) == (2, 1)
        assert answer["cache_tokens"] < 40000, "it is within the model's context"

    @pytest.mark.slow
    def test_more_than_the_replicas_can_serve_is_said(self, cli: Cli) -> None:
        done = cli(*self.ASKED[:5], "--osl", "200", "--requests", "900", "--rate", "2000", "--sequences", "4")
        assert "not steady: waiting grows" in done.stderr


@pytest.mark.parametrize("kind", ["spread", "one value", "two kinds", "few", "short ones"])
def test_a_percentile_is_within_a_bin_of_the_value_of_its_rank(kind: str) -> None:
    """Bins are 1 % wide, as the documentation says, for any latencies from a microsecond to two weeks."""
    numbers = np.random.default_rng(7)
    seconds = {
        "spread": np.exp(numbers.uniform(np.log(2e-6), np.log(1e6), 997)), "one value": np.full(50, 0.0421),
        "two kinds": np.repeat([0.02, 3.0], 40), "few": numbers.exponential(0.1, 3),
        "short ones": np.concatenate([np.full(30, 1e-9), numbers.exponential(1e-3, 30)]),
    }[kind]  # fmt: skip
    tally = counted.new_tally()
    for value in seconds:
        counted.note(tally, counted.TTFT, 0, float(value), 1)
    values = np.sort(seconds)
    for share in (0.01, 0.333, 0.5, 0.9, 0.95, 0.99, 1.0):
        ranked = float(values[max(int(np.ceil(share * len(values) - 1e-9)), 1) - 1])
        found = value_at(tally, counted.TTFT, share)
        assert found == 0.0 if ranked <= counted.LEAST_S else abs(np.log(found / ranked)) <= counted.BIN * (1.0 + 1e-9)
    assert float(tally.sums[counted.TTFT].sum()) == pytest.approx(float(seconds.sum()), rel=1e-12)
