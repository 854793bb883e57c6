"""Server APIs: how to request the log-probabilities of a prompt, and how to find them in the response.

    vllm     POST /v1/completions, prompt_logprobs: k       an id -> {logprob, rank, decoded_token} for each position
    echo     POST /v1/completions, echo and logprobs: k     "token_id:17" -> logprob, for servers that know no extension
    sglang   POST /generate, return_logprob from 0          [logprob, id, text] for each position

In all of them, entry i is the distribution of token i given the tokens before it, and entry 0 is null: for a window of
L + 1 tokens, entries 1 .. L are those of its L targets.  vLLM adds the actual token if it is not among the top k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from flashstill.distill.generate import Sampling

Pairs = list[tuple[object, object]]
"""(id, log-probability) pairs as received, not validated"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """The server's entry for one token of the prompt, not validated.

    top: the likeliest ids; target: log-probability of the token itself, None if there is none; text: the token as the
    server decodes it.
    """

    top: Pairs
    target: object
    text: object


class Api(Protocol):
    """A server's API: builds requests for log-probabilities and finds them in responses."""

    answer_tokens: int
    """tokens that the server has to generate after the prompt; they take room in its context"""

    def path(self, base: str) -> str:
        """The URL to request, from the base URL that ends with /v1."""
        ...

    def question(self, name: str, tokens: Sequence[int], k: int) -> dict[str, Any]:
        """The JSON body of a request for the top k at every token of a prompt; name: the served model."""
        ...

    def positions(self, answer: Any, tokens: Sequence[int]) -> list[Position | None]:
        """The entry of every token, None where there is none (the first).

        Raises KeyError, IndexError, TypeError, AttributeError or ValueError if the response is malformed.
        """
        ...


def sampled(name: str, prompt: Sequence[int], attempts: int, how: Sampling, row: int) -> dict[str, Any]:
    """The JSON body of a request to /v1/completions for `attempts` continuations of a prompt. row: its number in a run.

    Every setting is stated: what a request leaves out, vLLM takes from the model's generation_config.json (top_k 20
    and repetition_penalty 1.05 in Qwen 2.5's).  vLLM samples attempt i with seed + i, so that seeds of neighbouring
    rows lie `attempts` apart; other servers ignore what they do not know.
    """
    return {
        "model": name, "prompt": list(prompt), "n": attempts, "max_tokens": how.new_tokens,
        "temperature": how.temperature, "top_p": how.top_p, "top_k": how.top_k or -1, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logprobs": 1,
        "seed": (how.seed * 1_000_003 + row) * attempts % 2**31, "stop_token_ids": list(how.stop),
        "return_tokens_as_token_ids": True,
    }  # fmt: skip


class Vllm:
    """vLLM's completions extension `prompt_logprobs`, keyed by token id."""

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
        own = entry.get(str(token)) or {}
        top: Pairs = [(int(key), value["logprob"]) for key, value in entry.items()]
        return Position(top=top, target=own.get("logprob"), text=own.get("decoded_token"))


class Echo:
    """OpenAI's legacy completions with echo, and vLLM's option to return token ids instead of texts."""

    answer_tokens = 1
    prefix = "token_id:"

    def path(self, base: str) -> str:
        return f"{base}/completions"

    def question(self, name: str, tokens: Sequence[int], k: int) -> dict[str, Any]:
        asked = {"model": name, "prompt": list(tokens), "max_tokens": 1, "temperature": 1.0}
        return {**asked, "echo": True, "logprobs": k, "return_tokens_as_token_ids": True}

    def positions(self, answer: Any, tokens: Sequence[int]) -> list[Position | None]:
        log_probabilities = answer["choices"][0]["logprobs"]
        count = len(tokens)  # the server also returns the one token that it had to generate, at the end
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
    """SGLang's native /generate endpoint."""

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
