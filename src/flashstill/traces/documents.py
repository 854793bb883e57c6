"""The requests in the JSON documents that load generators write at the end of a run.

vllm bench serve --save-detailed    lists of the same length: start_times, input_lens, output_lens, errors
GuideLLM                            benchmarks[0].requests.successful, .incomplete and .errored
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput

VLLM = ("start_times", "input_lens", "output_lens")
Table = tuple[tuple[str, ...], Iterable[Mapping[str, Any]]]


def tables_in(path: Path, tree: Any) -> Table:
    """Columns and requests of a document. BadInput for one of no known kind."""
    if isinstance(tree, list) and tree and all(isinstance(each, dict) for each in tree):
        return tuple(tree[0]), tree
    if isinstance(tree, dict) and all(isinstance(tree.get(name), list) for name in VLLM):
        return _vllm(path, tree)
    if isinstance(tree, dict) and isinstance(tree.get("benchmarks"), list):
        return _guidellm(path, tree["benchmarks"])
    if isinstance(tree, dict) and isinstance(tree.get("data"), list) and "traceID" in str(tree["data"])[:200]:
        raise BadInput(f"{path} is an export of Jaeger; give the same traces as OTLP (resourceSpans)")
    if isinstance(tree, dict) and "total_output_tokens" in tree:
        raise BadInput(f"{path} has no times of its requests; run vllm bench serve with --save-detailed")
    raise BadInput(f"{path} is a JSON document without requests: of vllm bench serve or GuideLLM, or a list of objects")


def _vllm(path: Path, tree: Mapping[str, Any]) -> Table:
    lists = {name: tree[name] for name in VLLM}
    if isinstance(tree.get("errors"), list):
        lists["errors"] = tree["errors"]
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length:,} {name}" for name, length in lengths.items())
        raise BadInput(f"{path} has lists of different lengths: {told}")
    rows = zip(*lists.values(), strict=True)
    return tuple(lists), (dict(zip(lists, row, strict=True)) for row in rows)


def _guidellm(path: Path, benchmarks: list[Any]) -> Table:
    if len(benchmarks) != 1:
        raise BadInput(f"{path} has {len(benchmarks)} benchmarks; a trace is the requests of one of them")
    requests = benchmarks[0].get("requests") if isinstance(benchmarks[0], dict) else None
    kinds = requests if isinstance(requests, dict) else {"successful": requests}
    rows = [each for kind in ("successful", "incomplete", "errored") for each in kinds.get(kind) or ()]
    if not rows or not all(isinstance(each, dict) for each in rows):
        raise BadInput(f"{path} has no requests in its benchmark; GuideLLM writes them unless it is told not to")
    return tuple(rows[0]), rows
