"""A user's own measurements: read, compared, and made into facts that improve their stack and no other."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.facts import Facts, load
from flashstill.plan.case import Case
from flashstill.plan.predict import predict
from flashstill.plan.served import without_served_ratios
from flashstill.validation.own import OwnStack, compare_own, read_own, stack_offset, stacks_of
from tests.commands import refuse
from tests.deployments import FACTS

HEADER = "model,chip,tp,engine,precision,isl,osl,concurrency,measured_tpot_ms,measured_ttft_ms\n"
CASE = Case.of(
    model="llama-3.1-70b", chip="h100-sxm", tp=4, engine="vllm", precision="fp8", isl=1024, osl=512, concurrency=16
)
LINE = "llama-3.1-70b,h100-sxm,4,vllm,fp8,1024,512,16,{},{}\n"


def own_stacks(facts: Facts, path: Path) -> list[OwnStack]:
    """As `calibrate` makes them; ratios in `facts` are left aside."""
    plain = without_served_ratios(facts)
    return stacks_of(plain, compare_own(plain, path))


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """One row, measured a third slower than predicted."""
    (answer,) = predict(FACTS, [CASE])
    assert answer.tpot_s is not None
    assert answer.ttft_s is not None
    path = tmp_path / "measured.csv"
    path.write_text(HEADER + LINE.format(answer.tpot_s * 4e3 / 3, answer.ttft_s * 4e3 / 3), encoding="utf-8")
    return path


@pytest.mark.slow
def test_one_row_helps_its_stack_and_harms_no_other(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "facts"
    main(["calibrate", str(measured), "--out", str(out)])
    trust = 0.165**2 / (0.165**2 + 0.093**2)  # of one row
    assert f"{(4 / 3) ** trust:.4g}"[:4] in capsys.readouterr().out
    own = load([out])
    for more in ({}, {"concurrency": 64}, {"tp": 8}, {"isl": 4096}):
        before, after = (predict(facts, [CASE.but(**more)])[0] for facts in (FACTS, own))
        assert after.tpot_s == pytest.approx((before.tpot_s or 0) * (4 / 3) ** trust, rel=1e-3)
        assert (before.ttft_s or 0) < (after.ttft_s or 0) < (before.ttft_s or 0) * 4 / 3
        stay = (after.ttft_s or 0) + 511 * (after.tpot_s or 0)
        assert (after.output_tokens_per_s or 0) * stay == pytest.approx(more.get("concurrency", 16) * 512)
    for other in ({"engine": "sglang"}, {"model": "qwen3-32b"}, {"chip": "h200-sxm"}, {"precision": "bf16"}):
        changed = [predict(facts, [CASE.but(**other)])[0] for facts in (FACTS, own)]
        assert changed[0] == changed[1]


@pytest.mark.parametrize(("milliseconds", "told"), [("0.0094,0.07", "shorter"), ("9400,70000", "longer")])
def test_another_unit_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], milliseconds: str, told: str
) -> None:
    path, out = tmp_path / "measured.csv", tmp_path / "facts"
    path.write_text(HEADER + LINE.format(*milliseconds.split(",")), encoding="utf-8")
    if told == "shorter":  # a true latency is never so short
        line = refuse(capsys, "calibrate", path, "--out", out)
        assert "line 2: measured_tpot_ms is 0.0094, " in line
        assert "times shorter than predicted; write milliseconds, not seconds" in line
        assert not out.exists()
    else:
        main(["calibrate", str(path), "--out", str(out)])
        assert "times longer than predicted; is it in milliseconds?" in capsys.readouterr().err
    main(["validate", "--measured", str(path)])
    assert f"times {told} than predicted" in capsys.readouterr().err


def test_repeats_that_contradict_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "measured.csv"
    lines = [LINE.format(milliseconds, 100) for milliseconds in (30, 10, 11, 12)]
    other = LINE.format(40, 100).replace(",16,", ",32,")
    path.write_text(HEADER + "".join(lines) + other, encoding="utf-8")
    main(["validate", "--measured", str(path)])
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert notes == ["note: lines 2 and 3 measure the same case, with a measured_tpot_ms 3 times apart"]


def test_as_many_rows_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashstill.validation.own.MOST_ROWS", 2)
    path = tmp_path / "measured.csv"
    path.write_text(HEADER + 2 * LINE.format(10, 100), encoding="utf-8")
    assert len(read_own(path)) == 2
    path.write_text(HEADER + 3 * LINE.format(10, 100), encoding="utf-8")
    with pytest.raises(BadInput, match="more than 2 rows"):
        read_own(path)


def test_a_search_and_a_prediction_agree_on_a_calibrated_stack(measured: Path, tmp_path: Path) -> None:
    from flashstill.plan.scenario import Scenario
    from flashstill.plan.search import search
    from flashstill.plan.space import SearchSpace

    main(["calibrate", str(measured), "--out", str(tmp_path / "facts")])
    own = load([tmp_path / "facts"])
    (answer,) = predict(own, [CASE])
    space = SearchSpace(chips=("h100-sxm",), max_chips=4, batches=(16,), precisions=("fp8",), engine="vllm")
    points = search(own, Scenario(model="llama-3.1-70b", isl=1024, osl=512), space).front
    assert answer.tpot_s in [point.tpot_s for point in points if point.tp == 4]


def test_calibrating_twice_is_calibrating_once(measured: Path, tmp_path: Path) -> None:
    main(["calibrate", str(measured), "--out", str(tmp_path / "facts")])
    first, again = own_stacks(FACTS, measured), own_stacks(load([tmp_path / "facts"]), measured)
    assert first == again


def test_comparison_as_json(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["validate", "--measured", str(measured), "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["quantity"] for row in rows] == ["tpot_s", "ttft_s"]
    assert all(row["error"] == pytest.approx(-0.25) for row in rows)
    assert "--measured compares one file" in refuse(capsys, "validate", "--measured", measured, "--golden")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model,chip\nqwen3-8b,h100-sxm\n", "has no column measured_tpot_ms or measured_ttft_ms"),
        (HEADER + LINE.format("", ""), "no row of .* has a measured latency"),
        (HEADER + LINE.format("-3", ""), "line 2: measured_tpot_ms is '-3', not a number of milliseconds above 0"),
        (HEADER + LINE.format("9", "nan"), "line 2: measured_ttft_ms is 'nan'"),
        (HEADER + LINE.format("9", "").replace("fp8", "fp9"), "line 2: .*fp9"),
        (HEADER + LINE.format("9", "").replace("llama", "lama"), "line 2: .*lama"),
        (HEADER + LINE.format("9", "").replace(",4,", ",,").replace("h100-sxm", ""), "line 2: the row has no chip"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "measured.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=sentence):
        own_stacks(FACTS, path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_own(tmp_path / "none.csv")


VLLM = {
    "model_id": "qwen3-8b", "max_concurrency": 8, "completed": 10, "total_input_tokens": 10240,
    "total_output_tokens": 1280, "mean_ttft_ms": 70.0, "mean_tpot_ms": 9.4,
}  # fmt: skip
GUIDELLM = {
    "benchmarks": [
        {"metrics": {name: {"successful": {"mean": mean}, "errored": {"mean": 1.0}} for name, mean in (
            ("prompt_token_count", 1024.2), ("output_token_count", 127.9), ("request_concurrency", 7.8),
            ("inter_token_latency_ms", 9.4), ("time_to_first_token_ms", 70.0),
            ("time_per_output_token_ms", (70.0 + 127 * 9.4) / 128),
        )}}
    ]
}  # fmt: skip
AIPERF = {
    "time_to_first_token": {"unit": "ms", "avg": 70.0}, "inter_token_latency": {"unit": "us", "avg": 9400.0},
    "input_sequence_length": {"unit": "tokens", "avg": 1024}, "output_sequence_length": {"unit": "tokens", "avg": 128},
}  # fmt: skip
INFERENCE_PERF = {
    "load_summary": {"concurrency": 8, "requested_rate": None},
    "successes": {
        "count": 10, "prompt_len": {"mean": 1024}, "output_len": {"mean": 128},
        "latency": {"time_to_first_token": {"mean": 0.07}, "time_per_output_token": {"mean": 0.0094}},
    },
}  # fmt: skip


GENAI_PERF = {
    **AIPERF, "input_config": {"model": "qwen3-8b", "perf_analyzer": {"stimulus": {"concurrency": 8}}},
}  # fmt: skip
LLMPERF = {
    "model": "qwen3-8b", "mean_input_tokens": 1000, "num_concurrent_requests": 8, "results_ttft_s_mean": 0.07,
    "results_end_to_end_latency_s_mean": 0.07 + 127 * 0.0094, "results_number_output_tokens_mean": 128,
    "results_inter_token_latency_s_mean": (0.07 + 127 * 0.0094) / 128, "results_number_input_tokens_mean": 1024,
    "results_num_requests_started": 10,
}  # fmt: skip
RESULTS = {
    "vllm": VLLM, "guidellm": GUIDELLM, "aiperf": AIPERF, "perf": INFERENCE_PERF, "genai": GENAI_PERF,
    "llmperf": LLMPERF,
}  # fmt: skip


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_results_of_load_generators(tmp_path: Path, result: dict[str, object]) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    given = {"model": "qwen3-8b", "chip": "h100-sxm", "concurrency": "8", "engine": "vllm"}
    (row,) = read_own(path, given)
    assert row.case == Case.of(model="qwen3-8b", chip="h100-sxm", engine="vllm", isl=1024, osl=128, concurrency=8)
    assert row.measured == {"tpot_s": pytest.approx(9.4e-3), "ttft_s": pytest.approx(0.07)}


INFERENCE_PERF_2026 = {
    "load_summary": {"count": 12, "requested_rate": 4.0, "achieved_rate": 4.1},
    "successes": {
        "count": 10, "prompt_tokens": {"total": 10240.0, "cached": 0.0, "mean": 1024.0},
        "output_len": {"mean": 126.0}, "output_tokens": {"total": 1280.0, "mean": 128.0},
        "throughput": {"requests_per_sec": 8 / (0.07 + 127 * 0.0094)},
        "latency": {
            "request_latency": {"mean": 0.07 + 127 * 0.0094}, "time_to_first_token": {"mean": 0.07},
            "time_per_output_token": {"mean": 0.0094}, "normalized_time_per_output_token": {"mean": 0.01},
        },
    },
    "failures": {"count": 2},
}  # fmt: skip
TRTLLM = {
    "engine": {"model": "Qwen/Qwen3-8B"}, "world_info": {"tp_size": 1, "pp_size": 1},
    "request_info": {"avg_num_concurrent_requests": 8.0, "avg_input_length": 1024.0, "avg_output_length": 128.0},
    "performance": {"avg_request_latency_ms": 1263.8},
    "streaming_metrics": {"avg_ttft_ms": 70.0, "avg_tpot_ms": 9.4},
}  # fmt: skip
SGLANG_2026 = {
    "backend": "sglang", "request_rate": "trace", "max_concurrency": 64, "concurrency": 8.1, "completed": 10,
    "total_input": 10240, "total_output": 1280, "mean_ttft_ms": 70.0, "mean_tpot_ms": 9.4, "errors": ["", "timed out"],
}  # fmt: skip
AIPERF_RUNS = {
    "metadata": {"num_profile_runs": 3}, "input_config": {"models": {"items": [{"name": "qwen3-8b"}]}},
    "metrics": {f"{tag}_avg": {"mean": each["avg"], "unit": each["unit"]} for tag, each in AIPERF.items()},
}  # fmt: skip
NEWER = {"inference-perf": INFERENCE_PERF_2026, "trtllm-bench": TRTLLM, "SGLang": SGLANG_2026, "AIPerf": AIPERF_RUNS}


@pytest.mark.parametrize("result", NEWER.values(), ids=NEWER)
def test_results_of_newer_releases(tmp_path: Path, result: dict[str, object]) -> None:
    """Tokens as the server counts them, a stage at a rate by Little's law, the mean in flight beside a limit."""
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    given = {"model": "qwen3-8b", "chip": "h100-sxm", "engine": "vllm"}
    if result is AIPERF_RUNS:
        given["concurrency"] = "8"
    (row,) = read_own(path, given)
    split = {"tp": 1, "pp": 1} if result is TRTLLM else {}
    case = {"model": "qwen3-8b", "chip": "h100-sxm", "engine": "vllm", "isl": 1024, "osl": 128, "concurrency": 8}
    assert row.case == Case.of(**case, **split)
    assert row.measured == {"tpot_s": pytest.approx(9.4e-3), "ttft_s": pytest.approx(0.07)}


def test_requests_that_failed_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, given = tmp_path / "result.json", {"model": "qwen3-8b", "chip": "h100-sxm", "concurrency": "8"}
    metrics = {**GUIDELLM["benchmarks"][0]["metrics"], "request_totals": {"successful": 9, "errored": 1, "total": 12}}
    level = {"load": "closed", "latencies": {"ttft_s": {"mean": 0.1}}, "prompt_tokens": 9.0, "output_tokens": 9.0}
    for result, failed in (
        ({**VLLM, "failed": 5}, "5 of 15"), (SGLANG_2026, "1 of 11"), (INFERENCE_PERF_2026, "2 of 12"),
        ({**AIPERF, "error_request_count": {"avg": 3.0}, "request_count": {"avg": 97.0}}, "3 of 100"),
        ({**LLMPERF, "results_number_errors": 2}, "2 of 10"), ({"benchmarks": [{"metrics": metrics}]}, "1 of 10"),
        ({"definitions": {}, "levels": [{**level, "requests": 40, "failures": {"stall": 1, "reset": 2}}]}, "3 of 40"),
        (VLLM, ""),
    ):  # fmt: skip
        path.write_text(json.dumps(result), encoding="utf-8")
        assert read_own(path, given)[0].failed == failed
    path.write_text(json.dumps({**VLLM, "failed": 5}), encoding="utf-8")
    main(["validate", "--measured", str(path), "--case", "chip=h100-sxm"])
    assert "note: line 1: 5 of 15 requests failed and are in none of its figures" in capsys.readouterr().err


def test_who_fills_the_server_counts_in_flight_whether_it_ended_well_or_not(tmp_path: Path) -> None:
    """GuideLLM ends a run by time: what is cut off then was in flight as well."""
    path, given = tmp_path / "benchmarks.json", {"model": "qwen3-8b", "chip": "h100-sxm"}
    metrics = dict(GUIDELLM["benchmarks"][0]["metrics"])
    metrics["request_concurrency"] = {"successful": {"mean": 5.0}, "incomplete": {"mean": 3.0}, "total": {"mean": 8.0}}
    path.write_text(json.dumps({"benchmarks": [{"metrics": metrics}]}), encoding="utf-8")
    assert read_own(path, given)[0].case.scenario.batch == 8


def test_several_runs_in_a_file(tmp_path: Path) -> None:
    """`vllm bench sweep` keeps a list, `vllm bench serve --append-result` writes one object after the other."""
    path, given = tmp_path / "summary.json", {"chip": "h100-sxm"}
    for content in (json.dumps([VLLM, VLLM]), json.dumps(VLLM) + "\n" + json.dumps(VLLM)):
        path.write_text(content, encoding="utf-8")
        assert [row.case.scenario.batch for row in read_own(path, given)] == [8, 8]


STRANGERS = {
    "a.json": ([{"benchmark": {}, "model": {}, "metric": {}}], "in PyTorch's benchmark format; give vLLM's own result"),
    "profile_export.jsonl": ({"metadata": {}, "metrics": {}, "error": None}, "AIPerf's list of requests; give"),
    "profile_export.json": ({"experiments": [], "service_kind": "openai"}, "give profile_export_genai_perf.json"),
    "one.jsonl": ({"prefill_latency": 1, "overall_throughput": 9}, "SGLang's bench_one_batch, which starts no server"),
    "per.json": ([{"start_time": 1, "end_time": 2, "info": {}}], "inference-perf's list of requests; give a stage_N"),
    "locust.json": ([{"num_requests": 1, "num_failures": 0, "response_times": {}}], "Locust, which counts requests"),
    "none.json": ({**VLLM, "completed": 0, "total_output_tokens": 0}, "none.json: no request of this run ended well"),
    "benchmarks.csv": ("Run Info,Run Info\nRun ID,Run Index\n,\nx,0\n", "heading is of its first benchmark alone"),
    "profile_export_aiperf.csv": ("Metric,avg,min\nTime to First Token (ms),70,60\n", "a table of AIPerf or"),
    "stats.csv": ("Type,Name,Request Count\nPOST,/v1,9\n", "Locust, which counts requests and no tokens"),
    "summary.csv": (",run_number,mean_ttft_ms\n0,0,70\n", "table of vllm bench sweep; give the summary.json"),
    "benchmarks.html": ("<!DOCTYPE html>\n<html></html>", "a page for a browser; give the .json"),
    "benchmarks.yaml": ("args: {}\nbenchmarks:\n- metrics: {}\n", r"no point of MLPerf Endpoints \(benchmarks\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_files_that_hold_no_means_say_what_to_give(tmp_path: Path, name: str) -> None:
    content, sentence = STRANGERS[name]
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(BadInput, match=sentence):
        read_own(path, {"model": "qwen3-8b", "chip": "h100-sxm", "concurrency": "8"})


def test_what_a_result_says_of_its_model_and_load_need_not_be_given(tmp_path: Path) -> None:
    """AIPerf and genai-perf: the configuration's concurrency, or at a rate requests/s times their stay."""
    path, given = tmp_path / "result.json", {"chip": "h100-sxm"}
    stay = {"request_throughput": {"avg": 2.0, "unit": "requests/sec"}, "request_latency": {"avg": 1.5, "unit": "s"}}
    named = {"endpoint": {"model_names": ["qwen3-8b"]}}
    for config, many in (
        ({**named, "loadgen": {"concurrency": 8, "request_rate": None}}, 8),
        ({**named, "loadgen": {"concurrency": 8, "request_rate": 2.0}}, 3),
        ({**named, "phases": [{"name": "warmup", "concurrency": 1}, {"name": "profiling", "concurrency": 9}]}, 9),
        (named, 3),
    ):
        path.write_text(json.dumps({**AIPERF, **stay, "input_config": config}), encoding="utf-8")
        (row,) = read_own(path, given)
        assert (row.case.scenario.model, row.case.scenario.batch) == ("qwen3-8b", many)
    for result in (GENAI_PERF, LLMPERF):
        path.write_text(json.dumps(result), encoding="utf-8")
        assert read_own(path, given)[0].case.scenario.batch == 8


def test_runs_of_sglang_a_line_each(tmp_path: Path) -> None:
    """bench_serving appends a line for every run; `concurrency` is the mean in flight, and an endless rate Infinity."""
    run = {**VLLM, "backend": "sglang", "request_rate": math.inf, "max_concurrency": None, "concurrency": 7.6}
    path = tmp_path / "sglang_1130_10_random.jsonl"
    lines = [{**run, "max_concurrency": 16}, run, {**run, "request_rate": 4.0, "max_concurrency": 64}]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    rows = read_own(path, {"chip": "h100-sxm", "model": "qwen3-8b", "engine": "sglang"})
    assert [row.case.scenario.batch for row in rows] == [16, 8, 8]
    assert [row.measured["ttft_s"] for row in rows] == pytest.approx([0.07] * 3)


def test_a_summary_of_k6_has_no_tokens(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"metrics": {"http_reqs": {"count": 9}, "http_req_waiting": {"avg": 70.0}}}))
    with pytest.raises(BadInput, match="a summary of k6, which counts requests and no tokens"):
        read_own(path, {"chip": "h100-sxm"})


def test_at_a_rate_the_limit_is_not_what_is_in_flight(tmp_path: Path) -> None:
    """vLLM: two requests a second that stay 0.07 + 127 x 0.0094 s are 2.5 in flight, at any --max-concurrency."""
    path, given = tmp_path / "result.json", {"chip": "h100-sxm"}
    path.write_text(json.dumps({**VLLM, "request_rate": 2.0, "duration": 5.0}), encoding="utf-8")
    assert read_own(path, given)[0].case.scenario.batch == round(2.0 * (0.07 + 127 * 0.0094))
    path.write_text(json.dumps({**VLLM, "request_rate": "inf", "duration": 5.0}), encoding="utf-8")
    assert read_own(path, given)[0].case.scenario.batch == 8
    path.write_text(json.dumps({**VLLM, "request_rate": 2.0}), encoding="utf-8")
    with pytest.raises(BadInput, match="the row has no concurrency"):
        read_own(path, given)


def test_what_a_result_does_not_say_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(AIPERF), encoding="utf-8")
    asked = ("validate", "--measured", path, "--case", "model=qwen3-8b")
    assert "result 1: the row has no chip; give it with --case chip=..." in refuse(capsys, *asked)
    told = refuse(capsys, *asked, "--case", "chip=h100-sxm")
    assert "result 1: the row has no concurrency; give it with --case concurrency=..." in told
    assert "unknown column of a case 'chp'; the nearest known: chip" in refuse(capsys, *asked, "--case", "chp=1")
    assert "--case is 'chip'; write NAME=VALUE" in refuse(capsys, *asked, "--case", "chip")
    strangers: list[dict[str, object]] = [
        {"hello": 1},
        {"benchmarks": []},
        {"completed": "x", "total_output_tokens": 5},
    ]
    for other in strangers:
        path.write_text(json.dumps(other), encoding="utf-8")
        assert "is no result file that is known" in refuse(capsys, *asked)
    path.write_text(json.dumps({**VLLM, "mean_ttft_ms": None, "mean_tpot_ms": 0}), encoding="utf-8")
    assert "without a time to first token or per output token" in refuse(capsys, *asked)
    whole: dict[str, object] = {
        "request_latency": {"unit": "ms", "avg": 812.5},
        "output_sequence_length": {"unit": "tokens", "avg": 64.0},
    }
    not_streamed: dict[str, dict[str, object]] = {
        "AIPerf or genai-perf": whole,
        "inference-perf": {
            "load_summary": {"count": 4}, "failures": {"count": 0},
            "successes": {"count": 4, "latency": {"request_latency": {"mean": 0.8}}, "output_len": {"mean": 64.0}},
        },
    }  # fmt: skip
    none_ended_well = {"load_summary": {"count": 4}, "successes": {"count": 0, "latency": None}}
    for tool, tree in (*not_streamed.items(), ("inference-perf", none_ended_well)):
        path.write_text(json.dumps(tree), encoding="utf-8")
        sentence = f"is a result of {tool} without a time to first token or per output token, as runs without streaming"
        assert sentence in refuse(capsys, *asked)


@pytest.mark.slow
def test_a_few_rows_of_a_stack_that_no_fit_has_seen() -> None:
    """Served rows, each stack left out of the fit: one row brings the others' mean error of the time per token below
    10 %, five below 8 %; without any it is a fifth larger than with one, and more."""
    from flashstill.validation.anchors.left_out import stored_rows
    from flashstill.validation.anchors.packed import SHIPPED, unpacked
    from flashstill.validation.anchors.serving import Served, groups, served

    with unpacked(SHIPPED) as directory:
        rows = served(directory)
    stacks: dict[tuple[str, str], list[Served]] = defaultdict(list)
    for row in rows:
        stacks[next(group for group in groups(FACTS, row) if group[0] == "stack")].append(row)
    numbers = np.random.default_rng(1)
    errors: dict[int, list[float]] = defaultdict(list)
    for group, members in stacks.items():
        if len(members) <= 5 or not stored_rows(group):
            continue
        answers = predict(FACTS.with_rows(stored_rows(group)), [row.case for row in members])
        logs = np.array(
            [math.log(row.tpot_s / one.tpot_s) for row, one in zip(members, answers, strict=True) if one.tpot_s]
        )
        for _ in range(10):
            order = numbers.permutation(len(logs))
            for given in (0, 1, 5):
                offset = stack_offset(FACTS, "tpot_s", list(logs[order[:given]])) if given else 0.0
                errors[given] += list(np.abs(np.expm1(offset - logs[order[given:]])))
    means = {given: float(np.mean(values)) for given, values in errors.items()}
    assert means[0] > 1.2 * means[1]
    assert means[1] < 0.10
    assert means[5] < 0.08


def test_a_page_with_residuals(measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["validate", "--measured", str(measured), "--out", str(tmp_path / "page.html"), "--json"])
    rows = json.loads(capsys.readouterr().out)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 * len(rows)
    assert page.count("-25.0%") == 3 * len(rows), "on both drawings and in the table"
    assert "<script" not in page
    assert len(page) < 20_000


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("concurrency: 8\ntpot_p90_ms: 9.4\n", "no positive ttft_p90_ms"),
        ("concurrency: 8\nttft_p90_ms: x\ntpot_p90_ms: 9.4\n", "ttft_p90_ms is 'x', not a number"),
        ("concurrency: 8\nttft_p90_ms: 7\ntpot_p90_ms: 10\ntps_per_user: 90\n", "tps_per_user is 90, but 1000 / tpot"),
        ("concurrency: 8\nttft_p90_ms: 7\ntpot_p90_ms: 10\ntps_per_user: nan\n", "tps_per_user is 'nan', not a number"),
        (
            "- a: 1\n  concurrency: 8\n  ttft_p90_ms: 7\n  tpot_p90_ms: 10\n- a: 2\n  concurrency: 16\n",
            "several values for concurrency; write each point into a file of its own",
        ),
    ],
)
def test_points_of_mlperf_that_contradict_themselves(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "point.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=sentence):
        read_own(path)


def test_a_point_of_mlperf(tmp_path: Path) -> None:
    path = tmp_path / "point.yaml"
    path.write_text(
        "system: x\nmetrics:\n  tpot_p90_ms: 10  # inside\n  ttft_p90_ms: 70\n  tps_per_user: 100.0\nconcurrency: 8\n",
        encoding="utf-8",
    )
    (row,) = read_own(path, {"model": "qwen3-8b", "chip": "h100-sxm", "isl": "1024", "osl": "128"})
    assert row.measured == {"tpot_s": pytest.approx(0.01), "ttft_s": pytest.approx(0.07)}
    assert row.case.scenario.batch == 8


def test_an_unknown_unit_is_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**AIPERF, "time_to_first_token": {"unit": "minutes", "avg": 1.0}}), encoding="utf-8")
    with pytest.raises(BadInput, match="gives time_to_first_token in minutes; known are ms"):
        read_own(path)


@pytest.mark.parametrize(("replay", "load"), [(None, "agents"), ("in-order", "trace"), ("closed-loop", "trace")])
def test_prompts_that_a_cache_holds_are_no_case(tmp_path: Path, replay: str | None, load: str) -> None:
    level = {"load": load, "latencies": {"ttft_s": {"mean": 0.1}}, "prompt_tokens": 900.0, "output_tokens": 9.0}
    path, given = tmp_path / "summary.json", {"model": "qwen3-8b", "chip": "h100-sxm", "concurrency": "4"}
    path.write_text(json.dumps({"definitions": {}, "replay": replay, "levels": [level]}), encoding="utf-8")
    with pytest.raises(BadInput, match="most of the prompts of agents and of conversations are in a server's prefix"):
        read_own(path, given)
    path.write_text(json.dumps({"definitions": {}, "replay": "open-loop", "levels": [{**level, "load": "trace"}]}))
    assert len(read_own(path, given)) == 1


def test_numbers_that_no_float_holds_are_none(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**VLLM, "mean_ttft_ms": 10**400, "levels": [3], "definitions": {}}), encoding="utf-8")
    (row,) = read_own(path, {"model": "qwen3-8b", "chip": "h100-sxm"})
    assert list(row.measured) == ["tpot_s"]
