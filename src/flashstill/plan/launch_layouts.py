"""What launch commands say of redundant experts, two-batch overlap, and pools of their own for prefill and decoding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flashstill.errors import BadInput
from flashstill.plan.deployment import PREFILL, PREFILL_FIELDS, TWO_BATCH
from flashstill.plan.engines import router_of
from flashstill.plan.layouts import Degrees
from flashstill.plan.space import Configuration

ROLES = ("prefill", "decode")
SIDE_CHANNEL_HOST = "VLLM_NIXL_SIDE_CHANNEL_HOST"
"""where a vLLM server tells the other pool how to fetch its caches: an address that others reach, not its localhost"""
POOL_SETTINGS = {"vllm": {"VLLM_SSM_CONV_STATE_LAYOUT": "DS"}}
"""environment of servers in pools: NIXL moves the states of recurrent blocks in this layout alone; others ignore it"""
Words = list[object]


def expert_options(engine: str, point: Configuration) -> Words:
    """Options for redundant experts and overlap; BadInput if the engine has none for them on its command line."""
    words: Words = []
    number = point.redundant_experts
    if engine == "trtllm" and number:
        raise BadInput(
            "trtllm takes redundant experts as slots in a file of its load balancer, which is not written here; take"
            " vllm or sglang, or leave redundant_experts out"
        )
    if engine == "trtllm" and point.overlap == TWO_BATCH:
        raise BadInput("trtllm cannot run two micro-batches at a time; take vllm or sglang, or leave overlap out")
    if engine == "vllm":
        words += ["--enable-eplb", "--eplb-config", json.dumps({"num_redundant_experts": number})] if number else []
        words += ["--enable-dbo", "--all2all-backend", "deepep_low_latency"] if point.overlap == TWO_BATCH else []
    if engine == "sglang":
        words += ["--enable-eplb", "--ep-num-redundant-experts", number] if number else []
        words += ["--enable-two-batch-overlap", "--moe-a2a-backend", "deepep"] if point.overlap == TWO_BATCH else []
    return words


def role_options(engine: str, role: str) -> Words:
    """Options that make a server one of a prefill or a decode pool; none for a server that does both."""
    if not role or engine == "trtllm":
        return []
    if engine == "vllm":
        return ["--kv-transfer-config", json.dumps({"kv_connector": "NixlConnector", "kv_role": "kv_both"})]
    return ["--disaggregation-mode", role]


def role_settings(engine: str, role: str) -> list[str]:
    """Comment and shell line before the command of a server of a pool; none where the engine needs no environment."""
    if not role or engine not in POOL_SETTINGS:
        return []
    values = {SIDE_CHANNEL_HOST: "THIS_ADDRESS", **POOL_SETTINGS[engine]}
    return [
        "# THIS_ADDRESS: of the server's own host, as the other pool reaches it; servers of one host need ports of"
        " their own (--port, VLLM_NIXL_SIDE_CHANNEL_PORT)",
        f"export {' '.join(f'{name}={value}' for name, value in values.items())}",
    ]


def points_by_role(point: Configuration) -> list[tuple[str, Configuration]]:
    """The decode pool and one prefill instance as points of their own, or the point itself if it does both."""
    if not point.prefill_instances:
        return [("", point)]
    none: dict[str, Any] = dict.fromkeys(PREFILL_FIELDS, 0)
    theirs: dict[str, Any] = {name: getattr(point, f"{PREFILL}{name}") for name in Degrees._fields}
    prefill = replace(point, **none, **theirs, chips=point.prefill_chips, batch=max(point.prefill_dp, 1))
    decode = replace(point, **none, chips=point.tp * point.pp * point.dp)
    return [("prefill", prefill), ("decode", decode)]


def router_lines(engine: str, point: Configuration) -> list[str]:
    """Comment and command of the router in front of the pools."""
    first = f"# then, in front of {point.prefill_instances} prefill servers and the decode server:"
    if engine == "vllm":
        router = router_of(engine)
        urls = [f"http://PREFILL_{number}_ADDRESS:8000" for number in range(point.prefill_instances)]
        own = [*router["words"], *(word for url in urls for word in ("--prefill", url))]
        return [f"{first} pip install {router['package']}", " ".join([*own, "--decode", "http://DECODE_ADDRESS:8000"])]
    urls = [f"http://PREFILL_{number}_ADDRESS:30000" for number in range(point.prefill_instances)]
    if engine == "sglang":
        prefill = [word for url in urls for word in ("--prefill", url)]
        words = ["python", "-m", "sglang_router.launch_router", "--pd-disaggregation", *prefill]
        return [first, " ".join([*words, "--decode", "http://DECODE_ADDRESS:30000"])]
    return [first, "cat > trtllm-pools.yaml <<'YAML'", *_trtllm_pools(urls), "YAML"] + [
        "trtllm-serve disaggregated -c trtllm-pools.yaml"
    ]


def _trtllm_pools(urls: Sequence[str]) -> list[str]:
    named = [f'    - "{url.removeprefix("http://")}"' for url in urls]
    servers = ["context_servers:", f"  num_instances: {len(urls)}", "  urls:", *named]
    return [*servers, "generation_servers:", "  num_instances: 1", "  urls:", '    - "DECODE_ADDRESS:30000"']


TRTLLM_TRANSFER = ["cache_transceiver_config:", "  backend: DEFAULT"]
"""settings of a TensorRT-LLM server in one of two pools"""
