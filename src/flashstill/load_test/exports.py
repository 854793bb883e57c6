"""A measurement in the formats of others: MLPerf Endpoints' points, vLLM bench's results, measured cases, records.

    points/point_N.yaml            tps_per_user = 1000 / tpot_p90_ms (MLPerf Endpoints, metrics and regions)
    results/LEVEL.json             the fields of `vllm bench serve --save-result --save-detailed`
    measured.csv                   a row of `flashstill validate --measured` and `calibrate` per level: means; none of
                                   agents and conversations, most of whose prompts a prefix cache holds, which a case
                                   does not tell
    records.jsonl                  MeasuredRecords: seconds to the first token and per output token, medians of runs

A point without enough requests for its 90th percentiles is not written.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flashstill.files import disk_errors, write_text
from flashstill.load_test.answer import Measurement
from flashstill.load_test.failures import OK
from flashstill.load_test.statistics import Distribution
from flashstill.load_test.summary import LevelResult, values_of
from flashstill.records import MeasuredRecord, write_records

POINTS, RESULTS, CASES, RECORDS = "points", "results", "measured.csv", "records.jsonl"
SERVED_PHASES = {"ttft_s": "first token", "tpot_s": "output token"}
"""latency -> the phase of its records; a served token waits for others, so it is no step alone"""


def write_exports(found: Measurement, directory: Path, case: Mapping[str, str]) -> None:
    """Write all formats. case: cells of the measured rows that a server does not tell, such as the chip."""
    with disk_errors(directory):
        for folder in (POINTS, RESULTS):
            (directory / folder).mkdir(parents=True, exist_ok=True)
        for old in (directory / POINTS).glob("point_*.yaml"):  # of fewer levels; they are numbered in order
            old.unlink()
    for number, level in enumerate(found.levels, start=1):
        point = mlperf_point(level)
        if point is not None:
            lines = [f"{name}: {value}\n" for name, value in point.items()]
            write_text(directory / POINTS / f"point_{number}.yaml", "".join(lines))
        name = f"{level.level.kind}-{level.level.value:g}.json"
        write_text(directory / RESULTS / name, json.dumps(vllm_result(found, level), indent=1) + "\n")
    write_text(directory / CASES, measured_csv(found, case))
    write_records(directory / RECORDS, measured_records(found, case))


def in_flight(level: LevelResult) -> float:
    """Requests in flight: as asked in a closed loop, the mean by Little's law in an open one."""
    found = level.over_runs.get("in_flight")
    return level.level.value if level.level.is_closed or found is None else found.median


def mlperf_point(level: LevelResult) -> dict[str, float | int] | None:
    """A measurement point of MLPerf Endpoints; None without 90th percentiles."""
    ttft, tpot = (_p90(level.latencies.get(name)) for name in ("ttft_s", "tpot_s"))
    if ttft is None or tpot is None:
        return None
    tokens, tpot_ms = sum(reply.output_tokens for reply in level.replies if reply.outcome == OK), tpot * 1e3
    return {
        "concurrency": max(round(in_flight(level)), 1),
        "system_tps": tokens / level.wall_s,
        "tps_per_user": 1e3 / tpot_ms,
        "ttft_p90_ms": ttft * 1e3,
        "tpot_p90_ms": tpot_ms,
    }


def _p90(each: Distribution | None) -> float | None:
    value = None if each is None else each.percentiles[90].value
    return value or None


def vllm_result(found: Measurement, level: LevelResult) -> dict[str, Any]:
    """A level as vLLM's benchmark writes it, over the requests of all runs; the duration is that of their runs."""
    replies = level.replies
    well = [reply for reply in replies if reply.outcome == OK]
    seconds = level.wall_s
    result: dict[str, Any] = {
        "backend": "flashstill",
        "model_id": found.dialect.model,
        "tokenizer_id": None if found.asked.tokenizer is None else str(found.asked.tokenizer),
        "num_prompts": level.requests,
        "request_rate": level.level.value if level.level.kind == "rate" else "inf",
        "burstiness": 1.0,
        "max_concurrency": int(level.level.value) if level.level.is_closed else None,
        "duration": seconds,
        "completed": level.ok,
        "failed": level.requests - level.ok,
        "total_input_tokens": sum(_prompt(reply) for reply in well),
        "total_output_tokens": sum(reply.output_tokens for reply in well),
        "request_throughput": level.ok / seconds if seconds else 0.0,
        "output_throughput": sum(reply.output_tokens for reply in well) / seconds if seconds else 0.0,
    }
    for name, theirs in (("ttft_s", "ttft"), ("tpot_s", "tpot"), ("inter_token_s", "itl"), ("end_to_end_s", "e2el")):
        values = values_of(name, well) * 1e3
        each = level.latencies.get(name)
        if each is not None:
            result |= {
                f"mean_{theirs}_ms": float(values.mean()),
                f"median_{theirs}_ms": float(np.median(values)),
                f"std_{theirs}_ms": float(values.std()),
            }
            for share, end in each.percentiles.items():
                result[f"p{share}_{theirs}_ms"] = None if end.value is None else end.value * 1e3
    return {
        **result,
        "input_lens": [_prompt(reply) for reply in replies],
        "output_lens": [reply.output_tokens for reply in replies],
        "ttfts": [0.0 if reply.first is None else reply.first - reply.sent for reply in replies],
        "itls": [reply.gaps_s.tolist() for reply in replies],
        "latencies": [reply.ended - reply.sent for reply in replies],
        "start_times": [reply.sent for reply in replies],
        "queue_times": [max(reply.sent - reply.due, 0.0) for reply in replies],
        "errors": ["" if reply.outcome == OK else f"{reply.outcome} {reply.detail}".strip() for reply in replies],
    }


def _prompt(reply: Any) -> int:
    return int(reply.wanted_prompt if reply.prompt_tokens is None else reply.prompt_tokens)


def measured_cases(found: Measurement, case: Mapping[str, str]) -> list[dict[str, str]]:
    """A row of measured cases per level with requests that ended well: means over requests, as predictions are."""
    rows = []
    for level in () if found.asked.repeats else found.levels:
        ttft, tpot = (level.latencies.get(name) for name in ("ttft_s", "tpot_s"))
        if ttft is None:
            continue
        prompt = level.prompt_tokens or level.wanted_prompt_tokens
        rows.append(
            {
                "model": found.dialect.model,
                **case,
                "isl": str(max(round(prompt), 1)),
                "osl": str(max(round(level.output_tokens or level.wanted_output_tokens), 1)),
                "concurrency": str(max(round(in_flight(level)), 1)),
                "burst_share": f"{level.burst_share:.6g}",
                "measured_tpot_ms": "" if tpot is None else f"{tpot.mean * 1e3:.6g}",
                "measured_ttft_ms": f"{ttft.mean * 1e3:.6g}",
            }
        )
    return rows


def measured_csv(found: Measurement, case: Mapping[str, str]) -> str:
    """The measured cases as a CSV file."""
    rows = measured_cases(found, case)
    names: Sequence[str] = list(rows[0]) if rows else ["model", *case]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def measured_records(found: Measurement, case: Mapping[str, str]) -> list[MeasuredRecord]:
    """Medians over runs with the smallest and largest run."""
    records = []
    for level in found.levels:
        prompt, output = level.prompt_tokens or level.wanted_prompt_tokens, level.output_tokens or 0.0
        for name, phase in SERVED_PHASES.items():
            runs = [run[f"{name.removesuffix('_s')}_median_s"] for run in level.runs if f"{name[:-2]}_median_s" in run]
            cached = found.asked.repeats and name == "ttft_s"  # no time of a whole prompt
            if runs and min(runs) > 0.0 and not cached:
                records.append(
                    MeasuredRecord(
                        model=case.get("model", found.dialect.model), machine=case.get("chip", found.asked.address),
                        phase=phase, batch=max(round(in_flight(level)), 1),
                        context=round(prompt if name == "ttft_s" else prompt + output / 2.0),
                        seconds=float(np.median(runs)), low=min(runs), high=max(runs), repeats=len(runs),
                        precision=case.get("precision", ""),
                    )
                )  # fmt: skip
    return records
