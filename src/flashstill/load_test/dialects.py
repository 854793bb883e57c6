"""How a server is asked for an answer of exactly so many tokens: tried once, in order, and said in the result.

vllm           ignore_eos, min_tokens        vLLM, SGLang and those that follow them
transformers   generation_config as JSON     transformers serve: no end-of-text token
plain          max_tokens alone              answers may end early; what came is counted
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.errors import BadInput
from flashstill.load_test.client import Client, Reply
from flashstill.load_test.failures import KINDS, OK
from flashstill.load_test.prompts import Prompts
from flashstill.load_test.question import APIS, LoadTest

PROBE_PROMPT, PROBE_OUTPUT = 32, 16
NO_TOKEN = -1
"""id of no token; without one, the batching manager takes the model's own end of text"""
FORCED, CONFIGURED, PLAIN = "vllm", "transformers", "plain"
BARE = "plain, without stream_options"
ROLES = ("user", "assistant")
DIALECTS = (FORCED, CONFIGURED, PLAIN, BARE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """How this server is asked, found by `probed`.

    template_tokens: what it adds to every prompt, None if it does not count.  has_usage: whether it counts tokens.
    """

    name: str
    model: str
    api: str
    temperature: float
    has_usage: bool = False
    template_tokens: int | None = None

    @property
    def path(self) -> str:
        """Where requests go, below /v1."""
        return APIS[self.api]

    @property
    def forces_length(self) -> bool:
        """Whether answers are asked not to end before their last token."""
        return self.name in (FORCED, CONFIGURED)

    def body(self, prompt: str, output: int, before: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        """The request for an answer of `output` tokens. before: prompts and answers that the prompt goes on with."""
        asked: dict[str, Any] = {"model": self.model, "max_tokens": output, "stream": True}
        asked["temperature"] = self.temperature
        if self.api == "chat":
            earlier = [(role, text) for pair in before for role, text in zip(ROLES, pair, strict=True)]
            asked["messages"] = [{"role": role, "content": text} for role, text in (*earlier, (ROLES[0], prompt))]
        else:
            asked["prompt"] = "".join(text for pair in before for text in pair) + prompt
        if self.name != BARE:
            asked["stream_options"] = {"include_usage": True}
        if self.name == FORCED:
            return {**asked, "ignore_eos": True, "min_tokens": output}
        if self.name == CONFIGURED:
            sampled = {"do_sample": True} if self.temperature > 0.0 else {}
            own = {"max_new_tokens": output, "eos_token_id": NO_TOKEN, **sampled}
            return {**asked, "generation_config": json.dumps(own)}
        return asked


async def probed(client: Client, asked: LoadTest, name: str, prompts: Prompts) -> Dialect:
    """The first way of asking that this server accepts. BadInput if it accepts none, with what it said."""
    prompt = prompts.make(PROBE_PROMPT, 0, np.random.default_rng(asked.seed))
    own = prompts.count(prompt)
    told = ""
    for number, way in enumerate(DIALECTS if asked.ignore_eos else DIALECTS[2:]):
        dialect = Dialect(name=way, model=name, api=asked.api, temperature=asked.temperature)
        reply = Reply(number=number, due=0.0, wanted_prompt=PROBE_PROMPT, wanted_output=PROBE_OUTPUT)
        await client.ask(dialect.path, dialect.body(prompt, PROBE_OUTPUT), reply)
        if reply.outcome == OK:
            counted = reply.prompt_tokens
            return Dialect(
                name=way, model=name, api=asked.api, temperature=asked.temperature,
                has_usage=reply.counted_by == "usage",
                template_tokens=None if own is None or counted is None else counted - own,
            )  # fmt: skip
        told = told or f"{KINDS[reply.outcome]}{f' ({reply.detail})' if reply.detail else ''}"
        if reply.outcome not in ("refused", "server_failed", "server_error", "no_token", "cut_off"):
            break  # another way of asking would not help
    raise BadInput(f"{client.address}{APIS[asked.api]} cannot be measured: {told}")
