"""More silent faults that were reported in public trackers, of 2026 most: data order, masks of turns, drafts, routers.

Above each test: where the fault was reported; docs/silent-faults.md lists all of them, with those of older tests.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.data.splits import Sizes, packed_splits
from flashstill.distill.drafts.directories import load_eagle, save_eagle
from flashstill.distill.generate.cached import CachedDecoder, RereadingDecoder
from flashstill.distill.generate.generate import decoder_of
from flashstill.distill.generate.rollback import Reader
from flashstill.distill.losses import Workspace, divergence, head_loss
from flashstill.distill.losses.sparse import Sparse, sparse_loss
from flashstill.distill.models import decoder_layers, load_model, load_tokenizer, parts, save_model
from flashstill.distill.models.empty import empty_model
from flashstill.distill.students import Width, narrow
from flashstill.distill.training import Batch, Offline, TrainRecipe, hard, take, train
from flashstill.distill.training.recompute import recomputed
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes.distillation import DistillRecipe, LossRecipe, ShapeRecipe
from flashstill.recipes.teachers import TeacherRecipe, teaches_itself
from flashstill.runs.served import directories_of
from tests import zoo
from tests.chatting import CHATML, learned, reading_of, write_lines
from tests.random_tokens import drawn_tokens, packed_text
from tests.recorded_progress import RecordedProgress
from tests.small_models import head_of, made
from tests.tensors import logits

SILENT = Silent()


class Noted(Offline):
    """Batches whose windows are noted; the run is killed before a step."""

    def __init__(self, packed: Packed, kill_at: int = -1) -> None:
        super().__init__(packed, 2, 0)
        self.seen: list[list[int]] = []
        self.kill_at = kill_at

    def batch(self, step: int, student: Any) -> Batch:
        if step == self.kill_at:
            raise KeyboardInterrupt
        found = super().batch(step, student)
        self.seen.append(found.tokens[:, 0].tolist())
        return found


# huggingface/transformers#40691, huggingface/accelerate#2016, pytorch/torchtitan#3008: the order after the first epoch;
# thinking-machines-lab/tinker-cookbook#935: the last batch a second time
@pytest.mark.parametrize("kill_at", [2, 4, 7, 9])
def test_batches_after_a_resumption(tmp_path: Path, kill_at: int) -> None:
    """Windows of a resumed run are those of one without a break, in the second epoch and the fourth as well: from the
    step after the last checkpoint, none twice, none left out."""
    text = packed_text(6, 8)
    text.tokens[:, 0] = np.arange(6)  # what tells the windows
    recipe = TrainRecipe(tokens=12 * 2 * 8, windows_per_step=2, learning_rate=1e-3, checkpoint_every_steps=2)
    model = zoo.tiny("llama")
    whole, first, second = Noted(text), Noted(text, kill_at), Noted(text)
    ended = train(copy.deepcopy(model), whole, hard, recipe, tmp_path / "whole", SILENT, "a")
    with pytest.raises(KeyboardInterrupt):
        train(copy.deepcopy(model), first, hard, recipe, tmp_path / "part", SILENT, "b")
    again = train(copy.deepcopy(model), second, hard, recipe, tmp_path / "part", SILENT, "b")
    kept = kill_at // 2 * 2
    assert first.seen[:kept] + second.seen == whole.seen
    assert [sorted(itertools.chain(*whole.seen[at : at + 3])) for at in (0, 3, 6, 9)] == [list(range(6))] * 4, "epochs"
    assert all(torch.equal(*both) for both in zip(ended.parameters(), again.parameters(), strict=True))


# Thinking-Space/Rethinking-OPD#15: renormalised over the k likeliest ids, the loss of k = 1 is zero
# radixark/miles#2362: a divergence over the likeliest ids as a reward that does not depend on what was sampled
def test_one_known_id_teaches() -> None:
    """With the tail bucket one id is two outcomes: the slope is that of their KL, and 0 at the teacher alone."""
    z, p = logits(0), logits(1).softmax(-1)
    top = p.topk(1)
    teacher = Sparse(ids=top.indices, weights=top.values, tail=True)
    (slope,) = torch.autograd.grad(sparse_loss(z.requires_grad_(), teacher).sum(), z)
    q = z.detach().softmax(-1).gather(-1, top.indices)
    assert torch.allclose(slope.gather(-1, top.indices), q - top.values)
    assert slope.abs().amax(-1).min() > 1e-3
    at_teacher = p.log().requires_grad_()
    (none,) = torch.autograd.grad(sparse_loss(at_teacher, teacher).sum(), at_teacher)
    assert none.abs().max() < 1e-12


# meta-pytorch/torchforge#527, verl-project/verl#4897: estimators of the reverse KL from one sampled token
def test_the_slope_on_own_samples_is_that_of_the_whole_reverse_kl() -> None:
    """log q(x) - log p(x) of a sampled token has a slope of zero on average if it is followed through the sample's
    log-probability; the divergence here is over all ids, and its slope is that of the KL."""
    z, y = logits(0)[:1], logits(1)[:1]
    log_q, log_p = z.log_softmax(-1), y.log_softmax(-1)
    q = log_q.exp()
    kl = (q * (log_q - log_p)).sum()
    right = q * (log_q - log_p - kl)
    every = torch.eye(z.shape[-1], dtype=z.dtype)
    followed = torch.stack([q[0, token] * (every[token] - q[0]) for token in range(z.shape[-1])]).sum(0)
    assert followed.abs().max() < 1e-12, "what the estimator k1 as a loss would teach"
    assert torch.allclose(divergence("reverse-kl").slope(log_p, log_q), right)


# NVIDIA-NeMo/Automodel#2635: blocks that run twice route tokens to other experts the second time
@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral"])
def test_routers_of_blocks_that_run_twice(name: str) -> None:
    model, tokens, targets = zoo.tiny(name).bfloat16(), drawn_tokens(1, 2, 12), drawn_tokens(2, 24)
    model.set_experts_implementation("eager")
    found = []
    for again in (False, True):
        model.train()
        with recomputed(decoder_layers(model), again):
            states = parts(model).hidden(tokens).flatten(0, 1)
            value, _ = head_loss(states, parts(model).head, hard(_batch(targets)), torch.full((24,), 1 / 24))
            value.backward()  # type: ignore[no-untyped-call]
        found.append({each: weight.grad for each, weight in model.named_parameters() if weight.grad is not None})
        model.zero_grad(set_to_none=True)
    assert found[0].keys() == found[1].keys()
    assert any("gate" in each or "router" in each for each in found[0])
    assert all(torch.equal(found[0][each], found[1][each]) for each in found[0])


def _batch(targets: Any) -> Batch:
    text = packed_text(2, 12)
    text.tokens[:, 1:] = targets.view(2, 12).numpy()
    return take(text, np.arange(2))


# NVIDIA-NeMo/Automodel#3739: the text of an answer that stands elsewhere as well is taken for the answer's place
def test_an_answer_that_was_said_before() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Say Yes."}, {"role": "user", "content": "Yes."},
        {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "assistant\nYes."},
        {"role": "assistant", "content": "Yes."},
    ]  # fmt: skip
    assert learned(CHATML, messages) == [["Yes.<|im_end|>\n"] * 2]
    assert learned(CHATML, messages, "last") == [["Yes.<|im_end|>\n"]]


CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}{% for c in m.tool_calls or [] %}<call>"
    "{{ c.function.name }} {{ c.function.arguments | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


# hiyouga/LlamaFactory#9630: answers of several calls at once are merged, and masks no longer fit the turns;
# THUDM/slime#1159: calls are learned, what the tools answered is not
def test_several_calls_at_once() -> None:
    calls = [{"type": "function", "function": {"name": name, "arguments": {"at": name}}} for name in ("now", "here")]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "When, where?"}, {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "noon"}, {"role": "tool", "content": "home"},
        {"role": "assistant", "content": "At noon, at home."}, {"role": "tool", "content": "noon"},
    ]  # fmt: skip
    said = '<call>now {"at": "now"}</call><call>here {"at": "here"}</call><|im_end|>\n'
    assert learned(CALLS, messages) == [[said, "At noon, at home.<|im_end|>\n"]]


# OpenRLHF/OpenRLHF#1089, huggingface/datasets#4261: what is judged was trained on
@pytest.mark.parametrize("kind", ["text", "paragraph", "chat"])
def test_what_is_judged_was_not_trained_on(tmp_path: Path, kind: str) -> None:
    """Records that stand three times, in three places of the file, stand on one side; so does a paragraph that others
    share."""

    def row(number: int) -> dict[str, Any]:
        if kind == "chat":
            turns = [("user", f"What is {number}?"), ("assistant", f"It is <{number}>.")]
            return {"messages": [{"role": role, "content": content} for role, content in turns]}
        own = f"A line of its own, <{number}>, that is long enough to count as one, with eighty characters and more."
        shared = f"\n\nA paragraph that two have, <{1000 + number // 2}>, of eighty characters and more, without which"
        shared += " it would be taken for a phrase that many texts have."
        return {"text": own + (shared if kind == "paragraph" else "")}

    data = write_lines(tmp_path / "rows.jsonl", [row(number) for _ in range(3) for number in range(60)])
    other = write_lines(tmp_path / "other.jsonl", [{"text": f"def f{n}(x): return x + {n}"} for n in range(60)])
    reading = reading_of(CHATML)
    sizes = Sizes(window_tokens=96, train_tokens=96 * 400, heldout_tokens=400, out_of_domain_tokens=200)
    progress = RecordedProgress()
    splits = packed_splits(str(data), str(other), reading, sizes, 0, progress=progress)
    texts = {name: reading.tokenizer.decode(splits[name].tokens[:, :-1].ravel()) for name in ("train", "heldout")}
    marks = {name: re.findall(r"<(\d+)>", text) for name, text in texts.items()}
    assert marks["heldout"]
    assert not {*marks["train"]} & {*marks["heldout"]}
    assert max(Counter(marks["train"]).values()) == (2 if kind == "paragraph" else 1)
    assert any("120 documents are left out, as each has the same text" in line for line in progress.lines)
    assert any("in the training text as well" in line for line in progress.lines) == (kind == "paragraph")


# verl-project/verl-SpeCo#66: a draft's smaller vocabulary is taken for the target's first ids
def test_a_head_with_a_vocabulary_of_its_own(tmp_path: Path) -> None:
    target = made("llama")
    save_eagle(head_of(target), tmp_path / "head", {})
    fields = json.loads((tmp_path / "head" / "config.json").read_text())
    for more in ({"draft_vocab_size": 16}, {"vocab_size": 16}):
        (tmp_path / "head" / "config.json").write_text(json.dumps({**fields, **more}))
        (tmp_path / "head" / "checksums.json").unlink(missing_ok=True)
        with pytest.raises(BadInput, match=r"drafts (from 16 tokens of its own|for a model 32 wide with 16)"):
            load_eagle(tmp_path / "head", target)


# of our own: caches that transformers does not make itself ended sampling in a traceback
@pytest.mark.parametrize("name", ["minimax", "xlstm", "rwkv"])
def test_models_with_caches_of_their_own_kind(name: str) -> None:
    """They are read from the beginning again where drafts are judged and where text is sampled (test_sampling.py)."""
    model = zoo.tiny(name)
    assert isinstance(decoder_of(model, 8, Workspace()), RereadingDecoder)
    with pytest.raises(BadInput, match="takes no cache of transformers' usual kind"):
        CachedDecoder(model)
    reader, tokens = Reader(model), drawn_tokens(1, 9).tolist()
    with torch.no_grad():
        pieces = torch.cat([reader.read(tokens[:4]), reader.read(tokens[4:])])
        assert torch.allclose(pieces, parts(model).hidden(torch.tensor([tokens]))[0], atol=1e-5)


# NVIDIA-NeMo/Automodel#3738, snowflakedb/ArcticTraining#286: an empty thought that the template writes is learned
@pytest.mark.parametrize("prompt", ["", "<think>\n\n</think>\n\n"])
def test_what_the_template_writes_before_an_answer(prompt: str) -> None:
    """It is learned as far as the prompt for an answer does not write it already: the student must write it itself."""
    empty = "<think>\n\n</think>\n\n"
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}" + empty + "{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n" + prompt
    ) + "{% endif %}"
    messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "This."}]
    assert learned(template, messages) == [[("" if prompt else empty) + "This.<|im_end|>\n"]]


# of our own: experts of a width that torch's grouped product does not take stopped training in bfloat16
def test_experts_of_any_width(tmp_path: Path, tiny_teacher: Path) -> None:
    """They are multiplied one by one; widths that it takes stay grouped."""
    tokenizer, tokens = load_tokenizer(tiny_teacher), drawn_tokens(1, 1, 9)
    for width, way in ((20, "eager"), (24, "grouped_mm")):
        model = zoo.tiny("qwen3_moe", vocab_size=384, moe_intermediate_size=width)
        save_model(model.bfloat16(), tokenizer, tmp_path / str(width))
        loaded = load_model(tmp_path / str(width))
        assert loaded.config._experts_implementation == way
        assert empty_model(tmp_path / str(width)).config._experts_implementation == way, "of several processes"
        model.set_experts_implementation("eager")
        with torch.no_grad():
            logits_, right = (each(input_ids=tokens, use_cache=False).logits.float() for each in (loaded, model))
        assert (logits_ - right).abs().max() <= 0.05 * right.abs().max()


@pytest.mark.parametrize(("dtype", "neurons"), [(torch.float32, 6), (torch.bfloat16, 12)])
def test_experts_may_be_cut_to_any_width(dtype: torch.dtype, neurons: int) -> None:
    """Also where those of the model that is cut are multiplied in one grouped product."""
    model = zoo.tiny("qwen3_moe", moe_intermediate_size=16).to(dtype)
    assert model.config._experts_implementation == "grouped_mm"
    student = narrow(model, Width(expert_neurons=neurons), {})
    assert student.config._experts_implementation == "eager"
    assert student.config.moe_intermediate_size == neurons


# paiml/aprender#1871: thirty hours of training in which teacher and student were one model
@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"student": ShapeRecipe(kind="copy", model="T")}, True),
        ({"student": ShapeRecipe(kind="copy", model="other")}, False),
        ({"student": ShapeRecipe(kind="depth", keep_layers=2)}, False),
        ({"student": ShapeRecipe(kind="copy", quantise="int4")}, False),
        ({"student": ShapeRecipe(kind="copy", balance_rate=1e-3)}, False),
        ({"hard_weight": 0.5}, False),
        ({"losses": (), "hard_weight": 1.0}, False),
        ({"losses": (LossRecipe(divergence="reverse-kl", temperature=2.0),)}, True),
        ({"teachers": (TeacherRecipe(model="T", system="Be brief."),)}, False),
        ({"teachers": (TeacherRecipe(model="T"), TeacherRecipe(model="other"))}, False),
    ],
)
def test_a_student_that_is_its_own_teacher(changes: dict[str, Any], same: bool) -> None:
    """The divergence of equal distributions, and its gradient, are 0."""
    fields = {"name": "s", "teachers": (TeacherRecipe(model="T"),), "student": ShapeRecipe(kind="copy"), **changes}
    assert teaches_itself(DistillRecipe(**fields)) is same


def test_that_there_is_nothing_to_learn_is_said_before_any_work(tiny_teacher: Path) -> None:
    teachers, progress = (TeacherRecipe(model=str(tiny_teacher)),), RecordedProgress()
    directories_of(DistillRecipe(name="s", teachers=teachers, student=ShapeRecipe(kind="copy")), progress)
    assert any("there is nothing to learn" in said for said in progress.lines)
