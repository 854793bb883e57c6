"""Agents against a server: the requests of the simulation, with what the server said."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.load_test.agents import turns_of_agents
from flashstill.load_test.question import LoadTest
from flashstill.load_test.written import measure_server
from flashstill.progress import Silent
from flashstill.simulate.agents import agents_of, think_s
from flashstill.simulate.traffic import Traffic
from tests.commands import refuse
from tests.fake_stream import FakeStream


@pytest.fixture
def server() -> Iterator[FakeStream]:
    fake = FakeStream(first_s=0.02)
    yield fake
    fake.close()


def asked(server: FakeStream, **more: Any) -> LoadTest:
    usual: dict[str, Any] = {"agents": (2,), "turns": 3, "fan_out": 2, "shared_prefix": 7, "isl": 5, "osl": 3}
    usual |= {"runs": 1, "time_limit_s": 120.0, "stall_s": 60.0}
    return LoadTest(base=server.base, **{**usual, **more})


@pytest.mark.parametrize("least_ratio", [1.0, 0.4])
def test_requests_are_those_of_the_simulation(least_ratio: float) -> None:
    """Prompts, answers and times to think of every agent, turn and branch, drawn from the same seed."""
    traffic = Traffic(
        agents=3, turns=4, fan_out=2, think_s=5.0, shared_prefix=100, isl=50, osl=20, least_ratio=least_ratio
    )
    found, simulated = turns_of_agents(traffic, 11), agents_of(traffic, 11, 0, 0.0)
    shape, number, now = (3, 4, 2), 0, 0.0
    seen = {}
    while not simulated.is_last:
        now, first = simulated.coming[0][0], number
        piece = simulated.due(number)
        number += len(piece.prompt)
        for at in range(first, number):
            agent = simulated.running[at]
            turn, branch = int(simulated.turn[agent]), (at - first) % 2
            seen[agent, turn, branch] = int(piece.prompt[at - first]), int(piece.output[at - first]), now
            if turn == 0:
                assert found.arrival_s.reshape(shape)[agent, turn, branch] == now
            else:
                assert found.think_s[agent, turn] == pytest.approx(now - seen[agent, turn - 1, 0][2])
        simulated.leave(list(range(first, number)), now, piece, len(piece.prompt))
    assert len(seen) == 24
    for place, (prompt, output, _) in seen.items():
        assert (found.prompt.reshape(shape)[place], found.output.reshape(shape)[place]) == (prompt, output)
    assert found.prompt.max() + 20 <= traffic.longest_tokens


def test_turns_go_on_with_all_that_was_said(server: FakeStream) -> None:
    """The first request's text directly after the turn before, those of the others after it; all share a prefix."""
    found = measure_server(asked(server, warm_up=False, runs=5), Silent())
    (level,) = found.levels
    assert (level.ok, level.requests, level.turns, level.late_turns) == (60, 60, 40, 0)
    assert level.steady is None
    assert server.most_in_flight == 4
    runs = [[each["prompt"].split() for each in server.questions[1:]][at * 12 : at * 12 + 12] for at in range(5)]
    prefixes = []
    for words in runs:
        assert sorted(len(each) for each in words) == [12] * 4 + [28] * 4 + [44] * 4
        prefixes.append({tuple(each[:7]) for each in words})
        assert len(prefixes[-1]) == 1
        firsts, seconds = ([each for each in words if len(each) == tokens] for tokens in (12, 28))
        starts = {tuple(each[:23]) for each in seconds}
        assert len(starts) == 2, "both requests of a turn go on with the same"
        for start in starts:
            own = [each for each in firsts if tuple(each) == start[:12]]
            other = [each for each in firsts if tuple(each[7:]) == start[15:20]]
            assert len(own) == len(other) == 1
            assert start[12:15] == start[20:23] == ("x", "x", "x")
    assert len(set().union(*prefixes)) == 5, "no two runs share a prefix, which a server would know"


def test_a_turn_waits_for_all_answers_and_a_time_to_think(server: FakeStream) -> None:
    question = asked(server, think_s=0.08, agents=(3,), turns=2)
    (level,) = measure_server(question, Silent()).levels
    by_number = {each.number: each for each in level.replies}
    for agent in range(3):
        first, second = ([by_number[(agent * 2 + turn) * 2 + branch] for branch in range(2)] for turn in range(2))
        wait = think_s(question.traffic(question.levels[0]), 0, agent, 1)
        assert first[0].due == pytest.approx(think_s(question.traffic(question.levels[0]), 0, agent, 0), abs=1e-5)
        assert second[0].due == second[1].due
        assert second[0].due >= max(each.ended for each in first) + wait - 1e-3
        assert second[0].due <= max(each.ended for each in first) + wait + 0.05


def test_an_answer_that_failed_counts_as_answered(server: FakeStream) -> None:
    server.faults = ["", "400"]
    (level,) = measure_server(asked(server, agents=(1,), warm_up=False, runs=5), Silent()).levels
    assert (level.ok, level.requests) == (29, 30)
    assert sorted(len(each["prompt"].split()) for each in server.questions[1:7]) == [12, 12, 28, 28, 44, 44]


def test_messages_of_both_roles_in_a_chat(server: FakeStream) -> None:
    measure_server(asked(server, agents=(1,), warm_up=False, runs=5, api="chat"), Silent())
    talks = [each["messages"] for each in server.questions[1:7]]
    assert sorted(len(each) for each in talks) == [1, 1, 5, 5, 9, 9]
    last = max(talks, key=len)
    assert [each["role"] for each in last] == ["user", "assistant"] * 4 + ["user"]
    assert len({talk[0]["content"][:20] for talk in talks}) == 1, "the prefix"
    assert not last[2]["content"].startswith(last[0]["content"][:20]), "once"


def test_files_of_a_measurement(server: FakeStream, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No case of agents; a directory of another load is as it was before there were agents."""
    command = ["measure", "--server", server.base, "--isl", "5", "--osl", "3", "--runs", "1", "--time-limit", "2min"]
    more = ["--agents", "1,2", "--turns", "2", "--fan-out", "2", "--shared-prefix", "7", "--out", str(tmp_path / "a")]
    main([*command, *more])
    printed = capsys.readouterr().out
    assert "2 agents: 8 of 8 requests ended well, 1 runs" in printed
    assert "4 requests waited for the answers of the turn before them" in printed
    document = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert [(each["load"], each["agents"], each["requests"]) for each in document["levels"]] == [
        ("agents", 1, 4), ("agents", 2, 8)
    ]  # fmt: skip
    with (tmp_path / "a" / "measured.csv").open() as file:
        assert list(csv.DictReader(file)) == []
    question = json.loads((tmp_path / "a" / "question.json").read_text())
    assert (question["turns"], question["fan_out"], question["shared_prefix"]) == (2, 2, 7)
    main([*command, "--concurrency", "2", "--requests", "4", "--out", str(tmp_path / "b")])
    assert not {"turns", "fan_out", "agents", "turn_lengths"} & set(
        json.loads((tmp_path / "b" / "question.json").read_text())
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--agents", "2", "--rate", "1"), "give one of concurrency, rate, trace and agents"),
        (("--turns", "3", "--rate", "1"), "turns is of agents; say how many there are with agents"),
        (("--agents", "2", "--requests", "9"), "the requests of agents follow from turns and fan_out"),
        (("--agents", "2", "--clients", "2"), "the turns of conversations are sent from one process"),
        (("--agents", "2", "--until-saturation"), "until_saturation is of concurrency and rate"),
        (("--agents", "2,2"), "a level of the load is given twice"),
        (("--agents", "1e6", "--turns", "100"), "1e+06 agents make 100,000,000 requests; a run has at most 10,000,000"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], options: tuple[str, ...], sentence: str) -> None:
    assert sentence in refuse(capsys, "measure", "--server", "http://127.0.0.1:1", *options)


def test_turns_that_the_server_cannot_take(server: FakeStream) -> None:
    """Its context is 4,096 tokens: told before any request of the run."""
    with pytest.raises(BadInput, match="up to 4,534 tokens with their answers, and the server takes 4,096"):
        measure_server(asked(server, isl=500, turns=5), Silent())
    assert len(server.questions) <= 1
    assert np.isfinite(turns_of_agents(Traffic(agents=1, turns=1), 0).arrival_s).all()


def test_the_first_request_of_a_turn_is_found_again(server: FakeStream) -> None:
    """Its text stands directly after the turn before, whichever request was answered first."""
    question = asked(server, agents=(1,), turns=2, fan_out=3, isl=300, osl=9, least_ratio=0.1, warm_up=False, runs=5)
    measure_server(question, Silent())
    for run in range(5):
        drawn = turns_of_agents(question.traffic(question.levels[0]), run)
        lengths = drawn.prompt.reshape(2, 3)
        assert len(set(lengths[0].tolist())) == 3
        words = [each["prompt"].split() for each in server.questions[1 + 6 * run : 7 + 6 * run]]
        (first,) = (each for each in words if len(each) == lengths[0, 0])
        assert all(each[: len(first)] == first for each in words[3:])
