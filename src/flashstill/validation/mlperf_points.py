"""Measurement points of MLPerf Endpoints (point.yaml) as measured cases.

A point has concurrency, ttft_p90_ms, tpot_p90_ms and tps_per_user = 1000 / tpot_p90_ms: 90th percentiles alone, and is
labelled as such.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from flashstill.bounded import read_bounded
from flashstill.errors import BadInput
from flashstill.validation.load_cells import NOTE, TPOT, TTFT, Cells, text, whole

ROUNDING = 0.01
"""by how much a point's tps_per_user may differ from 1000 / tpot_p90_ms, as both are rounded"""
POINT_BYTES = 2**20
_POINT = re.compile(r"^[ \t]*(concurrency|tps_per_user|ttft_p90_ms|tpot_p90_ms)[ \t]*:[ \t]*([^\s#]+)", re.MULTILINE)
_STRANGER = re.compile(r"^[ \t]*(benchmarks|request_performance|load_summary)[ \t]*:", re.MULTILINE)
"""keys of GuideLLM's report, of llm-d's and of inference-perf's as YAML"""


def mlperf_cells(path: Path) -> Cells:
    """The figures of a point, wherever in the file they stand; BadInput if one is missing or they contradict."""
    try:
        content = read_bounded(path, POINT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text") from error
    if (stranger := _STRANGER.search(content)) is not None:
        raise BadInput(f"{path} is no point of MLPerf Endpoints ({stranger[1]}); give the .json of the same run")
    found: dict[str, float] = {}
    for name, value in _POINT.findall(content):
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
        "concurrency": whole(found["concurrency"]), NOTE: "90th percentiles",
        TPOT: text(found["tpot_p90_ms"]), TTFT: text(found["ttft_p90_ms"]),
    }  # fmt: skip
