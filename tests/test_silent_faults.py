"""Silent faults of distillation trainers that were reported in public trackers, each tried here on tiny models.

Above each test: where the fault was reported. None raises an error there: the loss falls, and the student is worse.
Faults of data (chat masks, packing, tokenizers' special tokens) and of models (heads, layers) have tests of their own;
docs/silent-faults.md lists all situations with the test of each.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flashstill.distill.data.packing import Packed
from flashstill.distill.generate.windows import continued
from flashstill.distill.losses import DenseTeacher, Term, Workspace, divergence, head_loss, one_hot
from flashstill.distill.losses.dense import PLAIN, WITH_SHARE
from flashstill.distill.losses.sparse import Sparse, sparse_loss
from flashstill.distill.models import keep_layers, load_model, load_tokenizer, save_model
from flashstill.distill.models.alike import first_difference
from flashstill.distill.students.balance import balance_loss
from flashstill.distill.teachers import Online
from flashstill.distill.training import (
    Batch,
    Offline,
    OnPolicy,
    TrainRecipe,
    World,
    distillation,
    hard,
    learning_rate_at,
    take,
    train,
    window_order,
)
from flashstill.distill.training.micro_steps import run_micro_steps
from flashstill.distill.training.mixed_precision import MixedPrecisionAdamW, adamw, decays
from flashstill.distill.training.passes import Student, next_token
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.recipes.training import TrainTable
from flashstill.runs.small_amounts import remarks
from tests import zoo
from tests.chatting import CHATML, chatting_model
from tests.marks import slow
from tests.regimes import MIXING, SAMPLING
from tests.tensors import logits, weights

SILENT = Silent()
RECIPE = TrainRecipe(tokens=512, windows_per_step=4, learning_rate=1e-3, checkpoint_every_steps=100)
NAMES = [*PLAIN, *(f"{name}:0.3" for name in WITH_SHARE)]


def uneven(packed: Packed) -> Packed:
    """Windows of which some count in the loss with two targets and others with all."""
    mask = np.ones((packed.windows, packed.length), dtype=np.int32)
    mask[::2, 2:] = 0
    return dataclasses.replace(packed, target_mask=mask)


class _Share(World):
    """One of several processes, without the others: what is summed over processes is left as it is."""

    def total(self, value: float) -> float:
        return value


def gradient(student: Any, batch: Batch, objective: Any, micro_steps: int, processes: int) -> list[Tensor]:
    """The gradient of a step of `processes` processes, one after the other, as FSDP would average it."""
    twin = copy.deepcopy(student)
    module = Student(twin, next_token(twin, sharded=False))
    state = MixedPrecisionAdamW(module, RECIPE)
    sums = [torch.zeros_like(each, dtype=torch.float32) for each in module.parameters()]
    for rank in range(processes):
        world = _Share(rank=rank, size=processes, device=batch.tokens.device)
        run_micro_steps(batch, module, state, objective, micro_steps, world, Workspace(), None)
        found = state._sums or {name: each.grad for name, each in state.weights.items() if each.grad is not None}
        for total, name in zip(sums, state.weights, strict=True):
            total += found[name].to_dense().float() / processes
        state._sums.clear()
        module.zero_grad()
    return sums


# huggingface/trl#4719, #6006 and #6478; modelscope/ms-swift#10165; agokrani/distillKitPlus#5: each pass, or each
# process, was divided by its own number of tokens, so that short answers weighed more
@pytest.mark.parametrize(("micro_steps", "processes"), [(2, 2), *slow((4, 1), (1, 2), (1, 4))])
def test_a_step_is_one_mean_over_its_tokens(teacher: Any, packed: Packed, micro_steps: int, processes: int) -> None:
    student = keep_layers(teacher, [0, 5]).float()
    batch = take(uneven(packed), np.array([0, 1, 3, 4])).to(teacher.device)
    whole = gradient(student, batch, hard, 1, 1)
    parts = gradient(student, batch, hard, micro_steps, processes)
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-6) for one, other in zip(parts, whole, strict=True))


# microsoft/LMOps#38, meta-pytorch/torchtune#1885: a pass whose targets are all masked was 0 / 0
@pytest.mark.slow
def test_a_pass_without_targets_adds_nothing(teacher: Any, packed: Packed, tmp_path: Path) -> None:
    mask = np.ones((packed.windows, packed.length), dtype=np.int32)
    mask[:10] = 0
    masked = dataclasses.replace(packed, target_mask=mask)
    recipe = dataclasses.replace(RECIPE, micro_windows=1, windows_per_step=20, tokens=640)
    train(keep_layers(teacher, [0]), Offline(masked, 20, 0), hard, recipe, tmp_path, SILENT, "t")
    (row,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert 0 < row["loss"] < 20


# linkedin/Liger-Kernel#974, peremartra/optipfair#34, jxiw/MambaInLlama#11: padding and prompts in the divergence
@pytest.mark.parametrize("name", NAMES)
def test_masked_tokens_have_no_gradient_in_any_divergence(name: str) -> None:
    hidden, head = logits(0, 6, 5).requires_grad_(), logits(1, 11, 5)
    term = Term(teacher=DenseTeacher(hidden=(logits(2, 6, 5),), heads=(head,)), divergence=divergence(name))
    counted = torch.tensor([0.5, 0.0, 0.5, 0.0, 0.0, 0.0], dtype=torch.float64)
    (grad,) = torch.autograd.grad(head_loss(hidden, head, [term], counted)[0], hidden)
    assert grad[counted == 0].abs().max() == 0
    assert (grad[counted > 0].abs().amax(-1) > 0).all()


# paiml/aprender#2153, jongwooko/distillm#7, labmlai/annotated_deep_learning_paper_implementations#66: the direction was
# swapped, the teacher's entropy left out, or the student compared with itself
class TestDivergences:
    @pytest.mark.parametrize("name", NAMES)
    def test_it_is_zero_at_the_teacher_and_positive_elsewhere(self, name: str) -> None:
        z, y = logits(3), logits(4)
        assert divergence(name)(y, y).abs().max() < 1e-12
        assert (divergence(name)(z, y) > 0).all()

    def test_the_direction(self) -> None:
        """A teacher with two modes: forward KL punishes the student that misses one, reverse KL hardly does."""
        teacher = torch.tensor([[5.0, 5.0, -5.0]], dtype=torch.float64)
        one_mode, wide = (torch.tensor([each], dtype=torch.float64) for each in ([5.0, -5.0, -5.0], [1.0, 1.0, 0.5]))
        forward, reverse = divergence("forward-kl"), divergence("reverse-kl")
        assert forward(one_mode, teacher) > forward(wide, teacher)
        assert reverse(one_mode, teacher) < 0.7
        p, q = teacher.softmax(-1), one_mode.softmax(-1)
        assert float(forward(one_mode, teacher)) == pytest.approx(float((p * (p.log() - q.log())).sum()))


# verl-project/verl#7856: without the mass of the other ids a top-k "KL" can be negative; it was cut at zero
def test_top_k_is_a_divergence_for_every_k() -> None:
    y = logits(5, 200)
    for k in (1, 3, 10):
        p, ids = y.softmax(-1).topk(k)
        known = Sparse(ids=ids, weights=p.float(), tail=True)
        assert (sparse_loss(logits(6, 200).float(), known) > -1e-6).all()
        assert sparse_loss(y.float(), known).abs().max() < 1e-5


# huggingface/trl#6006 (review) and #5653: prompts of on-policy text counted; #6357, meta-pytorch/torchtune#949: the end
# of an answer was masked as padding, as both have one id, so that students never stop
def test_what_counts_of_generated_text() -> None:
    end = 0
    tokens, mask = continued(np.array([[7, end, 9]] * 2), np.array([[5, end, -1, -1], [5, 6, 8, 4]]), 8)
    for row, counted in enumerate(([5, end], [5, 6, 8, 4])):
        assert tokens[row, 1:][mask[row]].tolist() == counted, "not the prompt, not what is after the end"


class TestOnPolicy:
    def batch(self, teacher: Any, packed: Packed) -> Batch:
        source = OnPolicy(packed, 8, 0, MIXING, SAMPLING, World())
        batch = source.batch(0, lambda: teacher)
        assert batch.own is not None
        assert 0 < int(batch.own.sum()) < 8
        return batch

    # modelscope/ms-swift#6857: the labels of the cross-entropy beside the divergence were the student's own samples
    def test_its_own_text_is_no_label(self, teacher: Any, packed: Packed) -> None:
        batch = self.batch(teacher, packed)
        term = distillation(Online(teacher), hard_weight=0.5)(batch)[-1]
        assert isinstance(term.teacher, Sparse)
        of_text = ~batch.own.repeat_interleave(packed.length)  # type: ignore[union-attr]
        assert torch.equal(term.teacher.weights.squeeze(1) > 0, of_text)
        z = logits(7, len(of_text), 384)
        assert (sparse_loss(z, term.teacher)[~of_text] == 0).all()
        assert torch.equal(sparse_loss(z, term.teacher)[of_text], sparse_loss(z, one_hot(batch.targets))[of_text])
        assert torch.equal(batch.rows(slice(2, 5)).own, batch.own[2:5])  # type: ignore[index,arg-type]

    def test_without_a_teacher_it_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "distill.toml"
        path.write_text(
            'name = "a"\nlosses = []\nhard_weight = 1.0\nteachers = [{ model = "b" }]\n'
            '[student]\nkind = "copy"\n[signals]\nkind = "none"\n[regime]\nkind = "on-policy"\n'
        )
        with pytest.raises(BadInput, match="a student's own text has nothing to teach it"):
            read_distillation(path)

    # huggingface/trl#5862 (review): eval() for sampling or for the teacher left the student without dropout
    def test_sampling_leaves_the_student_in_training(self, teacher: Any, packed: Packed) -> None:
        student = copy.deepcopy(teacher).train()
        self.batch(student, packed)
        assert all(module.training for module in student.modules())


# vrvlive/knowlege-distillation#2, haitongli/knowledge-distillation-pytorch#25: the teacher dropped out or was trained
def test_a_teacher_is_not_trained(teacher: Any, packed: Packed, tmp_path: Path) -> None:
    before = weights(teacher)
    online = Online(teacher.train())
    student = keep_layers(teacher, [0, 5])
    train(student, Offline(packed, 4, 0), distillation(online), RECIPE, tmp_path, SILENT, "t")
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(teacher).items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not online(take(packed, np.array([0]))).hidden[0].requires_grad


# NVIDIA-NeMo/Automodel#2511, huggingface/transformers#30543: head and embedding tied on paper drifted apart, and one of
# them was lost at saving or at resuming
@pytest.mark.slow
def test_tied_weights_stay_tied(teacher: Any, packed: Packed, tiny_teacher: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, checkpoint_every_steps=2)

    def stop(model: Any, step: int) -> dict[str, float]:
        if step == 3:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        train(keep_layers(teacher, [0]), Offline(packed, 4, 0), hard, recipe, tmp_path, SILENT, "t", after_step=stop)
    trained = train(keep_layers(teacher, [0]), Offline(packed, 4, 0), hard, recipe, tmp_path, SILENT, "t")
    save_model(trained, load_tokenizer(tiny_teacher), tmp_path / "student")
    again = load_model(tmp_path / "student")
    tokens = torch.from_numpy(packed.tokens[:2].astype(np.int64))
    for model in (trained, again):
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    with torch.inference_mode():
        inputs = tokens.to(again.device)
        assert torch.equal(trained(input_ids=inputs).logits, again(input_ids=inputs).logits)


# vllm-project/speculators#765, pytorch/ao#1124: in bfloat16 a weight of 1 does not move by steps of a thousandth
def test_norms_move_by_small_steps_in_bfloat16() -> None:
    norm = nn.ParameterDict({"weight": nn.Parameter(torch.ones(4, dtype=torch.bfloat16))})
    state = MixedPrecisionAdamW(norm, dataclasses.replace(RECIPE, clip_norm=100.0))
    for _ in range(20):
        norm["weight"].grad = torch.ones(4, dtype=torch.bfloat16)
        state.apply(5e-4)
    assert norm["weight"].tolist() == pytest.approx([0.99] * 4, abs=2e-3)


# verl-project/verl#5070, ServiceNow/Fast-LLM#542 and #545: weight decay of norms, biases and rates of state spaces
def test_what_decays() -> None:
    matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    named = {"proj.weight": matrix, "norm.weight": vector, "proj.bias": nn.Parameter(torch.ones(2))}
    named["mixer.A_log"] = nn.Parameter(torch.ones(2, 2))
    assert [name for name, weight in named.items() if decays(name, weight)] == ["proj.weight"]
    groups = adamw(named, dataclasses.replace(RECIPE, weight_decay=0.1)).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 1), (0.0, 3)]
    module = nn.ParameterDict({"weight": nn.Parameter(torch.ones(2, 2)), "bias": nn.Parameter(torch.ones(2))})
    state = MixedPrecisionAdamW(module, dataclasses.replace(RECIPE, weight_decay=0.1))
    for weight in module.values():
        weight.grad = torch.zeros_like(weight)
    state.apply(0.5)
    assert module["weight"].unique().tolist() == pytest.approx([0.95])
    assert module["bias"].unique().tolist() == [1.0]


# verl-project/verl#436, pytorch/pytorch#170862: clipping of each pass, or of a part of the gradient
@pytest.mark.slow
def test_the_norm_is_that_of_the_whole_gradient(teacher: Any, packed: Packed, tmp_path: Path) -> None:
    norms = []
    for micro in (0, 1):
        recipe = dataclasses.replace(RECIPE, tokens=128, micro_windows=micro, clip_norm=1e-3)
        student = keep_layers(teacher, [0, 5]).float()
        train(student, Offline(uneven(packed), 4, 0), hard, recipe, tmp_path / str(micro), SILENT, "t")
        norms.append(json.loads((tmp_path / str(micro) / "metrics.jsonl").read_text())["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    batch = Offline(uneven(packed), 4, 0).batch(0, lambda: None).to(teacher.device)
    found = gradient(keep_layers(teacher, [0, 5]).float(), batch, hard, 1, 1)
    assert norms[0] == pytest.approx(float(torch.stack([each.square().sum() for each in found]).sum().sqrt()), rel=1e-4)


# pytorch/pytorch#31771, goodfire-ai/spd#104: the same order in every epoch; transformers' trainers: a last part of the
# data that no epoch reaches
def test_epochs_have_orders_of_their_own_and_miss_nothing() -> None:
    windows, per_step = 10, 4
    seen = np.concatenate([window_order(3, windows, step, per_step) for step in range(5)])
    first, second = seen[:10], seen[10:]
    assert sorted(first) == sorted(second) == list(range(windows))
    assert list(first) != list(second)


# modelscope/ms-swift#9671 shows a first step with a rate of 0; open-mmlab/mmdetection#6572, IntelLabs/distiller#145:
# the schedule began again after resuming
@pytest.mark.slow
def test_every_step_has_its_rate_whatever_came_before(teacher: Any, packed: Packed, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, tokens=1024, checkpoint_every_steps=2, micro_windows=2)

    def stop(model: Any, step: int) -> dict[str, float]:
        if step == 5:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        train(keep_layers(teacher, [0]), Offline(packed, 4, 0), hard, recipe, tmp_path, SILENT, "t", after_step=stop)
    train(keep_layers(teacher, [0]), Offline(packed, 4, 0), hard, recipe, tmp_path, SILENT, "t")
    rates = [json.loads(line)["rate"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rates == [learning_rate_at(recipe, step, 8) for step in range(8)]
    assert min(rates) > 0


# a text shorter than a step, fewer tokens than one: the rest dropped, or more done than was asked, without a word
def test_small_amounts_are_told() -> None:
    table = TrainTable(tokens=100, windows_per_step=4)
    assert [line.split(":")[1] for line in remarks(table, 50, 32)] == [" one whole step is made"]
    assert "2 whole steps of 128 are made, 256 tokens" in next(iter(remarks(TrainTable(tokens=300), 50, 32)))
    assert "the text has 3 windows, fewer than the 4 of a step" in next(iter(remarks(TrainTable(tokens=256), 3, 32)))
    assert list(remarks(TrainTable(tokens=102_400), 50, 256)) == []


@pytest.mark.slow
def test_a_text_shorter_than_a_step_is_learned(teacher: Any, packed: Packed, tmp_path: Path) -> None:
    short = packed.first(3)
    train(keep_layers(teacher, [0]), Offline(short, 8, 0), hard, RECIPE, tmp_path, SILENT, "t")
    assert len(np.unique(window_order(0, 3, 0, 8))) == 3


# google-research/vmoe#218: a loss of the balance with a square root had NaN gradients where the load is even
def test_an_even_load_has_a_finite_gradient() -> None:
    for router in (torch.zeros(8, 4), torch.eye(4).repeat(2, 1) * 3.0):
        values = router.clone().requires_grad_()
        chosen = torch.arange(16).reshape(8, 2) % 4  # each expert gets as many tokens
        (grad,) = torch.autograd.grad(balance_loss(values, chosen), values)
        assert torch.isfinite(grad).all()
        assert grad.abs().max() < 1e-6, "nothing is to be evened"


# OpenRLHF/OpenRLHF#1069: the tokenizer that was saved with the student had another template and other special tokens
def test_the_tokenizer_is_saved_as_it_was(tmp_path: Path) -> None:
    chatting = chatting_model(tmp_path / "teacher", template="{{ bos_token }}" + CHATML)
    before = load_tokenizer(chatting)
    save_model(load_model(chatting), before, tmp_path / "student")
    again = load_tokenizer(tmp_path / "student")
    assert first_difference(before, again) == ""
    assert again.chat_template == before.chat_template
    assert again.added_tokens_decoder == before.added_tokens_decoder


# attention to the likeliest tokens alone, as in DeepSeek-V3.2: what is chosen must not depend on what comes later
@pytest.mark.parametrize("name", ["deepseek_v32", *slow("glm_moe_dsa", "dots3_note_text", "deepseek_v4")])
def test_sparse_attention_looks_back_only(name: str) -> None:
    """Beyond index_topk tokens too. (Few heads give equal scores, among which a shorter window may choose others.)"""
    model = zoo.tiny(name, 0)
    assert model.config.index_topk < 12
    tokens = torch.randint(3, 60, (2, 24), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[:, 12:] = tokens[:, 12:].flip(1)
    with torch.no_grad():
        first, second = (model(input_ids=each, use_cache=False).logits for each in (tokens, other))
    assert torch.equal(first[:, :12], second[:, :12])
    assert not torch.allclose(first[:, 12:], second[:, 12:], atol=1e-3)


def test_the_page_names_tests_that_are_there() -> None:
    """docs/silent-faults.md: each row names its threads and a test; no thread is named twice."""
    root = Path(__file__).parents[1]
    rows = [
        line.split(" | ") for line in (root / "docs" / "silent-faults.md").read_text().splitlines() if "`tests/" in line
    ]
    assert len(rows) >= 33
    threads: list[str] = []
    for row in rows:
        assert len(row) == 4, row
        threads += re.findall(r"[\w.-]+/[\w.-]+#\d+", row[1])
        for file, name in re.findall(r"`tests/(\w+\.py)::(\w+)`", row[3]):
            assert f"def {name}(" in (root / "tests" / file).read_text(encoding="utf-8"), f"{file}::{name}"
    assert len(threads) >= len(rows)
    assert sorted(set(threads)) == sorted(threads)
