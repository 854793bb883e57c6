"""How a server is asked for the log-probabilities of a prompt, and where in its answer they are.

    vllm     POST /v1/completions, prompt_logprobs: k       an id -> {logprob, rank, decoded_token} for each position
    echo     POST /v1/completions, echo and logprobs: k     "token_id:17" -> logprob, for servers that know no extension
    sglang   POST /generate, return_logprob from 0          [logprob, id, text] for each position

In all of them entry i tells what the tokens before i make of token i, and the first is null: of a window of L + 1
tokens the entries 1 .. L belong to its L targets.  vLLM adds the token of the text where it is not among the k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Pairs = list[tuple[object, object]]
"""(id, log-probability) as they came, not checked"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """What is said of one token of the text: the likeliest, its own log-probability, and how it reads it."""

    top: Pairs
    target: object
    text: object


class Api(Protocol):
    """A server's API: how it is asked for log-probabilities, and where they stand in its answer."""

    answer_tokens: int
    """tokens that the server makes up after the prompt: they need room in its context"""

    def path(self, base: str) -> str:
        """The address to ask, from the one that ends with /v1."""
        ...

    def question(self, name: str, tokens: Sequence[int], k: int) -> dict[str, Any]:
        """The body of a request."""
        ...

    def positions(self, answer: Any, tokens: Sequence[int]) -> list[Position | None]:
        """Of all tokens. Raises KeyError, IndexError, TypeError, AttributeError or ValueError for a malformed one."""
        ...


class Vllm:
    """vLLM's extension of the completions: ids as they are."""

    answer_tokens = 1

    def path(self, base: str) -> str:
        return f"{base}/completions"

    def question(self, name: str, tokens: Sequence[int], k: int) -> dict[str, Any]:
        return {"model": name, "prompt": list(tokens), "max_tokens": 1, "temperature": 1.0, "prompt_logprobs": k}

    def positions(self, answer: Any, tokens: Sequence[int]) -> list[Position | None]:
        return [
            None if entry is None else self._position(entry, token)
            for entry, token in zip(answer["choices"][0]["prompt_logprobs"], tokens, strict=True)
        ]

    def _position(self, entry: Mapping[str, Any], token: int) -> Position:
        own = entry[str(token)]
        top: Pairs = [(int(key), value["logprob"]) for key, value in entry.items()]
        return Position(top=top, target=own["logprob"], text=own.get("decoded_token"))


class Echo:
    """The completions that OpenAI once had, with ids instead of texts as vLLM can write them."""

    answer_tokens = 1
    prefix = "token_id:"

    def path(self, base: str) -> str:
        return f"{base}/completions"

    def question(self, name: str, tokens: Sequence[int], k: int) -> dict[str, Any]:
        asked = {"model": name, "prompt": list(tokens), "max_tokens": 1, "temperature": 1.0}
        return {**asked, "echo": True, "logprobs": k, "return_tokens_as_token_ids": True}

    def positions(self, answer: Any, tokens: Sequence[int]) -> list[Position | None]:
        log_probabilities = answer["choices"][0]["logprobs"]
        count = len(tokens)  # the server also returns the one token it had to generate, after them
        top, own = log_probabilities["top_logprobs"][:count], log_probabilities["token_logprobs"][:count]
        return [
            None if entry is None else Position(top=self._pairs(entry), target=target, text=None)
            for entry, target, _ in zip(top, own, tokens, strict=True)
        ]

    def _pairs(self, entry: Mapping[str, Any]) -> Pairs:
        if any(not key.startswith(self.prefix) for key in entry):
            raise ValueError("it names tokens by their text, not as token_id:17 (return_tokens_as_token_ids)")
        return [(int(key.removeprefix(self.prefix)), value) for key, value in entry.items()]


class Sglang:
    """SGLang's native /generate."""

    answer_tokens = 0

    def path(self, base: str) -> str:
        return f"{base.removesuffix('/v1')}/generate"

    def question(self, name: str, tokens: Sequence[int], k: int) -> dict[str, Any]:
        asked = {"input_ids": list(tokens), "sampling_params": {"max_new_tokens": 0, "temperature": 1.0}}
        options = {"return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": k}
        return {**asked, **options, "return_text_in_logprobs": True}

    def positions(self, answer: Any, tokens: Sequence[int]) -> list[Position | None]:
        log_probabilities = answer["meta_info"]
        top, own = log_probabilities["input_top_logprobs"], log_probabilities["input_token_logprobs"]
        return [
            None if entry is None else Position(top=[(each[1], each[0]) for each in entry], target=its[0], text=its[2])
            for entry, its, _ in zip(top, own, tokens, strict=True)
        ]


APIS: dict[str, Api] = {"vllm": Vllm(), "echo": Echo(), "sglang": Sglang()}
