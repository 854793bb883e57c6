"""Agents in the simulation: against a plain second implementation with every token of every transcript, and by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashstill as fs
from flashstill.simulate import tally as counted
from flashstill.simulate.agents import agents_of, think_s, turn_lengths
from flashstill.simulate.engine import run
from flashstill.simulate.state import FREE, IDLE, REFERENCES
from flashstill.simulate.traffic import Traffic
from tests.batching import limits, step_s, tables
from tests.commands import refuse
from tests.marks import examples, slow
from tests.plain_batching import Request, Server, walk


class Transcripts:
    """Agents with the names of all tokens that they have seen; keys are names of whole prefixes."""

    def __init__(self, traffic: Traffic, seed: int, unit: int, return_s: float) -> None:
        self.traffic, self.seed, self.unit, self.return_s = traffic, seed, unit, return_s
        self.names: dict[tuple[int, tuple[int, ...]], int] = {}
        self.tokens = 10**6
        self.text = [list(range(traffic.shared_prefix)) for _ in range(traffic.agents or 0)]
        self.turn = [0] * len(self.text)
        self.open: dict[int, list[tuple[Request, list[int]]]] = {}
        self.agent: dict[int, int] = {}
        self.prompts = self.all = 0

    def ask(self, agent: int, now: float) -> list[Request]:
        own = turn_lengths(self.traffic, self.seed, agent, self.turn[agent])
        self.open[agent] = []
        for prompt, output in own.T.tolist():
            new = list(range(self.tokens, self.tokens + prompt + output))
            self.tokens += prompt + output
            whole = self.text[agent] + new
            keys, before = [], -1
            for at in range(len(whole) // self.unit if self.unit else 0):
                block = (before, tuple(whole[at * self.unit : (at + 1) * self.unit]))
                before = self.names.setdefault(block, len(self.names))
                keys.append(before)
            request = Request(now, len(whole) - output, output, keys=tuple(keys))
            self.open[agent].append((request, new))
            self.agent[id(request)] = agent
            self.prompts += len(whole) - output
            self.all += 1
        return [request for request, _ in self.open[agent]]

    def first(self) -> list[Request]:
        at = [(think_s(self.traffic, self.seed, agent, 0), agent) for agent in range(len(self.text))]
        return [each for now, agent in sorted(at) for each in self.ask(agent, now)]

    def follow(self, done: list[Request], now: float) -> list[Request]:
        new = []
        for agent in sorted({self.agent[id(each)] for each in done}):
            if all(request.done is not None for request, _ in self.open[agent]):
                self.text[agent] += [token for _, own in self.open[agent] for token in own]
                self.turn[agent] += 1
                if self.turn[agent] < self.traffic.turns:
                    think = think_s(self.traffic, self.seed, agent, self.turn[agent])
                    new += self.ask(agent, now + self.return_s + think)
        return sorted(new, key=lambda each: each.arrival)


@examples(20)
@given(
    seed=st.integers(0, 10**6), servers=st.integers(1, 3), sequences=st.integers(1, 8), tokens=st.integers(1, 200),
    ratio=st.sampled_from([0, 1, 2]), spare=st.integers(0, 400), count=st.integers(1, 5), turns=st.integers(1, 4),
    fan_out=st.integers(1, 3), shared=st.integers(0, 40), think=st.sampled_from([0.0, 0.05, 2.0]),
    return_s=st.sampled_from([0.0, 0.003]), least=st.sampled_from([0.2, 1.0]), prefill_first=st.booleans(),
    ahead=st.booleans(),
)  # fmt: skip
@pytest.mark.slow
def test_it_agrees_with_a_plain_walk(
    seed: int, servers: int, sequences: int, tokens: int, ratio: int, spare: int, count: int, turns: int,
    fan_out: int, shared: int, think: float, return_s: float, least: float, prefill_first: bool, ahead: bool,
) -> None:  # fmt: skip
    if servers > 1:  # replicas in step with each other end at the same time, so that either may be first
        think, least = max(think, 0.05), 0.2
    traffic = Traffic(
        agents=count, turns=turns, fan_out=fan_out, shared_prefix=shared, think_s=think, isl=30, osl=20,
        least_ratio=least,
    )  # fmt: skip
    block, unit = 4, 4 * ratio
    blocks = -(-(traffic.longest_tokens + spare) // block)
    chosen = limits(sequences=sequences, tokens=tokens, block=block, blocks=blocks, prefill_first=prefill_first)
    chosen = chosen._replace(unit=unit, unit_blocks=ratio, ahead=int(ahead))
    agents = agents_of(traffic, seed, unit, return_s)
    outcome = run(tables(), chosen, (), servers, followers=agents)
    plain = [
        Server(step_s, sequences, tokens, block, blocks, prefill_first, unit=unit, ahead=ahead) for _ in range(servers)
    ]
    texts = Transcripts(traffic, seed, unit, return_s)
    end = walk(plain, texts.first(), follow=texts.follow)
    totals = outcome.tally.totals
    assert totals[counted.ARRIVED] == totals[counted.DONE] == texts.all == count * turns * fan_out
    assert totals[counted.TOKENS_IN] == texts.prompts
    assert totals[counted.CACHED_IN] == sum(server.hits for server in plain)
    assert totals[counted.EVICTED] == sum(server.evictions for server in plain)
    assert totals[counted.PREEMPTED] == sum(server.preemptions for server in plain)
    assert outcome.end_s == pytest.approx(end, rel=1e-9)
    assert (outcome.fleet.counts[:, FREE] == blocks).all()
    assert not outcome.fleet.prefix[:, REFERENCES].any()
    assert (outcome.fleet.counts[:, IDLE] == [len(server.idle) for server in plain]).all()
    assert not agents.running
    assert not agents.coming


ASKED: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm", "isl": 100, "osl": 20, "block_tokens": 16}


def test_one_agent_finds_everything_that_was_said_before() -> None:
    """Turn t finds all whole blocks of the t turns before it; the last token of an answer has no cache of its own."""
    answer = fs.simulate(**ASKED, agents=1, turns=6, shared_prefix=50)
    contexts = [50 + 120 * turn for turn in range(6)]
    assert answer.input_tokens == sum(contexts) + 6 * 100
    assert answer.cached_tokens == sum((context - 1) // 16 * 16 for context in contexts[1:])
    off = fs.simulate(**ASKED, agents=1, turns=6, shared_prefix=50, prefix_cache="off")
    assert off.cached_tokens == 0
    assert off.seconds > answer.seconds


def test_parallel_requests_share_the_context_and_join() -> None:
    """Of four at once, three find the context; the next turn computes once what the other three have said."""
    fan, one = (fs.simulate(**ASKED, agents=1, turns=2, shared_prefix=64, fan_out=each) for each in (4, 1))
    assert fan.requests == 8
    assert fan.input_tokens == 4 * (64 + 100) + 4 * (64 + 4 * 120 + 100)
    assert fan.cached_tokens == 3 * 64 + (64 + 119) // 16 * 16 + 3 * (64 + 4 * 120) // 16 * 16
    assert fan.latencies["end_to_end_s"].n == 8
    assert fan.seconds > one.seconds


@pytest.mark.slow
def test_agents_think_in_between() -> None:
    """Forty agents of five turns: the run lasts as long as the longest thinking; the same for the same seed."""
    asked = ASKED | {"agents": 40, "turns": 5, "osl": 4}
    quick, slow, again = (fs.simulate(**asked, think_s=think) for think in (0.0, 50.0, 50.0))
    assert slow.as_dict() == again.as_dict()
    assert slow.as_dict() != fs.simulate(**asked, think_s=50.0, seed=1).as_dict()
    per_agent = slow.mean_in_system * slow.seconds / 40.0
    think = [sum(think_s(slow.traffic, 0, agent, turn) for turn in range(5)) for agent in range(40)]
    assert quick.seconds < 5.0
    assert max(think) < slow.seconds < max(think) + 5 * per_agent + 1.0
    assert sum(think) / 200 == pytest.approx(50.0, rel=4.0 / math.sqrt(200))


@pytest.mark.parametrize(
    "more",
    [
        {"scheduler": "slo-aware", "refuse_late": True, "max_ttft_s": 0.02, "sequences": 4},
        *slow(
        {"chip_mtbf_s": 2.0, "repair_s": 1.0, "cold_start_s": 1.0, "replicas": 2, "retries": 0},
        {"scheduler": lambda view: fs.Decision(refuse=range(1) if view.waiting_count and view.decoding_count else ())},
        {"prefill_chips": 1, "prefill_tp": 1},
        {"autoscale": "requests", "scale_target": 4.0, "max_replicas": 4, "cold_start_s": 1.0, "scale_interval_s": 1.0},
        ),
    ],
)  # fmt: skip
def test_an_agent_goes_on_whatever_becomes_of_a_request(more: dict[str, Any]) -> None:
    answer = fs.simulate(**ASKED | {"osl": 50}, agents=30, turns=4, fan_out=2, think_s=0.2, **more)
    assert answer.requests == 240
    assert answer.finished + answer.refused_late + answer.failed == 240
    if "autoscale" not in more and "prefill_chips" not in more:
        assert answer.finished < 240


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--agents", "2", "--rate", "1"), "concurrency, daily and agents, not rate and agents"),
        (("--turns", "3", "--rate", "1"), "turns is of agents; say how many there are with agents"),
        (("--agents", "2", "--turns", "400"), "the last turn of an agent has 819,200 tokens with its answer"),
        (("--agents", "2", "--cached-ratio", "0.5"), "leave cached_ratio out"),
        (("--agents", "0"), "agents"),
        (("--agents", "3", "--knee"), "with 3 agents waiting cannot grow without bound"),
        (("--agents", "3", "--rates", "1,2"), "leave --agents out"),
        (("--agents", "3", "--think", "-1"), "think"),
    ],
)  # fmt: skip
def test_mistakes(capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str) -> None:
    assert message in refuse(capsys, "simulate", "--model", "qwen3-8b", "--chip", "h100-sxm", *options)


def test_the_first_compilation_is_told() -> None:
    """Numba announces what it compiles, after its cache has missed; of the many functions the loop is told, and one of
    those that failures call."""
    event = pytest.importorskip("numba.core.event")
    from flashstill.simulate import compiled

    def compiling(name: str, module: str) -> Any:
        function = SimpleNamespace(__name__=name, __module__=f"flashstill.simulate.{module}")
        return event.trigger_event("numba:compile", {"dispatcher": SimpleNamespace(py_func=function)})

    changes = compiled.PARTS_OF_CHANGES[0]
    lines: list[str] = []
    with (
        compiled.telling(lines.append),
        compiling("finish", "commit"),
        compiling("advance", "loop"),
        compiling("part", changes),  # of the loop
    ):
        pass
    with compiled.telling(lines.append):
        for name in ("part", "another"):
            with compiling(name, changes):
                pass
    with compiling("advance", "loop"):
        pass
    assert lines == [compiled.COMPILING, compiled.COMPILING_PARTS]
