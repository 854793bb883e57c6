"""Commands that start a serving engine in a configuration found by `plan`.

The engines count differently: vLLM's tensor parallelism is that of one attention replica; SGLang's and TensorRT-LLM's
is the number of all chips, with data-parallel attention switched on separately.  Data-parallel groups of a model
without experts are replicas, which SGLang starts together on one host and TensorRT-LLM one by one.  A configuration on
several hosts has one command per host.  A configuration that an engine cannot express is rejected with the reason;
required preparation (such as a quantised checkpoint) is a comment before the command.  Rules as of the versions in
engines.toml.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from flashstill.arch.catalogue import read_config
from flashstill.arch.config_file import existing
from flashstill.errors import BadInput, printable, unknown
from flashstill.plan.engines import ENGINES, check_engine, chips_of_a_node, is_node_guessed, plugin_of, version_of
from flashstill.plan.launch_layouts import (
    TRTLLM_TRANSFER,
    expert_options,
    points_by_role,
    role_options,
    router_lines,
)
from flashstill.plan.space import Configuration

__all__ = ["ENGINES", "Started", "heading", "launch", "pick", "startable", "started"]

ON_THE_FLY = {"vllm": ("fp8",), "sglang": ("fp8",), "trtllm": ()}
"""formats to which an engine can quantise a 16-bit checkpoint while loading it"""
PICKS = {
    "tpot": "tpot_s",
    "throughput": "tokens_per_s_per_chip",
    "joules": "joules_per_output_token",
    "dollars": "usd_per_million_output_tokens",
}
Words = list[object]


class Started(NamedTuple):
    """How a server is started: its command, the same on each of its hosts but for what tells them apart.

    address: words that give the first host's address, ending with it; followers: words of all hosts but the first.
    settings: lines of a file that the command reads.  copies: equal servers, each on its part of the chips.
    """

    words: Words
    nodes: int = 1
    address: Words = []  # noqa: RUF012 - never changed
    followers: Words = []  # noqa: RUF012 - never changed
    comments: list[str] = []  # noqa: RUF012 - never changed
    settings: list[str] = []  # noqa: RUF012 - never changed
    copies: int = 1


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
        lines += _lines(server)
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
    make = {"vllm": _vllm, "sglang": _sglang, "trtllm": _trtllm}[engine]
    return [(role, part, make(model, part, tokens, has_experts, role)) for role, part in points_by_role(point)]


def _nodes(engine: str, chip: str, chips: int) -> int:
    """Number of hosts; BadInput if the chips do not fill whole hosts, or the plug-in supports one host only."""
    chips_per_node = chips_of_a_node(chip)
    if chips <= chips_per_node:
        return 1
    if chips % chips_per_node:
        raise BadInput(f"{engine} uses whole nodes of {chips_per_node} {chip} beyond one; {chips} chips are not")
    if plugin_of(engine, chip):
        raise BadInput(f"{engine} with {plugin_of(engine, chip)} is started on one host here; {chips} chips are more")
    return chips // chips_per_node


def _vllm(model: str, point: Configuration, tokens: int, has_experts: bool, role: str) -> Started:
    if point.ep not in (1, point.tp * point.dp):
        raise BadInput(f"vllm spreads experts over all chips or none: ep {point.ep} is neither 1 nor tp x dp")
    nodes, replica = _nodes("vllm", point.chip, point.chips), point.tp * point.pp
    each = point.chips // nodes
    if nodes > 1 and each % replica and replica % each:
        raise BadInput(f"vllm cannot split a replica of {replica} chips unevenly over nodes of {each}")
    words: Words = ["vllm", "serve", model, "--tensor-parallel-size", point.tp]
    words += ["--pipeline-parallel-size", point.pp] if point.pp > 1 else []
    words += ["--data-parallel-size", point.dp] if point.dp > 1 else []
    words += ["--enable-expert-parallel"] if point.ep > 1 else []
    words += [*expert_options("vllm", point), *role_options("vllm", role)]
    words += ["--max-model-len", tokens, "--max-num-seqs", -(-point.batch // point.dp)]
    words += ["--quantization", point.precision] if point.precision in ON_THE_FLY["vllm"] else []
    words += ["--kv-cache-dtype", "fp8"] if point.kv_precision == "fp8" else []
    if point.speculated_tokens:
        drafting: dict[str, object] = {"num_speculative_tokens": point.speculated_tokens}
        drafting |= {"method": "eagle"} if drafts_by_head(point.draft) else {}
        drafting |= {"model": point.draft} if point.draft else {"method": "mtp"}
        words += ["--speculative-config", json.dumps(drafting)]
    return Started(words, nodes, ["--master-addr", "NODE_0_ADDRESS"], ["--headless"])


def _sglang(model: str, point: Configuration, tokens: int, has_experts: bool, role: str) -> Started:
    groups, comments = point.dp > 1 and has_experts, []
    replicas = 1 if has_experts else point.dp
    chips, batch, copies = point.chips, -(-point.batch // replicas), 1  # max-running-requests is per replica
    if replicas > 1 and point.chips > chips_of_a_node(point.chip):
        comments = _one_by_one(point)
        chips, replicas, copies = point.chips // replicas, 1, replicas
    if point.speculated_tokens and point.draft and groups:
        raise BadInput("sglang does not speculate with a draft model beside attention over data-parallel groups (dp)")
    if point.speculated_tokens and point.draft and point.pp > 1:
        raise BadInput("sglang does not speculate with a draft model beside pipeline parallelism (pp)")
    width = point.tp * (point.dp if has_experts else 1)
    nodes = _nodes("sglang", point.chip, chips)
    words: Words = ["python", "-m", "sglang.launch_server", "--model-path", model, "--tp-size", width]
    if groups:
        comments.append(f"# before 0.5.2x: --dp-size {point.dp} --enable-dp-attention instead of --attn-dp-size")
        words += ["--attn-dp-size", point.dp]
    words += ["--dp-size", replicas] if replicas > 1 else []
    words += ["--pp-size", point.pp] if point.pp > 1 else []
    words += ["--ep-size", point.ep] if point.ep > 1 else []
    words += [*expert_options("sglang", point), *role_options("sglang", role)]
    words += ["--context-length", tokens, "--max-running-requests", batch]
    words += ["--quantization", point.precision] if point.precision in ON_THE_FLY["sglang"] else []
    words += ["--kv-cache-dtype", "fp8_e4m3"] if point.kv_precision == "fp8" else []
    if point.speculated_tokens:
        by_head = drafts_by_head(point.draft)
        words += ["--speculative-algorithm", "EAGLE" if by_head else "STANDALONE" if point.draft else "NEXTN"]
        comments += ["# config.json of the draft: architectures must be LlamaForCausalLMEagle"] if by_head else []
        words += ["--speculative-draft-model-path", point.draft] if point.draft else []
        words += ["--speculative-num-steps", point.speculated_tokens, "--speculative-eagle-topk", 1]
        words += ["--speculative-num-draft-tokens", point.speculated_tokens + 1]
    return Started(words, nodes, ["--dist-init-addr", "NODE_0_ADDRESS:25000"], comments=comments, copies=copies)


def _trtllm(model: str, point: Configuration, tokens: int, has_experts: bool, role: str) -> Started:
    groups, comments = point.dp > 1 and has_experts, []
    if groups and point.tp > 1:
        raise BadInput(f"trtllm repeats attention on every chip or on none: tp {point.tp} x dp {point.dp} is neither")
    if groups and point.speculated_tokens and point.draft:
        raise BadInput("trtllm is not known to speculate with a draft model beside attention on every chip (dp)")
    if drafts_by_head(point.draft):
        raise BadInput("trtllm is not known to load a drafting head of this form; emit vllm or sglang")
    chips = point.chips
    if point.dp > 1 and not has_experts:
        comments, chips = _one_by_one(point), point.chips // point.dp
    expert_options("trtllm", point)
    settings = ["enable_attention_dp: true"] if groups else []
    settings += TRTLLM_TRANSFER if role else []
    settings += ["kv_cache_config:", "  dtype: fp8"] if point.kv_precision == "fp8" else []
    settings += _trtllm_drafts(point)
    nodes = _nodes("trtllm", point.chip, chips)
    words: Words = [] if nodes == 1 else ["mpirun", "-n", chips, "-npernode", chips // nodes, "trtllm-llmapi-launch"]
    words += ["trtllm-serve", model, "--backend", "pytorch", "--tp_size", point.tp * (point.dp if groups else 1)]
    words += ["--pp_size", point.pp] if point.pp > 1 else []
    words += ["--ep_size", point.ep] if point.ep > 1 else []
    words += ["--max_batch_size", -(-point.batch // point.dp), "--max_seq_len", tokens]
    if nodes > 1:
        comments.append(f"# mpirun starts it on {nodes} nodes: give it their names (--host or --hostfile)")
    words += ["--extra_llm_api_options", "trtllm-options.yaml"] if settings else []
    return Started(words, comments=comments, settings=settings)


def drafts_by_head(draft: str) -> bool:
    """Whether a draft is the directory of a head on the target's hidden states."""
    path = existing(draft)
    return path is not None and path.is_dir() and read_config(path / "config.json", path.name).shares_ends


def _trtllm_drafts(point: Configuration) -> list[str]:
    """The YAML of speculation; sets MTP's draft length as max_draft_len (newer versions) and as layers (older)."""
    if not point.speculated_tokens:
        return []
    settings = ["speculative_config:", f"  decoding_type: {'Draft_Target' if point.draft else 'MTP'}"]
    settings += [f"  max_draft_len: {point.speculated_tokens}"]
    if not point.draft:
        return [*settings, f"  num_nextn_predict_layers: {point.speculated_tokens}"]
    return [*settings, f"  speculative_model: {json.dumps(point.draft)}  # speculative_model_dir before 1.2"]


def _one_by_one(point: Configuration) -> list[str]:
    return [f"# one of {point.dp} replicas: start each on its own {point.tp * point.pp} chips, behind a load balancer"]


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
