"""What a training step does beside the products: AdamW in pieces beside torch's, and norms beside transformers'."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from flashstill.distill.training import TrainRecipe, fused_ops, mixed_precision
from flashstill.distill.training.fused_ops import fused_norms
from flashstill.distill.training.mixed_precision import ADAM_BETAS, MixedPrecisionAdamW
from flashstill.distill.training.tied_embedding import sparse_embedding
from tests.marks import examples
from tests.pretended_device import pretended

RECIPE = TrainRecipe(tokens=1, windows_per_step=1, learning_rate=1e-2, weight_decay=0.1, clip_norm=0.5)
STEPS = 5


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3, bias=False)).to(dtype)


def gradients(module: nn.Module, step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    drawn = {name: torch.randn(each.shape, generator=generator) for name, each in module.named_parameters()}
    return {name: each.to(next(module.parameters()).dtype) for name, each in drawn.items()}


def feed(module: nn.Module, step: int) -> None:
    for name, each in gradients(module, step).items():
        module.get_parameter(name).grad = each.clone()


def torch_steps(module: nn.Module) -> nn.Module:
    """The same steps as torch takes them."""
    matrices = [each for each in module.parameters() if each.dim() > 1]
    vectors = [each for each in module.parameters() if each.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": RECIPE.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RECIPE.learning_rate, betas=ADAM_BETAS)
    for step in range(STEPS):
        feed(module, step)
        torch.nn.utils.clip_grad_norm_(module.parameters(), RECIPE.clip_norm)
        optimizer.step()
    return module


def test_on_a_gpu_the_norm_takes_one_product_for_all_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[int] = []
    original = torch.dot

    def dot(one: Tensor, other: Tensor) -> Tensor:
        products.append(one.numel())
        return original(one, other)

    monkeypatch.setattr(torch, "dot", dot)
    norms = []
    for place in ("cpu", "cuda:0"):
        with pretended():
            module = net().to(place)
            ours = MixedPrecisionAdamW(module, RECIPE)
            for name, each in gradients(module, 0).items():
                module.get_parameter(name).grad = each.to(place)
            norms.append(ours.apply(1e-3))
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    assert products == [35, 21, 7, 56, 7]  # of matrices, which decay, and of the bias, which does not


class TestMasters:
    @pytest.mark.parametrize("elements", [1, 4, 2**20])
    def test_steps_are_those_of_torch(self, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mixed_precision, "ON_CPU", elements)
        module = net()
        ours = MixedPrecisionAdamW(module, RECIPE)
        for step in range(STEPS):
            feed(module, step)
            norm = torch.nn.utils.get_total_norm(list(gradients(module, step).values()))
            assert ours.apply(RECIPE.learning_rate) == pytest.approx(float(norm), rel=1e-6)
        for name, each in torch_steps(net()).named_parameters():
            assert torch.allclose(module.get_parameter(name), each, rtol=1e-6, atol=1e-7), name

    def test_weights_in_bfloat16_are_their_masters_rounded(self) -> None:
        """And the masters those of a float32 net that is given the same gradients."""
        module, wide = net(torch.bfloat16), net(torch.bfloat16).float()
        ours, theirs = MixedPrecisionAdamW(module, RECIPE), MixedPrecisionAdamW(wide, RECIPE)
        for step in range(STEPS):
            feed(module, step)
            for name, each in module.named_parameters():
                assert each.grad is not None
                wide.get_parameter(name).grad = each.grad.float()
            ours.apply(RECIPE.learning_rate)
            theirs.apply(RECIPE.learning_rate)
        for name, each in module.named_parameters():
            assert torch.equal(ours.masters[name], wide.get_parameter(name)), name
            assert torch.equal(each, ours.masters[name].bfloat16()), name

    def test_a_parameter_without_a_gradient_decays(self) -> None:
        module = net()
        ours, before = MixedPrecisionAdamW(module, RECIPE), copy.deepcopy(module)
        first = module.get_parameter("0.weight")
        first.grad = torch.ones_like(first)
        ours.apply(RECIPE.learning_rate)
        kept = 1 - RECIPE.learning_rate * RECIPE.weight_decay
        assert torch.allclose(module.get_parameter("1.weight"), before.get_parameter("1.weight") * kept)
        assert torch.equal(module.get_parameter("0.bias"), before.get_parameter("0.bias"))

    def test_a_transposed_parameter(self) -> None:
        """Parts of it are no views until it is laid out anew."""
        module = net()
        laid = nn.Parameter(module.get_parameter("0.weight").detach().T.contiguous().T)
        module.get_submodule("0").register_parameter("weight", laid)
        assert not module.get_parameter("0.weight").is_contiguous()
        ours = MixedPrecisionAdamW(module, RECIPE)
        for step in range(STEPS):
            feed(module, step)
            ours.apply(RECIPE.learning_rate)
        for name, each in torch_steps(net()).named_parameters():
            assert torch.allclose(module.get_parameter(name), each, rtol=1e-6, atol=1e-7), name

    def test_nothing_moves_where_a_gradient_is_not_finite(self) -> None:
        module = net(torch.bfloat16)
        ours, before = MixedPrecisionAdamW(module, RECIPE), copy.deepcopy(module)
        feed(module, 0)
        broken = module.get_parameter("0.bias").grad
        assert broken is not None
        broken[0] = float("inf")
        assert not ours.apply(RECIPE.learning_rate) < float("inf")
        assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before.parameters(), strict=True))

    def test_it_goes_on_from_its_tensors(self) -> None:
        module = net(torch.bfloat16)
        ours = MixedPrecisionAdamW(module, RECIPE)
        for step in range(STEPS):
            if step == 2:
                held = {name: each.clone() for name, each in ours.tensors().items()}
            feed(module, step)
            ours.apply(RECIPE.learning_rate)
        again = net(torch.bfloat16)
        resumed = MixedPrecisionAdamW(again, RECIPE)
        resumed.restore(held, 2)
        for step in range(2, STEPS):
            feed(again, step)
            resumed.apply(RECIPE.learning_rate)
        for name, each in ours.tensors().items():
            assert torch.equal(each, resumed.tensors()[name]), name
        assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))

    @examples(60)
    @given(
        shapes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=6),
        elements=st.integers(1, 40),
    )
    def test_pieces_hold_every_element_once(self, shapes: list[list[int]], elements: int) -> None:
        weights = {str(place): torch.zeros(shape) for place, shape in enumerate(shapes)}
        pieces = mixed_precision._pieces(weights, elements, 0.1)
        for piece in pieces:
            assert sum(part.last - part.first for part in piece.parts) <= elements
            for part in piece.parts:
                assert piece.weight_decay == (0.1 if weights[part.name].dim() > 1 else 0.0)
                part.of(weights).add_(1.0)
        assert all(bool((each == 1).all()) for each in weights.values())


def decoder(kind: str, dtype: torch.dtype = torch.bfloat16, tied: bool = False) -> Any:
    """A small model of a family with norms that are not all ones."""
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0,
        "tie_word_embeddings": tied,
    }  # fmt: skip
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **fields))
    for name, each in model.named_parameters():
        if "norm" in name:
            each.data.add_(0.3 * torch.randn_like(each))
        each.data = each.data.to(dtype)
    return model


TOKENS = torch.arange(40).reshape(2, 20) % 64


def pull(model: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradients of a sum of them that weighs each differently."""
    logits = model(input_ids=TOKENS).logits
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2)).to(logits.dtype)
    (logits * weights).sum().backward()
    found = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    return logits.detach(), found


class TestNorms:
    @pytest.mark.parametrize("kind", ["llama", "qwen3", "olmoe"])
    def test_outputs_are_the_same_bit_for_bit(self, kind: str) -> None:
        model = decoder(kind)
        plain, _ = pull(model)
        with fused_norms(model):
            changed = {type(each) for each in model.modules() if type(each).forward is fused_ops._forward}
            ours, _ = pull(model)
        assert len(changed) == 1
        assert torch.equal(ours, plain)

    @pytest.mark.parametrize("kind", ["llama", "qwen3"])
    def test_gradients_in_float32(self, kind: str) -> None:
        model = decoder(kind, torch.float32)
        _, plain = pull(model)
        with fused_norms(model):
            _, ours = pull(model)
        for name, each in plain.items():
            assert torch.allclose(ours[name], each, rtol=1e-4, atol=1e-4 * float(each.abs().max())), name

    def test_gradients_in_bfloat16_are_as_near_to_the_exact_ones(self) -> None:
        """The chain of operations rounds on its way; one operation must not be worse."""
        drawn = torch.randn(3, 64, 48, generator=torch.Generator().manual_seed(3))
        x, weight, grad = drawn[0].bfloat16(), (1 + 0.2 * drawn[1, 0]).bfloat16(), drawn[2].bfloat16()

        def found(function: Any, *leaves: Tensor) -> list[Tensor]:
            held = [each.detach().clone().requires_grad_() for each in leaves]
            return list(torch.autograd.grad(function(*held), held, grad.to(leaves[0].dtype)))

        def chain(x: Tensor, weight: Tensor) -> Tensor:
            wide = x if x.dtype == torch.float64 else x.float()
            return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)

        exact = found(chain, x.double(), weight.double())
        theirs = found(chain, x, weight)
        ours = found(lambda *leaves: fused_ops._RmsNorm.apply(*leaves, 1e-5), x, weight)  # type: ignore[no-untyped-call]
        for true, chained, one in zip(exact, theirs, ours, strict=True):
            assert float((one - true).norm()) <= 1.05 * float((chained - true).norm())

    @pytest.mark.parametrize("kind", ["gemma", "gpt2"])
    def test_norms_of_another_kind_stay(self, kind: str) -> None:
        """Gemma's multiply by 1 + weight; GPT-2's subtract the mean."""
        model = decoder(kind)
        before = {type(each): type(each).forward for each in model.modules()}
        with fused_norms(model):
            assert all(kept.forward is forward for kept, forward in before.items())

    def test_a_norm_that_looks_the_same_stays(self) -> None:
        class Doubled(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight, self.variance_epsilon = nn.Parameter(torch.ones(8)), 1e-6

            def forward(self, hidden_states: Tensor) -> Tensor:
                inverse = torch.rsqrt(hidden_states.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
                return 2 * self.weight * hidden_states * inverse

        before = Doubled.forward
        with fused_norms(nn.Sequential(Doubled())):
            assert Doubled.forward is before

    def test_a_norm_kept_in_float32_between_bfloat16_states_stays(self) -> None:
        """Its own output is float32, that of the fused one would be rounded to bfloat16."""
        model = decoder("llama").to(torch.bfloat16)
        model.model.norm.float()
        before = type(model.model.norm).forward
        with fused_norms(model, torch.bfloat16):
            assert type(model.model.norm).forward is before

    def test_classes_are_put_back(self) -> None:
        model = decoder("llama")
        kind = type(model.model.norm)
        before = kind.forward
        with pytest.raises(RuntimeError, match="stop"), fused_norms(model):
            assert kind.forward is not before
            raise RuntimeError("stop")
        assert kind.forward is before

    def test_a_copy_has_weights_of_its_own(self) -> None:
        """An ensemble or an on-policy run copies its student while it trains."""
        model = decoder("llama")
        with fused_norms(model):
            twin = copy.deepcopy(model)
            model.model.norm.weight.data.zero_()
            logits, grads = pull(twin)
        assert float(logits.abs().max()) > 0
        assert set(grads) == {name for name, _ in twin.named_parameters()}


class TestEmbedding:
    @pytest.mark.parametrize("kind", ["llama", "gemma"])
    def test_a_tied_one_has_the_same_gradient(self, kind: str) -> None:
        """Tokens come twice in the batch; the sum with the head's gradient is dense."""
        model = decoder(kind, torch.float32, tied=True)
        _, plain = pull(model)
        with sparse_embedding(model):
            _, rows = pull(model)
        matrix = "model.embed_tokens.weight"
        assert rows[matrix].layout is torch.strided
        assert torch.allclose(rows[matrix], plain[matrix], rtol=1e-5, atol=1e-5)
        assert not model.get_input_embeddings().sparse

    def test_one_of_its_own_stays_dense(self) -> None:
        model = decoder("llama", torch.float32)
        with sparse_embedding(model):
            _, found = pull(model)
        assert all(each.layout is torch.strided for each in found.values())

    def test_the_sum_lies_where_the_heads_gradient_lay(self) -> None:
        """No second tensor of the embedding's size; and the same bits as autograd's sum of both."""
        model = decoder("llama", torch.float32, tied=True)
        embedding: Any = model.get_input_embeddings()
        made: list[int] = []

        class Head(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
                ctx.grad = torch.linspace(-1.0, 1.0, weight.numel()).view_as(weight)
                return hidden.sum()

            @staticmethod
            def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
                made.append(ctx.grad.data_ptr())
                return 0.1 * torch.ones(2, 20, 32), ctx.__dict__.pop("grad")

        def grad() -> Tensor:
            embedding.weight.grad = None
            Head.apply(embedding(TOKENS).cos(), embedding.weight).backward()  # type: ignore[no-untyped-call]
            found: Tensor = embedding.weight.grad
            return found

        embedding.sparse = True
        plain = grad()
        assert plain.data_ptr() != made[-1]
        embedding.sparse = False
        with sparse_embedding(model):
            ours = grad()
            assert ours.data_ptr() == made[-1]
            twice = ours.clone()
            pull(copy.deepcopy(model))  # a copy has a gradient of its own
            assert torch.equal(ours, twice)
        assert torch.equal(ours, plain)
        assert isinstance(embedding.weight, nn.Parameter)
        assert type(embedding).forward is nn.Embedding.forward

    def test_gradients_of_several_passes_add_up(self) -> None:
        model = decoder("llama", torch.float32, tied=True)
        weight = model.get_input_embeddings().weight
        with sparse_embedding(model):
            for _ in range(2):
                model(input_ids=TOKENS).logits.square().sum().backward()
            once = weight.grad / 2
            model.zero_grad()
            model(input_ids=TOKENS).logits.square().sum().backward()
        torch.testing.assert_close(once, weight.grad)
