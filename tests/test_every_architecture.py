"""Every causal family that transformers ships, as a tiny random model: losses, signals and evaluation.

The reference is always transformers itself with autograd, in float64 where its own code computes in float64.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import zoo

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed

FAST = ("gemma2", "modernbert-decoder", "phimoe", "qwen3_next")
"""families of the fast suite: capped logits, a dense layer before the head, experts and a head with a bias, a hybrid"""
ALL = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in zoo.NAMES]
FAMILIES = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in zoo.FAMILIES]
IN_FLOAT32 = {"beam", "falcon_mamba", "mamba", "mamba2", "nemotron_h", "nemotron_h:2", "xglm", "xlstm"}
"""families that compute in float32 whatever their weights are, or (XGLM) cannot run in float64"""
KNOWN_TOKENS = 90


def in_float64(name: str) -> Any:
    """A model in float64, with experts that are computed one by one (grouped products know no float64)."""
    model = zoo.tiny(name)
    model.set_experts_implementation("eager")
    return model if name == "xglm" else model.double()


def drawn_tokens(seed: int, *shape: int) -> Any:
    import torch

    return torch.randint(3, KNOWN_TOKENS, shape, generator=torch.Generator().manual_seed(seed))


def gradients(model: Any, loss: Any) -> dict[str, Any]:
    """Gradients by name; they are cleared on the model."""
    loss.backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def test_the_zoo_is_large() -> None:
    assert len(zoo.FAMILIES) >= 100


@pytest.mark.parametrize("name", ALL)
def test_the_first_step_is_that_of_transformers(name: str) -> None:
    import torch

    from flashstill.distill.losses import DenseTeacher, Term, cross_entropy, forward_kl, head_loss, one_hot
    from flashstill.distill.models import parts

    model = in_float64(name)
    tokens, targets = drawn_tokens(1, 2, 12), drawn_tokens(2, 24)
    generator = torch.Generator().manual_seed(3)
    states, rows, weights = (
        torch.rand(*shape, generator=generator, dtype=model.dtype) for shape in ((24, 20), (96, 20), (24,))
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


def packed_text(windows: int, length: int) -> Packed:
    """Random tokens in windows of `length` targets."""
    import numpy as np

    from flashstill.distill.data.packing import Packed

    ones = np.ones((windows, length), dtype=np.int32)
    tokens = drawn_tokens(5, windows, length + 1).numpy().astype(np.int32)
    return Packed(tokens=tokens, target_bytes=ones, target_document=ones - 1)


@pytest.mark.parametrize("name", FAMILIES)
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
