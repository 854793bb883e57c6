"""Between dense models and mixtures of experts: what both have is carried over exactly, or the pair is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flashstill.distill.students import Experts, dense_of, upcycle
from flashstill.distill.students.densifying import ffn_prefixes
from flashstill.distill.students.feed_forward import mixtures, router_rows
from flashstill.errors import BadInput
from tests import zoo

TOKENS = torch.randint(96, (2, 12), generator=torch.Generator().manual_seed(1))
PAIRS = [
    ("llama", "", 1), ("mistral", "", 0), ("qwen2", "", 1), ("qwen2", "glm4_moe", 0), ("qwen3", "", 0),
    ("qwen3", "glm4_moe", 1), ("olmo2", "", 0), ("granite", "", 0), ("phi3", "", 1), ("cohere2", "", 0),
    ("llama", "mixtral", 0), ("llama", "qwen2_moe", 2), ("mistral", "glm4_moe", 1),
]  # fmt: skip


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(input_ids=TOKENS, use_cache=False).logits.float()
    return found


@pytest.mark.parametrize(
    ("name", "into", "shared"),
    [pair if pair == ("qwen3", "glm4_moe", 1) else pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")  # transformers builds shared experts of no width
def test_all_experts_together_are_the_dense_model(name: str, into: str, shared: int, tmp_path: Path) -> None:
    """With an even router; norms of queries and keys, biases and windows are carried over."""
    model = zoo.tiny(name, 0)
    groups = (model.config.intermediate_size - 8 * shared) // 8
    sparse = upcycle(model, Experts(routed=groups, per_token=groups, shared=shared, neurons=8), TOKENS, 0, into)
    if into:
        assert sparse.config.model_type == into
    for mixture in mixtures(sparse):
        router_rows(mixture).zero_()
    assert torch.allclose(logits(sparse), logits(model), atol=1e-4)
    sparse.save_pretrained(tmp_path)
    assert torch.equal(logits(type(sparse).from_pretrained(tmp_path).eval()), logits(sparse))


@pytest.mark.parametrize(
    ("name", "into", "shared", "said"),
    [
        ("gemma2", "", 0, "no mixture of experts is known as the relative of gemma2 .its embeddings are scaled"),
        ("llama", "nonsense", 0, "student.into is 'nonsense', which transformers does not know"),
        ("mistral", "", 1, "mixtral has no shared experts; set student.shared_experts to 0, or into to glm4_moe"),
        ("llama", "qwen3_moe", 0, "LlamaForCausalLM has no model.layers.0.self_attn.k_norm.weight"),
        pytest.param("gemma2", "mixtral", 0, "MixtralForCausalLM has no place for", marks=pytest.mark.slow),
        pytest.param("smollm3", "glm4_moe", 0, "their outputs differ; choose another", marks=pytest.mark.slow),
        pytest.param("llama:2", "", 0, "is a bias or a norm, which experts have not", marks=pytest.mark.slow),
    ],
)
def test_other_pairs_are_refused_in_one_sentence(name: str, into: str, shared: int, said: str) -> None:
    model = zoo.tiny(name, 0)
    with pytest.raises(BadInput, match=said):
        upcycle(model, Experts(routed=6 - shared, per_token=2, shared=shared, neurons=8), TOKENS, 0, into)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mixtral", "mistral"), ("qwen2_moe", "qwen2"), ("qwen3_moe", "qwen3"), ("flex_olmo", "olmo2"),
        ("granitemoe", "granite"), ("glm4_moe", "glm4_moe"), ("deepseek_v2", "deepseek_v2"), ("dots1", "dots1"),
        ("deepseek_v3", "deepseek_v3"), ("llama4_text", "llama4_text"), ("qwen3_next", "qwen3_next"),
        ("ernie4_5_moe", "ernie4_5_moe"), ("hunyuan_v1_moe", "hunyuan_v1_dense"), ("kimi_linear", "kimi_linear"),
    ],
)  # fmt: skip
def test_dense_models_have_all_but_the_experts(name: str, kind: str, tmp_path: Path) -> None:
    sparse = zoo.tiny(name, 0)
    dense = dense_of(sparse, 24, 1)
    assert dense.config.model_type == kind
    dense.save_pretrained(tmp_path)
    assert torch.equal(logits(type(dense).from_pretrained(tmp_path).eval()), logits(dense))
    for model in (sparse, dense):
        for key, tensor in model.state_dict().items():
            if key.startswith(ffn_prefixes(model)):
                tensor.zero_()
    assert torch.allclose(logits(dense), logits(sparse), atol=1e-5)


@pytest.mark.slow
def test_a_mixture_that_nothing_dense_resembles() -> None:
    with pytest.raises(BadInput, match="no dense relative of gpt_oss is known: GptOssForCausalLM has experts in every"):
        dense_of(zoo.tiny("gpt_oss", 0), 0, 0)
