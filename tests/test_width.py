"""Width students of many architectures: what is cut is proven, what is kept is what was, and the rest is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flashstill.distill.students import Width, importance, narrow, plan
from flashstill.distill.students.axes import find_axis
from flashstill.distill.students.cutting import elements
from flashstill.distill.students.width import Plan
from flashstill.errors import BadInput, UnsupportedArchitecture
from tests import zoo
from tests.marks import slow
from tests.twins import MLA, SMALL

TOKENS = torch.randint(96, (2, 12), generator=torch.Generator().manual_seed(1))
DENSE = [
    "llama:2", "gpt2", "gpt_neox", "phi3", "falcon:2", "gemma2", "olmo2", "cohere", "phi", "gptj", "starcoder2",
    "stablelm", "qwen3", "glm4", "exaone4", "smollm3", "opt", "granite", "nemotron", "codegen",
]  # fmt: skip
SPARSE = [
    "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe", "deepseek_v2", "deepseek_v3", "gpt_oss", "llama4_text",
    "granitemoe", "minimax", "minimax_m2", "phimoe", "ernie4_5_moe", "dots1", "hunyuan_v1_moe", "dbrx",
]  # fmt: skip
HYBRID = ["qwen3_next", "qwen3_5_moe_text", "granitemoehybrid", "jamba", "nemotron_h", "lfm2_moe", "bamba"]


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(input_ids=TOKENS, use_cache=False).logits.float()
    return found


def units(model: Any, axis: str) -> int:
    """Units of an axis, 0 if the model has none."""
    for bound in (False, True):
        try:
            return find_axis(model, axis, bound).units
        except UnsupportedArchitecture:
            continue
    return 0


def fields_of(model: Any, axis: str) -> tuple[str, ...] | None:
    """The configuration's fields of an axis; None if the model has no such axis."""
    try:
        return find_axis(model, axis).fields
    except UnsupportedArchitecture:
        return None


def halved(model: Any, *axes: str) -> Width:
    """Half of the units of these axes, as far as the model has them; experts' neurons in eighths."""
    sizes = {axis: units(model, axis) // 2 for axis in axes}
    if sizes.get("expert_neurons"):
        sizes["expert_neurons"] = max(8, sizes["expert_neurons"] // 8 * 8)
    return Width(**sizes)


def silenced(model: Any, planned: Plan, scores: dict[str, dict[str, Tensor]]) -> Any:
    """A copy in which the units that a cut drops are zero in all matrices."""
    quiet = copy.deepcopy(model)
    state = quiet.state_dict()
    with torch.no_grad():
        for axis, layout in planned.layouts.items():
            for group in layout:
                gone = scores[axis][group.name].topk(group.units - planned.kept[axis], largest=False).indices
                for side in group.sides:
                    state[side.tensor].index_fill_(side.dim, elements(side, group.units, gone), 0.0)
    return quiet


@pytest.mark.parametrize("name", ["gpt2", pytest.param("gpt_oss", marks=pytest.mark.slow)])
def test_all_widths_kept_change_nothing(name: str) -> None:
    model = zoo.tiny(name, 0)
    assert torch.equal(logits(narrow(model, Width(), {})), logits(model))


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("phi3", "feed_forward"),
        ("phi3", "key_heads"),
        pytest.param("llama:2", "feed_forward", marks=pytest.mark.slow),
        pytest.param("llama:2", "key_heads", marks=pytest.mark.slow),
        pytest.param("cohere2_moe", "key_heads", marks=pytest.mark.slow),
    ],
)
def test_a_cut_equals_zeros_in_its_place(name: str, axis: str) -> None:
    model = zoo.tiny(name, 0)
    planned = plan(model, halved(model, axis))
    scores = importance(model, TOKENS, planned)
    cut = narrow(model, planned, scores)
    assert torch.allclose(logits(cut), logits(silenced(model, planned, scores)), atol=1e-5)  # type: ignore[arg-type]
    assert not torch.allclose(logits(cut), logits(model), atol=1e-3)


@pytest.mark.parametrize("name", ["gpt_oss", pytest.param("glm4_moe", marks=pytest.mark.slow)])
def test_dropped_experts_are_those_that_are_never_chosen(name: str) -> None:
    """With a bias that forbids the dropped experts, the whole model gives what the smaller one gives."""
    model = zoo.tiny(name, 0)
    planned = plan(model, Width(experts=2))
    scores = importance(model, TOKENS, planned)
    cut = narrow(model, planned, scores)
    bias = "router.bias" if name == "gpt_oss" else "gate.e_score_correction_bias"
    for group in planned.layouts["experts"]:
        gone = scores["experts"][group.name].topk(2, largest=False).indices
        model.state_dict()[f"{group.name}.mlp.{bias}"][gone] = -1e6
    assert torch.allclose(logits(cut), logits(model), atol=1e-5)


def test_the_score_of_an_expert_is_reap() -> None:
    """Mean over its tokens of gate weight x norm of its output, computed by hand for Mixtral."""
    model = zoo.tiny("mixtral", 0)
    planned = plan(model, Width(experts=2))
    seen: list[Tensor] = []
    block = model.model.layers[0].mlp
    handle = block.register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten(0, 1)))
    scores = importance(model, TOKENS, planned)["experts"]["model.layers.0"]
    handle.remove()
    hidden, experts = seen[-1].clone(), block.experts
    weights, chosen = (hidden @ block.gate.weight.T).softmax(-1).topk(2)
    weights = weights / weights.sum(-1, keepdim=True)
    for expert in range(4):
        gate, up = (hidden @ experts.gate_up_proj[expert].T).chunk(2, -1)
        norms = ((torch.nn.functional.silu(gate) * up) @ experts.down_proj[expert].T).norm(dim=-1)
        shares = (weights * (chosen == expert)).sum(-1)
        expected = (shares * norms)[shares > 0].mean() if bool((shares > 0).any()) else torch.zeros(())
        assert float(scores[expert]) == pytest.approx(expected.item(), rel=1e-4)


class TestGroupsOfExperts:
    """DeepSeek-V3 chooses groups first, then experts in them."""

    @staticmethod
    def model() -> Any:
        from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

        torch.manual_seed(0)
        sizes = {key: value for key, value in MLA.items() if key != "n_routed_experts"}
        config = DeepseekV3Config(
            **{**SMALL, **sizes}, n_routed_experts=8, n_group=2, topk_group=1, n_shared_experts=1,
            first_k_dense_replace=1,
        )  # fmt: skip
        return DeepseekV3ForCausalLM(config).eval()

    def test_every_group_keeps_as_many(self) -> None:
        model = self.model()
        planned = plan(model, Width(experts=4))
        cut = narrow(model, planned, importance(model, TOKENS, planned))
        before, after = model.model.layers[1].mlp.gate.weight, cut.model.layers[1].mlp.gate.weight
        kept = [int((before == row).all(-1).nonzero()) for row in after]
        assert len(kept) == 4
        assert sum(index < 4 for index in kept) == 2
        assert bool(logits(cut).isfinite().all())

    def test_too_few_or_uneven(self) -> None:
        model = self.model()
        with pytest.raises(BadInput, match="experts = 5 does not fill the router's 2 groups evenly; nearest: 4"):
            plan(model, Width(experts=5))
        with pytest.raises(BadInput, match="experts = 2 is fewer than a token gets"):
            plan(model, Width(experts=2))


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "width", "said"),
        [
            ("gpt2", {"hidden": 16}, "cut in proportion: hidden = 16 goes with key_heads = 2"),
            *slow(("gpt2", {"key_heads": 2}, "hidden = 16 goes with key_heads = 2")),
            ("llama", {"experts": 2}, "cannot be cut in experts: no field of its configuration"),
            ("bloom", {"hidden": 16, "key_heads": 2}, "depend on their order in a way that is not understood"),
            pytest.param(
                "mamba2", {"hidden": 16}, "grows with hidden_size, but not in proportion", marks=pytest.mark.slow
            ),
            ("mixtral", {"feed_forward": 24, "expert_neurons": 24}, "are one width in MixtralForCausalLM"),
            ("mixtral", {"experts": 1}, "fewer than a token gets"),
            ("mixtral", {"experts": 5}, "keep 5 of the teacher's 4 experts"),
        ],
    )
    def test_in_one_sentence_before_work(self, name: str, width: dict[str, int], said: str) -> None:
        with pytest.raises(BadInput, match=said):
            plan(zoo.tiny(name, 0), Width(**width))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DENSE, *SPARSE, *HYBRID])
def test_every_family_is_cut_in_all_that_it_has_and_read_back(name: str, tmp_path: Path) -> None:
    model = zoo.tiny(name, 0)
    axes = ["feed_forward", "experts", "expert_neurons"]
    if name in DENSE or name in SPARSE:
        axes += ["hidden", "key_heads"]
    axes = {  # heads in fours; experts in one matrix; two experts a group
        "codegen": ["feed_forward"], "dbrx": ["experts", "hidden", "key_heads"],
        "deepseek_v3": ["feed_forward", "expert_neurons", "hidden", "key_heads"],
    }.get(name, axes)  # fmt: skip
    if "expert_neurons" in axes and fields_of(model, "feed_forward") == fields_of(model, "expert_neurons"):
        axes.remove("feed_forward")
    width = halved(model, *axes)
    cut = narrow(model, width, importance(model, TOKENS, width))
    assert sum(weight.numel() for weight in cut.parameters()) < 0.9 * sum(w.numel() for w in model.parameters())
    cut.save_pretrained(tmp_path)
    again = type(cut).from_pretrained(tmp_path).eval()
    assert torch.allclose(logits(again), logits(cut), rtol=0, atol=1e-6)
