"""Attempts of a teacher behind a server: those of the model itself, asked for once, and not trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken

from flashstill.distill.generate import Sampling, sample
from flashstill.distill.models import load_model, load_tokenizer
from flashstill.distill.reasoning.chains import Chains
from flashstill.distill.reasoning.served import think_served
from flashstill.distill.teachers.served import Server, client
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes.studies import read_study
from flashstill.studies import run_study
from tests.fake_server import Answer, FakeServer
from tests.marks import slow
from tests.thinking import NET, study

PROMPTS = [[5, 6, 7], [8, 9], [5, 6, 7, 8, 9], [11]]


@pytest.fixture
def tokenizer(tiny_teacher: Path) -> Any:
    return load_tokenizer(tiny_teacher)


@pytest.fixture(scope="module")
def teacher(tiny_teacher: Path) -> Any:
    return load_model(tiny_teacher, torch.float32)


@pytest.fixture
def served(teacher: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setattr(client, "WAITS_S", (0.01,))
    server = FakeServer(teacher, tokenizer)
    yield server
    server.close()


def asked(served: FakeServer, tokenizer: Any, place: Path, attempts: int = 3, **how: Any) -> Chains:
    settings = Sampling(new_tokens=6, stop=(tokenizer.eos_token_id,), seed=4, **how)
    server = Server(base=served.base, name="frontier")
    return think_served(server, PROMPTS, attempts, settings, tokenizer, {"of": "a test"}, place, Silent(), "ask")


@pytest.mark.slow
def test_they_are_the_models(served: FakeServer, tokenizer: Any, tmp_path: Path) -> None:
    found = asked(served, tokenizer, tmp_path, attempts=1, temperature=0.0)
    ours = sample(served.model, PROMPTS, Sampling(new_tokens=6, temperature=0.0, stop=(tokenizer.eos_token_id,)))
    assert np.array_equal(found.tokens[:, 0], ours.tokens)
    assert found.log_p[:, 0] == pytest.approx(ours.log_p.sum(-1), abs=1e-4)
    assert found.lengths[:, 0].tolist() == ours.lengths.tolist()


@pytest.mark.slow
def test_asked_for_once(served: FakeServer, tokenizer: Any, tmp_path: Path) -> None:
    first = asked(served, tokenizer, tmp_path / "a")
    assert first.tokens.shape == (4, 3, 6)
    assert len({row.tobytes() for row in first.tokens.reshape(-1, 6)}) > 8, "attempts differ"
    assert len({question["seed"] for question in served.questions}) == 4
    again = asked(served, tokenizer, tmp_path / "a")
    assert len(served.questions) == 4
    assert np.array_equal(first.tokens, again.tokens)
    assert np.array_equal(first.tokens, asked(served, tokenizer, tmp_path / "b").tokens), "seeds are heeded"


@pytest.mark.slow
def test_a_server_that_gives_text_alone(served: FakeServer, tokenizer: Any, tmp_path: Path) -> None:
    def bare(answer: Answer) -> Answer:
        kept = ("index", "text", "finish_reason")
        return {"choices": [{name: each[name] for name in kept} for each in answer["choices"]]}

    served.bend = bare
    found = asked(served, tokenizer, tmp_path)
    assert np.isnan(found.log_p).all()
    whole = tokenizer.batch_decode([row[row >= 0] for row in found.tokens.reshape(-1, 6)], skip_special_tokens=True)
    assert any(whole)


def test_another_end_of_text(served: FakeServer, tokenizer: Any, tmp_path: Path) -> None:
    """Llama 3's generation_config.json has three ends of text; the one that came is no part of the attempt."""
    stop = tokenizer.eos_token_id
    tokenizer.add_tokens([AddedToken("<|eom|>", special=True)])
    other = tokenizer.convert_tokens_to_ids("<|eom|>")

    def ended(answer: Answer) -> Answer:
        for choice in answer["choices"]:
            choice["finish_reason"] = "stop"
            choice["logprobs"] = {"tokens": ["token_id:5", f"token_id:{other}"], "token_logprobs": [-1.0, -0.5]}
        return answer

    served.bend = ended
    found = asked(served, tokenizer, tmp_path)
    assert (found.tokens[..., :3] == [5, stop, -1]).all()


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        *slow(
            (lambda answer: {"choices": answer["choices"][:2]}, "2 attempts where 3 were asked for"),
            (lambda answer: {"data": []}, "answers problem 0 with no attempts"),
            (lambda answer: b"[", "something else than JSON"),
        ),
        (
            lambda answer: {
                "choices": [
                    {**each, "logprobs": {"tokens": ["token_id:999999"], "token_logprobs": [-1.0]}}
                    for each in answer["choices"]
                ]
            },
            "writes token 999999, but the tokenizer has 384",
        ),
        *slow(
            (
                lambda answer: {
                    "choices": [
                        {**each, "logprobs": {**each["logprobs"], "token_logprobs": [2.5]}}
                        for each in answer["choices"]
                    ]
                },
                "gives 2.5 as the log-probability",
            )
        ),
    ],
)
def test_not_trusted(served: FakeServer, tokenizer: Any, tmp_path: Path, bend: Any, said: str) -> None:
    served.bend = bend
    with pytest.raises(BadInput, match=said):
        asked(served, tokenizer, tmp_path)


@pytest.mark.slow
def test_busy_for_a_while_and_too_short(served: FakeServer, tokenizer: Any, tmp_path: Path) -> None:
    served.faults = [503, "reset"]
    with pytest.raises(BadInput, match="failed 2 times"):
        asked(served, tokenizer, tmp_path / "a")
    served.faults = [503]
    assert asked(served, tokenizer, tmp_path / "b").attempts == 3
    served.longest = 8
    with pytest.raises(BadInput, match=r"needs 11 tokens, but frontier at .* takes 8"):
        asked(served, tokenizer, tmp_path / "c")


@pytest.mark.slow
def test_a_study_of_a_teacher_elsewhere(served: FakeServer, tiny_teacher: Path, tmp_path: Path) -> None:
    """Its weights are not here; its tokenizer and config.json are."""
    here = tmp_path / "tokenizer"
    here.mkdir()
    for path in tiny_teacher.iterdir():
        if path.suffix == ".json":
            (here / path.name).write_bytes(path.read_bytes())
    teacher = f'[teacher]\nmodel = "{served.base}"\nname = "frontier"\ntokenizer = "{here}"\n'
    path = study(tmp_path / "toy.toml", teacher=teacher, student=NET)
    path.with_name("judge.py").write_text("def even(answer, problem):\n    return len(answer) % 2\n")
    found = run_study(read_study(path), [0], tmp_path / "out", Silent())
    assert found["teacher_params"] == served.model.num_parameters()
    questions = len(served.questions)
    assert questions == 2 * (70 + 30), "in one pass and in four, at training and test problems"
    served.close()
    again = run_study(read_study(path), [0], tmp_path / "out", Silent())
    assert json.dumps(again["student_greedy"]) == json.dumps(found["student_greedy"]), "the server may go"


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ('model = "http://here/v1"', "needs a name"),
        ('model = "http://me:secret@here/v1"\nname = "a"\ntokenizer = "b"', "must not hold a password"),
        ('model = "here"\nname = "a"', "go with an address"),
        (
            'model = "http://here/v1"\nname = "a"\ntokenizer = "b"\nin_flight = 0',
            "teacher.in_flight is 0; it must be at least 1",
        ),
    ],
)
def test_mistakes(tmp_path: Path, teacher: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_study(study(tmp_path / "toy.toml", teacher=f"[teacher]\n{teacher}"))
