"""The words after the name of each serving engine's command: layout, formats, batch and drafts."""

from __future__ import annotations

import json
from typing import NamedTuple

from flashstill.arch.catalogue import read_config
from flashstill.arch.config_file import existing
from flashstill.errors import BadInput
from flashstill.plan.engines import chips_of_a_node, plugin_of, step_tokens_of
from flashstill.plan.launch_layouts import (
    TRTLLM_TRANSFER,
    expert_options,
    role_options,
)
from flashstill.plan.space import Configuration

ON_THE_FLY = {"vllm": ("fp8",), "sglang": ("fp8",), "trtllm": ()}
"""formats to which an engine can quantise a 16-bit checkpoint while loading it"""
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


def vllm(model: str, point: Configuration, tokens: int, has_experts: bool, role: str) -> Started:
    """How vLLM is started; BadInput for a configuration that it cannot run (experts over all chips or none)."""
    if point.ep not in (1, point.tp * point.dp):
        raise BadInput(f"vllm spreads experts over all chips or none: ep {point.ep} is neither 1 nor tp x dp")
    nodes, replica = nodes_of("vllm", point.chip, point.chips), point.tp * point.pp
    each = point.chips // nodes
    if nodes > 1 and each % replica and replica % each:
        raise BadInput(f"vllm cannot split a replica of {replica} chips unevenly over nodes of {each}")
    words: Words = ["vllm", "serve", model, "--tensor-parallel-size", point.tp]
    words += ["--pipeline-parallel-size", point.pp] if point.pp > 1 else []
    words += ["--data-parallel-size", point.dp] if point.dp > 1 else []
    words += ["--enable-expert-parallel"] if point.ep > 1 else []
    options, sequences = expert_options("vllm", point), -(-point.batch // point.dp)
    words += [*options, *role_options("vllm", role)]
    words += ["--max-model-len", tokens, "--max-num-seqs", sequences]
    is_low_latency = "deepep_low_latency" in options and point.ep > 1 and point.dp > 1
    own, most = step_tokens_of(point.chip, is_low_latency)
    if sequences > own:  # refused at the start
        words += ["--max-num-batched-tokens", sequences if is_low_latency else max(sequences, most)]
    words += ["--quantization", point.precision] if point.precision in ON_THE_FLY["vllm"] else []
    words += ["--kv-cache-dtype", "fp8"] if point.kv_precision == "fp8" else []
    if point.speculated_tokens:
        drafting: dict[str, object] = {"num_speculative_tokens": point.speculated_tokens}
        drafting |= {"method": "eagle"} if drafts_by_head(point.draft) else {}
        drafting |= {"model": point.draft} if point.draft else {"method": "mtp"}
        words += ["--speculative-config", json.dumps(drafting)]
    return Started(words, nodes, ["--master-addr", "NODE_0_ADDRESS"], ["--headless"])


def sglang(model: str, point: Configuration, tokens: int, has_experts: bool, role: str) -> Started:
    """How SGLang is started; BadInput for what it cannot run.

    With experts, dp is attention over data-parallel groups; without, whole copies.
    """
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
    nodes = nodes_of("sglang", point.chip, chips)
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


def trtllm(model: str, point: Configuration, tokens: int, has_experts: bool, role: str) -> Started:
    """How TensorRT-LLM is started; BadInput for what it cannot run, such as attention on some of the chips only."""
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
    nodes = nodes_of("trtllm", point.chip, chips)
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


def nodes_of(engine: str, chip: str, chips: int) -> int:
    """Number of hosts; BadInput if the chips do not fill whole hosts, or the plug-in supports one host only."""
    chips_per_node = chips_of_a_node(chip)
    if chips <= chips_per_node:
        return 1
    if chips % chips_per_node:
        raise BadInput(f"{engine} uses whole nodes of {chips_per_node} {chip} beyond one; {chips} chips are not")
    if plugin_of(engine, chip):
        raise BadInput(f"{engine} with {plugin_of(engine, chip)} is started on one host here; {chips} chips are more")
    return chips // chips_per_node
