"""Results of AIPerf and genai-perf as measured cases.

Both give tag -> avg and unit: time_to_first_token, inter_token_latency (per request: time per output token after the
first).  In flight: the concurrency of the configuration, or at a request rate by Little's law.  The aggregate of
several runs (profile_export_aiperf_aggregate.json) has the mean of each run's average, as metrics.TAG_avg.mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flashstill.errors import BadInput, one_line
from flashstill.validation.load_cells import TPOT, TTFT, Cells, failed_of, inside, number, text, whole

UNITS_MS = {"ms": 1.0, "milliseconds": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3, "us": 1e-3, "ns": 1e-6}


def aiperf_cells(tree: Mapping[str, Any]) -> Iterator[Cells]:
    """The means of a run; nothing of another tool's result. BadInput for a latency in an unknown unit."""
    runs = inside(tree, "metrics")
    if "num_profile_runs" in inside(tree, "metadata"):
        averages = {tag.removesuffix("_avg"): inside(runs, tag) for tag in runs if tag.endswith("_avg")}
        tree = {**tree, **{tag: {**each, "avg": each.get("mean")} for tag, each in averages.items()}}
    if not any("avg" in inside(tree, tag) for tag in ("time_to_first_token", "request_latency")):
        return

    def milliseconds(tag: str) -> float | None:
        value, unit = number(inside(tree, tag), "avg"), str(inside(tree, tag).get("unit", "ms")).lower()
        if value is not None and unit not in UNITS_MS:
            raise BadInput(f"a result of AIPerf gives {tag} in {one_line(unit, 40)}; known are {', '.join(UNITS_MS)}")
        return None if value is None else value * UNITS_MS[unit]

    throughput, stay_ms = number(inside(tree, "request_throughput"), "avg"), milliseconds("request_latency")
    by_little = None if throughput is None or stay_ms is None else throughput * stay_ms / 1e3
    failed, well = (number(inside(tree, tag), "avg") for tag in ("error_request_count", "request_count"))
    yield {
        "model": _model(tree),
        **failed_of(failed, (failed or 0.0) + (well or 0.0)),
        "concurrency": whole(_in_flight(tree) or by_little),
        "isl": whole(number(inside(tree, "input_sequence_length"), "avg")),
        "osl": whole(number(inside(tree, "output_sequence_length"), "avg")),
        TPOT: text(milliseconds("inter_token_latency")),
        TTFT: text(milliseconds("time_to_first_token")),
    }


def _in_flight(tree: Mapping[str, Any]) -> float | None:
    """The concurrency of its configuration (AIPerf, its phases, genai-perf); None at a rate, of which it is a limit."""
    asked = inside(tree, "input_config")
    phases = asked.get("phases")
    measured = [each for each in phases if inside(each).get("name") == "profiling"] if isinstance(phases, list) else []
    for place in (inside(asked, "loadgen"), *measured, inside(asked, "perf_analyzer", "stimulus")):
        if (many := number(place, "concurrency")) is not None:
            at_rate = any(number(place, name) is not None for name in ("request_rate", "rate"))
            return None if at_rate else many
    return None


def _model(tree: Mapping[str, Any]) -> str:
    asked = inside(tree, "input_config")
    items = inside(asked, "models").get("items")
    listed = [each.get("name") for each in items if isinstance(each, dict)] if isinstance(items, list) else []
    for names in (listed, inside(asked, "endpoint").get("model_names"), asked.get("model_names"), asked.get("model")):
        if names:
            return str(names[0]) if isinstance(names, list) else str(names)
    return ""
