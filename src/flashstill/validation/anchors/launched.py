"""How the rows of the serving anchors were launched and loaded, from the public scripts behind them.

InferenceX (SemiAnalysisAI/InferenceX, benchmarks/): 10 x concurrency prompts in a closed loop that starts with all of
the first at t = 0, so that a tenth of all requests comes in one burst; lengths uniform from 0.8 to 1.0 of the nominal
ones.  The other rows (sweeps published with ai-dynamo/aiconfigurator) have equal lengths.  An engine that prefills
before it decodes then answers all requests of a round in step: each round is a burst like the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flashstill.hardware.software import VERSIONED

VARIED = "InferenceX"
"""the rows whose lengths vary have a kind that begins so"""
COPIES = ("qwen3.5-397b-gap-analysis.csv",)
"""files of the other kind that repeat rows of InferenceX"""
MEAN_LENGTH = 0.9
"""mean of the lengths drawn, over the nominal ones"""
FIRST_ROUND = 0.1
"""share of the requests that the first burst of a run with 10 x concurrency prompts holds"""
CONVOY = 2.0
"""Prefills for which a request waits where lengths are equal: answers end one step after the other, so that a new
prompt comes while that of the one before is prefilled, and its own follows.  An engine that schedules a step ahead has
decided the next step then, which holds a third prompt.  In a server that is a slot short one always waits already."""
IN_STEP = ("sglang",)
"""engines that prefill in steps of their own, before they decode further (rows mixed_ratio of facts)"""
CACHES = {
    ("deepseek-ai/DeepSeek-V3", "b200_sxm", "sglang"): "fp8",
    ("deepseek-ai/DeepSeek-V3", "h200_sxm", "trtllm"): "fp8",
    ("Qwen/Qwen3.5-397B-A17B", "h200_sxm", "sglang"): "fp8",
    ("meta-llama/Llama-3.1-70B", "h100_sxm", "vllm"): "bf16",
}
"""cache format of a model on a chip and engine, where launch scripts set another than the checkpoint's"""
IN_BLOCKS = {("Qwen/Qwen3-32B", "trtllm", "1.0.0rc3")}
"""Sweeps of a checkpoint in blocks of fp8 that the table calls fp8: with this version
aiconfigurator loads Qwen/Qwen3-32B-FP8 as QWEN3_32B (tools/automation/config.env), and fp8_block was the default of its
sdk/task.py."""

SLOT_SHORT = {("trtllm", "meta-llama/Llama-3.1-8B-Instruct", "1.0.0rc3")}
"""Sweeps whose server runs one request fewer than are in flight: max_batch_size is their number (trtllm.rule), of which
the dummy request that pads CUDA graphs held one until NVIDIA/TensorRT-LLM pull 7998.  Which sweeps padded is not said,
so that these are told by what was measured: first tokens grow with the output by 0.6 to 1.3 of one answer over the
concurrency (35 of 36 curves of up to 32 in flight; beyond, queues hide it).  Two other models of the same version show
none of it, or less than half.  Predictions that users ask for know nothing of it: it only keeps the wait out of what
is fitted."""
VERSIONS = {"trtllm": ("1.0",)}
"""Older versions of an engine that have coefficients of their own, by the beginning of the version in the table; rows
of other versions are of the engine of today."""
AHEAD_SINCE = (0, 14)
"""the version of vLLM since which it schedules ahead by default (release notes)"""
WAIT_STEPS = 20.0
"""batch_wait_timeout_iters of TensorRT-LLM's scripts: steps for which prompts are gathered"""
ROUNDS = 10
"""requests of a run, over those in flight"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedLoop:
    """How a row was loaded. concurrency: requests in flight; isl, osl: nominal lengths; least_ratio: of the shortest
    drawn; requests: in all.

    step_tokens: most tokens of a step, where the launch command sets it; None: as the engine does.
    sequences: most requests that run at once, where they are fewer than are in flight.
    ahead: whether steps are scheduled ahead, if the engine does so by now; False for a version that did not yet.
    gathered: prompts of others in the pass of the mean request, where prompts are gathered before they are prefilled.
    """

    concurrency: int
    isl: int
    osl: int
    least_ratio: float
    requests: int
    step_tokens: int | None
    sequences: int | None = None
    ahead: bool = True
    gathered: float = 0.0


def versioned(row: Mapping[str, str]) -> str:
    """The engine of a row as a deployment asks for it: NAME@VERSION where the version has coefficients of its own."""
    engine, version = row["backend"], row.get("backend_version") or ""
    older = (known for known in VERSIONS.get(engine, ()) if version == known or version.startswith(f"{known}."))
    return VERSIONED.join((engine, *older))


def closed_loop(row: Mapping[str, str]) -> ClosedLoop:
    """The load of a row.

    aiconfigurator (generator/rule_plugin/benchmark: vllm.rule, trtllm.rule) launches vLLM and TensorRT-LLM with
    max_num_tokens = isl + 1500 + the largest batch, which is the concurrency.  That holds one prompt, or two of
    1,024 tokens; but first tokens of those are as many prefills late as of 2,048 and 4,096 (three with TensorRT-LLM,
    whatever is in flight, where pairs would make it five), so that one prompt joins a step there as well.
    """
    varied, concurrency = _is_varied(row), int(float(row["concurrency"]))
    isl, osl = int(float(row["isl"])), int(float(row["osl"]))
    one_prompt = not varied and row["backend"] not in IN_STEP
    return ClosedLoop(
        concurrency=concurrency,
        isl=isl,
        osl=osl,
        least_ratio=2.0 * MEAN_LENGTH - 1.0 if varied else 1.0,
        requests=ROUNDS * concurrency,
        step_tokens=isl + concurrency if one_prompt else None,
        sequences=max(concurrency - 1, 1) if _is_slot_short(row) else None,
        ahead=_schedules_ahead(row),
        gathered=gathered_prompts(_arrivals(row)) if _gathers(row) else 0.0,
    )


def _schedules_ahead(row: Mapping[str, str]) -> bool:
    """Whether vLLM scheduled ahead: by default since 0.14; InferenceX's scripts asked for it before
    (70b_fp8_h200_slurm.sh: async-scheduling), though not the older ones of the rows on H100 in `CACHES`."""
    if row["backend"] != "vllm":
        return True
    if _is_varied(row):
        return (row.get("model"), row.get("gpu"), "vllm") not in CACHES
    return tuple(int(part) for part in re.findall(r"\d+", row.get("backend_version") or "")[:2]) >= AHEAD_SINCE


def _is_varied(row: Mapping[str, str]) -> bool:
    return row.get("kind", "").startswith(VARIED) or row.get("origin") in COPIES


def as_launched(row: Mapping[str, str]) -> dict[str, Any]:
    """Columns of a case, beyond those that the row states: mean lengths, burst share, formats of weights and cache."""
    varied = _is_varied(row)
    lengths = {name: float(row[name]) * (MEAN_LENGTH if varied else 1.0) for name in ("isl", "osl")}
    return {
        **{name: max(round(length), 1) for name, length in lengths.items()},
        "burst_share": 1.0 if not varied and row["backend"] in IN_STEP else FIRST_ROUND,
        "cohort": _cohort(row),
        "batching_steps": _batching_steps(row),
        "kv_precision": _cache(row),
        "precision": _weights(row),
    }


def _weights(row: Mapping[str, str]) -> str | None:
    """Format of the weights: fp8 in blocks where a row's experts or checkpoint are, whose table calls either fp8."""
    stack = (row["model"], row["backend"], row.get("backend_version"))
    in_blocks = row["precision"] == "fp8" and (row.get("moe_quant") == "fp8_block" or stack in IN_BLOCKS)
    return "fp8-block" if in_blocks else row["precision"] or None


def _cache(row: Mapping[str, str]) -> str | None:
    """Format of the cache, where it is not the checkpoint's.

    aiconfigurator launches TensorRT-LLM with a cache in fp8 whenever it quantises weights (sdk/task.py, 1.0.0rc3).
    """
    if not _is_varied(row) and row["backend"] == "trtllm" and row["precision"] == "fp8":
        return "fp8"
    return CACHES.get((row["model"], row["gpu"], row["backend"]))


def _cohort(row: Mapping[str, str]) -> float:
    """Prompts that are prefilled together or one right after the other: those gathered, or of a convoy."""
    if _gathers(row):
        return 1.0 + _arrivals(row) * WAIT_STEPS
    if _is_varied(row) or _is_slot_short(row):
        return 1.0
    in_step = row["backend"] in IN_STEP
    return CONVOY + (0.0 if in_step or not _schedules_ahead(row) else 1.0)


def _batching_steps(row: Mapping[str, str]) -> float:
    """Mean number of decode steps for which the scripts let a request wait.

    TensorRT-LLM with Llama-3.1-70B at 1k/1k below tp 8 (70b_fp8_h200_trt_slurm.sh and the like): prompts are gathered.
    SGLang with DeepSeek on B200: scheduler_recv_interval 10, and 30 from 16 requests on at tp 8 (dsr1_fp8_b200.sh); a
    request waits for half of it.  Of SLOT_SHORT one request of `concurrency` always waits for a whole answer of one of
    the others, so that each waits for its share of that.
    """
    if _gathers(row):
        return gathering_steps(_arrivals(row))
    if row["backend"] == "sglang" and row["model"].endswith("DeepSeek-V3") and row["gpu"] == "b200_sxm":
        return 15.0 if int(float(row["tp_size"])) == 8 and float(row["concurrency"]) >= 16 else 5.0
    if _is_slot_short(row):
        return float(row["osl"]) / max(float(row["concurrency"]) - 1.0, 1.0)
    return 0.0


def _gathers(row: Mapping[str, str]) -> bool:
    is_asked = row["backend"] == "trtllm" and row["model"].endswith("Llama-3.1-70B") and int(float(row["tp_size"])) < 8
    return is_asked and row["isl"] == row["osl"] == "1024"


def _arrivals(row: Mapping[str, str]) -> float:
    """Requests that arrive in a decode step."""
    return float(row["concurrency"]) / (MEAN_LENGTH * float(row["osl"]))


def _is_slot_short(row: Mapping[str, str]) -> bool:
    return (row["backend"], row.get("model"), row.get("backend_version")) in SLOT_SHORT


def gathering_steps(arrivals: float) -> float:
    """Mean steps for which requests wait that arrive at a mean rate of `arrivals` a step.

    TensorRT-LLM (_waiting_requests of its executor) prefills once batch_wait_timeout_iters have passed with a prompt
    waiting, here N = 20, or once prompts and running sequences reach batch_wait_max_tokens_ratio 0.9 of max_num_tokens,
    16,384 in these scripts, which so few requests do not.  The first prompt waits N steps, the aN that come meanwhile
    half of that on average.  Nobody waits who finds no sequence running, as in a burst.
    """
    gathered = arrivals * WAIT_STEPS
    return (1.0 - FIRST_ROUND) * WAIT_STEPS * (1.0 + gathered / 2.0) / (1.0 + gathered)


def gathered_prompts(arrivals: float) -> float:
    """Prompts of others in the pass of the mean request, gathered as in `gathering_steps`.

    A pass holds the prompt that began to wait and those of N steps, K = 1 + Poisson(aN).  More requests are in large
    passes than in small ones: E[K^2]/E[K] - 1 others, of all but the first burst, which is prefilled as it comes.
    """
    mean = arrivals * WAIT_STEPS
    return (1.0 - FIRST_ROUND) * mean * (2.0 + mean) / (1.0 + mean)
