"""A server under load: figures by their definitions, hostile servers, a killed measurement, saturation."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest

import flashstill as fs
from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.load_test.answer import notes
from flashstill.load_test.client import Client, Reply, connected
from flashstill.load_test.dialects import Dialect
from flashstill.load_test.drive import Ran
from flashstill.load_test.failures import KINDS
from flashstill.load_test.kept import Kept
from flashstill.load_test.levels import Levels
from flashstill.load_test.meters import Energy, rapl
from flashstill.load_test.processes import Processes, shares
from flashstill.load_test.prompts import prompts_of
from flashstill.load_test.question import Level, LoadTest
from flashstill.load_test.summary import METRICS, LevelResult, Measured, spacing_of, steadiness_of, turnaround_of
from flashstill.load_test.traffic import Traffic
from flashstill.load_test.written import measure_server
from flashstill.progress import Silent
from flashstill.records import read_records
from flashstill.simulate.traffic import generated
from flashstill.validation.own import read_own
from tests.commands import HEAR, refuse
from tests.fake_stream import FAULTS, FakeStream
from tests.marks import slow


@pytest.fixture
def server() -> Iterator[FakeStream]:
    fake = FakeStream()
    yield fake
    fake.close()


PATIENT = {"time_limit_s": 120.0, "stall_s": 60.0}
"""limits that no busy machine reaches"""


def asked(server: FakeStream, **more: Any) -> LoadTest:
    usual: dict[str, Any] = {"concurrency": (2,), "requests": 6, "runs": 1, "isl": 12, "osl": 5, **PATIENT}
    if "rates" in more or "trace" in more:
        usual.pop("concurrency")
    if "trace" in more:
        del usual["isl"], usual["osl"]
    return LoadTest(base=server.base, **{**usual, **more})


def test_figures_and_counts(server: FakeStream, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ("--isl", "12", "--osl", "5", "--requests", "6", "--runs", "2")
    main(["measure", "--server", server.base, "--concurrency", "1,3", *shape, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert [level["concurrency"] for level in document["levels"]] == [1, 3]
    for level in document["levels"]:
        assert (level["requests"], level["ok"], level["failures"]) == (12, 12, {})
        assert (level["prompt_tokens"], level["output_tokens"], level["tokens_per_event"]) == (12, 5, 1)
        assert level["latencies"]["inter_token_s"]["n"] == 12 * 4
        assert level["latencies"]["ttft_s"]["p99"]["value"] is None, "the 99th percentile of 12 is their maximum"
    assert document["schema"] == "flashstill.measure/1"
    assert {"ttft_s", "tpot_s", "tpot_with_first_s", "inter_token_s"} <= set(document["definitions"])


@pytest.mark.parametrize("in_flight", [1, 3])
def test_as_many_are_in_flight_as_were_asked_for(server: FakeStream, in_flight: int) -> None:
    server.together = in_flight
    level = measure_server(asked(server, concurrency=(in_flight,)), Silent()).levels[0]
    assert (level.requests, level.ok) == (6, 6)
    assert server.most_in_flight == in_flight


EXPECTED = {
    "dies": "cut_off", "reset": "cut_off", "silent": "stalled", "half a head": "cut_off", "no http": "cut_off",
    "429": "busy", "503": "busy", "500": "server_failed", "400": "refused", "redirect": "redirect",
    "another type": "wrong_type", "dies in a stream": "cut_off", "half a line": "cut_off", "stalls": "stalled",
    "drips": "timeout", "garbage": "garbage", "no json": "garbage", "no object": "garbage", "deep": "garbage",
    "nonsense": "garbage", "error": "server_error", "endless line": "long_line", "endless": "too_large",
    "nothing in it": "no_token",
}  # fmt: skip


def test_every_fault_is_tried_and_told() -> None:
    assert set(EXPECTED) == set(FAULTS) - {"no end"}
    assert set(EXPECTED.values()) <= set(KINDS)


NEVER_ENDING = {"silent", "stalls", "drips"}
"""what only a limit ends, which on a busy machine might end a good answer as well: tried without any"""


@pytest.mark.slow
def test_hostile_servers_are_counted(server: FakeStream) -> None:
    ending = {fault: kind for fault, kind in EXPECTED.items() if fault not in NEVER_ENDING}
    server.faults = ["", *(each for fault in ending for each in (fault, ""))]  # the probe is answered well
    requests = 2 * len(ending)
    question = asked(server, concurrency=(8,), requests=requests, runs=5, warm_up=False)
    found = measure_server(question, Silent())
    level = found.levels[0]
    assert level.failures == Counter(ending.values())
    assert (level.requests, level.ok) == (5 * requests, 5 * requests - len(ending))


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(NEVER_ENDING))
def test_what_never_ends_is_ended(server: FakeStream, fault: str) -> None:
    server.always = fault
    limits = {"time_limit_s": 1.0, "stall_s": 60.0} if fault == "drips" else {"time_limit_s": 120.0, "stall_s": 2.0}
    dialect = Dialect(name="vllm", model="tiny", api="completions", temperature=0.0)
    replies = [Reply(number=number, due=0.0, wanted_prompt=2, wanted_output=5) for number in range(3)]

    async def ask() -> None:
        async with connected(server.base, **limits) as client, asyncio.TaskGroup() as group:
            for reply in replies:
                group.create_task(client.ask(dialect.path, dialect.body("a prompt", 5), reply))

    asyncio.run(ask())
    assert [reply.outcome for reply in replies] == [EXPECTED[fault]] * 3


@pytest.mark.slow
def test_a_server_that_dies_ends_soon(server: FakeStream) -> None:
    class Watch(Silent):
        def say(self, text: str) -> None:
            server.always = "reset"

    found = measure_server(asked(server, concurrency=(1, 2, 3), requests=50, warm_up=False, runs=5), Watch())
    assert [level.ok for level in found.levels] == [250, 0], "no higher load after one that failed"
    assert found.levels[1].failures == {"cut_off": 5 * 9, "not_sent": 5 * 41}
    with pytest.raises(BadInput, match="cannot be measured: the connection was closed"):
        measure_server(asked(server), Silent())


@pytest.mark.slow
def test_a_token_of_reasoning_is_the_first_token(server: FakeStream) -> None:
    server.reasoning, server.token_s = 3, 0.005
    found = measure_server(asked(server, api="chat", osl=6), Silent())
    level = found.levels[0]
    for reply in level.replies:
        assert reply.first is not None
        assert reply.answer == pytest.approx(reply.first + sum(reply.gaps_s[:3]), abs=1e-5)
    assert level.reasoning == level.ok
    assert any("reasoning" in note for note in notes(found))
    assert level.prompt_tokens == 15, "the server's template is in its count, and without a tokenizer it is not known"


@pytest.mark.slow
def test_definitions_hold_in_every_request(server: FakeStream, tmp_path: Path) -> None:
    server.token_s, server.short = 0.001, 2
    found = measure_server(asked(server, requests=40, concurrency=(4,), osl=8), Silent(), tmp_path / "out")
    level = found.levels[0]
    assert level.short == level.ok == 40
    assert level.spacing_s is not None
    assert level.spacing_s > 0.0
    for reply in level.replies:
        assert reply.first is not None
        assert reply.last is not None
        assert (reply.output_tokens, reply.wanted_output, len(reply.gaps_s)) == (6, 8, 5)
        assert sum(reply.gaps_s) == pytest.approx(reply.last - reply.first, abs=1e-5)
        assert reply.due <= reply.sent <= reply.first <= reply.last <= reply.ended
    tpot, gaps = level.latencies["tpot_s"], level.latencies["inter_token_s"]
    assert (tpot.n, gaps.n) == (40, 200)
    assert tpot.mean == pytest.approx(gaps.mean, rel=1e-3), "equal where all answers are equally long"
    rates = level.over_runs
    assert rates["output_tokens_per_s"].median == pytest.approx(6 * rates["requests_per_s"].median)

    text = (tmp_path / "out" / "points" / "point_1.yaml").read_text()
    point = {name: float(value) for name, value in (line.split(": ") for line in text.splitlines())}
    assert point["tps_per_user"] == 1000 / point["tpot_p90_ms"]
    assert point["concurrency"] == 4
    given = {"model": "qwen3-8b", "chip": "h100-sxm", "isl": "12", "osl": "6"}
    (row,) = read_own(tmp_path / "out" / "points" / "point_1.yaml", given)
    assert row.measured["tpot_s"] == pytest.approx(point["tpot_p90_ms"] * 1e-3)
    assert row.note == "90th percentiles"
    whole = [read_own(tmp_path / "out" / name, given) for name in ("summary.json", "results/concurrency-4.json")]
    for (row,) in whole:
        assert (row.case.scenario.isl, row.case.scenario.osl, row.case.scenario.batch) == (12, 6, 4)
        assert row.measured["tpot_s"] == pytest.approx(tpot.mean, rel=1e-6)
        assert row.measured["ttft_s"] == pytest.approx(level.latencies["ttft_s"].mean, rel=1e-6)
    records = read_records(tmp_path / "out" / "records.jsonl")
    assert [getattr(record, "phase", "") for record in records] == ["first token", "output token"]


def test_what_the_client_takes_between_two_requests() -> None:
    """Of two in flight: answers end at 1.0 and 1.5 s, their last tokens 0.1 s before, and the next follow 0.1 and 0.3
    s after the ends; a run in which some failed tells nothing."""

    def reply(sent: float, ended: float) -> Any:
        return SimpleNamespace(sent=sent, ended=ended, last=ended - 0.1)

    replies = [reply(0.0, 1.5), reply(0.1, 1.0), reply(1.1, 3.0), reply(1.8, 4.0)]
    whole = SimpleNamespace(replies=replies, well=replies)
    runs: Any = [whole, SimpleNamespace(replies=replies, well=replies[:3])]
    assert turnaround_of(Level(kind="concurrency", value=2.0), runs) == pytest.approx((0.2 + 0.4) / 2)
    assert turnaround_of(Level(kind="concurrency", value=2.0), runs[1:]) is None
    assert turnaround_of(Level(kind="rate", value=2.0), runs) is None


@pytest.mark.slow
def test_levels_in_turn(server: FakeStream, tmp_path: Path) -> None:
    """Each level's first run, then each one's second; the figures are made as ever, and are there when asked again."""
    question = asked(server, concurrency=(1, 2), requests=4, warm_up=False, runs=5, in_turn=True)
    found = measure_server(question, Silent(), tmp_path / "out")
    assert [(level.level.value, len(level.runs), level.ok) for level in found.levels] == [(1.0, 5, 20), (2.0, 5, 20)]
    begun = [json.loads(line) for line in (tmp_path / "out" / "requests.jsonl").read_text().splitlines()]
    order = [(row["run"], row["value"]) for row in begun if row["record"] == "begin"]
    assert order == [(run, value) for run in range(5) for value in (1.0, 2.0)]
    asked_before = len(server.questions)
    again = measure_server(question, Silent(), tmp_path / "out")
    assert again.resumed_runs == 10
    assert again.levels[0].latencies == found.levels[0].latencies
    assert len(server.questions) - asked_before <= 2, "what asks the server how it speaks"


def test_spacing_of_the_first_requests() -> None:
    """Of each run's first ones, however they ended; nothing to tell of one, or where requests come by themselves."""
    runs: Any = [
        SimpleNamespace(replies=[SimpleNamespace(sent=sent) for sent in (0.9, 0.004, 0.001, 0.8, 0.002)]),
        SimpleNamespace(replies=[SimpleNamespace(sent=sent) for sent in (0.0, 0.005, 0.01, 5.0)]),
    ]
    assert spacing_of(Level(kind="concurrency", value=3.0), runs) == pytest.approx((0.0015 + 0.005) / 2)
    assert spacing_of(Level(kind="concurrency", value=1.0), runs) is None
    assert spacing_of(Level(kind="rate", value=3.0), runs) is None


@pytest.mark.slow
def test_cases_for_calibrate(server: FakeStream, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.first_s, server.token_s = 0.03, 0.007  # as that model on that chip: what is far faster is refused
    out, case = tmp_path / "out", ("--case", "chip=h100-sxm", "--case", "model=qwen3-8b")
    shape = ("--isl", "12", "--osl", "5", "--requests", "6", "--runs", "1", "--rate", "50,100")
    main(["measure", "--server", server.base, *shape, "--out", str(out), *case])
    assert "percentiles: 95 % intervals" in capsys.readouterr().out, "definitions are in every output"
    rows = read_own(out / "measured.csv")
    assert [row.case.scenario.isl for row in rows] == [12, 12]
    assert all(row.case.scenario.burst_share == 0.0 for row in rows), "an open loop has no burst"
    main(["calibrate", str(out / "measured.csv"), "--out", str(tmp_path / "facts"), "--json"])
    assert {stack["n"] for stack in json.loads(capsys.readouterr().out)["stacks"]} == {2}


@pytest.mark.slow
def test_a_killed_measurement_goes_on(server: FakeStream, tmp_path: Path) -> None:
    server.token_s = 0.01
    more = (
        "--isl",
        "12",
        "--osl",
        "9",
        "--requests",
        "10",
        "--runs",
        "3",
        "--concurrency",
        "2",
        "--out",
        str(tmp_path),
    )
    command = [sys.executable, "-m", "flashstill", "measure", "--server", server.base, *more]
    path = tmp_path / "requests.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 300.0
    while not (path.exists() and path.read_bytes().count(b'"record": "run"') >= 1) and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    with path.open("ab") as stream:
        stream.write(b'{"record": "requ')  # torn
    server.token_s = 0.0
    question = LoadTest(base=server.base, isl=12, osl=9, requests=10, runs=3, concurrency=(2,))
    found = measure_server(question, Silent(), tmp_path)
    assert found.resumed_runs >= 1
    assert found.levels[0].ok == 30
    again = measure_server(question, Silent(), tmp_path)
    assert again.resumed_runs == 3
    assert again.levels[0].latencies == found.levels[0].latencies
    with pytest.raises(BadInput, match="belongs to another measurement: osl differ"):
        measure_server(dataclasses.replace(question, osl=8), Silent(), tmp_path)


@pytest.mark.slow
def test_saturation_ends_the_levels(server: FakeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that works on three requests at a time, whatever the pace of this machine."""
    measure = Levels.measure

    async def at_a_known_pace(levels: Levels, level: Level) -> LevelResult:
        found, pace = await measure(levels, level), 100.0 * min(level.value, 3.0)
        rate = dataclasses.replace(found.over_runs["output_tokens_per_s"], median=pace)
        return dataclasses.replace(found, over_runs={**found.over_runs, "output_tokens_per_s": rate})

    monkeypatch.setattr(Levels, "measure", at_a_known_pace)
    usual = {"requests": 8, "warm_up": False, "runs": 5, "until_saturation": True}
    found = measure_server(asked(server, concurrency=(1,), **usual), Silent())
    assert [level.level.value for level in found.levels] == [1, 2, 4, 5, 6, 8], "two more between the last doublings"
    assert found.saturation is not None
    assert (found.saturation.sustained, found.saturation.beyond, found.saturation.between) == (4, 5, None)
    assert found.saturation.output_tokens_per_s == 300.0


@pytest.mark.slow
def test_what_a_server_refuses_is_asked_otherwise(server: FakeStream) -> None:
    server.unknown = {"ignore_eos", "min_tokens"}
    assert measure_server(asked(server), Silent()).dialect.name == "transformers"
    server.unknown |= {"generation_config", "stream_options"}
    found = measure_server(asked(server), Silent())
    assert (found.dialect.name, found.dialect.has_usage) == ("plain, without stream_options", False)
    assert found.levels[0].output_tokens == 5, "events with text are counted"
    assert any("sends no usage" in note for note in notes(found))
    server.names = ["one", "two"]
    with pytest.raises(
        BadInput, match=r"lists several models \(one, two\); name the one to measure with --served-name"
    ):
        measure_server(asked(server), Silent())


def test_a_trace_in_an_open_loop(server: FakeStream, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens,cached_tokens\n0,9,3,4\n0.05,7,2,0\n0.1,8,4,6\n")
    found = measure_server(asked(server, trace=trace, requests=None, warm_up=False, runs=5), Silent())
    level = found.levels[0]
    assert [(reply.wanted_prompt, reply.output_tokens) for reply in level.replies] == [(9, 3), (7, 2), (8, 4)] * 5
    assert [round(reply.due, 2) for reply in level.replies[:3]] == [0.0, 0.05, 0.1]
    # By their lengths: on a busy machine several are sent at once, and come in any order.
    prompts = {len(words): words for words in (question["prompt"].split() for question in server.questions[1:4])}
    assert sorted(prompts) == [7, 8, 9]
    assert prompts[9][:4] == prompts[8][:4], "cached tokens are shared"


def test_a_trace_is_read_as_simulate_reads_it(
    server: FakeStream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The options of the reading: columns, unit, order, a part, requests that failed; what was left out is told."""
    trace = tmp_path / "log.csv"
    trace.write_text("ms,p,c,kind\n9000,7,2,x\n1000,9,3,x\n1050,8,0,x\n1100,8,4,x\n1060,6,4,y\n")
    said = ("--trace-columns", "time=ms,input=p,output=c", "--time-unit", "ms", "--trace-only", "kind=x",
            "--skip-failed", "--sort-trace", "--trace-until", "5s")  # fmt: skip
    options = ("--server", server.base, "--trace", str(trace), "--runs", "1", "--time-limit", "2min", *said)
    main(["measure", *options, "--json"])
    document = json.loads(capsys.readouterr().out)
    (level,) = document["levels"]
    assert (level["requests"], level["ok"], level["output_tokens"]) == (2, 2, 3.5)
    assert "1 of the trace's 4 requests failed or have no output tokens, and are left out" in document["notes"]
    questions = [len(question["prompt"].split()) for question in server.questions[1:]]
    assert sorted(set(questions)) == [8, 9]
    with pytest.raises(BadInput, match="time_unit says how a trace is read; give a trace"):
        fs.measure_server(server.base, rate=1.0, time_unit="s")
    with pytest.raises(BadInput, match="nearest known: trace_format"):
        fs.measure_server(server.base, trace=trace, trace_fromat="azure")


def test_prompts_of_exact_length(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = {chr(code): number for number, code in enumerate(range(97, 123), start=2)}
    words = {"ti": 28, "tim": 29, "time": 30, "Ġtime": 31, "Ġw": 32, "Ġwa": 33, "Ġway": 34}
    merges = [("t", "i"), ("ti", "m"), ("tim", "e"), ("Ġ", "time"), ("Ġ", "w"), ("Ġw", "a"), ("Ġwa", "y")]
    tokenizer = Tokenizer(models.BPE(vocab={"<s>": 0, "Ġ": 1, **letters, **words}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    prompts = prompts_of(tmp_path)
    numbers = np.random.default_rng(0)
    for tokens in (2, 3, 17, 1000):
        assert prompts.count(prompts.make(tokens, 0, numbers)) == tokens
    assert prompts.with_template(5).make(20, 0, numbers).count(" ") == 20 - 5 - 2
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match="no tokenizer that can be read"):
        prompts_of(tmp_path / "bad")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--server", "127.0.0.1:8000"], "write its address as http://"),
        (["--server", "http://127.0.0.1:99999/v1"], "Port out of range 0-65535"),
        (["--server", "http://::1:8000/v1"], "an IPv6 address in brackets"),
        (["--server", "http://me:secret@127.0.0.1:8000/v1"], "'127.0.0.1:8000/v1' has a user or a password"),
        (["--server", "http://127.0.0.1:1/v1"], "no server answers at"),
        (["--server", "http://127.0.0.1:1", "--concurrency", "1,x"], "--concurrency is '1,x'"),
        (["--server", "http://127.0.0.1:1", "--concurrency", "0"], "concurrency must lie between 1 and 4,096"),
        (["--server", "http://127.0.0.1:1", "--concurrency", "2,2"], "given twice"),
        (["--server", "http://127.0.0.1:1", "--rate", "1", "--concurrency", "2"], "give one of"),
        (["--server", "http://127.0.0.1:1", "--rate", "-1"], "rate must lie between"),
        (["--server", "http://127.0.0.1:1", "--runs", "2", "--no-warm-up"], "fewer than 5 runs need a warm-up"),
        (["--server", "http://127.0.0.1:1", "--api", "chats"], "nearest known: chat"),
        (["--server", "http://127.0.0.1:1", "--case", "isl=4"], "isl of a case is what was measured"),
        (["--server", "http://127.0.0.1:1", "--speed", "2"], "speed is of a trace"),
        (["--server", "http://127.0.0.1:1", "--trace", "a.csv", "--isl", "9"], "a trace says how long its requests"),
        (["--server", "http://127.0.0.1:1", "--max-in-flight", "9"], "max_in_flight is of an open loop"),
        (["--server", "http://127.0.0.1:1", "--requests", "3", "--concurrency", "4"], "3 requests never put 4 in"),
        (["--server", "http://127.0.0.1:1", "--requests", "1e9"], "a run has at most 10,000,000 requests"),
        (
            ["--server", "http://127.0.0.1:1", "--rate", "1", "--requests", "7", "--runs", "1", "--until-saturation"],
            "from fewer than 8 requests nobody can tell",
        ),
        (["--server", "http://127.0.0.1:1", "--case", "ship=h100"], "nearest known: chip"),
        (["--concurrency", "4"], "--concurrency measures a server; give --server"),
    ],
)
def test_mistakes(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sentence in refuse(capsys, "measure", *arguments)


def test_meters(tmp_path: Path) -> None:
    for number, (name, energy) in enumerate([("package-0", 900), ("package-1", 50)]):
        zone = tmp_path / f"intel-rapl:{number}"
        zone.mkdir()
        for file, text in (("name", name), ("energy_uj", str(energy)), ("max_energy_range_uj", "1000")):
            (zone / file).write_text(f"{text}\n")
    meter = rapl(tmp_path)
    assert meter is not None
    counted = Energy([meter])
    counted.start()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100")  # it wrapped around
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("60")
    assert counted.joules() == pytest.approx(210e-6)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    counted.start()
    assert counted.joules() is None, "a counter that is gone is no error"
    assert rapl(tmp_path / "none") is None
    assert Energy([]).joules() is None
    assert "no meter" in Energy([]).told


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("silent", "does not answer"),
        ("no http", "no server answers"),
        ("redirect", "sends on to another address"),
        *slow(
            ("drips", "does not answer"),
            ("dies", "no server answers"),
            ("503", "answers 503 not now"),
            ("endless", "answers with more than"),
            ("another type", "lists no models"),
        ),
    ],
)
def test_a_list_of_models_that_cannot_be_had(server: FakeStream, fault: str, sentence: str) -> None:
    server.listing = fault
    limits = {"time_limit_s": 1.0, "stall_s": 0.3} if sentence == "does not answer" else PATIENT
    with pytest.raises(BadInput, match=sentence):
        measure_server(asked(server, **limits), Silent())


def test_either_clock_may_end_the_wait_for_a_list_of_models() -> None:
    """The one of the whole question and the one of its next byte stand on the same moment."""

    class Mute:
        def stream(self, method: str, address: str) -> Any:
            raise httpx2.ReadTimeout("")

    http: Any = Mute()
    client = Client("http://127.0.0.1:1/v1", 300.0, 60.0, http, "")
    with pytest.raises(BadInput, match="does not answer; is the server still starting"):
        asyncio.run(client.models())


@pytest.mark.slow
def test_damaged_directories(server: FakeStream, tmp_path: Path) -> None:
    measure_server(asked(server), Silent(), tmp_path)
    path = tmp_path / "requests.jsonl"
    whole = path.read_bytes()
    for old, new in ((b'"sent": ', b'"sent": "x'), (b'"ok"', b'"fine"'), (b'"record"', b'"rekord"'), (b"{", b"[{")):
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(BadInput, match="has a line that is none of a measurement"):
            measure_server(asked(server), Silent(), tmp_path)
    path.write_bytes(whole)
    assert measure_server(asked(server), Silent(), tmp_path).resumed_runs == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    with pytest.raises(BadInput, match="holds other files"):
        measure_server(asked(server), Silent(), tmp_path / "other")


@pytest.mark.slow
def test_an_answer_is_whole_at_its_last_event(server: FakeStream) -> None:
    server.always, server.claimed = "no end", 3
    level = measure_server(asked(server, requests=2, concurrency=(2,)), Silent()).levels[0]
    assert (level.ok, level.short, level.failures) == (2, 2, {})
    server.always = ""
    found = measure_server(asked(server), Silent())
    assert found.levels[0].long == found.ok
    assert any("do not trust" in note for note in notes(found))


def test_from_python(server: FakeStream) -> None:
    found = fs.measure_server(server.base, concurrency=2, requests=6, runs=1, isl=12, osl=5)
    rows = found.as_records()
    assert [row["latency"] for row in rows] == [*METRICS, "inter_token_s"]
    assert rows[0]["n"] == found.ok == 6
    assert found.as_dict()["levels"][0]["latencies"]["tpot_s"]["n"] == 6
    assert "ttft_s" in found._repr_html_()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"seed": -1}, "seed must be"), ({"concurrency": 2.5}, "whole number"), ({"concurrency": "4"}, "or a list"),
    ]  # fmt: skip
    for more, told in wrong:
        with pytest.raises(fs.BadInput, match=told):
            fs.measure_server(server.base, **{"concurrency": np.int64(2), **more})
    with pytest.raises(fs.BadInput, match="the nearest known: requests"):
        fs.measure_server(server.base, concurrency=2, request=6)


@pytest.mark.slow
def test_python_hears_an_interruption_of_client_processes(server: FakeStream) -> None:
    """asyncio's own handler of SIGINT only cancels, so that nothing may block."""
    server.first_s = 0.05
    call = f"import flashstill as fs; fs.measure_server({server.base!r}, concurrency=2, requests=2000, clients=2)"
    with subprocess.Popen([sys.executable, "-c", call], stderr=subprocess.PIPE, preexec_fn=HEAR) as running:
        until = time.monotonic() + 300.0
        while len(server.questions) < 20 and time.monotonic() < until:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in running.communicate(timeout=120)[1]


def test_a_directory_in_use_is_left_alone(server: FakeStream, tmp_path: Path) -> None:
    taken = Kept(tmp_path, {"osl": 5})
    with pytest.raises(BadInput, match="another measurement writes to"):
        measure_server(asked(server), Silent(), tmp_path)
    taken.close()
    assert json.loads((tmp_path / "question.json").read_text())["osl"] == 5
    assert "base" not in json.loads((tmp_path / "question.json").read_text())


def test_a_short_trace_cannot_saturate(server: FakeStream, tmp_path: Path) -> None:
    trace = tmp_path / "short.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0,5,2\n0.01,5,2\n")
    found = measure_server(asked(server, trace=trace, requests=None, until_saturation=True), Silent())
    assert len(found.levels) == 1
    assert found.saturation is None
    trace.write_text("arrival_s,input_tokens,output_tokens\n")
    with pytest.raises(BadInput, match="the trace holds no requests"):
        measure_server(asked(server, trace=trace, requests=None), Silent())


def test_waiting_grows_in_the_order_of_arrival() -> None:
    """Requests that wait longest end last, whenever they came."""
    replies = [
        Reply(number=n, due=float(n), sent=float(n), first=n + wait, last=n + wait, wanted_prompt=1, wanted_output=1)
        for n, wait in enumerate([1.0, 99.0] * 8)
    ]
    replies.sort(key=lambda reply: reply.last or 0.0)
    steady = steadiness_of([Measured(run=0, seed=0, replies=replies, ran=Ran())])
    assert steady is not None
    assert (steady.before_s, steady.after_s) == (50.0, 50.0)


@pytest.mark.slow
def test_several_client_processes(server: FakeStream) -> None:
    server.together = 5
    found = measure_server(asked(server, concurrency=(5,), requests=40, runs=2, clients=3), Silent())
    level = found.levels[0]
    assert (level.requests, level.ok) == (80, 80)
    assert server.most_in_flight == 5
    assert sorted(reply.number for reply in level.replies[:40]) == list(range(40))
    prompts = [question["prompt"] for question in server.questions]
    assert len(set(prompts)) == len(prompts)
    assert all(reply.sent >= 0.0 for reply in level.replies), "all count from one moment"
    question = asked(server, clients=2)
    dialect = Dialect(name="vllm", model="tiny", api="completions", temperature=0.0)
    traffic = Traffic.of(generated(question.traffic(question.levels[0]), 0), None, 7)
    replies: list[Reply] = []
    with Processes(question, dialect, prompts_of(None)) as processes:
        processes._ends[0].send(None)  # it is told to stop a run that has ended
        work = shares(traffic, question.levels[0], 100, 2)
        asyncio.run(processes.drive(work, replies.append, lambda _: False))
    assert len(replies) == len(traffic)
    server.always = "reset"
    with pytest.raises(BadInput):
        measure_server(asked(server, clients=2), Silent())


def test_shares_are_the_whole(server: FakeStream) -> None:
    question = asked(server, concurrency=(5,))
    level = question.levels[0]
    traffic = Traffic.of(generated(question.traffic(level), 0), None, 7)
    for processes in (1, 2, 3, 5, 9):
        dealt = shares(traffic, level, 100, processes)
        assert sum(each.in_flight for each in dealt) == 5
        assert min(each.in_flight for each in dealt) >= 1
        assert sorted(int(number) for each in dealt for number in each.traffic.numbers) == list(range(len(traffic)))
