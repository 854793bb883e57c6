"""Conversations of a trace sent to a server: a turn after the answer before it, with what was said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flashstill.cli import main
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.load_test import traffic as requests_of
from flashstill.load_test.answer import level_document
from flashstill.load_test.question import LoadTest
from flashstill.load_test.traffic import Traffic
from flashstill.load_test.written import measure_server
from flashstill.progress import Silent
from flashstill.simulate.traces import pieces_of
from flashstill.simulate.traffic import Traffic as Replay
from flashstill.traces.reader import Trace
from flashstill.traces.reading import Reading
from tests.commands import refuse
from tests.fake_stream import FakeStream

TALK = """arrival_s,input_tokens,output_tokens,session_id,answer_s
0,9,3,a,0.1
0.01,8,2,b,
0.15,15,3,a,0.05
0.16,30,2,a,
0.2,10,2,b,
"""


@pytest.fixture
def server() -> Iterator[FakeStream]:
    fake = FakeStream(first_s=0.06)
    yield fake
    fake.close()


def asked(server: FakeStream, path: Path, text: str = TALK, **more: Any) -> LoadTest:
    path.write_text(text)
    usual: dict[str, Any] = {"trace": path, "runs": 1, "time_limit_s": 120.0, "stall_s": 60.0, "replay": "in-order"}
    return LoadTest(base=server.base, **{**usual, **more})


def prompts(server: FakeStream, runs: int = 1) -> list[list[str]]:
    """The words of the last run's questions."""
    return [question["prompt"].split() for question in server.questions[-5 * runs :]]


@pytest.mark.parametrize("replay", ["in-order", "closed-loop"])
def test_turns_follow_answers_and_go_on_with_them(server: FakeStream, tmp_path: Path, replay: str) -> None:
    """Each of a prompt of the trace's length; turn 2 of b has no new words."""
    found = measure_server(asked(server, tmp_path / "trace.csv", replay=replay), Silent())
    (level,) = found.levels
    assert (level.ok, level.turns) == (5, 3)
    by_length = {reply.wanted_prompt: reply for reply in level.replies}
    first, second, third = (by_length[tokens] for tokens in (9, 15, 30))
    for before, after, think_s in ((first, second, 0.05), (second, third, 0.0)):
        assert after.sent >= before.ended
        assert after.due > before.ended + think_s - 1e-3 or replay == "in-order"
    assert second.due >= 0.15 - 1e-6 or replay == "closed-loop"
    words = {len(each): each for each in prompts(server)}
    assert words[15][:12] == [*words[9], "x", "x", "x"]
    assert words[30][:18] == [*words[15], "x", "x", "x"]
    assert words[10] == [*words[8], "x", "x"]
    assert level.late_turns >= 1
    assert level.late_turn_mean_s > 0.0
    document = level_document(level)
    assert (document["turns"], document["late_turns"]) == (3, level.late_turns)
    assert found.as_dict()["replay"] == replay


def test_a_conversation_in_chat(server: FakeStream, tmp_path: Path) -> None:
    """Messages of both roles; what the template adds for a turn is known from the second one on."""
    found = measure_server(asked(server, tmp_path / "trace.csv", api="chat"), Silent())
    counted = {reply.wanted_prompt: reply.prompt_tokens for reply in found.levels[0].replies}
    assert counted[15] == 9 + server.template + 3 + 1 + server.template, "one new word at least"
    assert counted[30] == 30
    talks = [question["messages"] for question in server.questions[1:]]
    longest = max(talks, key=len)
    assert [each["role"] for each in longest] == ["user", "assistant"] * 2 + ["user"]
    assert longest[1]["content"] == longest[3]["content"] == " x x x"
    assert sorted(len(each) for each in talks[-5:]) == [1, 1, 3, 3, 5]


def test_an_answer_that_failed_is_filled_in(server: FakeStream, tmp_path: Path) -> None:
    """The conversation goes on with words in its place, as long as the trace says."""
    text = "arrival_s,input_tokens,output_tokens,session_id\n0,9,3,a\n0.01,15,3,a\n"
    question = asked(server, tmp_path / "trace.csv", text, warm_up=False, runs=5)
    server.faults = ["", "400"]
    found = measure_server(question, Silent())
    assert found.levels[0].ok == 9
    assert {len(question["prompt"].split()) for question in server.questions[2:3]} == {15}


def test_turns_that_are_never_sent_are_counted(server: FakeStream, tmp_path: Path) -> None:
    rows = "".join(f"{at / 1000},5,2,c{at % 40}\n" for at in range(120))
    question = asked(server, tmp_path / "trace.csv", "arrival_s,input_tokens,output_tokens,session_id\n" + rows)
    server.first_s, server.faults = 0.0, ["", *["400"] * 500]
    with pytest.raises(InfeasiblePlan) as stop:
        measure_server(question, Silent(), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "summary.json").read_text())["levels"][0]
    assert document["requests"] == sum(document["failures"].values()) == 120
    assert document["failures"]["not_sent"] > 0
    assert stop.value.reasons


def test_it_is_said_which_loop_it_was(server: FakeStream, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(TALK)
    command = ["measure", "--server", server.base, "--trace", str(path), "--runs", "1", "--time-limit", "2min"]
    main([*command, "--replay", "closed-loop", "--out", str(tmp_path / "out")])
    assert len((tmp_path / "out" / "measured.csv").read_text().splitlines()) == 1, "no case: a cache holds its prompts"
    assert {json.loads(line)["phase"] for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()} <= {
        "output token"
    }
    assert "closed-loop: 3 turns waited for the one before them, and" in capsys.readouterr().out
    main(command)
    printed = capsys.readouterr()
    assert "open loop: requests with the same session_id are turns of a conversation" in printed.out + printed.err


def test_mistakes(server: FakeStream, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match="the turns of conversations are sent from one process; leave clients out"):
        asked(server, tmp_path / "trace.csv", clients=2)
    with pytest.raises(BadInput, match="replay is of a trace"):
        LoadTest(base=server.base, rates=(1.0,), replay="in-order")
    (tmp_path / "plain.csv").write_text("arrival_s,input_tokens,output_tokens\n0,9,3\n")
    command = ("measure", "--server", "http://127.0.0.1:1", "--trace", tmp_path / "plain.csv", "--replay", "in-order")
    assert "can only be replayed as an open loop" in refuse(capsys, *command), "before the server is asked"


def test_no_trace_is_held_beyond_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(TALK)
    turns, replay = Trace(path, with_turns=True), Replay(trace=path, replay="in-order")
    monkeypatch.setattr(requests_of, "MOST_REQUESTS", 4)
    for most in (4, 3):
        assert len(Traffic.of(pieces_of(Trace(path)), most, 0)) == most
        assert len(Traffic.of_turns(turns, replay, most, 0)) == most
    with pytest.raises(BadInput, match="the trace has over 4 requests, which would be held in memory"):
        Traffic.of(pieces_of(Trace(path)), None, 0)
    with pytest.raises(BadInput, match="the trace has over 4 requests, which would be held in memory"):
        Traffic.of_turns(turns, replay, None, 0)


def test_a_directory_from_before_delays_goes_on(server: FakeStream, tmp_path: Path) -> None:
    """What a setting that is not used would add to the question is not in it."""
    reading = Reading(trace_until_s=0.1)
    measure_server(asked(server, tmp_path / "trace.csv", reading=reading), Silent(), tmp_path / "out")
    question = json.loads((tmp_path / "out" / "question.json").read_text())
    assert question["trace_until_s"] == 0.1
    assert "turn_lengths" not in question
