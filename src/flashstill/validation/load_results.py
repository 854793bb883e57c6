"""Result files of load generators as measured cases, by their fields.

    vllm bench      total tokens / completed requests; mean_ttft_ms, mean_tpot_ms; max_concurrency, or at a request_rate
                    those in flight by Little's law
    SGLang          the same fields, a run a line (.jsonl), and concurrency: the mean number in flight
    GuideLLM        benchmarks[].metrics, means of successful ones in ms; request_concurrency, inter_token_latency_ms
                    (its time_per_output_token_ms is the whole latency over all tokens, the first included)
    AIPerf          tag -> avg and unit; time_to_first_token, inter_token_latency (per request: time per output token);
                    in flight: the concurrency of its configuration, or at a request rate by Little's law
    genai-perf      the same tags
    llmperf         results_..._mean in s; its inter_token_latency is the whole latency over all tokens: the time per
                    token after the first follows from the means of latency, first token and length
    inference-perf  successes.latency, means in s; load_summary.concurrency
    flashstill      levels[].latencies, means in s, of `measure --server` (--json, or summary.json)
    MLPerf          point.yaml of Endpoints: concurrency, ttft_p90_ms, tpot_p90_ms; tps_per_user = 1000 / tpot_p90_ms

All count the time per output token after the first.  Means are taken, as predictions are of means; MLPerf's points hold
90th percentiles alone, and are labelled as such.  What a file does not say (the chip, often the lengths) must be given
beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flashstill.bounded import read_bounded
from flashstill.checked import LARGEST, json_object, json_rows
from flashstill.errors import BadInput, one_line
from flashstill.simulate.traffic import CLOSED_LOOP, IN_ORDER

Cells = dict[str, str]
TPOT, TTFT, NOTE = "measured_tpot_ms", "measured_ttft_ms", "note"
ROUNDING = 0.01
"""by how much a point's tps_per_user may differ from 1000 / tpot_p90_ms, as both are rounded"""
SUFFIXES = (".json", ".jsonl", ".yaml", ".yml")
"""of result files; all else is read as CSV"""
POINT_BYTES = 2**20
_POINT = re.compile(r"^[ \t]*(concurrency|tps_per_user|ttft_p90_ms|tpot_p90_ms)[ \t]*:[ \t]*([^\s#]+)", re.MULTILINE)
UNITS_MS = {"ms": 1.0, "milliseconds": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3, "us": 1e-3, "ns": 1e-6}


def result_cells(path: Path) -> list[Cells]:
    """The measured cases of a result file, as the cells of a case file. BadInput if no known tool wrote it."""
    if path.suffix in SUFFIXES[2:]:
        return [_mlperf_point(path)]
    if path.suffix == ".jsonl":
        return [row for _, tree in json_rows(path) for row in _cells_of(path, tree)]
    return _cells_of(path, json_object(path))


def _cells_of(path: Path, tree: Mapping[str, Any]) -> list[Cells]:
    if "http_reqs" in _inside(tree, "metrics"):
        raise BadInput(f"{path} is a summary of k6, which counts requests and no tokens; measure with a tool that does")
    for known, read in READERS.items():
        rows = [{name: text for name, text in row.items() if text} for row in read(tree)]
        if rows:
            measured = [row for row in rows if TPOT in row or TTFT in row]
            if not measured:
                raise BadInput(
                    f"{path} is a result of {known} without a time to first token or per output token, as runs without"
                    " streaming are; measure with it"
                )
            return measured
    raise BadInput(f"{path} is no result file that is known: {', '.join(READERS)}")


def _vllm(tree: Mapping[str, Any]) -> Iterator[Cells]:
    completed = _number(tree, "completed")
    if completed is None or "total_output_tokens" not in tree:
        return
    prompt, output = (_number(tree, f"total_{kind}_tokens") for kind in ("input", "output"))
    yield {
        "model": str(tree.get("model_id") or ""),
        "isl": _whole(None if prompt is None else prompt / completed),
        "osl": _whole(None if output is None else output / completed),
        "concurrency": _whole(_vllm_in_flight(tree, completed, output)),
        TPOT: _text(_number(tree, "mean_tpot_ms")),
        TTFT: _text(_number(tree, "mean_ttft_ms")),
    }


def _vllm_in_flight(tree: Mapping[str, Any], completed: float, output: float | None) -> float | None:
    """Mean requests in flight. At a request_rate, max_concurrency is a limit only, and Little's law tells."""
    limit, mean = _number(tree, "max_concurrency"), _number(tree, "concurrency")
    if _number(tree, "request_rate") is None:  # "inf": as many as may be
        return limit or mean
    if mean is not None:
        return mean
    duration, ttft, tpot = (_number(tree, name) for name in ("duration", "mean_ttft_ms", "mean_tpot_ms"))
    if duration is None or ttft is None or tpot is None or output is None:
        return None
    stay_s = (ttft + (output / completed - 1.0) * tpot) / 1e3
    return completed / duration * stay_s


def _guidellm(tree: Mapping[str, Any]) -> Iterator[Cells]:
    runs = tree.get("benchmarks")
    for run in runs if isinstance(runs, list) else []:

        def mean(name: str, run: Any = run) -> float | None:
            return _number(_inside(run, "metrics", name, "successful"), "mean")

        yield {
            "isl": _whole(mean("prompt_token_count")),
            "osl": _whole(mean("output_token_count")),
            "concurrency": _whole(mean("request_concurrency")),
            TPOT: _text(mean("inter_token_latency_ms")),
            TTFT: _text(mean("time_to_first_token_ms")),
        }


def _aiperf(tree: Mapping[str, Any]) -> Iterator[Cells]:
    if not any("avg" in _inside(tree, tag) for tag in ("time_to_first_token", "request_latency")):
        return

    def milliseconds(tag: str) -> float | None:
        value, unit = _number(_inside(tree, tag), "avg"), str(_inside(tree, tag).get("unit", "ms")).lower()
        if value is not None and unit not in UNITS_MS:
            raise BadInput(f"a result of AIPerf gives {tag} in {one_line(unit, 40)}; known are {', '.join(UNITS_MS)}")
        return None if value is None else value * UNITS_MS[unit]

    throughput, stay_ms = _number(_inside(tree, "request_throughput"), "avg"), milliseconds("request_latency")
    by_little = None if throughput is None or stay_ms is None else throughput * stay_ms / 1e3
    yield {
        "model": _aiperf_model(tree),
        "concurrency": _whole(_aiperf_in_flight(tree) or by_little),
        "isl": _whole(_number(_inside(tree, "input_sequence_length"), "avg")),
        "osl": _whole(_number(_inside(tree, "output_sequence_length"), "avg")),
        TPOT: _text(milliseconds("inter_token_latency")),
        TTFT: _text(milliseconds("time_to_first_token")),
    }


def _aiperf_in_flight(tree: Mapping[str, Any]) -> float | None:
    """The concurrency of its configuration (AIPerf, its phases, genai-perf); None at a rate, of which it is a limit."""
    asked = _inside(tree, "input_config")
    phases = asked.get("phases")
    measured = [each for each in phases if _inside(each).get("name") == "profiling"] if isinstance(phases, list) else []
    for place in (_inside(asked, "loadgen"), *measured, _inside(asked, "perf_analyzer", "stimulus")):
        if (many := _number(place, "concurrency")) is not None:
            at_rate = any(_number(place, name) is not None for name in ("request_rate", "rate"))
            return None if at_rate else many
    return None


def _aiperf_model(tree: Mapping[str, Any]) -> str:
    asked = _inside(tree, "input_config")
    for names in (_inside(asked, "endpoint").get("model_names"), asked.get("model_names"), asked.get("model")):
        if names:
            return str(names[0]) if isinstance(names, list) else str(names)
    return ""


def _llmperf(tree: Mapping[str, Any]) -> Iterator[Cells]:
    if "num_concurrent_requests" not in tree or "results_num_requests_started" not in tree:
        return

    def mean(name: str) -> float | None:
        return _number(tree, f"results_{name}_mean")

    ttft, whole, output = mean("ttft_s"), mean("end_to_end_latency_s"), mean("number_output_tokens")
    told = ttft is not None and whole is not None and output is not None and output > 1.0 and whole > ttft
    yield {
        "model": str(tree.get("model") or ""),
        "isl": _whole(mean("number_input_tokens")),
        "osl": _whole(output),
        "concurrency": _whole(_number(tree, "num_concurrent_requests")),
        TPOT: _text((whole - ttft) / (output - 1.0) * 1e3 if told else None),  # type: ignore[operator]
        TTFT: _text(None if ttft is None else ttft * 1e3),
    }


def _inference_perf(tree: Mapping[str, Any]) -> Iterator[Cells]:
    latency = _inside(tree, "successes", "latency")
    if not latency and not ("load_summary" in tree and "successes" in tree):
        return
    names = ("time_per_output_token", "time_to_first_token")
    seconds = (_number(_inside(latency, name), "mean") for name in names)
    tpot, ttft = (None if value is None else value * 1e3 for value in seconds)
    yield {
        "isl": _whole(_number(_inside(tree, "successes", "prompt_len"), "mean")),
        "osl": _whole(_number(_inside(tree, "successes", "output_len"), "mean")),
        "concurrency": _whole(_number(_inside(tree, "load_summary"), "concurrency")),
        TPOT: _text(tpot),
        TTFT: _text(ttft),
    }


def _flashstill(tree: Mapping[str, Any]) -> Iterator[Cells]:
    levels = tree.get("levels")
    for level in levels if isinstance(levels, list) and "definitions" in tree else []:
        if not isinstance(level, dict):
            continue
        if level.get("load") == "agents" or tree.get("replay") in (IN_ORDER, CLOSED_LOOP):
            raise BadInput(
                "most of the prompts of agents and of conversations are in a server's prefix cache, which a case does"
                " not tell; measure with --concurrency or --rate"
            )
        ttft, tpot = (_number(_inside(level, "latencies", name), "mean") for name in ("ttft_s", "tpot_s"))
        many = _number(level, "concurrency") or _number(_inside(level, "over_runs", "in_flight"), "median")
        burst = level.get("burst_share")
        yield {
            "model": str(tree.get("served_model") or ""),
            "isl": _whole(_number(level, "prompt_tokens") or _number(level, "wanted_prompt_tokens")),
            "osl": _whole(_number(level, "output_tokens")),
            "concurrency": _whole(many),
            "burst_share": repr(burst) if isinstance(burst, float) else "",
            TPOT: _text(None if tpot is None else tpot * 1e3),
            TTFT: _text(None if ttft is None else ttft * 1e3),
        }


def _mlperf_point(path: Path) -> Cells:
    """The figures of a point, wherever in the file they stand; BadInput if one is missing or they contradict."""
    try:
        text = read_bounded(path, POINT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text") from error
    found: dict[str, float] = {}
    for name, value in _POINT.findall(text):
        try:
            number = float(value)
            if not math.isfinite(number):
                raise ValueError
        except ValueError as error:
            raise BadInput(f"{path}: {name} is {value[:40]!r}, not a number") from error
        if found.setdefault(name, number) != number:
            raise BadInput(f"{path} gives several values for {name}; write each point into a file of its own")
    for name in ("concurrency", "ttft_p90_ms", "tpot_p90_ms"):
        if not 0.0 < found.get(name, 0.0) < math.inf:
            raise BadInput(f"{path} has no positive {name}, as a measurement point of MLPerf Endpoints has")
    rate = found.get("tps_per_user")
    if rate is not None and abs(rate * found["tpot_p90_ms"] / 1e3 - 1.0) > ROUNDING:
        raise BadInput(f"{path}: tps_per_user is {rate:g}, but 1000 / tpot_p90_ms {1e3 / found['tpot_p90_ms']:g}")
    return {
        "concurrency": _whole(found["concurrency"]), NOTE: "90th percentiles",
        TPOT: _text(found["tpot_p90_ms"]), TTFT: _text(found["ttft_p90_ms"]),
    }  # fmt: skip


READERS: dict[str, Callable[[Mapping[str, Any]], Iterator[Cells]]] = {
    "vLLM or SGLang bench": _vllm,
    "GuideLLM": _guidellm,
    "AIPerf or genai-perf": _aiperf,
    "llmperf": _llmperf,
    "inference-perf": _inference_perf,
    "flashstill measure": _flashstill,
}


def _inside(tree: Any, *names: str) -> Mapping[str, Any]:
    """The object below some names; empty where it is missing or is something else."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def _number(tree: Mapping[str, Any], name: str) -> float | None:
    """A number above 0 that a float holds, or None."""
    value = tree.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < LARGEST:
        return None
    return float(value)


def _whole(value: float | None) -> str:
    return "" if value is None else str(max(round(value), 1))


def _text(value: float | None) -> str:
    return "" if value is None else repr(value)
