"""The command that starts a serving engine in a configuration that `plan` found.

The engines count differently: vLLM's tensor parallelism is that of one replica of the attention, SGLang's and
TensorRT-LLM's is of all chips, with attention over data-parallel groups switched on beside it.  What an engine cannot
express is refused with the reason; what it needs prepared (a quantised checkpoint) stands as a comment before the
command.  Options as of vLLM 0.2x, SGLang 0.5 and TensorRT-LLM 1.x.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from flashstill.errors import BadInput, unknown
from flashstill.plan.question import Point

ENGINES = ("vllm", "sglang", "trtllm")
ON_THE_FLY = {"vllm": ("fp8",), "sglang": ("fp8",), "trtllm": ()}
"""formats into which an engine turns a checkpoint in 16 bits while it loads"""
PICKS = {
    "tpot": "tpot_s",
    "throughput": "tokens_per_s_per_chip",
    "joules": "joules_per_output_token",
    "dollars": "usd_per_million_output_tokens",
}


def pick(front: tuple[Point, ...], by: str) -> Point:
    """The best point of a front in one objective."""
    if by not in PICKS:
        raise BadInput(unknown("objective", by, PICKS))
    known = [point for point in front if getattr(point, PICKS[by]) is not None]
    if not known:
        others = [name for name, figure in PICKS.items() if any(getattr(point, figure) is not None for point in front)]
        raise BadInput(f"no point has a figure for {by}; pick by another of {', '.join(others)}")
    sign = -1.0 if by == "throughput" else 1.0
    return min(known, key=lambda point: sign * float(getattr(point, PICKS[by])))


def launch(engine: str, model: str, point: Point, tokens: int) -> str:
    """The command line, preceded by comments; model: a Hugging Face id or a path; tokens: of the longest request."""
    if engine not in ENGINES:
        raise BadInput(unknown("engine", engine, ENGINES))
    for where, what in ((point.weights_in, "weights"), (point.kv_in, "the cache")):
        if where != "memory":
            raise BadInput(
                f"{engine} keeps weights and cache in the main memory, but this point has {what} in {where};"
                " ask for --tiers memory"
            )
    expected = f"{point.ttft_s * 1e3:.3g} ms to the one token"
    if point.tpot_s is not None:
        expected = f"{point.tpot_s * 1e3:.3g} ms a token"
    comments = [f"# {point.chips} x {point.chip}, {point.batch} requests in flight, expected {expected}"]
    arguments = {"vllm": _vllm, "sglang": _sglang, "trtllm": _trtllm}[engine](model, point, tokens)
    if point.precision != "published" and point.precision not in (*ON_THE_FLY[engine], "bf16"):
        comments.append(
            f"# {model} must be a checkpoint in {point.precision}: {engine} does not quantise to it on loading"
        )
    return "\n".join([*comments, arguments])


def _vllm(model: str, point: Point, tokens: int) -> str:
    if point.ep not in (1, point.tp * point.dp):
        raise BadInput(f"vllm spreads experts over all chips or none: ep {point.ep} is neither 1 nor tp x dp")
    words: list[object] = ["vllm", "serve", model, "--tensor-parallel-size", point.tp]
    if point.pp > 1:
        words += ["--pipeline-parallel-size", point.pp]
    if point.dp > 1:
        words += ["--data-parallel-size", point.dp]
    if point.ep > 1:
        words += ["--enable-expert-parallel"]
    words += ["--max-model-len", tokens, "--max-num-seqs", -(-point.batch // point.dp)]
    if point.precision in ON_THE_FLY["vllm"]:
        words += ["--quantization", point.precision]
    if point.kv_precision == "fp8":
        words += ["--kv-cache-dtype", "fp8"]
    if point.speculated_tokens:
        drafting: dict[str, object] = {"num_speculative_tokens": point.speculated_tokens}
        drafting |= {"model": point.draft} if point.draft else {"method": "mtp"}
        words += ["--speculative-config", json.dumps(drafting)]
    return _line(words)


def _sglang(model: str, point: Point, tokens: int) -> str:
    words: list[object] = [
        "python",
        "-m",
        "sglang.launch_server",
        "--model-path",
        model,
        "--tp-size",
        point.tp * point.dp,
    ]
    if point.dp > 1:
        words += ["--dp-size", point.dp, "--enable-dp-attention"]
    if point.pp > 1:
        words += ["--pp-size", point.pp]
    if point.ep > 1:
        words += ["--ep-size", point.ep]
    words += ["--context-length", tokens, "--max-running-requests", point.batch]
    if point.precision in ON_THE_FLY["sglang"]:
        words += ["--quantization", point.precision]
    if point.kv_precision == "fp8":
        words += ["--kv-cache-dtype", "fp8_e4m3"]
    if point.speculated_tokens:
        words += ["--speculative-algorithm", "STANDALONE" if point.draft else "NEXTN"]
        words += ["--speculative-draft-model-path", point.draft] if point.draft else []
        words += ["--speculative-num-steps", point.speculated_tokens, "--speculative-eagle-topk", 1]
        words += ["--speculative-num-draft-tokens", point.speculated_tokens + 1]
    return _line(words)


def _trtllm(model: str, point: Point, tokens: int) -> str:
    if point.dp > 1 and point.tp > 1:
        raise BadInput(f"trtllm repeats attention on every chip or on none: tp {point.tp} x dp {point.dp} is neither")
    settings = ["enable_attention_dp: true"] if point.dp > 1 else []
    settings += ["kv_cache_config:", "  dtype: fp8"] if point.kv_precision == "fp8" else []
    if point.speculated_tokens:
        settings += ["speculative_config:", f"  decoding_type: {'Draft_Target' if point.draft else 'MTP'}"]
        settings += [f"  max_draft_len: {point.speculated_tokens}"]
        settings += [f"  speculative_model_dir: {json.dumps(point.draft)}"] if point.draft else []
    words: list[object] = ["trtllm-serve", model, "--backend", "pytorch", "--tp_size", point.tp * point.dp]
    if point.pp > 1:
        words += ["--pp_size", point.pp]
    if point.ep > 1:
        words += ["--ep_size", point.ep]
    words += ["--max_batch_size", -(-point.batch // point.dp), "--max_seq_len", tokens]
    if not settings:
        return _line(words)
    words += ["--extra_llm_api_options", "trtllm-options.yaml"]
    return "\n".join(["cat > trtllm-options.yaml <<'YAML'", *settings, "YAML", _line(words)])


def _line(words: Sequence[object]) -> str:
    """One shell command, an option a line."""
    quoted = [shlex.quote(str(word)) for word in words]
    line = ""
    for word in quoted:
        line += (" \\\n    " if word.startswith("--") else " " if line else "") + word
    return line
