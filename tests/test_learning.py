"""Signals, students, training and evaluation: runs that must agree."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import forward_kl
from flashstill.distill.models import fingerprint, keep_layers, load_model, load_tokenizer, save_model
from flashstill.distill.signals import Hidden, Kind, Signals, build, hidden_states, signal_key
from flashstill.distill.students import block_influence, greedy_drops, kept_blocks, order_by_influence
from flashstill.distill.training import (
    Offline,
    TrainRecipe,
    checkpoints,
    distillation,
    hard,
    learning_rate_at,
    step,
    train,
    window_order,
)
from flashstill.distill.training.micro_steps import run_micro_steps
from flashstill.errors import BadInput
from flashstill.evaluate import score_tokens, summarise
from flashstill.measure import measure_models
from flashstill.progress import Silent
from tests.distillations import same
from tests.intervals import ends_of
from tests.tensors import weights

RECIPE = TrainRecipe(tokens=512, windows_per_step=2, learning_rate=1e-3, checkpoint_every_steps=3)
SILENT = Silent()
EXACT = Hidden()


def signals_of(teacher: Any, packed: Packed, directory: Path, kind: Kind = EXACT) -> Signals:
    """Build and open."""
    key = signal_key(kind, "teacher", "tokenizer", packed)
    build(teacher, kind, key, packed, directory, SILENT, "s")
    return Signals(directory, key)


class TestStudents:
    @pytest.mark.slow
    def test_keeping_every_block_changes_nothing(self, teacher: Any, packed: Packed) -> None:
        tokens = torch.from_numpy(packed.tokens[:2, :-1].astype(np.int64))
        copy = keep_layers(teacher, list(range(6)))
        assert torch.equal(hidden_states(copy, tokens), hidden_states(teacher, tokens))

    def test_a_pruned_model_is_a_model_of_its_own(self, teacher: Any, tiny_teacher: Path, tmp_path: Path) -> None:
        before = weights(teacher)
        student = keep_layers(teacher, [0, 3, 5])
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(1.0)
        assert same(before, weights(teacher))
        save_model(student, load_tokenizer(tiny_teacher), tmp_path / "student")
        again = load_model(tmp_path / "student")
        assert again.config.num_hidden_layers == 3
        assert same(weights(student), weights(again))

    def test_influence_of_a_block_that_does_nothing(self, teacher: Any, packed: Packed) -> None:
        tokens = torch.from_numpy(packed.tokens[:2, :-1].astype(np.int64))
        idle = teacher.model.layers[2]
        with torch.no_grad():
            idle.self_attn.o_proj.weight.zero_()
            idle.mlp.down_proj.weight.zero_()
        influence = block_influence(teacher, tokens)
        assert len(influence) == 6
        assert influence[2] == pytest.approx(0.0, abs=1e-3)
        assert order_by_influence(teacher, tokens)[0] == 2
        assert greedy_drops(teacher, tokens, 1, 6, SILENT) == [2]

    @pytest.mark.slow
    def test_greedy_is_at_least_as_good_as_blind(self, teacher: Any, packed: Packed) -> None:
        tokens = torch.from_numpy(packed.tokens[:4, :-1].astype(np.int64))
        drops = greedy_drops(teacher, tokens, 3, 6, SILENT)
        assert len(set(drops)) == 3
        assert teacher.config.num_hidden_layers == 6
        assert len(teacher.model.layers) == 6

        def divergence(kept: list[int]) -> float:
            with torch.inference_mode():
                student = keep_layers(teacher, kept)(input_ids=tokens).logits.flatten(0, 1).float()
                return float(forward_kl(student, teacher(input_ids=tokens).logits.flatten(0, 1).float()).mean())

        first = greedy_drops(teacher, tokens, 1, 6, SILENT)
        assert divergence(kept_blocks(6, first, 5)) == pytest.approx(
            min(divergence([i for i in range(6) if i != gone]) for gone in range(6)), rel=1e-3
        )

    def test_nonsense(self) -> None:
        assert kept_blocks(6, [2, 4, 0], 4) == [0, 1, 3, 5]
        with pytest.raises(BadInput, match="keep 7 of the teacher's 6"):
            kept_blocks(6, [], 7)


class TestTraining:
    def train(self, teacher: Any, packed: Packed, folder: Path, recipe: TrainRecipe = RECIPE) -> Any:
        source = Offline(packed, recipe.windows_per_step, recipe.seed)
        return train(keep_layers(teacher, [0, 2, 4]), source, hard, recipe, folder, SILENT, "t")

    @pytest.mark.slow
    def test_resumed_equals_uninterrupted(
        self, teacher: Any, packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        straight = weights(self.train(teacher, packed, tmp_path / "a"))
        calls = [0]
        original = run_micro_steps

        def interrupted(*args: Any) -> float:
            calls[0] += 1
            if calls[0] == 6:
                raise KeyboardInterrupt
            return original(*args)

        monkeypatch.setattr(step, "run_micro_steps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            self.train(teacher, packed, tmp_path / "b")
        assert [path.name for path in (tmp_path / "b").glob("step-*")] == ["step-00000003"]
        assert same(straight, weights(self.train(teacher, packed, tmp_path / "b")))
        rows = [json.loads(line) for line in (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == list(range(1, 9))

    @pytest.mark.slow
    def test_another_recipe_is_refused(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        self.train(teacher, packed, tmp_path)
        with pytest.raises(BadInput, match="another recipe"):
            self.train(teacher, packed, tmp_path, dataclasses.replace(RECIPE, learning_rate=2e-3))

    @pytest.mark.slow
    def test_a_truncated_checkpoint_is_passed_over(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        straight = weights(self.train(teacher, packed, tmp_path))
        (newest,) = tmp_path.glob("step-*")
        state = newest / "share-0-of-1.safetensors"
        state.write_bytes(state.read_bytes()[:1000])
        assert same(straight, weights(self.train(teacher, packed, tmp_path)))
        checkpoints.clear(tmp_path)
        assert not list(tmp_path.glob("step-*"))

    def test_a_flipped_bit_is_noticed_and_passed_over(self, tmp_path: Path) -> None:
        """By the checksums, as nothing else tells: the file is as long as before and its header is whole."""
        tensors = {"master/weight": torch.arange(64.0).view(8, 8), "source/rows": torch.arange(3)}
        checkpoints.write(tmp_path, checkpoints.Snapshot(step=3, tensors=tensors, metrics=[]), {"recipe": 1})
        found = checkpoints.latest(tmp_path, {"recipe": 1})
        assert found is not None
        assert found.step == 3
        assert same(tensors, dict(found.tensors))
        share = tmp_path / "step-00000003" / "share-0-of-1.safetensors"
        content = bytearray(share.read_bytes())
        content[-20] ^= 1
        share.write_bytes(content)
        assert checkpoints.latest(tmp_path, {"recipe": 1}) is None

    def test_shares_are_joined_along_their_first_axis(self, tmp_path: Path) -> None:
        """Of a run of two processes that goes on as one; what is no share is the same for each."""
        for rank, rows in enumerate((3, 2)):
            folder = tmp_path / f"of-{rank}"
            tensors = {"exp_avg/weight": torch.full((rows, 4), float(rank)), "buffer/bias": torch.ones(2)}
            checkpoints.write(folder, checkpoints.Snapshot(step=1, tensors=tensors, metrics=[]), {})
        folder = tmp_path / "of-0" / "step-00000001"
        record = json.loads((folder / "checkpoint.json").read_text())
        (folder / "share-0-of-1.safetensors").rename(folder / "share-0-of-2.safetensors")
        other = tmp_path / "of-1" / "step-00000001"
        (other / "share-0-of-1.safetensors").rename(folder / "share-1-of-2.safetensors")
        record["sha256"] += json.loads((other / "checkpoint.json").read_text())["sha256"]
        (folder / "checkpoint.json").write_text(json.dumps({**record, "processes": 2}))
        found = checkpoints.latest(tmp_path / "of-0", {})
        assert found is not None
        assert found.tensors["exp_avg/weight"].flatten().tolist() == [0.0] * 12 + [1.0] * 8
        assert found.tensors["buffer/bias"].shape == (2,)

    def test_a_loss_that_is_not_a_number_stops_with_its_step(
        self, teacher: Any, packed: Packed, tmp_path: Path
    ) -> None:
        with torch.no_grad():
            teacher.model.norm.weight.fill_(float("nan"))
        with pytest.raises(BadInput, match=r"the loss is not finite at step 1 \(windows"):
            self.train(teacher, packed, tmp_path)

    @pytest.mark.slow
    def test_distillation_lowers_the_divergence(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        signals = signals_of(teacher, packed, tmp_path / "s")
        student = keep_layers(teacher, [0, 5])

        def divergence() -> float:
            scores = score_tokens({"s": student}, packed, signals, lambda amount, note="": None)["s"]
            assert scores.kl is not None
            return float(scores.kl.mean())

        before = divergence()
        recipe = dataclasses.replace(RECIPE, tokens=60 * 64, learning_rate=1e-2)
        source = Offline(packed, recipe.windows_per_step, recipe.seed)
        train(student, source, distillation(signals), recipe, tmp_path / "t", SILENT, "t")
        assert divergence() < 0.7 * before

    def test_the_order_of_windows(self) -> None:
        steps = [window_order(5, 10, step, 4) for step in range(10)]
        seen = np.concatenate(steps)
        for epoch in range(4):
            assert sorted(seen[10 * epoch : 10 * epoch + 10]) == list(range(10))
        assert not np.array_equal(seen[:10], seen[10:20])
        assert len(window_order(0, 3, 7, 8)) == 8, "more windows a step than there are"

    def test_the_learning_rate(self) -> None:
        rates = [learning_rate_at(RECIPE, step, 100) for step in range(100)]
        assert max(rates) == pytest.approx(RECIPE.learning_rate)
        assert rates[0] == pytest.approx(RECIPE.learning_rate / 10)
        assert rates[-1] == pytest.approx(RECIPE.learning_rate * RECIPE.final_fraction, rel=0.05)


class TestEvaluation:
    @pytest.mark.slow
    def test_the_teacher_against_itself(self, teacher: Any, tiny_teacher: Path, packed: Packed, tmp_path: Path) -> None:
        signals = signals_of(teacher, packed, tmp_path)
        scores = score_tokens({"t": teacher}, packed, signals, lambda amount, note="": None)["t"]
        found = {record.metric: record for record in summarise(scores, "teacher", "heldout", 0)}
        assert found["kl_to_teacher"].value == pytest.approx(0.0, abs=1e-6)
        assert found["agreement"].value == 1.0
        tokens = torch.from_numpy(packed.tokens.astype(np.int64))
        counted = torch.from_numpy(packed.target_document >= 0)
        with torch.inference_mode():
            logits = teacher(input_ids=tokens[:, :-1].to(teacher.device)).logits.float().cpu()
        nats = torch.nn.functional.cross_entropy(logits[counted], tokens[:, 1:][counted])
        assert found["perplexity"].value == pytest.approx(float(nats.exp()), rel=0.02)
        bits = float(nats) * int(counted.sum()) / np.log(2) / packed.target_bytes.sum()
        assert found["bits_per_byte"].value == pytest.approx(bits, rel=0.02)
        for record in found.values():
            low, high = ends_of(record)
            assert low <= record.value <= high


@pytest.mark.slow
def test_measured_models_take_turns(teacher: Any) -> None:
    found = measure_models({"a": teacher, "b": keep_layers(teacher, [0, 1])}, [1, 3], 8, 2, SILENT)
    assert {(record.model, record.phase, record.batch) for record in found} == {
        (model, phase, batch) for model in "ab" for phase in ("prefill", "decode") for batch in (1, 3)
    }
    assert all(0 < record.low <= record.seconds <= record.high for record in found)


def test_fingerprints_differ(tiny_teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_teacher, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == fingerprint(tiny_teacher)
    config = tmp_path / "copy" / "config.json"
    config.write_text(config.read_text() + " ")
    assert fingerprint(tmp_path / "copy") != fingerprint(tiny_teacher)
