"""Conversations of a trace whose turns wait for each other: against a plain second implementation, and by hand."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import flashstill as fs
from flashstill.simulate import sessions
from flashstill.simulate import tally as counted
from flashstill.simulate import turns as turns_read
from flashstill.simulate.engine import run
from flashstill.simulate.selection import WithinContext
from flashstill.simulate.sessions import sessions_of
from flashstill.simulate.state import FREE, IDLE, REFERENCES
from flashstill.simulate.texts import Text, Texts
from flashstill.simulate.traffic import REPLAYS, Traffic
from flashstill.traces.reader import Trace
from tests.batching import limits, step_s, tables
from tests.commands import refuse
from tests.marks import examples
from tests.plain_batching import Request, Server, walk

Turns = list[tuple[float, int, int, str, float | None]]
"""arrival, prompt, answer, conversation and seconds of the answer of each request, in order of arrival"""


def written(path: Path, turns: Turns) -> Path:
    tells = any(answer is not None for *_, answer in turns)
    lines = ["arrival_s,input_tokens,output_tokens,session_id" + ",answer_s" * tells]
    for at, prompt, output, name, answer in turns:
        lines.append(f"{at!r},{prompt},{output},{name}" + ("," + ("" if answer is None else repr(answer))) * tells)
    path.write_text("\n".join(lines) + "\n")
    return path


class Plain:
    """All turns in memory, with the names of all tokens of their conversations."""

    def __init__(self, turns: Turns, replay: str, unit: int, return_s: float) -> None:
        self.replay, self.unit, self.return_s, self.tokens = replay, unit, return_s, 10**6
        self.names: dict[tuple[int, tuple[int, ...]], int] = {}
        self.text: dict[str, list[int]] = {}
        self.later: dict[int, tuple[Request, float, float]] = {}
        self.number: dict[int, int] = {}
        self.first: list[Request] = []
        self.late = self.turns = 0
        before: dict[str, tuple[Request, float]] = {}
        for at, prompt, output, name, answer in turns:
            request = Request(at, prompt, output, keys=self._keys(name, prompt, output), number=len(self.number))
            self.number[id(request)] = request.number
            if name in before:
                earlier, end = before[name]
                self.later[id(earlier)] = request, at, max(at - end, 0.0)
            else:
                self.first.append(request)
            before[name] = request, at if answer is None else at + answer

    def _keys(self, name: str, prompt: int, output: int) -> tuple[int, ...]:
        old = self.text.get(name, [])
        kept = old if len(old) <= prompt else []
        whole = [*kept, *range(self.tokens, self.tokens + prompt + output - len(kept))]
        self.tokens += prompt + output
        self.text[name] = whole
        keys, key = [], -1
        for at in range(len(whole) // self.unit if self.unit else 0):
            block = (key, tuple(whole[at * self.unit : (at + 1) * self.unit]))
            key = self.names.setdefault(block, len(self.names))
            keys.append(key)
        return tuple(keys)

    def follow(self, done: list[Request], now: float) -> list[Request]:
        found = []
        for each in sorted(done, key=lambda each: each.arrival):
            if id(each) in self.later:
                request, published, think = self.later.pop(id(each))
                soonest = now + self.return_s
                request.arrival = max(published, soonest) if self.replay == "in-order" else soonest + think
                self.turns += 1
                self.late += request.arrival > published + 1e-6
                found.append(request)
        return sorted(found, key=lambda each: each.arrival)


@st.composite
def conversations(draw: st.DrawFn) -> Turns:
    tells, digits, at, turns = draw(st.booleans()), draw(st.sampled_from([1, 9])), 0.0, []
    for number in range(draw(st.integers(1, 40))):
        at += draw(st.floats(1e-4, 0.4)) + number * 1e-6
        answer = draw(st.floats(0.0, 2.0)) if tells and draw(st.booleans()) else None
        name = f"c{draw(st.integers(0, 8))}"
        turns.append((round(at, digits), draw(st.integers(1, 300)), draw(st.integers(1, 25)), name, answer))
    return turns


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=conversations(), replay=st.sampled_from(REPLAYS[1:]), servers=st.integers(1, 3),
    sequences=st.integers(1, 8), tokens=st.integers(1, 200), ratio=st.sampled_from([0, 1, 2]),
    spare=st.integers(0, 400), return_s=st.sampled_from([0.00013, 0.003]), prefill_first=st.booleans(),
    batch=st.sampled_from([1, 2, 64]), ahead=st.booleans(),
)  # fmt: skip
def test_it_agrees_with_a_plain_walk(
    tmp_path_factory: pytest.TempPathFactory, turns: Turns, replay: str, servers: int, sequences: int, tokens: int,
    ratio: int, spare: int, return_s: float, prefill_first: bool, batch: int, ahead: bool,
) -> None:  # fmt: skip
    """Requests, tokens, hits, evictions, the end and the late turns; nothing is left in any cache."""
    path = written(tmp_path_factory.mktemp("trace") / "trace.csv", turns)
    block, unit = 4, 4 * ratio
    blocks = -(-(max(prompt + output for _, prompt, output, *_ in turns) + spare) // block)
    chosen = limits(sequences=sequences, tokens=tokens, block=block, blocks=blocks, prefill_first=prefill_first)
    chosen = chosen._replace(unit=unit, unit_blocks=ratio, return_s=return_s, ahead=int(ahead))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "BATCH", batch)
        replayed = sessions_of(Traffic(trace=path, replay=replay), chosen, None)
        outcome = run(tables(), chosen, (), servers, followers=replayed)
    plain = Plain(turns, replay, unit, return_s)
    replicas = [
        Server(step_s, sequences, tokens, block, blocks, prefill_first, unit=unit, ahead=ahead) for _ in range(servers)
    ]
    end = walk(replicas, plain.first, follow=plain.follow)
    totals = outcome.tally.totals
    assert totals[counted.ARRIVED] == totals[counted.DONE] == len(turns)
    assert totals[counted.TOKENS_IN] == sum(prompt for _, prompt, *_ in turns)
    assert totals[counted.TOKENS_OUT] == sum(output for _, _, output, *_ in turns)
    assert (replayed.replayed.turns, replayed.replayed.late) == (plain.turns, plain.late)
    assert outcome.end_s == pytest.approx(end, rel=1e-9)
    assert totals[counted.CACHED_IN] == sum(server.hits for server in replicas)
    assert totals[counted.EVICTED] == sum(server.evictions for server in replicas)
    assert totals[counted.PREEMPTED] == sum(server.preemptions for server in replicas)
    assert (outcome.fleet.counts[:, FREE] == blocks).all()
    assert not outcome.fleet.prefix[:, REFERENCES].any()
    assert (outcome.fleet.counts[:, IDLE] == [len(server.idle) for server in replicas]).all()
    in_system = sum(outcome.tally.sums[counted.END_TO_END])  # Little's law: no request waits outside of it
    assert outcome.tally.area[0] == pytest.approx(in_system, rel=1e-9)


ASKED: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm", "block_tokens": 16}
TALK: Turns = [
    (0.0, 100, 50, "a", 0.5),
    (0.25, 100, 50, "b", None),
    (1.0, 200, 50, "a", 0.5),
    (9.0, 260, 50, "a", None),
]


def test_think_times_follow_the_answers(tmp_path: Path) -> None:
    """Turn 2 comes half a second after an answer that took half a second then; turn 3 comes 7.5 s after its own."""
    path = written(tmp_path / "trace.csv", TALK)
    one = written(tmp_path / "one.csv", TALK[:1])
    runs = {replay: fs.simulate(**ASKED, trace=path, replay=replay, prefix_cache="off") for replay in REPLAYS}
    each_s = fs.simulate(**ASKED, trace=one).seconds
    assert 0.2 < each_s < 0.6
    assert 9.0 < runs["open-loop"].seconds == runs["in-order"].seconds < 9.0 + 1.3 * each_s
    assert runs["closed-loop"].seconds == pytest.approx(3 * each_s + 0.5 + 7.5 + 2 * 0.003, rel=0.02)
    assert runs["open-loop"].replayed is None
    late = runs["closed-loop"].replayed
    assert late is not None
    assert (late.replay, late.turns, late.unknown) == ("closed-loop", 2, 0)
    assert late.late == (2 if each_s > 0.497 else 0)
    quick = fs.simulate(**ASKED, trace=path, replay="in-order", speed=4.0).replayed
    assert quick is not None
    assert (quick.turns, quick.late) == (2, 1), "at four times its speed the second turn has to wait"


def test_a_turn_begins_with_what_was_said(tmp_path: Path) -> None:
    """Whole blocks of the prompt and answer before it are found; a shorter prompt shares nothing with them."""
    turns: Turns = [(0.0, 100, 60, "a", None), (9.0, 200, 50, "a", None), (20.0, 240, 5, "a", None)]
    path = written(tmp_path / "trace.csv", turns)
    answer = fs.simulate(**ASKED, trace=path, replay="in-order")
    assert answer.cached_tokens == 159 // 16 * 16, "the last token of an answer has no cache; 240 < 250 tokens"
    assert fs.simulate(**ASKED, trace=path).cached_tokens == 0
    assert fs.simulate(**ASKED, trace=path, replay="in-order", prefix_cache="off").cached_tokens == 0


def chats(path: Path, rows: list[tuple[int, int, float, int]]) -> Path:
    """A Qwen-Bailian trace: name, name of the one before, seconds, tokens of the prompt, which are all shared."""
    lines = [
        json.dumps(
            {"chat_id": name, "parent_chat_id": before, "timestamp": at, "input_length": prompt, "output_length": 40,
             "turn": 1, "type": "text", "hash_ids": list(range(prompt // 16))}
        )
        for name, before, at, prompt in rows
    ]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_tree_of_chats(tmp_path: Path) -> None:
    """Two turns go on with the same one, and one with a request that is not there; blocks are those of the trace."""
    path = chats(
        tmp_path / "chats.jsonl", [(1, -1, 0.0, 160), (2, 1, 0.01, 320), (3, 1, 0.02, 320), (4, 77, 0.03, 160)]
    )
    answer = fs.simulate(**ASKED, trace=path, replay="in-order")
    turns = answer.replayed
    assert turns is not None
    assert (turns.turns, turns.late, turns.unknown) == (2, 2, 1)
    assert answer.cached_tokens >= 2 * 160
    assert any("1 turns go on with a request that is not in" in note for note in answer.notes)
    closed = fs.simulate(**ASKED, trace=path, replay="closed-loop")
    assert any("does not tell when answers ended" in note for note in closed.notes)
    assert closed.seconds == pytest.approx(answer.seconds + 0.02, abs=0.02)
    assert not any("go on with an earlier one" in note for note in closed.notes)


def test_a_refused_request_counts_as_answered(tmp_path: Path) -> None:
    turns: Turns = [(0.0, 10, 5, "a", None), (0.0, 500, 5, "b", None), (0.1, 10, 5, "b", None), (0.2, 10, 5, "b", None)]
    chosen = limits(block=4, blocks=50, return_s=0.003)
    replayed = sessions_of(
        Traffic(trace=written(tmp_path / "trace.csv", turns), replay="closed-loop"), chosen, None
    )  # fmt: skip
    outcome = run(tables(), chosen, (), followers=replayed)
    assert outcome.tally.totals[counted.REFUSED] == 1
    assert outcome.tally.totals[counted.DONE] == 3
    assert replayed.replayed.turns == 2


def test_turns_beyond_the_models_context_are_left_out(tmp_path: Path) -> None:
    """A turn after one that is left out follows the one before that."""
    turns: Turns = [(0.0, 10, 300, "a", None), (0.1, 50_000, 5, "a", None), (0.2, 20, 5, "a", None)]
    answer = fs.simulate(**ASKED, trace=written(tmp_path / "trace.csv", turns), replay="in-order")
    assert answer.requests == answer.finished == 2
    assert answer.replayed is not None
    assert (answer.replayed.turns, answer.replayed.late, answer.replayed.unknown) == (1, 1, 0)
    assert any("1 of 3 requests are longer than the model's context" in note for note in answer.notes)
    with pytest.raises(fs.BadInput, match=r"beyond the 40960 tokens|every request is longer than"):
        fs.simulate(**ASKED, trace=written(tmp_path / "long.csv", turns[1:2]), replay="in-order")


def test_formats_with_conversations(tmp_path: Path) -> None:
    aiperf = {"metadata": {"request_start_ns": 10**18, "request_end_ns": 10**18 + 2 * 10**9, "x_correlation_id": "u"},
              "metrics": {"input_sequence_length": {"value": 5}, "output_sequence_length": {"value": 8}}}  # fmt: skip
    burst = (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "0.5,u,2,GPT-4,100,10,110,Conversation log\n"
    )
    mooncake = {"timestamp": 5, "session_id": "u", "input_length": 512, "output_length": 2, "hash_ids": [1]}
    own = "ts,p,c,who\n1,5,6,u\n"
    said = {"trace_columns": "time=ts,input=p,output=c,session=who", "time_unit": "s"}
    for number, (text, more, answer_s) in enumerate(
        [(json.dumps(aiperf), {}, 2.0), (burst, {}, 2.0), (json.dumps(mooncake), {}, math.nan), (own, said, math.nan)]
    ):
        path = tmp_path / f"{number}.{'jsonl' if text.startswith('{') else 'csv'}"
        path.write_text(text)
        trace = Trace(path, fs_reading(more), with_turns=True)
        ((_, row),) = trace.rows()
        assert row.turn is not None
        assert row.turn[:2] == ("u", "u")
        assert row.turn.answer_s == pytest.approx(answer_s, nan_ok=True)
        assert trace.tells_answers is not math.isnan(answer_s)


def fs_reading(said: dict[str, Any]) -> Any:
    from flashstill.traces.reading import Reading

    return Reading(**said)


def test_memory_is_that_of_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of requests that have left only the last ones are remembered, whatever the length of the trace."""
    monkeypatch.setattr(turns_read, "REMEMBERED", 20)
    monkeypatch.setattr(sessions, "BATCH", 8)
    turns: Turns = [(float(at), 20, 2, f"c{at // 3}", None) for at in range(240)]
    path, chosen = written(tmp_path / "trace.csv", turns), limits(return_s=0.003)
    replayed, held = sessions_of(Traffic(trace=path, replay="in-order"), chosen, None), []
    leave = replayed.leave

    def counted_leave(*given: Any) -> bool:
        read = replayed._read
        held.append(len(read._known) + len(read._left) + len(replayed._coming) + len(replayed._running))
        return leave(*given)

    monkeypatch.setattr(replayed, "leave", counted_leave)
    run(tables(), chosen, (), followers=replayed)
    assert replayed.replayed.turns == 160
    assert max(held) <= 2 * 20 + 4 * 8


def test_turns_that_are_too_long_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of one that the model does not take stands for the turn before it, and goes when that goes."""
    monkeypatch.setattr(turns_read, "REMEMBERED", 4)
    rows = [
        {"chat_id": at, "parent_chat_id": at - 1 if at % 10 else -1, "timestamp": float(at), "hash_ids": [],
         "input_length": 20 if at % 10 in (0, 9) else 10**6, "output_length": 2}
        for at in range(200)
    ]  # fmt: skip
    path, chosen = tmp_path / "trace.jsonl", limits(return_s=0.003)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    traffic = Traffic(trace=path, replay="in-order", reading=fs_reading({"hash_block": 16}))
    replayed = sessions_of(traffic, chosen, None, WithinContext(1000))
    run(tables(), chosen, (), followers=replayed)
    assert (replayed.replayed.turns, replayed.replayed.unknown) == (20, 0)
    assert len(replayed._read._known) <= 4 * 10


def test_texts_of_branches_take_what_they_add() -> None:
    """Of two turns after the same one the second has a text of its own from there on, however many there were."""
    texts = Texts(1)
    stem = [texts.goes_on(None, 2, 1)]
    for _ in range(3000):
        texts.goes_on(stem[-1], stem[-1].tokens, 1)
        stem.append(texts.goes_on(stem[-1], stem[-1].tokens, 1))
    names = [texts.names(each) for each in (stem[1], stem[2999], stem[3000])]
    assert len(names[2]) == 3003
    assert (names[2][:3002] == names[1]).all()
    assert (names[1][:4] == names[0]).all()
    assert len(set(names[2].tolist())) == 3003
    held = {id(each) for each in stem}
    part: Text | None = stem[3000]
    while part is not None:
        held.add(id(part))
        part = part.before
    assert len(held) == 3001, "no copies of the parts before"


@pytest.mark.parametrize(("replay", "answer_s", "why"), [
    ("in-order", None, "while they wait for those before them; replay a part of it"),
    ("closed-loop", 0.5, "with the ends of their answers; replay it in-order, or a part of it"),
])  # fmt: skip
def test_requests_that_wait_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replay: str, answer_s: float | None, why: str
) -> None:
    """All turns of one long conversation wait for the first; as many as are allowed pass."""
    turns: Turns = [(float(at), 20, 2, "a", answer_s) for at in range(9)]
    path, chosen = written(tmp_path / "trace.csv", turns), limits(return_s=0.003)
    monkeypatch.setattr(sessions, "MOST_HELD", 9)
    run(tables(), chosen, (), followers=sessions_of(Traffic(trace=path, replay=replay), chosen, None))
    monkeypatch.setattr(sessions, "MOST_HELD", 8)
    with pytest.raises(fs.BadInput, match=f"over 8 requests that would be in memory at a time, {why}"):
        run(tables(), chosen, (), followers=sessions_of(Traffic(trace=path, replay=replay), chosen, None))


RANDOM_RUN = """
import sys
import flashstill as fs
for replay in ("in-order", "closed-loop"):
    print(fs.simulate(model="qwen3-8b", chip="l40s", trace=sys.argv[1], replay=replay, speed=20.0).as_dict())
"""


@pytest.mark.slow
def test_the_compiled_loop_is_the_plain_one(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    turns: Turns = [
        (at * 0.37, 40 + at * 7919 % 900, 1 + at * 31 % 60, f"c{at * 13 % 40}", at % 5 / 4) for at in range(400)
    ]
    path, printed = written(tmp_path / "trace.csv", turns), []
    for plain in ("0", "1"):
        variables = {**os.environ, "NUMBA_DISABLE_JIT": plain}
        command = [sys.executable, "-c", RANDOM_RUN, str(path)]
        printed.append(subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout)
    assert printed[0] == printed[1]
    assert "'late': 0," not in printed[0]


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
BAD_END = "arrival_s,input_tokens,output_tokens,session_id,answer_s\n0,5,1,a,-3\n"


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (AZURE, ("--replay", "closed-loop"), "can only be replayed as an open loop: Azure 2023 and 2024 has no"),
        (
            "arrival_s,input_tokens,output_tokens\n0,5,1\n",
            ("--replay", "in-order"),
            "it has no column 'session_id', which says which requests belong together",
        ),
        (BAD_END, ("--replay", "in-order"), "line 2: answer_s is '-3', not when an answer was complete"),
        (BAD_END, ("--replay", "closed"), "unknown replay of a trace 'closed'; the nearest known: closed-loop"),
        (BAD_END, ("--replay", "in-order", "--knee"), "the knee is that of an open loop"),
    ],
)  # fmt: skip
def test_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, options: tuple[str, ...], sentence: str
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    asked = ("simulate", "--model", "qwen3-8b", "--chip", "h100-sxm", "--trace", path)
    assert sentence in refuse(capsys, *asked, *options)


def test_replay_is_of_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("simulate", "--model", "qwen3-8b", "--chip", "h100-sxm", "--rate", "1", "--replay", "in-order")
    assert "replay has no effect with rate; it is of trace" in refuse(capsys, *asked)
