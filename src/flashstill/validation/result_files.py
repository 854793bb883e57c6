"""The JSON trees of a result file, and files of load generators that hold no means of a load, refused by name.

    vllm bench sweep        summary.json is a list of the runs of one combination
    vllm bench serve        --append-result writes one object after the other; SGLang and LMDeploy one a line (.jsonl)

Tables and pages for people are refused with the file to give instead: GuideLLM's benchmarks.csv has the heading of its
first benchmark alone, under which the columns of others may be shifted; AIPerf's has no word on the load.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flashstill.bounded import read_bounded
from flashstill.checked import json_object, json_rows
from flashstill.errors import BadInput

Tree = Mapping[str, Any]
HEAD_CHARACTERS, RESULT_BYTES = 4096, 2**26


class Stranger(NamedTuple):
    """A file that is no result: the keys, or how the text begins, by which it is known; what it is; what to do."""

    signs: tuple[str, ...]
    what: str
    advice: str


_BENCH, _TOKENS = "measure with bench_serving", "measure with a tool that does"
TREES = (
    Stranger(("benchmark", "metric", "model"), "in PyTorch's benchmark format", "give vLLM's own result beside it"),
    Stranger(("metadata", "metrics", "error"), "AIPerf's list of requests", "give profile_export_aiperf.json"),
    Stranger(("experiments", "service_kind"), "genai-perf's list of requests", "give profile_export_genai_perf.json"),
    Stranger(("avg_latency", "latencies", "percentiles"), "of vllm bench latency", "measure with vllm bench serve"),
    Stranger(("elapsed_time", "num_requests", "tokens_per_second"), "of vllm bench throughput", "use vllm bench serve"),
    Stranger(("prefill_latency", "overall_throughput"), "of SGLang's bench_one_batch, which starts no server", _BENCH),
    Stranger(("last_ttft", "overall_throughput"), "of SGLang's bench_one_batch_server", _BENCH),
    Stranger(("last_gen_throughput", "total_latency"), "of SGLang's bench_offline_throughput", _BENCH),
    Stranger(
        ("num_failures", "num_requests", "response_times"), "of Locust, which counts requests and no tokens",
        _TOKENS,
    ),
    Stranger(
        ("start_time", "end_time", "info"), "inference-perf's list of requests",
        "give a stage_N_lifecycle_metrics.json beside it",
    ),
)  # fmt: skip
TEXTS = (
    Stranger(("Run Info,",), "GuideLLM's table, whose heading is of its first benchmark alone", "give benchmarks.json"),
    Stranger(
        ("Metric,avg,", "Metric,Value"), "a table of AIPerf or genai-perf", "give the .json that lies beside it"
    ),
    Stranger(("Type,Name,Request Count",), "of Locust, which counts requests and no tokens", _TOKENS),
    Stranger(("<!doctype html", "<html"), "a page for a browser", "give the .json of the same run"),
    Stranger(("metric_name,timestamp,metric_value",), "of k6, which counts requests and no tokens", _TOKENS),
)  # fmt: skip
SWEEP = ("run_number", "mean_ttft_ms")
"""columns of the summary.csv of vllm bench sweep"""


def check_text(path: Path) -> None:
    """BadInput if a file that is to be a table of cases is a load generator's, by how it begins. One that cannot be
    read is left to whoever reads it."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            head = stream.read(HEAD_CHARACTERS).lstrip()
    except OSError:
        return
    for sign in TEXTS:
        if head.lower().startswith(tuple(each.lower() for each in sign.signs)):
            raise BadInput(f"{path} is {sign.what}; {sign.advice}")
    heading = head.split("\n", 1)[0].strip().split(",")
    if set(SWEEP) <= set(heading):
        raise BadInput(f"{path} is the table of vllm bench sweep; give the summary.json of each combination's folder")


def trees_of(path: Path) -> Iterator[Tree]:
    """The results in a file: an object, a list of them, or one after the other. BadInput for anything else."""
    found = [tree for _, tree in json_rows(path)] if path.suffix == ".jsonl" else _trees(path)
    for tree in found:
        for sign in TREES:
            if all(name in tree for name in sign.signs):
                raise BadInput(f"{path} is {sign.what}; {sign.advice}")
        yield tree


def _trees(path: Path) -> list[Tree]:
    try:
        text = read_bounded(path, RESULT_BYTES).decode("utf-8-sig")
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return [each for _, each in json_rows(path)]
        return [json_object(path)]  # which says what is wrong
    except (ValueError, RecursionError):
        return [json_object(path)]
    if isinstance(tree, list) and tree and all(isinstance(each, dict) for each in tree):
        return tree
    return [json_object(path)]
