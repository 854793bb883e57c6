"""Turns of AIPerf's multi-turn traces: a delay after the answer before them, and the tokens that they add."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flashstill as fs
from flashstill.load_test.question import LoadTest
from flashstill.load_test.written import measure_server
from flashstill.progress import Silent
from flashstill.simulate.engine import run
from flashstill.simulate.sessions import sessions_of
from flashstill.simulate.traffic import Traffic
from flashstill.traces import delays
from flashstill.traces.reader import Trace
from flashstill.traces.reading import Reading
from tests.batching import limits, tables
from tests.commands import refuse
from tests.fake_stream import FakeStream

A1 = {"session_id": "a", "timestamp": 0, "input_length": 1000, "output_length": 40, "hash_ids": [7, 8]}
A2 = {"session_id": "a", "delay": 2500.5, "input_length": 150, "output_length": 20, "hash_ids": [1]}
B1 = {"session_id": "b", "timestamp": 100, "input_length": 600, "output_length": 10, "hash_ids": [7, 9]}
A3 = {"session_id": "a", "delay": 0, "input_length": 400, "output_length": 30, "hash_ids": [2]}
ROWS = [A1, A2, B1, A3]
CHAT = [{name: value for name, value in row.items() if name != "hash_ids"} for row in ROWS]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_prompts_are_whole_or_grow_by_what_turns_add(tmp_path: Path) -> None:
    path = written(tmp_path / "trace.jsonl", CHAT)
    for lengths, expected in (("whole", [1000, 150, 600, 400]), ("added", [1000, 1190, 600, 1610])):
        trace = Trace(path, Reading(turn_lengths=lengths), with_turns=True)
        assert trace.form.name == "aiperf-turns"
        rows = [row for _, row in trace.rows()]
        assert [row.prompt for row in rows] == expected
        assert [row.arrival_s for row in rows] == [0.0, 0.0, 0.1, 0.0]
        told = [(each.turn.delay_s, each.turn.has_time) for each in rows if each.turn is not None]
        assert [has_time for _, has_time in told] == [True, False, True, False]
        assert [delay_s for delay_s, has_time in told if not has_time] == [2.5005, 0.0]


def test_blocks_are_shared_by_first_prompts_and_within_a_conversation(tmp_path: Path) -> None:
    path = written(tmp_path / "trace.jsonl", ROWS)
    trace = Trace(path, Reading(turn_lengths="added", hash_block=500), with_turns=True)
    first, second, other, third = (row.keys for _, row in trace.rows())
    assert [len(keys) for keys in (first, second, other, third)] == [2, 2, 1, 3]
    assert first == second == third[:2]
    assert other[0] == first[0], "block 7 of both first prompts"
    assert len({*third, *other}) == 3
    whole = Trace(path, Reading(turn_lengths="whole", hash_block=500), with_turns=True)
    assert [len(row.keys) for _, row in whole.rows()] == [2, 0, 1, 0]


def test_a_part_begins_with_first_turns(tmp_path: Path) -> None:
    """Turns without a time belong where their conversation began, wherever they stand in the file."""
    path = written(tmp_path / "trace.jsonl", CHAT)
    for begin, end, expected in ((0.05, None, [600]), (0.0, 0.05, [1000, 1190, 1610])):
        reading = Reading(turn_lengths="added", trace_from_s=begin, trace_until_s=end)
        assert [row.prompt for _, row in Trace(path, reading, with_turns=True).rows()] == expected
    shuffled = written(tmp_path / "other.jsonl", [CHAT[2], CHAT[0], CHAT[1], CHAT[3]])
    rows = Trace(shuffled, Reading(turn_lengths="added", trace_sort=True), with_turns=True).rows()
    assert [row.prompt for _, row in rows] == [1000, 1190, 1610, 600]


def test_sorting_keeps_turns_behind_those_before_them(tmp_path: Path) -> None:
    """A turn without a time stands in the file behind an earlier first turn of another conversation."""
    later = {**CHAT[1], "session_id": "b", "input_length": 5}
    path = written(tmp_path / "trace.jsonl", [CHAT[2], CHAT[0], later, CHAT[1]])
    rows = list(Trace(path, Reading(turn_lengths="added", trace_sort=True), with_turns=True).rows())
    assert [row.prompt for _, row in rows] == [1000, 1190, 600, 615]
    assert [row.arrival_s for _, row in rows] == [0.0, 0.0, 0.1, 0.1]


def test_tokens_of_a_turn_without_a_time_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "trace.jsonl", [CHAT[0], {**CHAT[1], "input_length": 0}])
    with pytest.raises(fs.BadInput, match="line 2: input_length is '0', not a whole number of at least 1"):
        list(Trace(path, Reading(turn_lengths="added"), with_turns=True).rows())


@pytest.mark.parametrize("replay", ["closed-loop", "in-order"])
def test_a_delay_is_a_think_time(tmp_path: Path, replay: str) -> None:
    """The same as an own trace in a closed loop whose published answers and times say so; later by speed."""
    own = ["arrival_s,input_tokens,output_tokens,session_id,answer_s", "0,1000,40,a,1", "0.1,600,10,b,1",
           "3.5005,1190,20,a,1", "4.5005,1610,30,a,1"]  # fmt: skip
    (tmp_path / "own.csv").write_text("\n".join(own) + "\n")
    path, ends = written(tmp_path / "trace.jsonl", CHAT), []
    asked = Traffic(trace=path, replay=replay, reading=Reading(turn_lengths="added"), speed=2.0)
    for traffic in (Traffic(trace=tmp_path / "own.csv", replay="closed-loop", speed=2.0), asked):
        chosen = limits(return_s=0.003, blocks=4000)
        sessions = sessions_of(traffic, chosen, None)
        outcome = run(tables(), chosen, (), followers=sessions)
        ends.append((outcome.end_s, sessions.replayed.turns))
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)
    assert sessions.replayed.late == 0, "a turn without a time is not late"
    assert not any("think times are" in note for note in sessions.notes)


def test_both_a_time_and_a_delay(tmp_path: Path) -> None:
    """In order it comes at its time, in a closed loop after its delay; without either at once."""
    rows = [CHAT[0], {**CHAT[1], "timestamp": 60000}, {**CHAT[3], "timestamp": 61000}]
    ends = {}
    for replay in ("in-order", "closed-loop", "at once"):
        if replay == "at once":
            rows = [CHAT[0], {**CHAT[1], "delay": None}, {**CHAT[3], "delay": 0}]
        asked = Reading(turn_lengths="whole", trace_format="aiperf-turns")
        traffic = Traffic(trace=written(tmp_path / "trace.jsonl", rows), replay=replay.replace("at once", "in-order"),
                          reading=asked)  # fmt: skip
        chosen = limits(return_s=0.003, blocks=4000)
        ends[replay] = run(tables(), chosen, (), followers=sessions_of(traffic, chosen, None)).end_s
    assert ends["in-order"] > 61.0
    assert ends["at once"] + 2.5 == pytest.approx(ends["closed-loop"], abs=1e-3)


@pytest.fixture
def server() -> Iterator[FakeStream]:
    fake = FakeStream(first_s=0.02)
    yield fake
    fake.close()


@pytest.mark.parametrize("replay", ["closed-loop", "in-order"])
def test_a_server_gets_turns_after_their_delays(server: FakeStream, tmp_path: Path, replay: str) -> None:
    rows = [{**CHAT[0], "input_length": 9, "output_length": 3}, {**CHAT[1], "input_length": 2, "output_length": 2}]
    rows[1]["delay"] = 150.0
    path = written(tmp_path / "trace.jsonl", rows)
    asked = LoadTest(base=server.base, trace=path, runs=1, replay=replay, reading=Reading(turn_lengths="added"))
    (level,) = measure_server(asked, Silent()).levels
    first, second = sorted(level.replies, key=lambda each: each.wanted_prompt)
    assert (second.wanted_prompt, level.ok, level.turns, level.late_turns) == (14, 2, 1, 0)
    assert second.due == pytest.approx(first.ended + 0.15, abs=0.05)
    assert second.sent >= first.ended + 0.15 - 1e-3


NO_TIME = {"session_id": "c", "delay": 5, "input_length": 9, "output_length": 3}
ASKED: dict[str, Any] = {"turn_lengths": "added"}


@pytest.mark.parametrize(
    ("rows", "said", "sentence"),
    [
        (CHAT, {}, "does input_length of later turns in .* count the tokens that they add.* --turn-lengths added or"),
        (CHAT, {"turn_lengths": "new"}, "unknown count of turn_lengths 'new'"),
        ([*CHAT, NO_TIME], ASKED, "line 5: the first turn of a conversation has no timestamp"),
        ([*CHAT, {**NO_TIME, "session_id": None}], ASKED, "line 5: timestamp is missing"),
        ([*CHAT, {**CHAT[1], "delay": -1}], ASKED, "line 5: delay is '-1', not a number of milliseconds"),
        ([*CHAT, {**CHAT[1], "delay": "soon"}], ASKED, "line 5: delay is 'soon', not a number of milliseconds"),
        ([*CHAT, {**CHAT[0], "timestamp": 9000}], ASKED, "line 5: a turn with a timestamp after one with a delay"),
        ([NO_TIME], ASKED, "does not say when its conversations begin; give the first turn of each a timestamp"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, rows: list[dict[str, Any]], said: dict[str, Any], sentence: str) -> None:
    path = written(tmp_path / "trace.jsonl", rows)
    with pytest.raises(fs.BadInput, match=sentence):
        list(Trace(path, Reading(**said), with_turns=True).rows())


def test_an_open_loop_has_no_delays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "trace.jsonl", CHAT)
    asked = ("simulate", "--model", "qwen3-8b", "--chip", "h100-sxm", "--trace", path)
    assert "--turn-lengths added or whole and --replay in-order or closed-loop" in refuse(capsys, *asked)
    assert "can only be replayed in their conversations" in refuse(capsys, *asked, "--turn-lengths", "added")
    told = refuse(capsys, *asked, "--turn-lengths", "whole")
    assert "line 2: timestamp is missing; a turn with a delay in its place follows an answer" in told
    written(path, [{"timestamp": 0, "input_length": 9, "output_length": 3, "hash_ids": [1]}])
    told = refuse(capsys, *asked, "--turn-lengths", "whole")
    assert "turn_lengths is of conversations, and" in told


def test_conversations_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "trace.jsonl", CHAT)
    trace = Trace(path, Reading(turn_lengths="added"), with_turns=True)
    monkeypatch.setattr(delays, "MOST_TOKENS", 1639)
    with pytest.raises(fs.BadInput, match="line 4: a conversation of over 1,639 tokens"):
        list(trace.rows())
    monkeypatch.setattr(delays, "MOST_CONVERSATIONS", 1)
    with pytest.raises(fs.BadInput, match="line 3: over 1 conversations"):
        list(trace.rows())


def test_later_lines_may_name_further_columns(tmp_path: Path) -> None:
    """The first one lacks what has no value there; a mistake further down is told when it is met."""
    path = written(tmp_path / "trace.jsonl", [CHAT[0], CHAT[2], *[{**CHAT[2], "session_id": f"{n}"} for n in range(5)]])
    with path.open("a") as file:
        file.write(json.dumps(CHAT[1]) + "\n{broken\n")
    rows = Trace(path, Reading(turn_lengths="added"), with_turns=True).rows()
    found = [next(rows)[1] for _ in range(8)]
    assert math.isclose(found[-1].turn.delay_s if found[-1].turn else 0.0, 2.5005)
    with pytest.raises(fs.BadInput, match="line 9: not a JSON object"):
        next(rows)
