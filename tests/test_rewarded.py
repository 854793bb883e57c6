"""Policy gradient with a verifier: advantages by hand, the gradient against the exact one, and batches that repeat."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.distill.losses import DenseTeacher, head_loss
from flashstill.distill.reasoning.judging import Judges, Verdict
from flashstill.distill.reasoning.letters import letter_tokenizer
from flashstill.distill.reasoning.matching import Extract
from flashstill.distill.reasoning.problems import Problem, save_problems
from flashstill.distill.reasoning.rewarded import Group, Rewarded, advantages, rewarded
from flashstill.distill.reasoning.spec import Spec
from flashstill.distill.training.batches import Batch
from flashstill.distill.training.loop import train
from flashstill.distill.training.recipe import TrainRecipe, equal_passes
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes.resuming import loop_keys
from flashstill.recipes.thinking import NetTable
from flashstill.studies.deep_think.models import new_model

PROBLEMS = [Problem(prompt=f"{letter}:", answer=digit) for letter, digit in zip("abcdef", "121212", strict=True)]
TOKENIZER = letter_tokenizer("abcdef:12")


@pytest.fixture
def model() -> Any:
    net = NetTable(hidden=8, layers=1, heads=2, feed_forward=16)
    return new_model(net, TOKENIZER, 8, 0)


class Here(Judges):
    """Judges in this process, which takes no second to start."""

    def _several(self, questions: Sequence[tuple[int, str]]) -> list[Verdict]:
        right = [answer == PROBLEMS[place].answer for place, answer in questions]
        return [Verdict(score=1.0 if each else 0.25, outcome="right" if each else "wrong") for each in right]


def source(folder: Path, per_step: int = 6, attempts: int = 4, together: int = 256, **group: Any) -> Rewarded:
    path = folder / "p.jsonl"
    save_problems(path, PROBLEMS)
    return Rewarded(
        PROBLEMS, [TOKENIZER(each.prompt)["input_ids"] for each in PROBLEMS], per_step,
        Group(attempts=attempts, **group), 2, TOKENIZER, Extract(), Here(Spec(source=str(path)), path, processes=1), 3,
        together,
    )  # fmt: skip


class TestAdvantages:
    def test_by_hand(self) -> None:
        rewards = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0] * 4])
        assert advantages(rewards, "leave-one-out").tolist() == [
            pytest.approx([1, -1 / 3, -1 / 3, -1 / 3]), pytest.approx([2 / 3, 2 / 3, -2 / 3, -2 / 3]), [0.0] * 4,
        ]  # fmt: skip
        half, root = 3**0.5 / 2, 0.5
        assert advantages(rewards, "normalised").tolist() == [
            pytest.approx([1.5, -root, -root, -root]), pytest.approx([half, half, -half, -half]), [0.0] * 4,
        ]  # fmt: skip

    def test_leave_one_out_is_unbiased(self) -> None:
        """Over all draws of two attempts, the mean of A_i grad log pi is the gradient of the expected reward."""
        logits, reward = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True), [0.2, 1.0, 0.0]
        expected = (torch.softmax(logits, -1) * torch.tensor(reward, dtype=torch.float64)).sum()
        (exact,) = torch.autograd.grad(expected, logits)
        mean = torch.zeros_like(exact)
        for pair in itertools.product(range(3), repeat=2):
            log_p = torch.log_softmax(logits, -1)
            weights = advantages(np.array([[reward[each] for each in pair]]), "leave-one-out")[0]
            estimate = sum(weight * log_p[each] for weight, each in zip(weights, pair, strict=True)) / 2
            (gradient,) = torch.autograd.grad(estimate, logits, retain_graph=True)
            mean += gradient * float(torch.softmax(logits, -1).detach()[list(pair)].prod())
        assert mean.tolist() == pytest.approx(exact.tolist(), abs=1e-12)

    def test_mistakes(self) -> None:
        with pytest.raises(BadInput, match="at least 2 attempts at a problem, not 1"):
            Group(attempts=1)
        with pytest.raises(BadInput, match="nearest known: leave-one-out"):
            Group(baseline="leave-one")
        with pytest.raises(BadInput, match="unknown reward"):
            Group(reward="rite")


def test_rows_at_a_time_change_no_text(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flashstill.distill.generate import drawing, generate

    most: list[int] = []

    def counted(logits: torch.Tensor, *more: Any) -> Any:
        most.append(len(logits))
        return drawing.choose(logits, *more)

    monkeypatch.setattr(generate, "choose", counted)
    batches = [source(tmp_path, together=together).batch(0, lambda: model) for together in (256, 3)]
    assert torch.equal(batches[0].tokens, batches[1].tokens)
    assert max(most) > 3
    most.clear()
    source(tmp_path, together=3).batch(0, lambda: model)
    assert max(most) <= 3


def attempts_recipe(made: Rewarded, steps: int, rows: int, **more: Any) -> TrainRecipe:
    return TrainRecipe(
        tokens=steps * rows * made.window_length, windows_per_step=rows, learning_rate=3e-2, schedule="constant",
        checkpoint_every_steps=1, diverged_at=0.0, **more,
    )  # fmt: skip


@pytest.mark.parametrize("written_before", [False, True])
def test_goes_on_with_fewer_rows_at_a_time_and_smaller_passes(
    written_before: bool, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the sentence about memory advises; also from a checkpoint whose key has the rows at a time."""
    ends = []
    for together, passes in ((256, 0), (3, 4)):
        folder, own = tmp_path / f"{together}", copy.deepcopy(model)
        first = source(tmp_path)
        if written_before:
            first.key["sampling"] = asdict(first.sampling)
        train(own, first, rewarded(), attempts_recipe(first, 1, 24), folder, Silent(), "x")
        second = source(tmp_path, together=together)
        recipe = attempts_recipe(second, 3, 24, micro_windows=passes)
        train(own, second, rewarded(), recipe, folder, Silent(), "x", may_change=loop_keys())
        ends.append(own.state_dict())
    for name, weight in ends[0].items():
        assert torch.allclose(weight, ends[1][name], atol=1e-5)
    other = source(tmp_path, attempts=3)
    with pytest.raises(BadInput, match=r"belongs to a run with another .*group; remove"):
        train(model, other, rewarded(), attempts_recipe(other, 3, 24), tmp_path / "3", Silent(), "x")


def test_few_useful_attempts_are_shared_by_no_more_passes_than_there_are(model: Any, tmp_path: Path) -> None:
    """A step of 24 attempts in 12 passes, of which 4 are left when all have the same reward."""
    made = source(tmp_path)
    made.extract = Extract(marker="never said")
    train(model, made, rewarded(), attempts_recipe(made, 1, 24, micro_windows=2), tmp_path, Silent(), "x")
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["useful_share"] == 0.0


def test_memory_that_runs_out_while_sampling(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr("flashstill.distill.reasoning.rewarded.sample", too_much)
    with pytest.raises(BadInput, match=r"256 texts sampled at a time; lower think\.rows_at_a_time"):
        source(tmp_path).batch(0, lambda: model)


def test_equal_passes() -> None:
    assert [equal_passes(24, most) for most in (0, 1, 5, 12, 23, 24, 99)] == [0, 1, 4, 12, 12, 0, 0]


def by_hand(hidden: torch.Tensor, head: torch.Tensor, old: Sequence[torch.Tensor], batch: Batch, kl: float) -> Any:
    """The gradient of head and hidden states, token by token from the formula."""
    assert batch.factors is not None
    grad_head, grad_hidden, tokens = torch.zeros_like(head), torch.zeros_like(hidden), int(batch.mask.sum())
    for row, place in batch.mask.nonzero().tolist():
        state, start = hidden[row, place], old[0][row, place] @ old[1].T
        q, p = torch.softmax(head @ state, -1), torch.softmax(start, -1)
        drawn = torch.zeros_like(q)
        drawn[batch.tokens[row, place + 1]] = 1.0
        slope = -batch.factors[row].double() * (drawn - q)
        apart = q.log() - p.log()
        slope = slope + kl * q * (apart - (q * apart).sum())
        grad_head += torch.outer(slope, state) / tokens
        grad_hidden[row, place] += head.T @ slope / tokens
    return grad_hidden, grad_head


@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_gradient_is_that_of_the_formula(kl: float, model: Any, tmp_path: Path) -> None:
    batch = source(tmp_path).batch(0, lambda: model)
    assert batch.factors is not None
    assert len(batch.factors) in range(4, 25, 4)
    assert batch.factors.view(-1, 4).sum(-1).abs().max() < 1e-6
    generator = torch.Generator().manual_seed(0)
    size, vocabulary = (*batch.mask.shape, 8), len(TOKENIZER)
    hidden, other = (torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(2))
    head, start = (torch.randn((vocabulary, 8), generator=generator, dtype=torch.float64) for _ in range(2))
    wanted = by_hand(hidden, head, (other, start), batch, kl)
    hidden.requires_grad_()
    head.requires_grad_()
    held_to = DenseTeacher(hidden=(other.flatten(0, 1),), heads=(start,))
    weights = batch.mask.flatten().double() / int(batch.mask.sum())
    loss, _ = head_loss(hidden.flatten(0, 1), head, rewarded(lambda _: held_to, kl)(batch), weights)
    loss.backward()  # type: ignore[no-untyped-call]
    for gradient, hand in zip((hidden.grad, head.grad), wanted, strict=True):
        assert gradient is not None
        assert torch.allclose(gradient, hand, atol=1e-9)


@pytest.mark.slow
def test_steps_make_right_answers_likelier_and_resume(model: Any, tmp_path: Path) -> None:
    """The reward grows; a run that stops in the middle ends with the same weights."""
    found = []
    for stops in (False, True):
        made, own = source(tmp_path, attempts=8), copy.deepcopy(model)
        recipe = TrainRecipe(
            tokens=30 * 48 * made.window_length, windows_per_step=48, learning_rate=3e-2, schedule="constant",
            checkpoint_every_steps=10, diverged_at=0.0,
        )  # fmt: skip
        folder = tmp_path / str(stops)

        def after(_: Any, step: int, stops: bool = stops) -> dict[str, float]:
            if stops and step == 17:
                raise KeyboardInterrupt
            return {}

        if stops:
            with pytest.raises(KeyboardInterrupt):
                train(copy.deepcopy(model), made, rewarded(), recipe, folder, Silent(), "x", after_step=after)
        train(own, made, rewarded(), recipe, folder, Silent(), "x")
        found.append(own.state_dict())
    rows, resumed = (
        [json.loads(line) for line in (tmp_path / each / "metrics.jsonl").read_text().splitlines()]
        for each in ("False", "True")
    )
    assert [row["verifier_calls"] for row in resumed] == [row["verifier_calls"] for row in rows]
    rewards = [row["reward"] for row in resumed]
    assert len(rewards) == 30
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.3
    for name, weight in found[0].items():
        assert torch.equal(weight, found[1][name])


def test_what_was_judged_is_not_judged_again_after_a_resumption(model: Any, tmp_path: Path) -> None:
    """Nor does it matter what the same judges were asked before, which another process would not know."""
    one = source(tmp_path)
    first, second = (one.batch(step, lambda: model) for step in (0, 1))
    again = source(tmp_path)
    again.judges([(place, answer) for place in range(len(PROBLEMS)) for answer in "0123456789"])
    assert again.batch(0, lambda: model).made["verifier_calls"] == first.made["verifier_calls"] > 0
    other = source(tmp_path)
    other.restore(again.state())
    found = other.batch(1, lambda: model)
    assert found.made["verifier_calls"] == second.made["verifier_calls"] < first.made["verifier_calls"]
    assert found.made["reward"] == second.made["reward"]
    assert other.batch(0, lambda: model).made["verifier_calls"] == 0
    assert other.judges.counts.total() == second.made["verifier_calls"]
    plain = source(tmp_path)
    plain.restore({})
    assert plain.state()["judged"].shape == (0, 2)


def test_batches_repeat_and_say_what_they_cost(model: Any, tmp_path: Path) -> None:
    one, two = (source(tmp_path, per_step=3).batch(5, lambda: model) for _ in range(2))
    assert torch.equal(one.tokens, two.tokens)
    assert one.factors is not None
    assert two.factors is not None
    assert torch.equal(one.factors, two.factors)
    assert one.made["tokens_read"] == 3 * 4 * 2
    assert 12 <= one.made["tokens_drawn"] <= 24
    assert 0 < one.made["verifier_calls"] <= 12
    other = source(tmp_path, per_step=3).batch(6, lambda: model)
    assert other.tokens.shape != one.tokens.shape or not torch.equal(other.tokens, one.tokens)


def test_a_step_where_all_are_wrong_has_no_gradient(model: Any, tmp_path: Path) -> None:
    made = source(tmp_path)
    made.extract = Extract(marker="never said")
    batch = made.batch(0, lambda: model)
    assert batch.factors is not None
    assert batch.factors.tolist() == [0.0] * 4
    assert batch.made["useful_share"] == 0.0
