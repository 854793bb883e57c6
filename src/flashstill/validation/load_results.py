"""Result files of load generators as measured cases, by their fields.

    vllm bench      total tokens / completed requests; mean_ttft_ms, mean_tpot_ms; max_concurrency, or at a request_rate
                    those in flight by Little's law
    SGLang          the same fields (total_input, total_output in newer ones), a run a line (.jsonl), and concurrency:
                    the mean number in flight
    GuideLLM        benchmarks[].metrics, means of successful ones in ms; request_concurrency of all, as those that fail
                    or are cut off at the end fill the server as well; inter_token_latency_ms (its
                    time_per_output_token_ms is the whole latency over all tokens, the first included)
    AIPerf          aiperf_results.py; genai-perf as well
    llmperf         results_..._mean in s; its inter_token_latency is the whole latency over all tokens: the time per
                    token after the first follows from the means of latency, first token and length
    inference-perf  successes.latency, means in s; load_summary.concurrency, or of a stage at a rate by Little's law;
                    prompt_tokens and output_tokens as the server counts them, prompt_len and output_len of older ones
    trtllm-bench    --report_json of a streaming run: streaming_metrics in ms, request_info; no server is between
    flashstill      levels[].latencies, means in s, of `measure --server` (--json, or summary.json)
    MLPerf          mlperf_points.py

All count the time per output token after the first, over requests that ended well; how many failed is told where the
file does.  Means are taken, as predictions are of means; MLPerf's points hold
90th percentiles alone, and are labelled as such.  What a file does not say (the chip, often the lengths) must be given
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput
from flashstill.simulate.traffic import CLOSED_LOOP, IN_ORDER
from flashstill.validation.aiperf_results import aiperf_cells
from flashstill.validation.load_cells import TPOT, TTFT, Cells, failed_of, inside, number, text, whole
from flashstill.validation.mlperf_points import mlperf_cells
from flashstill.validation.result_files import trees_of

SUFFIXES = (".json", ".jsonl", ".yaml", ".yml")
"""of result files; all else is read as CSV"""


def result_cells(path: Path) -> list[Cells]:
    """The measured cases of a result file, as the cells of a case file. BadInput if no known tool wrote it."""
    if path.suffix in SUFFIXES[2:]:
        return [mlperf_cells(path)]
    return [row for tree in trees_of(path) for row in _cells_of(path, tree)]


def _cells_of(path: Path, tree: Mapping[str, Any]) -> list[Cells]:
    if "http_reqs" in inside(tree, "metrics"):
        raise BadInput(f"{path} is a summary of k6, which counts requests and no tokens; measure with a tool that does")
    for known, read in READERS.items():
        try:
            rows = [{name: cell for name, cell in row.items() if cell} for row in read(tree)]
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None
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
    ended = tree.get("completed")
    ending = "_tokens" if "total_output_tokens" in tree else ""
    if isinstance(ended, bool) or not isinstance(ended, (int, float)) or f"total_output{ending}" not in tree:
        return
    completed = number(tree, "completed")
    if completed is None:
        raise BadInput("no request of this run ended well, so that it has no latencies")
    prompt, output = (number(tree, f"total_{kind}{ending}") for kind in ("input", "output"))
    errors = tree.get("errors")
    failed = sum(map(bool, errors)) if isinstance(errors, list) else number(tree, "failed")
    yield {
        "model": str(tree.get("model_id") or ""),
        "isl": whole(None if prompt is None else prompt / completed),
        "osl": whole(None if output is None else output / completed),
        "concurrency": whole(_vllm_in_flight(tree, completed, output)),
        **failed_of(failed, completed + (failed or 0.0)),
        TPOT: text(number(tree, "mean_tpot_ms")),
        TTFT: text(number(tree, "mean_ttft_ms")),
    }


def _vllm_in_flight(tree: Mapping[str, Any], completed: float, output: float | None) -> float | None:
    """Mean requests in flight. At a request_rate, or the times of a trace, max_concurrency is a limit only, and
    Little's law tells."""
    limit, mean = number(tree, "max_concurrency"), number(tree, "concurrency")
    if number(tree, "request_rate") is None and tree.get("request_rate") != "trace":  # "inf": as many as may be
        return limit or mean
    if mean is not None:
        return mean
    duration, ttft, tpot = (number(tree, name) for name in ("duration", "mean_ttft_ms", "mean_tpot_ms"))
    if duration is None or ttft is None or tpot is None or output is None:
        return None
    stay_s = (ttft + (output / completed - 1.0) * tpot) / 1e3
    return completed / duration * stay_s


def _guidellm(tree: Mapping[str, Any]) -> Iterator[Cells]:
    runs = tree.get("benchmarks")
    for run in runs if isinstance(runs, list) else []:

        def mean(name: str, kind: str = "successful", run: Any = run) -> float | None:
            return number(inside(run, "metrics", name, kind), "mean")

        many = mean("request_concurrency", "total") or mean("request_concurrency")
        ended = inside(run, "metrics", "request_totals")
        failed, well = number(ended, "errored"), number(ended, "successful")
        yield {
            "isl": whole(mean("prompt_token_count")),
            "osl": whole(mean("output_token_count")),
            "concurrency": whole(many),
            **failed_of(failed, (failed or 0.0) + (well or 0.0)),
            TPOT: text(mean("inter_token_latency_ms")),
            TTFT: text(mean("time_to_first_token_ms")),
        }


def _llmperf(tree: Mapping[str, Any]) -> Iterator[Cells]:
    if "num_concurrent_requests" not in tree or "results_num_requests_started" not in tree:
        return

    def mean(name: str) -> float | None:
        return number(tree, f"results_{name}_mean")

    ttft, latency, output = mean("ttft_s"), mean("end_to_end_latency_s"), mean("number_output_tokens")
    told = ttft is not None and latency is not None and output is not None and output > 1.0 and latency > ttft
    yield {
        "model": str(tree.get("model") or ""),
        "isl": whole(mean("number_input_tokens")),
        "osl": whole(output),
        "concurrency": whole(number(tree, "num_concurrent_requests")),
        **failed_of(number(tree, "results_number_errors"), number(tree, "results_num_requests_started")),
        TPOT: text((latency - ttft) / (output - 1.0) * 1e3 if told else None),  # type: ignore[operator]
        TTFT: text(None if ttft is None else ttft * 1e3),
    }


def _inference_perf(tree: Mapping[str, Any]) -> Iterator[Cells]:
    well, load = inside(tree, "successes"), inside(tree, "load_summary")
    latency = inside(well, "latency")
    if not latency and not ("load_summary" in tree and "successes" in tree):
        return

    def mean(*names: str, of: Mapping[str, Any] = well) -> float | None:
        return next((value for name in names if (value := number(inside(of, name), "mean")) is not None), None)

    names = ("time_per_output_token", "time_to_first_token")
    tpot, ttft = (None if value is None else value * 1e3 for value in (mean(name, of=latency) for name in names))
    rate, stay_s = number(inside(well, "throughput"), "requests_per_sec"), mean("request_latency", of=latency)
    at_rate = number(load, "requested_rate") is not None and rate is not None and stay_s is not None
    failed, ended = number(inside(tree, "failures"), "count"), number(well, "count")
    yield {
        "isl": whole(mean("prompt_tokens", "prompt_len")),
        "osl": whole(mean("output_tokens", "output_len")),
        "concurrency": whole(number(load, "concurrency") or (rate * stay_s if at_rate else None)),  # type: ignore[operator]
        **failed_of(failed, (failed or 0.0) + (ended or 0.0)),
        TPOT: text(tpot),
        TTFT: text(ttft),
    }


def _trtllm(tree: Mapping[str, Any]) -> Iterator[Cells]:
    asked, streamed, world = (inside(tree, name) for name in ("request_info", "streaming_metrics", "world_info"))
    if "avg_num_concurrent_requests" not in asked:
        return
    yield {
        "isl": whole(number(asked, "avg_input_length")),
        "osl": whole(number(asked, "avg_output_length")),
        "concurrency": whole(number(asked, "avg_num_concurrent_requests")),
        **{name: whole(number(world, f"{name}_size")) for name in ("tp", "pp")},
        TPOT: text(number(streamed, "avg_tpot_ms")),
        TTFT: text(number(streamed, "avg_ttft_ms")),
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
        ttft, tpot = (number(inside(level, "latencies", name), "mean") for name in ("ttft_s", "tpot_s"))
        many = number(level, "concurrency") or number(inside(level, "over_runs", "in_flight"), "median")
        burst = level.get("burst_share")
        failures = inside(level, "failures")
        failed = sum(number(failures, kind) or 0.0 for kind in failures)
        yield {
            "model": str(tree.get("served_model") or ""),
            "isl": whole(number(level, "prompt_tokens") or number(level, "wanted_prompt_tokens")),
            "osl": whole(number(level, "output_tokens")),
            "concurrency": whole(many),
            "burst_share": repr(burst) if isinstance(burst, float) else "",
            **failed_of(failed, number(level, "requests")),
            TPOT: text(None if tpot is None else tpot * 1e3),
            TTFT: text(None if ttft is None else ttft * 1e3),
        }


READERS: dict[str, Callable[[Mapping[str, Any]], Iterator[Cells]]] = {
    "vLLM or SGLang bench": _vllm,
    "GuideLLM": _guidellm,
    "AIPerf or genai-perf": aiperf_cells,
    "llmperf": _llmperf,
    "inference-perf": _inference_perf,
    "trtllm-bench": _trtllm,
    "flashstill measure": _flashstill,
}
