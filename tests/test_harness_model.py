"""A model's answers to lm-eval are those of lm-eval's own HFLM."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.distill.models import load_model, load_tokenizer
from flashstill.errors import BadInput
from flashstill.evaluate.tasks import answers
from flashstill.evaluate.tasks.answers import Answers

pytest.importorskip("lm_eval", reason="needs the extra eval")

PAIRS = [
    ("The cache holds", " the token of the model"),
    ("The cache holds ", "the token"),
    ("The cache holds", " the weights"),
    ("", "A chip reads its weights once."),
    ("x " * 300, "and the end"),  # longer than the model reads
    ("A question?\nAnswer:", " A"),
    ("A question?\nAnswer:", " B"),
    ("A question?\nAnswer:", " a longer answer, of many tokens"),
]
TEXTS = ["The cache holds the token of the model.", "", "Short.", "A chip reads its weights once. " * 60]
PROMPTS = [
    ("The cache holds", {"until": ["\n"], "max_gen_toks": 40, "do_sample": False}),
    ("A chip", {"until": ["\n"], "max_gen_toks": 40, "do_sample": False}),
    ("A model", {"until": [" the", "."], "max_gen_toks": 8}),
    ("y " * 300, {"until": [], "max_gen_toks": 5}),
]


def quiet(amount: float, note: str = "") -> None:
    pass


@pytest.fixture(scope="module")
def ours(tiny_teacher: Path) -> Answers:
    return Answers(load_model(tiny_teacher, torch.float32), load_tokenizer(tiny_teacher))


@pytest.fixture(scope="module")
def theirs(ours: Answers) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=ours.model, tokenizer=ours.encoder.tokenizer, batch_size=3)


def requests(arguments: Any) -> list[Any]:
    return [SimpleNamespace(args=each, task_name="t") for each in arguments]


@pytest.mark.slow
def test_log_likelihoods_are_those_of_hflm(ours: Answers, theirs: Any) -> None:
    found = ours.loglikelihood(PAIRS, quiet)
    wanted = theirs.loglikelihood(requests(PAIRS), disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in wanted], rel=1e-5, abs=1e-5)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]
    rolling = ours.rolling(TEXTS, quiet)
    assert rolling == pytest.approx(theirs.loglikelihood_rolling(requests([(text,) for text in TEXTS])), rel=1e-5)


@pytest.mark.slow
def test_texts_are_those_of_hflm(ours: Answers, theirs: Any) -> None:
    assert ours.generate(PROMPTS, quiet) == theirs.generate_until(requests(PROMPTS), disable_tqdm=True)


# EleutherAI/lm-evaluation-harness#3382, #3700 and #3329: thoughts that are judged, or cut by a stop string
def test_what_follows_a_thought_is_judged(ours: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop strings within it do not count; of one that has not ended nothing is an answer."""
    tokenizer = ours.encoder.tokenizer
    written = ["A. B.\n\nso</think>\n\nC. D", "A. it goes on", "first</think> no</think>yes"]
    ids = [tokenizer(f"{text}<|end|>", add_special_tokens=False)["input_ids"] for text in written]

    def drawn(model: Any, prompts: Any, part: Any, places: Any) -> Any:
        size = part.new_tokens
        own = [ids[place][len(prompt) - begun :][:size] for place, prompt in zip(places, prompts, strict=True)]
        lengths = [len(each) for each in own]
        return SimpleNamespace(tokens=np.array([each + [0] * (size - len(each)) for each in own]), lengths=lengths)

    begun = len(ours.encoder.prompt("Q", 64))
    monkeypatch.setattr(answers, "sample", drawn)
    how = {"until": ["."], "max_gen_toks": max(map(len, ids)), "think_end_token": "</think>"}
    monkeypatch.setattr(answers, "FIRST_NEW_TOKENS", how["max_gen_toks"])
    before = ours.unended
    assert ours.generate([("Q", how)] * 3, quiet) == ["C", "", "yes"]
    assert ours.unended - before == 1
    assert ours.generate([("Q", {**how, "think_end_token": None})] * 3, quiet) == ["A", "A", written[2]]
    assert ours.unended - before == 1
    with pytest.raises(BadInput, match="have think_end_token: 3; expected a text, as </think>"):
        ours.generate([("Q", {"think_end_token": 3})], quiet)
