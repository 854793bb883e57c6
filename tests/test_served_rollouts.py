"""A server that samples for the student: it is given the student's weights, and its texts are the student's own."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.arch.adapter.sizes import is_tied
from flashstill.distill.generate import Sampling, sample
from flashstill.distill.models import load_model, load_tokenizer
from flashstill.distill.teachers.served import ServedStudent, Server, client
from flashstill.distill.teachers.served.rollouts import untie
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.runs.distillation import run_distillation
from tests.fake_server import FakeServer
from tests.marks import slow

PROMPTS = [np.array([5, 6, 7]), np.array([8, 9]), np.array([11, 12, 13, 14])]


@pytest.fixture(scope="module")
def in_float32(tiny_teacher: Path) -> Any:
    return load_model(tiny_teacher, torch.float32)


@pytest.fixture
def served(in_float32: Any, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server of its own model, which is given other weights."""
    monkeypatch.setattr(client, "WAITS_S", (0.01,))
    server = FakeServer(copy.deepcopy(in_float32), load_tokenizer(tiny_teacher))
    server.name = "student"
    yield server
    server.close()


def sampler(served: FakeServer, tokenizer: Any, folder: Path, **how: Any) -> ServedStudent:
    settings = Sampling(new_tokens=6, stop=(tokenizer.eos_token_id,), seed=4, **how)
    return ServedStudent(Server(base=served.base, name="student"), tokenizer, settings, folder, Silent())


def trained(model: Any, by: float) -> Any:
    """The model some steps later."""
    student, draws = copy.deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.parameters():
            weight += by * torch.randn(weight.shape, generator=draws).to(weight.device)
    return student.train()


def test_the_texts_are_those_of_the_weights_it_was_given(
    served: FakeServer, tiny_teacher: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tiny_teacher)
    ask = sampler(served, tokenizer, tmp_path, temperature=0.0)
    texts = []
    for by in (0.05, 0.1, 0.2):
        student = trained(served.model, by)
        before = {name: weight.clone() for name, weight in student.state_dict().items()}
        drawn = ask(student, PROMPTS, [0, 1, 2])
        ours = sample(student, PROMPTS, Sampling(new_tokens=6, temperature=0.0, stop=(tokenizer.eos_token_id,)))
        assert np.array_equal(drawn, ours.tokens)
        assert student.training
        assert all(torch.equal(weight, before[name]) for name, weight in student.state_dict().items())
        texts.append(drawn.tolist())
    assert texts[0] != texts[1] != texts[2]
    assert len(served.loaded) == 3
    assert [place.name for place in tmp_path.iterdir()] == ["weights-1"], "those before are removed"
    assert not is_tied(json.loads((tmp_path / "weights-1" / "config.json").read_text()))


@pytest.mark.slow
def test_rows_have_seeds_of_their_own(served: FakeServer, tiny_teacher: Path, tmp_path: Path) -> None:
    ask = sampler(served, load_tokenizer(tiny_teacher), tmp_path)
    first = ask(served.model, [PROMPTS[0]] * 4, [0, 1, 2, 3])
    assert len({row.tobytes() for row in first}) > 2
    assert np.array_equal(ask(served.model, [PROMPTS[0]] * 2, [3, 0]), first[[3, 0]])


@pytest.mark.slow
def test_mistakes(served: FakeServer, tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = sampler(served, load_tokenizer(tiny_teacher), tmp_path)
    student = trained(served.model, 0.5)
    served.loads_weights = False
    with pytest.raises(BadInput, match="cannot take new weights; start vLLM with VLLM_SERVER_DEV_MODE=1"):
        ask(student, PROMPTS, [0, 1, 2])
    served.loads_weights = True
    with monkeypatch.context() as patched:
        patched.setattr(served, "_operated", lambda path, question: (200, {"success": True}))
        with pytest.raises(BadInput, match=r"is not the student: its log-probabilities of a prompt are"):
            ask(student, PROMPTS, [0, 1, 2])
        with pytest.raises(BadInput, match=r"is not the student: its log-probabilities of a prompt are"):
            ask(student, [prompt[:1] for prompt in PROMPTS], [0, 1, 2])
        patched.setattr(served, "_operated", lambda path, question: (400, {"error": {"message": "no such place"}}))
        with pytest.raises(BadInput, match=r"did not load the student's weights from .* \(400 no such place\)"):
            ask(student, PROMPTS, [0, 1, 2])
    monkeypatch.setattr(client, "WAITS_S", (0.01,))
    served.faults = [None, None, None, *[503] * 9]
    with pytest.raises(BadInput, match=r"the training is kept up to its last checkpoint, run the same command again"):
        ask(student, PROMPTS, [0, 1, 2])
    served.faults = []
    served.longest = 9
    with pytest.raises(BadInput, match=r"take 10 tokens, but student at .* takes 9"):
        ask(student, PROMPTS, [0, 1, 2])


RECIPE = """
name = "rolled"
data = "{data}"

[[teachers]]
model = "{teacher}"

[student]
kind = "copy"

[signals]
kind = "none"

[regime]
kind = "on-policy"
mix = 0.75
prompt_tokens = 8
new_tokens = 16
every = 2

[regime.rollouts]
server = "{base}"
name = "student"

[text]
window_tokens = 32
train_tokens = 1024
heldout_tokens = 128
out_of_domain_tokens = 128

[train]
tokens = 512
windows_per_step = 4
arithmetic = "fp32"
learning_rate = 1e-4
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_teacher: Path, text_file: Path) -> Path:
    path = tmp_path / "distill.toml"
    path.write_text(RECIPE.format(data=text_file, base="http://127.0.0.1:1/v1", teacher=tiny_teacher))
    return path


@pytest.mark.slow
def test_a_run(recipe: Path, served: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe.write_text(recipe.read_text().replace("http://127.0.0.1:1/v1", served.base))
    run_distillation(read_distillation(recipe), out, Silent())
    rows = [json.loads(line) for line in (out / "training" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    assert len(served.loaded) == 2, "once for every two steps"
    assert max(row["sampled_share"] for row in rows) > 0.2
    assert not (out / "rollouts").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "student"', "", "regime.rollouts needs server"),
        ("http://", "http://me:secret@", "must not hold a password"),
        ('kind = "copy"', 'kind = "copy"\nquantise = "int4"', "this student is quantised in training"),
        (
            'kind = "on-policy"\nmix = 0.75\nprompt_tokens = 8\nnew_tokens = 16\nevery = 2',
            'kind = "offline"',
            "regime.rollouts means nothing where regime.kind is 'offline'",
        ),
    ],
)
def test_recipes_that_cannot_be(recipe: Path, old: str, new: str, said: str) -> None:
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new))
    with pytest.raises(BadInput, match=said):
        read_distillation(recipe)


@pytest.mark.parametrize("shards", ["5GB", *slow("20KB")])
def test_a_shared_head_is_handed_over_by_itself(tiny_teacher: Path, tmp_path: Path, shards: str) -> None:
    """vLLM 0.32.0 on a CPU renews the embedding when it reloads weights, and not its copy of a head that shares it."""
    from transformers import AutoModelForCausalLM

    model = load_model(tiny_teacher, torch.float32)
    assert is_tied(model.config)
    model.save_pretrained(tmp_path, max_shard_size=shards)
    untie(model, tmp_path)
    read = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not is_tied(read.config)
    assert read.get_output_embeddings().weight is not read.get_input_embeddings().weight
    tokens = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        assert torch.equal(read(input_ids=tokens).logits, model.cpu().eval()(input_ids=tokens).logits)
    assert (tmp_path / "model-head.safetensors").exists()


def test_nobody_is_there_yet(tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights lie there, and the sentence says what to start."""
    monkeypatch.setattr(client, "WAITS_S", (0.01,))
    tokenizer = load_tokenizer(tiny_teacher)
    how = Sampling(new_tokens=2, stop=(tokenizer.eos_token_id,))
    ask = ServedStudent(Server(base="http://127.0.0.1:1/v1", name="me"), tokenizer, how, tmp_path, Silent())
    with pytest.raises(BadInput, match=r"no server answers at http://127\.0\.0\.1:1/v1") as stopped:
        ask(load_model(tiny_teacher, torch.float32), PROMPTS, [0, 1, 2])
    place = (tmp_path / "weights-1").resolve()
    assert f"VLLM_SERVER_DEV_MODE=1 vllm serve {place} --served-model-name me" in str(stopped.value)
    assert load_model(place, torch.float32) is not None
    assert load_tokenizer(place).get_vocab() == tokenizer.get_vocab()
