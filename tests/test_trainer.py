"""The trainer: passes that add up, masks that sit on their targets, teachers in eval mode, and stops that say why."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from flashstill.distill.data.packing import Packed, joined
from flashstill.distill.losses import DenseTeacher, Term, cross_entropy, forward_kl, one_hot
from flashstill.distill.models import keep_layers
from flashstill.distill.students import LoadBalance
from flashstill.distill.teachers import Ensemble, Online, Router
from flashstill.distill.training import (
    Batch,
    Offline,
    Soft,
    TrainRecipe,
    distillation,
    hard,
    learning_rate_at,
    loop,
    step,
    take,
    train,
)
from flashstill.distill.training.metrics import Trend
from flashstill.distill.training.micro_steps import run_micro_steps
from flashstill.distill.training.sharded import World
from flashstill.errors import BadInput
from flashstill.progress import Silent
from tests import zoo
from tests.tensors import weights

SILENT = Silent()
RECIPE = TrainRecipe(tokens=1024, windows_per_step=8, learning_rate=1e-3, checkpoint_every_steps=100)


def run(model: Any, packed: Packed, folder: Path, recipe: TrainRecipe = RECIPE, objective: Any = hard) -> Any:
    source = Offline(packed, recipe.windows_per_step, recipe.seed)
    return train(model, source, objective, recipe, folder, SILENT, "t")


class Named(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the names of all operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_the_loss_is_not_waited_for_before_the_backward_pass(teacher: Any, packed: Packed, tmp_path: Path) -> None:
    """A GPU would have nothing to do until the first operations of the backward pass have been started."""
    recipe = dataclasses.replace(RECIPE, tokens=8 * packed.length)
    with Named() as named:
        run(keep_layers(teacher, [0]), packed, tmp_path, recipe)
    loss, backward, end = (
        max(at for at, name in enumerate(named.names) if part in name)  # the last: modules were tried before
        for part in ("softmax", "silu_backward", "_fused_adamw_")
    )
    assert "_local_scalar_dense" not in named.names[loss:backward]
    assert named.names[backward:end].count("_local_scalar_dense") == 2  # the loss and the norm


class TestPasses:
    @pytest.mark.slow
    def test_a_batch_of_eight_equals_eight_passes_of_one(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """In float32 to rounding, with masks that leave windows of different weight: a mean of means would differ."""
        mask = np.ones((packed.windows, packed.length), dtype=np.int32)
        mask[::2, 5:] = 0
        masked = dataclasses.replace(packed, target_mask=mask)
        student = keep_layers(teacher, [0, 2, 4]).float()
        found = []
        for micro in (0, 4, 1):
            recipe = dataclasses.replace(RECIPE, micro_windows=micro)
            found.append(weights(run(copy.deepcopy(student), masked, tmp_path / str(micro), recipe)))
        for other in found[1:]:
            for name, tensor in found[0].items():
                assert torch.allclose(other[name], tensor, rtol=1e-4, atol=2e-5), name

    @pytest.mark.slow
    def test_in_bfloat16_to_its_rounding(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        losses = []
        for micro in (0, 1):
            recipe = dataclasses.replace(RECIPE, micro_windows=micro)
            run(keep_layers(teacher, [0, 2, 4]), packed, tmp_path / str(micro), recipe)
            rows = (tmp_path / str(micro) / "metrics.jsonl").read_text().splitlines()
            losses.append([json.loads(row)["loss"] for row in rows])
        assert losses[0] == pytest.approx(losses[1], rel=2e-3)

    def test_passes_that_do_not_fill_a_step(self) -> None:
        with pytest.raises(BadInput, match="passes of 3 windows do not fill"):
            dataclasses.replace(RECIPE, micro_windows=3)


class TestMasks:
    def test_they_sit_on_the_targets(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """The loss of a step is the mean over exactly the targets that count, each the token after its input."""
        mask = np.zeros((packed.windows, packed.length), dtype=np.int32)
        mask[:, 7] = mask[:, 20] = 1
        masked = dataclasses.replace(packed, target_mask=mask)
        recipe = dataclasses.replace(RECIPE, tokens=256)
        before = load_rows(run_losses(teacher, masked, tmp_path, recipe))[0]
        batch = Offline(masked, 8, 0).batch(0, lambda: None)
        with torch.inference_mode():
            logits = teacher(input_ids=batch.tokens[:, :-1].to(teacher.device)).logits.float().cpu()
        nats = [
            float(cross_entropy(logits[row, place][None], batch.tokens[row, place + 1][None]))
            for row in range(8)
            for place in (7, 20)
        ]
        assert before == pytest.approx(float(np.mean(nats)), rel=0.01)

    def test_a_step_without_targets(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        masked = dataclasses.replace(packed, target_mask=np.zeros((packed.windows, packed.length), dtype=np.int32))
        with pytest.raises(BadInput, match="all targets of a step are masked"):
            run(keep_layers(teacher, [0, 1]), masked, tmp_path)

    def test_they_are_kept_on_the_disk(self, packed: Packed, tmp_path: Path) -> None:
        mask = np.eye(packed.windows, packed.length, dtype=np.int32)
        dataclasses.replace(packed, target_mask=mask).save(tmp_path / "p.safetensors")
        assert np.array_equal(Packed.load(tmp_path / "p.safetensors").mask, mask.astype(bool))


def run_losses(teacher: Any, packed: Packed, folder: Path, recipe: TrainRecipe) -> Path:
    """Train a copy of the teacher and say where its metrics are."""
    run(copy.deepcopy(teacher), packed, folder, recipe)
    return folder / "metrics.jsonl"


def load_rows(path: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


class TestTeachers:
    def test_a_teacher_is_in_eval_mode_whatever_it_was_in(self, teacher: Any, packed: Packed) -> None:
        teacher.model.norm = nn.Sequential(teacher.model.norm, nn.Dropout(0.5))
        teacher.train()
        said = Online(teacher)
        batch = take(packed, np.array([0, 1]))
        assert torch.equal(said(batch).hidden[0], said(batch).hidden[0])
        assert not teacher.training

    @pytest.mark.slow
    def test_a_student_equal_to_its_teacher_has_nothing_to_learn(
        self, teacher: Any, packed: Packed, tmp_path: Path
    ) -> None:
        """The KL reaches zero, and a step at a high rate moves next to nothing."""
        student = copy.deepcopy(teacher).float()
        objective = distillation(Online(copy.deepcopy(teacher).float()))
        recipe = dataclasses.replace(RECIPE, tokens=256)
        run(student, packed, tmp_path, recipe, objective)
        assert load_rows(tmp_path / "metrics.jsonl")[0] == pytest.approx(0.0, abs=1e-5)

    @pytest.mark.slow
    def test_the_temperature_is_used(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        student, losses = keep_layers(teacher, [0, 5]), []
        batch = Offline(packed, 8, 0).batch(0, lambda: None)
        with torch.inference_mode():
            inputs = batch.tokens[:, :-1].to(teacher.device)
            z, y = (model(input_ids=inputs).logits.flatten(0, 1).float() for model in (student, teacher))
        for temperature in (1.0, 4.0):
            objective = distillation(Online(teacher), [Soft(temperature=temperature)])
            recipe = dataclasses.replace(RECIPE, tokens=256)
            run(copy.deepcopy(student), packed, tmp_path / str(temperature), recipe, objective)
            losses.append(load_rows(tmp_path / str(temperature) / "metrics.jsonl")[0])
            assert losses[-1] == pytest.approx(float(forward_kl(z, y, temperature).mean()), rel=0.02)
        assert losses[0] != pytest.approx(losses[1], rel=0.01)

    def test_specialists_answer_for_their_own_windows(self, teacher: Any, packed: Packed) -> None:
        other = keep_layers(teacher, [0, 1, 2])
        groups = np.array([0, 1] * 10)
        batch = take(packed, np.array([3, 4, 0])).to(teacher.device)
        said = Router([Online(teacher), Online(other)], groups)(batch)
        student = torch.randn(96, 384, generator=torch.Generator().manual_seed(0)).to(teacher.device).requires_grad_()
        from flashstill.distill.losses import head_loss

        eye, each = torch.eye(384, device=teacher.device), torch.ones(96, device=teacher.device)
        routed = head_loss(student, eye, [Term(teacher=said)], each)[1].reshape(3, 32)
        for row, model in enumerate((other, teacher, teacher)):
            with torch.no_grad():
                y = model(input_ids=batch.tokens[row : row + 1, :-1]).logits[0].float()
            assert torch.allclose(routed[row], forward_kl(student[32 * row : 32 * row + 32], y), rtol=0.02, atol=0.02)

    def test_an_ensemble_normalises_its_weights(self, teacher: Any, packed: Packed) -> None:
        said = Ensemble([Online(teacher), Online(teacher)], [1.0, 3.0], "arithmetic")(take(packed, np.array([0])))
        assert said.shares == (0.25, 0.75)
        with pytest.raises(BadInput, match="several teachers need exact signals"):
            Ensemble([lambda batch: one_hot(batch.targets)] * 2, None, "arithmetic")(take(packed, np.array([0])))

    def test_packings_are_joined_with_their_origin(self, packed: Packed) -> None:
        both = joined([packed.first(3), packed.first(2)])
        assert both.window_group is not None
        assert both.window_group.tolist() == [0, 0, 0, 1, 1]
        most = int(packed.first(3).target_document.max())
        again = packed.target_document[:2]
        assert np.array_equal(both.target_document[3:], np.where(again < 0, -1, again + most + 1))

    @pytest.mark.slow
    def test_padded_vocabularies(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """Heads of 384 and 400 rows share 384 tokens; without saying so they are refused with their counts."""
        head = torch.cat([teacher.get_output_embeddings().weight.detach(), torch.full((16, 32), 9.0).bfloat16()])

        def padded(batch: Batch) -> DenseTeacher:
            return DenseTeacher(hidden=Online(teacher)(batch).hidden, heads=(head,))

        student = keep_layers(teacher, [0, 5])
        with pytest.raises(ValueError, match="student 384, teacher 400"):
            run(copy.deepcopy(student), packed, tmp_path / "a", RECIPE, distillation(padded))
        source = Offline(packed, 8, 0)
        train(copy.deepcopy(student), source, distillation(padded), RECIPE, tmp_path / "b", SILENT, "t", None, 384)
        run(copy.deepcopy(student), packed, tmp_path / "c", RECIPE, distillation(Online(teacher)))
        assert load_rows(tmp_path / "b" / "metrics.jsonl") == load_rows(tmp_path / "c" / "metrics.jsonl")


class TestStops:
    @pytest.mark.slow
    def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
        self, teacher: Any, packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        student = keep_layers(teacher, [0, 5])
        before, original, calls = {}, run_micro_steps, [0]

        def broken(*args: Any) -> float:
            found = original(*args)
            calls[0] += 1
            if calls[0] == 3:
                before.update(weights(student))
                next(iter(student.parameters())).grad[0, 0] = float("inf")
            return found

        monkeypatch.setattr(step, "run_micro_steps", broken)
        recipe = dataclasses.replace(RECIPE, checkpoint_every_steps=1)
        with pytest.raises(BadInput, match=r"the gradient is not finite at step 3 \(windows \[") as stopped:
            run(student, packed, tmp_path, recipe)
        assert "last good checkpoint" in str(stopped.value)
        assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000002"]
        after = weights(student)
        assert all(torch.equal(after[name], before[name]) for name in before)

    def test_memory_that_runs_out_says_what_to_lower(
        self, teacher: Any, packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def greedy(*args: Any) -> float:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")

        monkeypatch.setattr(step, "run_micro_steps", greedy)
        with pytest.raises(BadInput, match="out of memory with 8 windows of 32 tokens a pass; lower micro_windows"):
            run(keep_layers(teacher, [0, 5]), packed, tmp_path)
        source: Any = SimpleNamespace(batch=lambda *_: SimpleNamespace(), window_length=32)
        two: Any = step.TrainingSteps(
            name="half", directory=tmp_path, model=None, student=nn.Identity(), state=Mock(), whole=Mock(),
            source=source, objective=Mock(), recipe=RECIPE, world=World(rank=0, size=2), micro_steps=2, vocabulary=None,
            after_step=None,
        )  # fmt: skip
        with pytest.raises(BadInput, match="half: out of memory with 2 windows of 32 tokens a pass"):  # 8 / (2 x 2)
            two.run(0, 1e-3)

    @pytest.mark.parametrize(("rank", "expected"), [(0, [[0, 1], [2]]), (1, [[3, 4], [5]])])
    def test_passes_stay_within_the_share_of_a_process(self, rank: int, expected: list[list[int]]) -> None:
        """Of a batch with fewer windows than a step's, whose share is no multiple of a pass."""
        seen: list[list[int]] = []

        def rows(part: slice) -> Any:
            seen.append(list(range(6))[part])
            return SimpleNamespace(to=lambda _: SimpleNamespace(mask=torch.ones(len(seen[-1]), 1)))

        batch = SimpleNamespace(tokens=range(6), mask=torch.ones(6, 1), rows=rows)
        world = SimpleNamespace(rank=rank, size=2, device="cpu", total=lambda value: value)
        whole: Any = [batch, lambda *_: torch.ones((), requires_grad=True), Mock(), lambda _: [], 2, world, None, None]
        run_micro_steps(*whole)
        assert seen == expected

    @pytest.mark.parametrize(
        ("coefficient", "said"), [(0.0, r"its passes\), or"), (0.1, r"student\.balance_loss is that of")]
    )
    def test_what_another_number_of_passes_changes(
        self, coefficient: float, said: str, packed: Packed, tmp_path: Path
    ) -> None:
        """The sentence about memory advises another number; of all losses only that of the balance depends on it."""

        def greedy(batch: Batch) -> Any:
            raise MemoryError

        model, source = zoo.tiny("mixtral", 0), Offline(packed, RECIPE.windows_per_step, 0)
        balance = LoadBalance(model, coefficient=coefficient)
        with pytest.raises(BadInput, match=said):
            train(model, source, greedy, RECIPE, tmp_path, SILENT, "a", after_step=balance)

    def test_divergence(self) -> None:
        falling = [{"loss": 5.0 * 0.97**step} for step in range(60)]
        assert not Trend(falling).diverged(3.0)
        risen = falling + [{"loss": 6.0 + step} for step in range(12)]
        assert Trend(risen).diverged(3.0)
        assert not Trend(risen).diverged(0.0)
        assert not Trend([{"loss": value} for value in (1.0, 50.0, 90.0)]).diverged(3.0), "too early to say"

    @pytest.mark.slow
    def test_a_run_that_diverges_stops(
        self, teacher: Any, packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A student that learns for 30 steps and is then pushed away from what it learned."""

        def pushed(recipe: TrainRecipe, step: int, *totals: int) -> float:
            return learning_rate_at(recipe, step, *totals) if step < 30 else -0.05

        monkeypatch.setattr(loop, "learning_rate_at", pushed)
        recipe = dataclasses.replace(RECIPE, tokens=200 * 256, learning_rate=3e-3, diverged_at=1.5)
        recipe = dataclasses.replace(recipe, checkpoint_every_steps=10)
        with pytest.raises(BadInput, match=r"the loss has risen to [0-9.]+ at step \d+ \(windows"):
            run(keep_layers(teacher, [0, 5]), packed, tmp_path, recipe)
        assert list(tmp_path.glob("step-*"))


class TestSchedules:
    def test_stay_then_fall(self) -> None:
        recipe = dataclasses.replace(RECIPE, schedule="wsd", decay_fraction=0.2, final_fraction=0.0)
        rates = [learning_rate_at(recipe, step, 100) / recipe.learning_rate for step in range(100)]
        assert rates[9:80] == pytest.approx([1.0] * 71)
        assert rates[90] == pytest.approx(0.5)
        assert rates[99] == pytest.approx(0.05)

    def test_constant(self) -> None:
        recipe = dataclasses.replace(RECIPE, schedule="constant", warmup_fraction=0.0)
        assert {learning_rate_at(recipe, step, 50) for step in range(50)} == {recipe.learning_rate}

    def test_unknown(self) -> None:
        with pytest.raises(BadInput, match="nearest known: cosine"):
            dataclasses.replace(RECIPE, schedule="cosin")
