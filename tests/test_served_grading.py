"""On-policy distillation from a teacher behind a server: it grades the student's own text, and only what is learned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flashstill.distill.models import load_model, load_tokenizer
from flashstill.distill.teachers.served import ServedTeacher, Server, client
from flashstill.distill.training import Batch
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.runs.distillation import run_distillation
from tests.fake_server import FakeServer

K = 5


@pytest.fixture(scope="module")
def served(tiny_teacher: Path) -> Iterator[FakeServer]:
    server = FakeServer(load_model(tiny_teacher, torch.float32), load_tokenizer(tiny_teacher))
    yield server
    server.close()


@pytest.fixture(autouse=True)
def fresh(served: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WAITS_S", (0.01,))
    served.questions.clear()
    served.faults = []


def graded(served: FakeServer, tokenizer: Any) -> ServedTeacher:
    return ServedTeacher(Server(base=served.base, name="frontier", in_flight=2), K, tokenizer, Silent())


def a_batch() -> Batch:
    """A window of two documents, one that the student ended early, and one with nothing to learn."""
    tokens = torch.randint(5, 300, (3, 13), generator=torch.Generator().manual_seed(3))
    mask, starts = torch.ones(3, 12), torch.zeros(3, 12, dtype=torch.bool)
    starts[0, 7] = True
    mask[1, :3] = mask[1, 8:] = 0.0
    mask[2] = 0.0
    return Batch(tokens=tokens, mask=mask, windows=None, starts=starts, own=torch.tensor([False, True, True]))


def test_it_says_what_the_model_says(served: FakeServer, tiny_teacher: Path) -> None:
    batch = a_batch()
    said = graded(served, load_tokenizer(tiny_teacher))(batch)
    rows = [(0, 0, 7), (0, 7, 12), (1, 0, 8)]
    for row, first, behind in rows:
        with torch.inference_mode():
            inputs = batch.tokens[row : row + 1, first:behind].to(served.model.device)
            logits = served.model(input_ids=inputs).logits[0].cpu()
        best = torch.softmax(logits.float(), -1).topk(K)
        here = slice(row * 12 + first, row * 12 + behind)
        assert torch.equal(said.ids[here], best.indices)
        assert torch.allclose(said.weights[here], best.values, atol=1e-5)
    assert said.tail
    assert torch.isfinite(said.weights).all()


def test_only_what_is_learned_is_sent(served: FakeServer, tiny_teacher: Path) -> None:
    batch = a_batch()
    graded(served, load_tokenizer(tiny_teacher))(batch)
    tokens = batch.tokens.tolist()
    wanted = [tokens[0][:8], tokens[0][7:], tokens[1][:9]]
    assert sorted(each["prompt"] for each in served.questions) == sorted(wanted)


def test_whose_text_was_refused(served: FakeServer, tiny_teacher: Path) -> None:
    served.faults = [400] * 3
    with pytest.raises(BadInput, match=r"the (text|student wrote) could not be graded: .*refuses to answer"):
        graded(served, load_tokenizer(tiny_teacher))(a_batch())


RECIPE = """
name = "graded"
data = "{data}"

[[teachers]]
model = "{base}"
name = "frontier"
tokenizer = "{teacher}"

[student]
kind = "scratch"
config = "small.json"

[signals]
kind = "none"
k = 20

[regime]
kind = "on-policy"
mix = 0.75
prompt_tokens = 8
new_tokens = 16
every = 2

[text]
window_tokens = 32
train_tokens = 1024
heldout_tokens = 128
out_of_domain_tokens = 128

[train]
tokens = 3072
windows_per_step = 4
arithmetic = "fp32"
learning_rate = 1e-2
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_teacher: Path, text_file: Path, served: FakeServer) -> Path:
    fields = json.loads((tiny_teacher / "config.json").read_text())
    fields.update(hidden_size=16, intermediate_size=32, num_hidden_layers=1, layer_types=None)
    (tmp_path / "small.json").write_text(json.dumps(fields))
    path = tmp_path / "distill.toml"
    path.write_text(RECIPE.format(data=text_file, base=served.base, teacher=tiny_teacher))
    return path


@pytest.mark.slow
def test_a_run(recipe: Path, served: FakeServer, tmp_path: Path) -> None:
    found = run_distillation(read_distillation(recipe), tmp_path / "out", Silent())
    kl = {name: domains["heldout"]["kl_to_teacher_at_least"][0] for name, domains in found["quality"].items()}
    assert kl["student"] < 0.9 * kl["initial"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "training" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert max(row["sampled_share"] for row in rows) > 0.2
    assert not list((tmp_path / "out" / "signals").rglob("train*")), "nothing is stored of what the student writes"


@pytest.mark.slow
def test_a_server_that_is_gone_is_noticed_before_training(recipe: Path, served: FakeServer, tmp_path: Path) -> None:
    served.name = "another"
    try:
        with pytest.raises(BadInput, match="serves no model 'frontier'"):
            run_distillation(read_distillation(recipe), tmp_path / "out", Silent())
    finally:
        served.name = "frontier"
    assert not (tmp_path / "out" / "training").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "none"', 'kind = "hidden"', 'must be "topk", or "none"'),
        ('kind = "none"', 'kind = "topk"', "must be none in an on-policy regime"),
        ('kind = "on-policy"\nmix = 0.75', 'kind = "sequence"', "writes no text yet"),
        ("[text]", '[[losses]]\ndivergence = "reverse-kl"\n[text]', "the forward KL at temperature 1 only"),
    ],
)
def test_recipes_that_cannot_be(recipe: Path, old: str, new: str, said: str) -> None:
    text = recipe.read_text()
    assert old in text
    if "sequence" in new:
        text = text.replace("every = 2\n", "")
    recipe.write_text(text.replace(old, new))
    with pytest.raises(BadInput, match=said):
        read_distillation(recipe)
