"""Answers of a real vLLM 0.32.0 (tests/vllm_answers.json, recorded from SmolLM2-135M-Instruct) are read rightly, and
the server of the tests answers in the same shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from flashstill.distill.generate import Sampling
from flashstill.distill.models import load_model, load_tokenizer
from flashstill.distill.teachers.served import Server, checked
from flashstill.distill.teachers.served.client import Conversation
from flashstill.distill.teachers.served.questions import APIS, sampled
from tests.fake_server import FakeServer

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "vllm_answers.json").read_text())["answers"]
VOCABULARY = 49_152


def recorded(name: str) -> tuple[dict[str, Any], Any]:
    return RECORDED[name]["question"], RECORDED[name]["answer"]


@pytest.mark.parametrize(("name", "api"), [("prompt_logprobs", "vllm"), ("echo", "echo")])
def test_log_probabilities_of_a_prompt(name: str, api: str) -> None:
    question, answer = recorded(name)
    scores = checked(answer, APIS[api], question["prompt"], 3, VOCABULARY)
    assert scores.ids.tolist() == [[29, 28, 198], [1230, 3049, 1645], [506, 314, 523], [527, 260, 392]]
    assert scores.target_log_p.tolist() == pytest.approx([-4.375236, -8.431190, -6.110324, -2.387989], abs=1e-5)
    assert scores.log_p[0].tolist() == pytest.approx([-0.865242, -2.650291, -3.134640], abs=1e-5)
    assert scores.text == (" the model, the" if api == "vllm" else None)


def test_the_questions_are_those_that_were_recorded() -> None:
    for name, api in (("prompt_logprobs", "vllm"), ("echo", "echo")):
        question, _ = recorded(name)
        assert APIS[api].question("teacher", question["prompt"], 3) == question
    question, _ = recorded("texts")
    how = Sampling(new_tokens=4, stop=(2,), seed=0)
    assert {**sampled("teacher", question["prompt"], 2, how, 0), "seed": 3} == question


@pytest.mark.parametrize(
    ("name", "k", "said"),
    [
        ("too many", 21, "gives fewer than 21 log-probabilities (Requested prompt logprobs of 21, which is greater than"
         " max allowed: 20 (parameter=prompt_logprobs, value=21)); start it with vllm serve ... --max-logprobs 21"),
        ("too many, echo", 21, "start it with vllm serve ... --max-logprobs 21"),
        ("too long", 3, "This model's maximum context length is 1024 tokens"),
        ("outside", 3, "has another tokenizer than teachers.tokenizer"),
        ("another model", 3, "Valid aliases: teacher"),
    ],
)  # fmt: skip
def test_refusals(name: str, k: int, said: str) -> None:
    talk = Conversation(Server(base="http://127.0.0.1:1/v1", name="teacher"), print, "nothing is kept")
    status, body = RECORDED[name]["status"], json.dumps(RECORDED[name]["answer"]).encode()
    assert said in talk._refused(status, body, k)


def test_every_setting_is_stated_and_no_draws_are_shared() -> None:
    """vLLM takes what is left out from generation_config.json, and gives attempt i of a request the seed + i."""
    how = Sampling(new_tokens=8, temperature=0.7, top_p=0.9, top_k=5, stop=(2, 0), seed=3)
    asked = sampled("teacher", [1, 2], 16, how, 0)
    assert (asked["temperature"], asked["top_p"], asked["top_k"], asked["min_p"]) == (0.7, 0.9, 5, 0.0)
    assert [asked[f"{name}_penalty"] for name in ("repetition", "presence", "frequency")] == [1.0, 0.0, 0.0]
    assert asked["stop_token_ids"] == [2, 0]
    assert sampled("teacher", [1, 2], 16, Sampling(), 0)["top_k"] == -1
    first = [sampled("teacher", [1, 2], 16, how, row)["seed"] for row in range(1000)]
    draws = [seed + attempt for seed in first for attempt in range(16)]
    assert len(set(draws)) == len(draws)


def shape(answer: Any, real: Any, place: str = "") -> None:
    """Assert that all keys of an answer stand in the real one, with values of the same kind."""
    if isinstance(answer, dict):
        for key, value in answer.items():
            by_token = place.endswith(("prompt_logprobs[]", "top_logprobs[]"))
            assert key in real or by_token, f"{place}: the real server does not say {key}"
            kin = real[key] if key in real else next(iter(real.values()))
            shape(value, kin, f"{place}.{key}")
    elif isinstance(answer, list):
        assert isinstance(real, list), place
        for value in answer:
            kin = next(each for each in real if (each is None) == (value is None))
            shape(value, kin, f"{place}[]")
    else:
        assert type(answer) is type(real), f"{place}: {answer!r} beside {real!r}"


def test_the_server_of_the_tests_answers_alike(tiny_teacher: Path) -> None:
    served = FakeServer(load_model(tiny_teacher, torch.float32), load_tokenizer(tiny_teacher))
    try:
        served.name = "teacher"
        for name in ("prompt_logprobs", "echo", "texts"):
            question, real = recorded(name)
            question = {**question, "prompt": [5, 6, 7, 8, 9]}
            status, answer = served.answer("/v1/completions", question)
            assert status == 200
            shape(answer, real)
            ours, theirs = answer["choices"][0], real["choices"][0]
            wanted = {"prompt_logprobs": ("prompt_logprobs",), "echo": ("logprobs",), "texts": ("text", "logprobs")}
            assert all(ours[key] is not None and theirs[key] is not None for key in wanted[name])
        served.most = 20
        assert served.answer("/v1/completions", {**recorded("too many")[0], "prompt": [5, 6]}) == (
            400, RECORDED["too many"]["answer"],
        )  # fmt: skip
    finally:
        served.close()
