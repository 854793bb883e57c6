"""Every causal family that transformers ships, as a tiny random model: losses, signals and evaluation.

The reference is always transformers itself with autograd, in float64 where its own code computes in float64.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import zoo
from tests.random_tokens import KNOWN_TOKENS, drawn_tokens, packed_text

FAST = ("gemma2", "qwen3_next")
"""families of the fast suite: capped logits, a dense layer before the head, experts and a head with a bias, a hybrid"""
SAMPLE = (
    "afmoe", "bamba", "bloom", "cohere2_moe", "dbrx", "deepseek_v3", "deepseek_v4", "diffllama", "ernie4_5_moe",
    "falcon_h1", "gemma3_text", "gemma3n_text", "gemma4_text", "glm4_moe", "gpt2", "gpt_neo", "gpt_oss", "granite",
    "granitemoehybrid", "hy_v4", "inkling2_text", "jamba", "kimi_linear", "laguna", "lfm2", "llama4_text",
    "longcat_flash", "mamba2",
    "minicpm3", "minimax", "minimax_m2", "nemotron_h", "olmo3", "opt", "phi", "qwen2:2", "qwen2_moe", "qwen3_5_text",
    "qwen3_moe", "recurrent_gemma", "rwkv", "smollm3", "xlstm", "youtu", "zamba2",
)  # fmt: skip
"""families in which something is unlike the others: what a layer is, where the blocks are, what follows the head"""
EVERYTHING = bool(os.environ.get("FLASHSTILL_EVERY_ARCHITECTURE"))
"""set it to run all tests on all families (about four minutes)"""


def slow_but(names: Iterable[str], fast: Sequence[str] = FAST) -> list[Any]:
    """Parameters of these names and of FAST; `fast` alone are in the fast suite."""
    every = zoo.NAMES if EVERYTHING else [*FAST, *(name for name in names if name not in FAST)]
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in every]


IN_FLOAT32 = {"beam", "falcon_mamba", "inkling2_text", "mamba", "mamba2", "nemotron_h", "nemotron_h:2", "xglm", "xlstm"}
"""families that compute in float32 whatever their weights are, or (XGLM, Inkling 2) cannot run in float64"""


def in_float64(name: str) -> Any:
    """A model in float64, with experts that are computed one by one (grouped products know no float64)."""
    model = zoo.tiny(name)
    model.set_experts_implementation("eager")
    return model if name in ("inkling2_text", "xglm") else model.double()


def gradients(model: Any, loss: Any) -> dict[str, Any]:
    """Gradients by name; they are cleared on the model."""
    loss.backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def test_the_zoo_is_large() -> None:
    assert len(zoo.FAMILIES) >= 100


@pytest.mark.parametrize("name", slow_but(zoo.FAMILIES))
def test_the_first_step_is_that_of_transformers(name: str) -> None:
    import torch

    from flashstill.distill.losses import DenseTeacher, Term, cross_entropy, forward_kl, head_loss, one_hot
    from flashstill.distill.models import parts

    model = in_float64(name)
    tokens, targets = drawn_tokens(1, 2, 12), drawn_tokens(2, 24)
    generator = torch.Generator().manual_seed(3)
    states, rows, weights = (
        torch.rand(*shape, generator=generator, dtype=model.dtype)
        for shape in ((24, 20), (parts(model).head.rows, 20), (24,))
    )
    teacher = DenseTeacher(hidden=(states,), heads=(rows,))
    tolerance = 1e-4 if name in IN_FLOAT32 else 1e-9
    for temperature, hard in ((1.0, 0.0), (2.0, 0.3)):
        terms = [Term(teacher=teacher, temperature=temperature)]
        terms += [Term(teacher=one_hot(targets), weight=hard)] if hard else []
        ours, _ = head_loss(parts(model).hidden(tokens).flatten(0, 1), parts(model).head, terms, weights)
        our_gradients = gradients(model, ours)
        logits = model(input_ids=tokens, use_cache=False).logits.flatten(0, 1).to(model.dtype)
        soft = forward_kl(logits, states @ rows.T, temperature)
        theirs = (weights * (soft + hard * cross_entropy(logits, targets))).sum()
        assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=tolerance)
        their_gradients = gradients(model, theirs)
        assert set(our_gradients) == set(their_gradients)
        for each, gradient in their_gradients.items():
            error, largest = (our_gradients[each] - gradient).abs().max(), gradient.abs().max()
            assert error <= tolerance * largest + (1e-7 if name in IN_FLOAT32 else 1e-12), each


@pytest.mark.parametrize("name", slow_but(SAMPLE, FAST[1:]))
def test_signals_and_evaluation_are_those_of_the_models_own_logits(name: str, tmp_path: Path) -> None:
    import numpy as np
    import torch

    from flashstill.distill.losses import DenseTeacher, Sparse, as_head
    from flashstill.distill.signals import Hidden, Sampled, Signals, TopK, build, signal_key
    from flashstill.distill.training import take
    from flashstill.evaluate import score_tokens
    from flashstill.progress import Silent

    model, text = zoo.tiny(name).bfloat16().float(), packed_text(3, 8)
    batch = take(text, np.arange(3))
    with torch.inference_mode():
        logits = model(input_ids=batch.inputs, use_cache=False).logits.flatten(0, 1).float()
    p = torch.softmax(logits, -1)
    opened = {}
    for kind in (Hidden(), Sampled(draws=255), TopK(k=12)):
        key, place = signal_key(kind, "teacher", "tokenizer", text), tmp_path / kind.key["kind"]
        build(model, kind, key, text, place, Silent(), "signals")
        opened[kind.key["kind"]] = Signals(place, key, torch.float32)
    exact = opened["hidden"](batch)
    assert isinstance(exact, DenseTeacher)
    ours = as_head(exact.heads[0]).logits(exact.hidden[0].float())
    assert (ours - logits).abs().max() <= 0.02 * logits.abs().max()  # hidden states are stored in bfloat16
    sampled, topk = opened["sampled"](batch), opened["topk"](batch)
    assert isinstance(sampled, Sparse)
    assert isinstance(topk, Sparse)
    weights = torch.zeros_like(p).scatter_add_(-1, sampled.ids, sampled.weights)
    assert (weights - p).abs().max() <= 1.01 / 255
    assert torch.allclose(topk.weights, p.topk(12).values, rtol=5e-3)
    scores = score_tokens({"student": model}, text, opened["hidden"], lambda *_: None)["student"]
    nll = -torch.log_softmax(logits, -1).gather(-1, batch.targets[:, None]).squeeze(-1)
    assert np.allclose(scores.nll, nll.numpy(), rtol=1e-4, atol=1e-4)
    assert scores.kl is not None
    assert np.abs(scores.kl).max() < 1e-3


def loaded_again(model: Any, directory: Path) -> Any:
    """The model saved and loaded; its own weights are rounded to what was saved."""
    import torch

    from flashstill.distill.models import load_model, save_model

    save_model(model, NoTokenizer(), directory)
    return load_model(directory, torch.float32)


def same_logits(model: Any, other: Any) -> bool:
    import torch

    tokens = drawn_tokens(1, 2, 24)
    with torch.inference_mode():
        first, second = (each.cpu()(input_ids=tokens, use_cache=False).logits for each in (model, other))
    return bool((first - second).abs().max() <= 1e-5 * first.abs().max())


@pytest.mark.parametrize("name", slow_but(["bailing_hybrid", "kimi_linear", "llama", "olmo_hybrid", "qwen3_5_text"]))
def test_fused_operations_change_nothing(name: str) -> None:
    import torch

    from flashstill.distill.models import parts
    from flashstill.distill.training.fused_ops import fused

    model, tokens = zoo.tiny(name), drawn_tokens(1, 2, 12)
    plain = parts(model).hidden(tokens)
    their_gradients = gradients(model, plain.square().sum())
    with fused(model, True):
        ours = parts(model).hidden(tokens)
        our_gradients = gradients(model, ours.square().sum())
    assert torch.equal(plain, ours)
    assert set(our_gradients) == set(their_gradients)
    for each, gradient in their_gradients.items():
        own = our_gradients[each].to_dense()
        assert (own - gradient).abs().max() <= 1e-3 * gradient.abs().max() + 1e-4, each


class NoTokenizer:
    """Stands for a tokenizer where none is needed."""

    def save_pretrained(self, directory: Path) -> None:
        """Write nothing."""


DEPENDENT = {"beam", "hrm_text"}
"""families whose layers all read what each of the others gives, or (HRM) run several times over"""


@pytest.mark.parametrize("name", slow_but(SAMPLE, FAST[:1]))
def test_layers_that_are_kept_are_saved_and_loaded_as_they_were(name: str, tmp_path: Path) -> None:
    from flashstill.distill.models import decoder_layers, keep_layers
    from flashstill.distill.models.shallower import InexpressibleLayers
    from flashstill.errors import UnsupportedArchitecture

    model = zoo.tiny(name)
    whole = loaded_again(model, tmp_path / "whole")
    assert same_logits(model, whole)
    depth, made, refusals = len(decoder_layers(whole)), 0, []
    for kept in ([*range(1, depth)], [index for index in range(depth) if index != depth // 2]):
        student = None
        try:
            student = keep_layers(whole, kept)
        except InexpressibleLayers as error:  # proven right or refused; a nearest choice is one that works
            refusals.append(str(error))
            student = keep_layers(whole, error.nearest) if error.nearest else None
        except UnsupportedArchitecture as error:
            refusals.append(str(error))
        if student is not None:
            made += 1
            assert len(decoder_layers(student)) == len(kept)
            tied, as_before = (
                each.get_output_embeddings().weight is each.get_input_embeddings().weight for each in (student, whole)
            )
            assert tied == as_before
            assert same_logits(student, loaded_again(student, tmp_path / "student"))
    assert all("cannot say that of" in each or "depend on one another" in each for each in refusals)
    assert made or name in DEPENDENT


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in zoo.VISION_NAMES])
def test_the_text_part_of_a_vision_language_model(name: str, tmp_path: Path) -> None:
    from flashstill.distill.models import left_out

    whole = zoo.tiny(name)
    text = loaded_again(whole, tmp_path / "whole")
    assert not any("vision" in each or "visual" in each for each in text.state_dict())
    assert same_logits(whole, text)
    assert "vision" in str(left_out(text, name)) or "visual" in str(left_out(text, name))
    again = loaded_again(text, tmp_path / "text")
    assert type(again) is type(text)
    assert same_logits(text, again)
    assert left_out(again, name) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma3", "jamba", "qwen3_next"])
def test_a_distillation_from_end_to_end(
    name: str, tiny_teacher: Path, sample_text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flashstill.cli import main
    from flashstill.distill.models import load_model, load_tokenizer, save_model
    from tests.distillations import written

    teacher, tokenizer = zoo.tiny(name, vocab_size=384), load_tokenizer(tiny_teacher)
    save_model(teacher, tokenizer, tmp_path / "teacher")
    (tmp_path / "text.txt").write_text(sample_text)
    recipe = written(tmp_path / "recipe.toml", tmp_path / "teacher", tmp_path / "text.txt", tokens=256)
    recipe.write_text(recipe.read_text().replace('"bf16"', '"fp32"'))
    main(["distill", str(recipe), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    student = load_model(tmp_path / "out" / "student")
    assert student.config.num_hidden_layers == 3
    assert ("only the text part is used" in error) == (name in zoo.VISION_NAMES)


def test_a_padded_head_changes_no_loss_and_no_evaluation(tmp_path: Path) -> None:
    import numpy as np
    import torch

    from flashstill.distill.losses import Term, head_loss
    from flashstill.distill.models import parts
    from flashstill.distill.signals import Hidden, Sampled, Signals, TopK, build, signal_key
    from flashstill.distill.training import take
    from flashstill.evaluate import score_tokens
    from flashstill.progress import Silent

    text = packed_text(2, 8)
    batch, weights = take(text, np.arange(2)), torch.ones(16)
    student, teacher = zoo.tiny("llama", 1), zoo.tiny("llama", 2, vocab_size=112)
    teacher.lm_head.weight.data[KNOWN_TOKENS + 1] += 2.0  # rows beyond the student's 96 are likely, too
    teacher.lm_head.weight.data[100:] *= 4.0
    narrow = zoo.tiny("llama", 2)  # the same teacher without the rows beyond 96
    narrow.load_state_dict({**teacher.state_dict(), "lm_head.weight": teacher.lm_head.weight[:96],
                            "model.embed_tokens.weight": teacher.model.embed_tokens.weight[:96]})  # fmt: skip
    made: dict[str, list[Any]] = {}
    for kind in (Hidden(), Sampled(draws=255), TopK(k=112)):
        for which, model in (("wide", teacher), ("narrow", narrow)):
            kept = TopK(k=96) if which == "narrow" and isinstance(kind, TopK) else kind
            key, place = signal_key(kept, which, "tokenizer", text), tmp_path / f"{which} {kind.key['kind']}"
            build(model, kept, key, text, place, Silent(), "signals")
            signals = Signals(place, key, torch.float32)
            hidden, head = parts(student).hidden(batch.inputs).flatten(0, 1), parts(student).head
            _, each = head_loss(hidden, head, [Term(teacher=signals(batch))], weights, vocabulary=96)
            scores = score_tokens({"student": student}, text, signals if kept == Hidden() else None, lambda *_: None)
            made.setdefault(kind.key["kind"], []).append((each, scores["student"]))
    for kind_name, ((wide, wide_scores), (plain, plain_scores)) in made.items():
        # drawn ids are another draw where the rows beyond are left out; 1/255 of probability is about 0.1 nat
        assert torch.allclose(wide, plain, atol=0.15 if kind_name == "sampled" else 2e-3), kind_name
        if wide_scores.kl is not None and plain_scores.kl is not None:
            assert np.allclose(wide_scores.kl, plain_scores.kl, atol=2e-3)


def gradient_error(found: dict[str, Any], exact: dict[str, Any]) -> float:
    """Norm of the difference of all gradients over that of the exact ones."""
    import torch

    assert set(found) == set(exact)
    squares = [
        torch.stack([(found[each].double() - exact[each]).square().sum(), exact[each].double().square().sum()])
        for each in exact
    ]
    off, whole = torch.stack(squares).sum(0).sqrt().tolist()
    return float(off / whole)


@pytest.mark.parametrize("name", slow_but(zoo.FAMILIES, ("gemma2", "mamba2")))
def test_the_first_step_in_bfloat16(name: str, tmp_path: Path) -> None:
    """Gradients lie as near to those of the same weights in float64 as transformers' own in bfloat16 do: bodies that
    add in float32 (Mamba, RWKV) hand wider states to the head than it has weights."""
    import copy

    import torch

    from flashstill.distill.losses import DenseTeacher, Term, cross_entropy, forward_kl, head_loss, one_hot
    from flashstill.distill.models import load_model, parts
    from flashstill.distill.training.fused_ops import fused

    fresh = zoo.tiny(name)
    fresh.generation_config.do_sample = True
    fresh.save_pretrained(tmp_path)
    model = load_model(tmp_path)  # in bfloat16, but for what its class keeps in float32
    model.set_experts_implementation("eager")
    exact = copy.deepcopy(model)
    exact = exact.float() if name in IN_FLOAT32 or name in ("inkling2_text", "xglm") else exact.double()
    tokens, targets = drawn_tokens(1, 2, 12), drawn_tokens(2, 24)
    generator = torch.Generator().manual_seed(3)
    states, rows = (torch.rand(size, 20, generator=generator).bfloat16() for size in (24, parts(model).head.rows))
    weights = torch.rand(24, generator=generator)

    def reference(of: Any) -> Any:
        logits = of(input_ids=tokens, use_cache=False).logits.flatten(0, 1)
        wide = logits.float() if logits.dtype == torch.bfloat16 else logits
        soft = forward_kl(wide, (states.to(wide.dtype) @ rows.to(wide.dtype).T))
        return (weights.to(wide.dtype) * (soft + 0.3 * cross_entropy(wide, targets))).sum()

    right = gradients(exact, reference(exact))
    theirs = gradient_error(gradients(model, reference(model)), right)
    terms = [Term(teacher=DenseTeacher(hidden=(states,), heads=(rows,))), Term(teacher=one_hot(targets), weight=0.3)]
    with fused(model, alone=False):
        loss, _ = head_loss(parts(model).hidden(tokens).flatten(0, 1), parts(model).head, terms, weights)
        assert gradient_error(gradients(model, loss), right) <= 1.5 * theirs + 2e-3
