"""Outputs that are not finite, ids that a teacher does not have: whose fault it is, before the student is trained."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.generate import Sampling
from flashstill.distill.losses import DenseTeacher, RoutedTeacher, Sparse, sparse_loss
from flashstill.distill.losses.soundness import unsound_token
from flashstill.distill.models import keep_layers
from flashstill.distill.signals import Hidden, Sampled, TopK, build, signal_key
from flashstill.distill.signals.kinds import topk_teacher
from flashstill.distill.teachers import Online
from flashstill.distill.teachers.sequence_level import Continuations, text_key, write_text
from flashstill.distill.teachers.served.answers import check_possible, checked
from flashstill.distill.teachers.served.questions import APIS
from flashstill.distill.training import Batch, Offline, TrainRecipe, distillation, hard, take, train
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.runs.distillation import run_distillation
from tests.distillations import written
from tests.tensors import weights

SILENT = Silent()
RECIPE = TrainRecipe(tokens=256, windows_per_step=8, learning_rate=1e-3, checkpoint_every_steps=100)


def spoiled(teacher: Any, token: int, value: float) -> Any:
    """A teacher whose output is not finite where the text holds `token`."""

    seen: list[Any] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        seen[:] = [kwargs.get("input_ids", args[0] if args else None)]

    def spoil(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return output if seen[0] is None else torch.where(seen[0][..., None] == token, value, output)

    teacher.model.register_forward_pre_hook(note, with_kwargs=True)
    teacher.model.norm.register_forward_hook(spoil)
    return teacher


class TestTeachers:
    @pytest.fixture
    def place(self, packed: Packed) -> tuple[int, int]:
        """(window, token) of the first target in a document that holds a token of that window alone."""
        values, counts = np.unique(packed.tokens[:, :-1], return_counts=True)
        rare = set(values[counts == 1].tolist())
        return next(
            (window, token)
            for window in range(3, packed.windows)
            for token in range(packed.length)
            if int(packed.tokens[window, token]) in rare and packed.target_document[window, token] >= 0
        )

    @pytest.fixture
    def said(self, packed: Packed, place: tuple[int, int]) -> str:
        document = packed.target_document[place]
        return rf"teacher giant gives outputs .* at token {place[1]} of window {place[0]}, in document {document}"

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_online(self, teacher: Any, packed: Packed, place: tuple[int, int], said: str, value: float) -> None:
        online = Online(spoiled(teacher, int(packed.tokens[place]), value), True, "giant", packed.target_document)
        online(take(packed, np.array([0])))
        with pytest.raises(BadInput, match=said):
            online(take(packed, np.array([0, place[0], 1])))

    @pytest.mark.parametrize("kind", [Hidden(), Sampled(), TopK(k=4)], ids=["hidden", "sampled", "topk"])
    def test_signals(
        self, teacher: Any, packed: Packed, place: tuple[int, int], said: str, kind: Any, tmp_path: Path
    ) -> None:
        model, key = spoiled(teacher, int(packed.tokens[place]), float("nan")), signal_key(kind, "t", "t", packed)
        with pytest.raises(BadInput, match=said):
            build(model, kind, key, packed, tmp_path, SILENT, "s", teacher="giant")
        assert not list(tmp_path.glob("windows-*"))

    def test_text_that_it_writes(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        sampling = Sampling(new_tokens=3, batch=8)
        asked = Continuations(prompt_tokens=4, samples=1, sampling=sampling)
        with torch.no_grad():
            teacher.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
        with pytest.raises(BadInput, match=r"text of giant: the teacher's outputs are not finite .* of window 0"):
            write_text(teacher, packed, asked, text_key("t", "t", packed, asked), tmp_path, SILENT, "text of giant")
        assert not list(tmp_path.glob("windows-*"))

    def test_a_head(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        with torch.no_grad():
            teacher.get_output_embeddings().weight[5, 1] = float("inf")
        with pytest.raises(BadInput, match="giant has weights that are not finite in its LM head, at token id 5"):
            Online(teacher, True, "giant")
        with pytest.raises(BadInput, match="giant has weights that are not finite"):
            key = signal_key(Hidden(), "t", "t", packed)
            build(teacher, Hidden(), key, packed, tmp_path, SILENT, "s", teacher="giant")

    def test_stored_signals_of_an_older_version(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """They were not checked when they were made: the loss tells, and the student is not changed."""
        student = keep_layers(teacher, [0, 5])
        before, head = weights(student), teacher.get_output_embeddings().weight.detach()

        def broken(batch: Batch) -> DenseTeacher:
            hidden = torch.zeros(batch.mask.numel(), 32, dtype=torch.bfloat16, device=batch.mask.device)
            hidden[70, 3] = float("nan")
            return DenseTeacher(hidden=(hidden,), heads=(head,))

        with pytest.raises(BadInput, match=r"a teacher's outputs are not finite .* at token 6 of window"):
            train(student, Offline(packed, 8, 0), distillation(broken), RECIPE, tmp_path, SILENT, "t")
        assert all(torch.equal(tensor, before[name]) for name, tensor in weights(student).items())

    def test_which_token(self) -> None:
        sound, bad = torch.zeros(4, 2), torch.zeros(4, 2)
        bad[2, 1] = float("inf")
        head = torch.ones(3, 2)
        members = [DenseTeacher(hidden=(each,), heads=(head,)) for each in (sound, bad)]
        assert unsound_token(members[0]) is None
        assert unsound_token(members[1]) == 2
        assert unsound_token(DenseTeacher(hidden=(sound,), heads=(head / 0,))) == 0
        assert unsound_token(Sparse(ids=torch.zeros(4, 2, dtype=torch.int64), weights=bad)) == 2
        which, place = torch.tensor([1, 0, 1, 1, 0]), torch.tensor([0, 0, 1, 2, 1])
        assert unsound_token(RoutedTeacher(members=tuple(members), which=which, place=place)) == 3


def test_a_student_is_blamed_for_its_own(teacher: Any, packed: Packed, tmp_path: Path) -> None:
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    objective = distillation(Online(teacher))
    with pytest.raises(BadInput, match=r"the loss is not finite at step 1 .* because of the student"):
        train(student, Offline(packed, 8, 0), objective, RECIPE, tmp_path, SILENT, "t")


class TestServedTeachers:
    """Two tokens after the first, three ids known of each; entry 2 is bent."""

    def answer(self, top: dict[str, Any]) -> Any:
        rows = [None, {"7": {"logprob": -0.1}, "2": {"logprob": -3.0}}, top]
        return {"choices": [{"prompt_logprobs": rows}]}

    @pytest.mark.parametrize("value", [float("-inf"), -9999.0, -1e30])
    def test_a_probability_of_zero(self, value: float) -> None:
        """-9999 is what vLLM sends instead of minus infinity: among the likeliest ids it is a weight of 0, on a text an
        infinite loss."""
        bent = {"4": {"logprob": -0.2}, "3": {"logprob": value}}
        scores = checked(self.answer(bent), APIS["vllm"], [1, 7, 4], 2, 384)
        check_possible(scores)
        assert scores.ids[1].tolist() == [4, 3]
        teacher = topk_teacher(scores.ids, scores.log_p.half())
        assert teacher.weights[1].tolist() == pytest.approx([math.exp(-0.2), 0.0], abs=1e-3)
        logits = torch.randn(2, 384, generator=torch.Generator().manual_seed(0))
        as_if_unknown = topk_teacher(scores.ids[:, :1], scores.log_p[:, :1].half())
        assert sparse_loss(logits, teacher)[1] == pytest.approx(float(sparse_loss(logits, as_if_unknown)[1]), rel=1e-4)
        ruled_out = checked(self.answer(bent), APIS["vllm"], [1, 7, 3], 2, 384)
        with pytest.raises(BadInput, match="gives the text's own token 2 a probability of 0: it rules tokens out"):
            check_possible(ruled_out)

    def test_rows_of_a_padded_head(self) -> None:
        """Qwen 2.5 has 151,665 tokens and a head of 151,936 rows, which servers rank with the tokens."""
        bent = {"4": {"logprob": -0.2}, "390": {"logprob": -2.0}}
        scores = checked(self.answer(bent), APIS["vllm"], [1, 7, 4], 2, 384)
        assert topk_teacher(scores.ids, scores.log_p).below(384).weights[1].tolist()[1] == 0.0
        with pytest.raises(BadInput, match="names token 1408, but the tokenizer knows 384"):
            checked(self.answer({**bent, "1408": {"logprob": -3.0}}), APIS["vllm"], [1, 7, 4], 2, 384)

    @pytest.mark.parametrize("bent", [{"4": {"logprob": -0.2}, "3": {"logprob": None}}, {"4": {"logprob": -0.2}}])
    def test_none_of_the_text(self, bent: dict[str, Any]) -> None:
        with pytest.raises(BadInput, match=r"(null or missing.*|'None' as a log-probability) at token 2|at token 2:"):
            checked(self.answer(bent), APIS["vllm"], [1, 7, 3], 1, 384)

    def test_a_small_one_is_one(self) -> None:
        bent = {"4": {"logprob": -0.2}, "3": {"logprob": -700.0}}
        scores = checked(self.answer(bent), APIS["vllm"], [1, 7, 3], 2, 384)
        assert scores.target_log_p.tolist() == pytest.approx([-0.1, -700.0])


class TestTopK:
    @pytest.fixture
    def recipe(self, tmp_path: Path, tiny_teacher: Path, text_file: Path) -> Path:
        return written(tmp_path / "distill.toml", tiny_teacher, text_file, signals="topk")

    def test_above_the_vocabulary(self, recipe: Path, tmp_path: Path) -> None:
        recipe.write_text(recipe.read_text().replace('kind = "topk"', 'kind = "topk"\nk = 385'))
        with pytest.raises(BadInput, match=r"signals.k is 385, but the teacher tiny-teacher knows only 384 tokens"):
            run_distillation(read_distillation(recipe), tmp_path / "out", SILENT)
        assert not (tmp_path / "out" / "data").exists()

    def test_in_sampling(self, recipe: Path, tmp_path: Path) -> None:
        text = recipe.read_text().replace('kind = "topk"', 'kind = "none"')
        recipe.write_text(text + '\n[regime]\nkind = "on-policy"\nprompt_tokens = 8\ntop_k = 1000\n')
        with pytest.raises(BadInput, match=r"regime.top_k is 1,000, but the teacher tiny-teacher knows only 384"):
            run_distillation(read_distillation(recipe), tmp_path / "out", SILENT)


class TestDropout:
    """Draws of a step depend on seed, step and process: a resumed run makes the same ones."""

    @pytest.fixture
    def folders(self, tmp_path: Path) -> Iterator[Path]:
        return (tmp_path / str(number) for number in range(9))

    def run(self, teacher: Any, packed: Packed, folder: Path, stop: int = 0, seed: int = 0) -> Any:
        student = keep_layers(teacher, [0, 5])
        student.config.attention_dropout = 0.5
        for layer in student.model.layers:
            layer.self_attn.attention_dropout = 0.5
        recipe = dataclasses.replace(RECIPE, tokens=1024, windows_per_step=4, checkpoint_every_steps=3, seed=seed)

        def after_step(model: Any, step: int) -> dict[str, float]:
            if step == stop:
                raise KeyboardInterrupt
            return {}

        source = Offline(packed, 4, 0)
        return weights(train(student, source, hard, recipe, folder, SILENT, "t", after_step=after_step))

    @pytest.mark.slow
    def test_resumed_equals_uninterrupted(self, teacher: Any, packed: Packed, folders: Iterator[Path]) -> None:
        straight = self.run(teacher, packed, next(folders))
        torch.manual_seed(77)  # what the process drew before does not matter
        shot = next(folders)
        with pytest.raises(KeyboardInterrupt):
            self.run(teacher, packed, shot, stop=5)
        torch.manual_seed(78)
        resumed = self.run(teacher, packed, shot)
        assert all(torch.equal(resumed[name], tensor) for name, tensor in straight.items())
        rows = [json.loads(line) for line in (shot / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == list(range(1, 9))

    @pytest.mark.slow
    def test_it_is_in_use_and_follows_the_seed(self, teacher: Any, packed: Packed, folders: Iterator[Path]) -> None:
        one, other = (self.run(teacher, packed, next(folders), seed=seed) for seed in (0, 1))
        assert any(not torch.equal(one[name], tensor) for name, tensor in other.items())

    @pytest.mark.slow
    def test_the_callers_draws_go_on(self, teacher: Any, packed: Packed, folders: Iterator[Path]) -> None:
        torch.manual_seed(5)
        np.random.seed(5)
        expected = torch.rand(3), np.random.rand(3)
        torch.manual_seed(5)
        np.random.seed(5)
        self.run(teacher, packed, next(folders))
        assert torch.equal(torch.rand(3), expected[0])
        assert np.array_equal(np.random.rand(3), expected[1])
