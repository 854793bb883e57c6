"""Traces in the formats that people have: a few lines of each as published, and files that are broken."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flashstill as fs
from flashstill.cli import main
from flashstill.simulate.daily import read_lengths
from flashstill.simulate.traces import pieces_of
from flashstill.traces import order
from flashstill.traces.reader import Trace
from flashstill.traces.reading import Reading
from tests.commands import refuse

OWN = "arrival_s,input_tokens,output_tokens\n0,5,1\n"
AZURE_2023 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
)
AZURE_2024 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-10 23:59:59.009930+00:00,2162,5\n2024-05-11 00:00:00+00:00,2399,6\n"
    "2024-05-12 00:00:00.500000+00:00,76,15\n"
)
BURST = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n"
    "45,ChatGPT,1087,0,1087,Conversation log\n118,GPT-4,417,276,693,API log\n"
)
BURST_SESSIONS = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "0.5,a,1.5,GPT-4,100,10,110,Conversation log\n10,a,2,GPT-4,200,20,220,Conversation log\n"
)
MOONCAKE = [
    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [*range(46, 58), 2353, 2354]},
    {"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": [*range(46, 58), 2366]},
]
_CHAT: dict[str, Any] = {"chat_id": 159, "parent_chat_id": -1, "type": "text", "turn": 1}
BAILIAN = [
    {**_CHAT, "timestamp": 61.114, "input_length": 521, "output_length": 132, "hash_ids": [*range(1089, 1122)]},
    {**_CHAT, "chat_id": 160, "parent_chat_id": 159, "turn": 2, "timestamp": 62.5, "input_length": 676,
     "output_length": 80, "hash_ids": [*range(1089, 1122), *range(10)]},
]  # fmt: skip
AIPERF = [
    {
        "metadata": {"request_start_ns": start, "benchmark_phase": phase},
        "metrics": {"input_sequence_length": {"value": 550, "unit": "tokens"}, "output_sequence_length": {"value": 8}},
        "error": error,
    }
    for start, phase, error in (
        (1764500002000000000, "profiling", None), (1764500000500000000, "profiling", None),
        (1764500001000000000, "profiling", {"code": 500}), (1764400000000000000, "warmup", None),
    )
]  # fmt: skip
SPLITWISE = (
    "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
    "0,2,0,0.0,1,374,44\n1,2,0,1.5,1,396,109\n"
)
SPANS: list[dict[str, Any]] = [
    {
        "name": "chat", "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 10**9),
        "attributes": {"gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": 9},
    }
    for start, prompt in ((1764500001500000000, 70), (1764500001000000000, 50))
]  # fmt: skip
OTLP = [
    {
        **span,
        "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}, {"key": "odd"}]
        + [{"key": key, "value": {"intValue": str(value)}} for key, value in span["attributes"].items()],
    }
    for span in SPANS
]
VLLM = {"completed": 2, "start_times": [100.5, 100.25, 101.0], "input_lens": [7, 8, 9], "output_lens": [3, 4, 0],
        "errors": ["", "", "timed out"]}  # fmt: skip
PERF = [
    {"start_time": start, "end_time": start + 2.0, "session_id": "a", "request": "{}", "error": error,
     "info": {"request_metrics": {"text": {"input_tokens": 70}}, "response_metrics": {"output_tokens": 9}}}
    for start, error in ((12.5, None), (12.0, None), (13.0, {"error_type": "HTTP Error 503"}))
]  # fmt: skip
GUIDELLM = {
    "benchmarks": [
        {"requests": {
            "successful": [{"request_start_time": 1764500001.5, "prompt_tokens": 256, "output_tokens": 128},
                           {"request_start_time": 1764500001.0, "prompt_tokens": 32, "output_tokens": 64}],
            "errored": [{"request_start_time": 1764500001.2, "prompt_tokens": 32, "output_tokens": 0}],
        }}
    ]
}  # fmt: skip


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


SAMPLES: dict[str, tuple[str, str, str, list[tuple[float, int, int]], int, int]] = {
    # a file's ending and text; then format, requests, tokens of a hash block, requests left out as failed
    "own": ("csv", OWN, "flashstill", [(0.0, 5, 1)], 0, 0),
    "Azure 2023": ("csv", AZURE_2023, "azure", [(0.0, 4808, 10), (0.052, 3180, 8)], 0, 0),
    "Azure 2024": ("csv", AZURE_2024, "azure", [(0.0, 2162, 5), (0.99007, 2399, 6), (86401.49007, 76, 15)], 0, 0),
    "BurstGPT": ("csv", BURST, "burstgpt", [(5.0, 472, 18), (118.0, 417, 276)], 0, 1),
    "BurstGPT with sessions": ("csv", BURST_SESSIONS, "burstgpt", [(0.5, 100, 10), (10.0, 200, 20)], 0, 0),
    "Mooncake": ("jsonl", lines(MOONCAKE), "mooncake", [(27.482, 6955, 52), (30.535, 6472, 26)], 512, 0),
    "Bailian": ("jsonl", lines(BAILIAN), "bailian", [(61.114, 521, 132), (62.5, 676, 80)], 16, 0),
    "AIPerf": ("jsonl", lines(AIPERF), "aiperf", [(0.0, 550, 8), (1.5, 550, 8)], 0, 1),
    "Splitwise": ("csv", SPLITWISE, "splitwise", [(0.0, 374, 44), (1.5, 396, 109)], 0, 0),
    "OpenTelemetry": ("jsonl", lines(SPANS), "otel", [(0.0, 50, 9), (0.5, 70, 9)], 0, 0),
    "OpenTelemetry as OTLP writes it": ("jsonl", lines(OTLP), "otel", [(0.0, 50, 9), (0.5, 70, 9)], 0, 0),
    "vLLM": ("json", json.dumps(VLLM), "vllm-bench", [(0.0, 8, 4), (0.25, 7, 3)], 0, 1),
    "inference-perf": ("json", json.dumps(PERF), "inference-perf", [(0.0, 70, 9), (0.5, 70, 9)], 0, 1),
    "GuideLLM": ("json", json.dumps(GUIDELLM, indent=1), "guidellm", [(0.0, 32, 64), (0.5, 256, 128)], 0, 1),
}


def written(tmp_path: Path, ending: str, text: str) -> Path:
    path = tmp_path / f"trace.{ending}"
    path.write_text(text, encoding="utf-8")
    return path


def requests(trace: Trace) -> list[tuple[float, int, int]]:
    return [(row.arrival_s, row.prompt, row.output) for _, row in trace.rows()]


@pytest.mark.parametrize("name", SAMPLES)
def test_each_format_is_known_by_its_columns(tmp_path: Path, name: str) -> None:
    ending, text, form, expected, block, failed = SAMPLES[name]
    trace = Trace(written(tmp_path, ending, text))
    found = requests(trace)
    assert trace.form.name == form
    assert trace.hash_block == block
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert trace.seen.failed == failed
    assert [note for note in trace.seen.notes() if "left out" in note] == [
        f"{failed} of the trace's {failed + len(expected)} requests failed or have no output tokens, and are left out"
    ] * bool(failed)


def test_names_whose_dots_are_their_own_or_levels(tmp_path: Path) -> None:
    row = {"at": 1.5, "gen_ai.usage": {"input": 7}, "a.b": 3}
    read = Reading(trace_columns="time=at,input=gen_ai.usage.input,output=a.b", time_unit="s")
    assert requests(Trace(written(tmp_path, "jsonl", lines([row])), read)) == [(0.0, 7, 3)]


@pytest.mark.parametrize("ending", ["gz", "xz"])
def test_compressed_files_are_the_same_trace(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"trace.csv.{ending}"
    path.write_bytes((gzip if ending == "gz" else lzma).compress(BURST.encode()))
    assert requests(Trace(path)) == SAMPLES["BurstGPT"][3]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    table = pyarrow.Table.from_pylist([{**row, "timestamp": float(row["timestamp"])} for row in BAILIAN])
    parquet.write_table(table, tmp_path / "trace.parquet")
    trace = Trace(tmp_path / "trace.parquet")
    assert (requests(trace), trace.hash_block, trace.place) == (SAMPLES["Bailian"][3], 16, "row")
    (tmp_path / "broken.parquet").write_bytes((tmp_path / "trace.parquet").read_bytes()[:-40])
    with pytest.raises(fs.BadInput, match="cannot be read"):
        Trace(tmp_path / "broken.parquet")


def test_sessions_are_told_and_share_their_blocks(tmp_path: Path) -> None:
    trace = Trace(written(tmp_path, "jsonl", lines(BAILIAN)))
    (piece,) = pieces_of(trace)
    assert piece.key_ends.tolist() == [32, 74]  # 521 tokens are 32 whole blocks of 16
    assert (piece.keys[:32] == piece.keys[32:64]).all()
    assert trace.seen.notes() == (
        "open loop: 1 of the trace's 2 requests go on with an earlier one; they arrive when they did, whether or not"
        " that one is answered by then (simulate --replay)",
    )


def test_hits_in_blocks_of_any_size(tmp_path: Path) -> None:
    text = "arrival_s,input_tokens,output_tokens,blocks16,prefix_hit_blocks16\n0,100,1,7,0\n1,100,1,7,3\n2,32,1,2,2\n"
    assert [row.cached for _, row in Trace(written(tmp_path, "csv", text)).rows()] == [0, 48, 31]


PLAIN = '{"timestamp": 3, "input_length": 256, "output_length": 128}\n'


@pytest.mark.parametrize(
    ("text", "said", "expected"),
    [
        (PLAIN, {"time_unit": "s"}, [(0.0, 256, 128)]),
        (PLAIN, {"trace_format": "mooncake"}, [(0.003, 256, 128)]),
        ('{"t": 1500, "usage": {"in": 7, "out": 2}}\n{"t": 2500, "usage": {"in": 8, "out": 3}}\n',
         {"trace_columns": "time=t,input=usage.in,output=usage.out", "time_unit": "ms"}, [(0.0, 7, 2), (1.0, 8, 3)]),
        ("start_ms,in,out\n1500,7,2\n2500,8,0\n",
         {"trace_columns": "time=start_ms,input=in,output=out", "skip_failed": True}, [(0.0, 7, 2)]),
        ("at,in,out\n2024-05-10T00:00:00Z,7,2\n2024-05-10T02:00:01+02:00,8,3\n",
         {"trace_columns": "time=at,input=in,output=out"}, [(0.0, 7, 2), (1.0, 8, 3)]),
        (OWN + "1,6,0\n", {"skip_failed": True}, [(0.0, 5, 1)]),
        (OWN.replace("0,5,1", "9,5,1\n3,4,2"), {"trace_sort": True}, [(3.0, 4, 2), (9.0, 5, 1)]),
        (OWN + "10,6,2\n20,7,3\n30,8,4\n", {"trace_from_s": 5.0, "trace_until_s": 25.0}, [(5.0, 6, 2), (15.0, 7, 3)]),
        (BURST, {"trace_only": "Model=GPT-4,Log Type=API log"}, [(118.0, 417, 276)]),
        (OWN.replace("0,5,1", "1764500000.5,5,1\n1764500001.5,6,2"), {}, [(0.0, 5, 1), (1.0, 6, 2)]),
    ],
)  # fmt: skip
def test_what_a_user_says(tmp_path: Path, text: str, said: dict[str, Any], expected: list[Any]) -> None:
    assert requests(Trace(written(tmp_path, "txt", text), Reading(**said))) == expected


@pytest.mark.parametrize(
    ("text", "said", "sentence"),
    [
        (PLAIN, {}, "are the numbers in 'timestamp' of .* seconds or milliseconds"),
        (lines([{**MOONCAKE[0], "timestamp": 27.482}]), {}, "line 1: timestamp is '27.482', not a number of at least 0"
         " in whole milliseconds"),
        (lines([{**MOONCAKE[0], "hash_ids": [1, 2, 3]}]), {}, "line 1: 3 names for 6,955 tokens are not those of blocks"
         " of 512 tokens; say how large they are with --hash-block"),
        ("t,in,out,h\n1,5,2,7 8\n", {"trace_columns": "time=t,input=in,output=out,hashes=h", "time_unit": "s"},
         "how many tokens has a block that h of .* names"),
        (AZURE_2024.replace("+00:00,76", ",76"), {}, "line 4: TIMESTAMP is '2024-05-12 00:00:00.500000', not a date"),
        (AZURE_2024.replace("2024-05-11", "11.5.2024"), {}, "line 3: TIMESTAMP is"),
        (AZURE_2024, {"time_unit": "s"}, "has dates; leave the unit of time out"),
        (AZURE_2024.replace("05-12", "05-09"), {}, "line 4: arrives before the request above it"),
        (BURST.replace("472", "4.5"), {}, "line 2: Request tokens is '4.5', not a whole number of at least 1"),
        (BURST.replace("ChatGPT,1087", "1087"), {}, "line 3: 5 of 6 columns"),
        (BURST.replace("45,", '"45,'), {}, "line 3: not a line of CSV"),
        (BURST, {"trace_only": "Modle=GPT-4"}, "has no column 'Modle'; is it 'Model'?"),
        (OWN + "1,6,0\n", {}, "line 3: output_tokens is '0', not a whole number of at least 1 .--skip-failed"),
        (OWN.replace("arrival_s", "arival_s"), {}, "has no column 'arrival_s'; is it 'arival_s'?"),
        (OWN.replace("output_tokens", "arrival_s"), {}, "has two columns 'arrival_s'"),
        ("window_start_s,rate\n0,5\n", {}, "give it as --daily"),
        ('{"request_id": 0, "type": "text", "input_length": 61, "output_length": 2370, "duration": 14000}\n', {},
         "without times of arrival; give it as --lengths"),
        ("", {}, "is empty; a line for each request is expected"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, text: str, said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(fs.BadInput, match=sentence):
        list(pieces_of(Trace(written(tmp_path, "txt", text), Reading(**said))))


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({**VLLM, "input_lens": [1]}, "lists of different lengths: 3 start_times, 1 input_lens"),
        ({"total_output_tokens": 5}, "run vllm bench serve with --save-detailed"),
        ({"benchmarks": [{}, {}]}, "has 2 benchmarks"),
        ({"benchmarks": [{}]}, "has no requests in its benchmark"),
        (5, "without requests"),
    ],
)
def test_mistakes_of_documents(tmp_path: Path, document: Any, sentence: str) -> None:
    with pytest.raises(fs.BadInput, match=sentence):
        Trace(written(tmp_path, "json", json.dumps(document)))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"trace_format": "azur"}, "unknown format of a trace 'azur'; the nearest known: azure"),
        ({"time_unit": "min"}, "unknown unit of time 'min'"),
        ({"trace_columns": "time=t"}, "trace_columns needs input and output"),
        ({"trace_columns": "when=t"}, "unknown part of trace_columns 'when'"),
        ({"trace_columns": "time"}, "write pairs"),
        ({"trace_columns": "time=t,input=i,output=o", "trace_format": "azure"}, "not both"),
        ({"trace_from_s": 5.0, "trace_until_s": 5.0}, "goes from"),
    ],
)
def test_what_a_user_may_not_say(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(fs.BadInput, match=sentence):
        Reading(**said)


def test_lengths_of_any_format(tmp_path: Path) -> None:
    batch = '{"request_id": 0, "input_length": 61, "output_length": 2370, "duration": 14000}\n'
    for text, expected in ((BURST, [[472, 417], [18, 276]]), (batch, [[61], [2370]])):
        assert [each.tolist() for each in read_lengths(written(tmp_path, "txt", text))] == expected


def test_too_many_to_sort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MOST_SORTED", 1)
    with pytest.raises(fs.BadInput, match="too many to sort here"):
        requests(Trace(written(tmp_path, "csv", OWN * 1 + "1,5,1\n"), Reading(trace_sort=True)))


def span(name: str, parent: str, start: int, attributes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A span as OTLP writes it, of one second, from `start` milliseconds on."""
    kinds = {int: "intValue", str: "stringValue"}
    pairs = [{"key": key, "value": {kinds[type(value)]: str(value)}} for key, value in attributes.items()]
    begin = 1764500000000000000 + start * 10**6
    times = {"startTimeUnixNano": str(begin), "endTimeUnixNano": str(begin + 10**9)}
    return {"spanId": name, "parentSpanId": parent, "name": name, **times, "attributes": pairs, **more}


def export(*spans: dict[str, Any], resources: str = "resourceSpans") -> dict[str, Any]:
    return {resources: [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


def usage(prompt: int, answer: int, **more: Any) -> dict[str, Any]:
    names = {"gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": answer}
    return {"gen_ai.operation.name": "chat", **names, **{f"gen_ai.{key}": value for key, value in more.items()}}


AGENT = [
    span("agent", "", 0, {**usage(300, 30), "gen_ai.operation.name": "invoke_agent"}),
    span("turn", "agent", 10, usage(100, 10)),
    span("tool", "agent", 20, {"gen_ai.operation.name": "execute_tool"}),
    span("client", "agent", 30, usage(200, 20)),
    span("http", "client", 31, {"http.request.method": "POST"}),
    span("engine", "http", 40, {"gen_ai.usage.prompt_tokens": 202, "gen_ai.usage.completion_tokens": 21}),
    span("embedding", "", 50, {"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 9}),
    span("refused", "", 60, {"gen_ai.operation.name": "chat"}, status={"code": 2, "message": "503"}),
    span("silent", "", 70, {"gen_ai.operation.name": "chat"}, status={}),
    span("long", "", 80, {**usage(7, 3), "gen_ai.input.messages": "x" * 5000}),
]  # fmt: skip
EXPORTS = {
    "a batch a line": ("jsonl", lines([export(*AGENT[:4]), export(*AGENT[4:])])),
    "a span a line": ("jsonl", lines(AGENT)),
    "one document": ("json", json.dumps(export(*AGENT), indent=1)),
    "Tempo's": ("json", json.dumps({"trace": export(*AGENT, resources="batches")})),
    "a list of spans": ("json", json.dumps(AGENT)),
    "a line of over a million characters": (
        "jsonl", lines([export(*AGENT, *(span(f"w{at}", "", at, {"x": "y" * 1000}) for at in range(900)))])
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_whole_exports_of_opentelemetry(tmp_path: Path, name: str) -> None:
    """A request that several spans tell of counts once, at the lowest; tools, agents and embeddings are none."""
    trace = Trace(written(tmp_path, *EXPORTS[name]))
    np.testing.assert_allclose(requests(trace), [(0.0, 100, 10), (0.03, 202, 21), (0.07, 7, 3)], atol=2e-6)
    assert (trace.form.name, trace.seen.requests, trace.seen.failed, trace.seen.untold) == ("otel", 5, 1, 1)
    assert "1 of the trace's 5 requests have no counts of tokens, and are left out" in trace.seen.notes()


def test_conversations_of_spans(tmp_path: Path) -> None:
    talk = {"conversation.id": "a"}
    spans = [span(f"s{at}", "", 2000 * at, usage(10 * at + 10, 5, **talk)) for at in range(3)]
    turns = [row.turn for _, row in Trace(written(tmp_path, "jsonl", lines([export(*spans)])), with_turns=True).rows()]
    assert [(turn.name, turn.answer_s) for turn in turns if turn] == [("a", 1.0)] * 3
    nothing = written(tmp_path, "jsonl", lines([export(*AGENT)]))
    with pytest.raises(fs.BadInput, match=r"has no column 'attributes.gen_ai.conversation.id', which says"):
        Trace(nothing, with_turns=True)


def test_an_export_without_requests(tmp_path: Path) -> None:
    path = written(tmp_path, "jsonl", lines([export(AGENT[2], AGENT[4])]))
    with pytest.raises(fs.BadInput, match=r"has 2 spans, and none is a request to a model: they need gen_ai.usage.inp"):
        Trace(path)


def test_files_that_are_no_traces_say_what_they_are(tmp_path: Path) -> None:
    for ending, text, sentence in (
        ("jsonl", '{"conversation_hash": "a", "timestamp": "2024", "conversation": []}', "no counts of tokens"),
        ("jsonl", '{"id": "a", "conversations": [{"from": "human", "value": "hi"}]}', "texts of conversations and no"),
        ("jsonl", '{"resourceMetrics": []}', "an OTLP export of metrics or logs; requests are in that of traces"),
        ("json", '{"data": [{"traceID": "x", "spans": []}]}', "is an export of Jaeger; give the same traces as OTLP"),
    ):
        with pytest.raises(fs.BadInput, match=sentence):
            Trace(written(tmp_path, ending, text))


BROKEN = st.sampled_from([*(each[:2] for each in SAMPLES.values()), *list(EXPORTS.values())[:5]])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sample=BROKEN, cut=st.floats(0, 1), junk=st.binary(max_size=12), drop=st.integers(0, 30))
def test_a_broken_file_never_ends_in_a_traceback(
    tmp_path: Path, sample: tuple[str, str], cut: float, junk: bytes, drop: int
) -> None:
    """Bytes put in or left out anywhere: the requests are read, or one sentence names the file and mostly the line."""
    data = sample[1].encode()
    at = int(cut * len(data))
    path = tmp_path / f"trace.{sample[0]}"
    path.write_bytes(data[:at] + junk + data[at + drop :])
    sentence = str(path)
    try:
        list(pieces_of(Trace(path)))
    except fs.BadInput as error:
        sentence = str(error)
    assert str(path) in sentence
    assert "\n" not in sentence


def test_the_command_tells_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "csv", BURST)
    asked = ["simulate", "--model", "qwen3-8b", "--chip", "h100-sxm", "--trace", str(path)]
    main(asked)
    printed = capsys.readouterr()
    assert "1 of the trace's 3 requests failed or have no output tokens, and are left out" in printed.out + printed.err
    main([*asked, "--trace-only", "Model=GPT-4", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (document["requests"], document["traffic"]["trace_only"]) == (1, "Model=GPT-4")
    assert "unknown unit of time" in refuse(capsys, *asked, "--time-unit", "hours")
