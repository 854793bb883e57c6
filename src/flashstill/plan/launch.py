"""Commands that start a serving engine in a configuration found by `plan`.

The engines count differently: vLLM's tensor parallelism is that of one attention replica; SGLang's and TensorRT-LLM's
is the number of all chips, with data-parallel attention switched on separately.  Data-parallel groups of a model
without experts are replicas, which SGLang starts together on one host and TensorRT-LLM one by one.  A configuration on
several hosts has one command per host.  A configuration that an engine cannot express is rejected with the reason;
required preparation (such as a quantised checkpoint) is a comment before the command.  Rules as of the versions in
engines.toml.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from flashstill.errors import BadInput, printable, unknown
from flashstill.plan.engine_flags import ON_THE_FLY, Started, sglang, trtllm, vllm
from flashstill.plan.engines import ENGINES, check_engine, chips_of_a_node, is_node_guessed, plugin_of, version_of
from flashstill.plan.launch_layouts import (
    points_by_role,
    role_settings,
    router_lines,
)
from flashstill.plan.space import Configuration

__all__ = ["ENGINES", "Started", "heading", "launch", "pick", "startable", "started"]

PICKS = {
    "tpot": "tpot_s",
    "throughput": "tokens_per_s_per_chip",
    "joules": "joules_per_output_token",
    "dollars": "usd_per_million_output_tokens",
}


def pick(front: Sequence[Configuration], by: str) -> Configuration:
    """The best point of a front in one objective; BadInput if no point has a value for it."""
    if by not in PICKS:
        raise BadInput(unknown("objective", by, PICKS))
    known = [point for point in front if getattr(point, PICKS[by]) is not None]
    if not known:
        others = [name for name, figure in PICKS.items() if any(getattr(point, figure) is not None for point in front)]
        raise BadInput(f"no point has a figure for {by}; pick by another of {', '.join(others)}")
    sign = -1.0 if by == "throughput" else 1.0
    return min(known, key=lambda point: sign * float(getattr(point, PICKS[by])))


def startable(engine: str, front: Sequence[Configuration], has_experts: bool) -> tuple[tuple[Configuration, ...], str]:
    """The points that the engine can start, and the reason for the first it cannot; empty if it can start all."""
    points, why = [], ""
    for point in front:
        try:
            launch(engine, "some/model", point, 2, has_experts)
            points.append(point)
        except BadInput as error:
            why = why or str(error)
    return tuple(points), why


def launch(engine: str, model: str, point: Configuration, tokens: int, has_experts: bool = True) -> str:
    """The commands, preceded by comments. model: Hugging Face id or path; tokens: of the longest request."""
    servers = started(engine, model, point, tokens, has_experts)
    lines = heading(engine, model, point)
    for role, part, server in servers:
        lines += [f"# one server of the {role} pool, on {part.chips} x {part.chip}"] if role else []
        lines += [*role_settings(engine, role), *_lines(server)]
    lines += router_lines(engine, point) if point.prefill_instances else []
    return "\n".join(lines)


def heading(engine: str, model: str, point: Configuration) -> list[str]:
    """Comments: what is started, and what must be prepared for it."""
    expected = f", expected {point.tpot_s * 1e3:.3g} ms a token" if point.tpot_s is not None else ""
    plugin = plugin_of(engine, point.chip)
    program = f"{engine} {version_of(engine)}{f' with its plug-in {plugin}' if plugin else ''}"
    comments = [f"# {point.chips} x {point.chip}, {point.batch} requests in flight{expected}; {program}"]
    if point.precision != "published" and point.precision not in (*ON_THE_FLY[engine], "bf16"):
        comments.append(
            f"# {printable(model)} must be a checkpoint in {point.precision}: {engine} does not quantise to it on"
            " loading"
        )
    if point.chips > 1 and is_node_guessed(point.chip):
        comments.append(f"# that one host has {chips_of_a_node(point.chip)} {point.chip} is a guess: servers differ")
    return comments


def started(
    engine: str, model: str, point: Configuration, tokens: int, has_experts: bool = True
) -> list[tuple[str, Configuration, Started]]:
    """Of each pool its role ("" if there is one that does both), layout, and how one of its servers is started."""
    check_engine(engine, [point.chip])
    for where, what in ((point.weights_in, "weights"), (point.kv_in, "the cache")):
        if where != "memory":
            raise BadInput(
                f"{engine} keeps weights and cache in the main memory, but this point has {what} in {where};"
                " ask for --tiers memory"
            )
    make = {"vllm": vllm, "sglang": sglang, "trtllm": trtllm}[engine]
    return [(role, part, make(model, part, tokens, has_experts, role)) for role, part in points_by_role(point)]


def _lines(server: Started) -> list[str]:
    """The comments, the file of settings, and the command of each host."""
    lines = list(server.comments)
    lines += ["cat > trtllm-options.yaml <<'YAML'", *server.settings, "YAML"] if server.settings else []
    if server.nodes == 1:
        return [*lines, _line(server.words)]
    lines += [f"# one command for each of {server.nodes} nodes; NODE_0_ADDRESS is the address of the first"]
    for rank in range(server.nodes):
        followers = server.followers if rank else []
        own = [*server.words, "--nnodes", server.nodes, "--node-rank", rank, *server.address, *followers]
        lines += [f"# node {rank}", _line(own)]
    return lines


def _line(words: Sequence[object]) -> str:
    """One shell command with one option per line."""
    quoted = [shlex.quote(str(word)) for word in words]
    line = ""
    for word in quoted:
        line += (" \\\n    " if word.startswith("--") else " " if line else "") + word
    return line
