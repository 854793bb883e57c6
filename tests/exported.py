"""Models that are exported to GGUF in tests: one of each family and of each thing that a configuration may say.

Run as a program, `python -m tests.exported`, it proves them all in llama.cpp, through the package llama-cpp-python, and
writes the digests of what was proven to tests/exported.json, which the quick tests compare with.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests import zoo
from tests.vocabularies import tokenizer

PROVEN = Path(__file__).with_suffix(".json")
ROWS, CONTEXT = 390, 64
SLIDING, FULL = "sliding_attention", "full_attention"


def _rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1e4, **more}}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma": ("gemma", {"hidden_act": "gelu_pytorch_tanh"}),
    "gemma2": ("gemma2", {"layer_types": [SLIDING, FULL] * 2}),
    "gemma2 of other windows": ("gemma2", {"layer_types": [SLIDING, SLIDING, FULL, FULL]}),
    "gemma3": (
        "gemma3_text",
        {"num_hidden_layers": 6, "layer_types": [SLIDING] * 5 + [FULL], "query_pre_attn_scalar": 8},
    ),
    "gemma3 of other windows": (
        "gemma3_text",
        {"layer_types": [SLIDING, FULL, FULL, SLIDING], "query_pre_attn_scalar": 8},
    ),
    "glm4_moe": ("glm4_moe", {"first_k_dense_replace": 1, "num_hidden_layers": 2, "n_shared_experts": 2}),
    "glm4_moe as upcycled": (
        "glm4_moe",
        {
            "first_k_dense_replace": 0,
            "num_hidden_layers": 2,
            "routed_scaling_factor": 2.0,
            "tie_word_embeddings": True,
            "use_qk_norm": False,
            "attention_bias": False,
            **_rope("default", partial_rotary_factor=1.0),
        },
    ),
    "gpt2": ("gpt2", {}),
    "granite": ("granite", {}),
    "llama": ("llama", {}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    "llama with a tied head": ("llama", {"tie_word_embeddings": True}),
    "llama stretched": ("llama", _rope("linear", factor=4.0)),
    "llama with YaRN": ("llama", _rope("yarn", factor=4.0, original_max_position_embeddings=16)),
    "llama 3": (
        "llama",
        _rope("llama3", factor=4.0, original_max_position_embeddings=32, low_freq_factor=1.0, high_freq_factor=4.0),
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral with windows": ("mistral", {"sliding_window": 24, "head_dim": 8}),
    "mixtral": ("mixtral", {}),
    "olmo2": ("olmo2", {}),
    "phi3": ("phi3", {"sliding_window": None}),
    "phi3 partly rotated": ("phi3", {"sliding_window": None, **_rope("default", partial_rotary_factor=0.5)}),
    "qwen2": ("qwen2", {}),
    "qwen2_moe": ("qwen2_moe", {"mlp_only_layers": [], "num_hidden_layers": 2}),
    "qwen3": ("qwen3", {"head_dim": 12}),
    "qwen3_moe": ("qwen3_moe", {"decoder_sparse_step": 1, "norm_topk_prob": True, "num_hidden_layers": 2}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 1, 1, 0]}),
}
"""what is exported -> its name in the zoo, and changes to its configuration"""
ROUNDED = ("gemma", "gpt2")
"""families whose GELU llama.cpp looks up in a table of f16"""


def made(case: str, **more: Any) -> Any:
    """The model of a case, its weights the same on every machine: multiples of 1/512, exact in bfloat16."""
    name, changes = CASES[case]
    model = zoo.tiny(name, 0, **{"vocab_size": ROWS, **changes, **more})
    with torch.no_grad():
        corrections = [pair for pair in model.named_buffers() if pair[0].endswith("e_score_correction_bias")]
        for key, parameter in [*model.named_parameters(), *corrections]:
            random = np.random.default_rng(zlib.crc32(key.encode()))
            whole = random.integers(-128, 129, tuple(parameter.shape)).astype(np.float32)
            scales = parameter.dim() == 1 and "norm" in key and "gemma" not in name
            parameter.copy_(torch.from_numpy(1 + whole // 8 / 32 if scales else whole / 512))
    return model


def saved(case: str, directory: Path, **more: Any) -> Any:
    """As `made`, written to a directory with a tokenizer."""
    model = made(case, **more)
    model.save_pretrained(directory)
    _words("prefixed" if CASES[case][0].startswith(("gemma", "phi3")) else "gpt-2", 380).save_pretrained(directory)
    return model


@functools.cache
def _words(kind: str, size: int) -> Any:
    return tokenizer(kind, size)


def ids(case: str) -> torch.Tensor:
    """Token ids [1, T] to compare logits at, no more than the context of the file."""
    length = 24 if case == "mistral with windows" else 40
    return torch.from_numpy(np.random.default_rng(1).integers(260, 370, (1, length)))


def digest(directory: Path) -> str:
    """Of everything that a GGUF file of a saved model says of it: metadata of its architecture, and tensors."""
    from flashstill.arch.adapter.gguf import gguf_layout
    from flashstill.distill.export.tensors import Weights, planned
    from flashstill.distill.models.configuration import plain_config

    config = plain_config(directory)
    layout = gguf_layout(config.to_dict(), type(config)().to_dict())
    said = {"architecture": layout.architecture, **{key: _rounded(value) for key, value in layout.metadata.items()}}
    hashed, weights = hashlib.sha256(json.dumps(said, sort_keys=True).encode()), Weights(directory)
    for tensor in planned(directory, layout):
        hashed.update(f"{tensor.name} {tensor.shape}".encode())
        for rows in weights.rows(tensor):
            hashed.update((np.round(rows.astype(np.float64), 5) + 0.0).tobytes())
    return hashed.hexdigest()[:16]


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def engine_logits(file: Path, tokens: Sequence[int]) -> Any:
    """Logits [T, V] of llama.cpp, all of it in float32 on one thread."""
    import llama_cpp

    model = llama_cpp.Llama(
        str(file), n_ctx=CONTEXT, n_threads=1, n_threads_batch=1, logits_all=True, type_k=0, type_v=0, verbose=False
    )
    model.eval(list(tokens))
    return np.array(model.scores[: len(tokens)])


def prove(case: str, directory: Path) -> tuple[float, str]:
    """Largest difference of logits between transformers and llama.cpp, and the digest of the file."""
    from flashstill.distill.export import export_gguf
    from flashstill.progress import Silent

    model = saved(case, directory / "model")
    export_gguf(directory / "model", directory / "model.gguf", "f32", Silent())
    with torch.no_grad():
        expected = model(ids(case)).logits[0].numpy()
    found = engine_logits(directory / "model.gguf", ids(case)[0].tolist())
    return float(np.abs(found - expected).max()), digest(directory / "model")


def main() -> None:
    """Prove every case and write the digests of those that hold."""
    digests = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as directory:
            difference, digests[case] = prove(case, Path(directory))
        print(f"{case:<26}{difference:.1e}", flush=True)
        if difference > (1e-2 if case.startswith(ROUNDED) else 1e-4):
            raise SystemExit(f"{case}: the logits of llama.cpp differ")
    PROVEN.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
