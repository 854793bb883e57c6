"""The model as lm-eval sees it: its requests go to whoever answers them, in this process or another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.api.model import LM

Answer = Callable[[str, list[list[Any]]], list[Any]]
"""(loglikelihood, loglikelihood_rolling, generate_until or chat; arguments of the requests) -> an answer for each"""


class HarnessModel(LM):  # type: ignore[misc]
    """An lm-eval LM whose requests `answer` answers, all of a kind at once (evaluate/tasks/answers.py)."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, whether it is the greedy continuation) of each (context, continuation)."""
        answers = self._answer("loglikelihood", [list(request.args) for request in requests])
        return [(float(value), bool(is_greedy)) for value, is_greedy in answers]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood in nats of each whole text."""
        return [float(value) for value in self._answer("loglikelihood_rolling", [list(r.args) for r in requests])]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as the prompt of the model's next answer."""
        return str(self._answer("chat", [[chat_history, add_generation_prompt]])[0])

    @property
    def tokenizer_name(self) -> str:
        """Names lm-eval's cache of requests, which is not used."""
        return "flashstill"

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """A text after each context, up to its stop strings."""
        return [str(text) for text in self._answer("generate_until", [list(request.args) for request in requests])]
