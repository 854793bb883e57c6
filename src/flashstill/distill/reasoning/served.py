"""Attempts of a model behind an OpenAI-compatible server, stored in shards like those of a local model.

The request is that of `questions.sampled`.  Servers that know no token ids return text, which is tokenised here.

One request per problem; a shard is written when its last problem is answered.  An attempt that was not cut off ends
with the stop id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from flashstill.distill.data.templates import special_ids
from flashstill.distill.generate import Sampling
from flashstill.distill.reasoning.chains import Chains, joined_chains
from flashstill.distill.signals.store import Store, shard
from flashstill.distill.teachers.served import Server
from flashstill.distill.teachers.served.client import SHARDS_KEPT, Conversation, completed, together
from flashstill.distill.teachers.served.questions import sampled
from flashstill.distill.teachers.served.texts import Attempt, attempt_of, most_bytes
from flashstill.errors import BadInput
from flashstill.progress import Advance, Progress


def think_served(
    server: Server,
    prompts: Sequence[Sequence[int]],
    attempts: int,
    how: Sampling,
    tokenizer: Any,
    key: Mapping[str, Any],
    directory: Path,
    progress: Progress,
    name: str,
) -> Chains:
    """Request `attempts` attempts at every prompt; existing shards are kept.

    tokenizer: of the served model.  Raises BadInput if the server refuses, keeps failing, or returns text outside this
    vocabulary, and if the directory belongs to a different run.
    """
    store = Store(directory, key, len(prompts), what="chains")
    store.begin()
    missing = store.missing()
    whole, left = (sum(len(store.range(start)) for start in each) for each in (store.starts, missing))
    if missing:
        with progress.task(name, whole * attempts, "chains", (whole - left) * attempts) as advance:
            work = _Asking(server, prompts, attempts, how, tokenizer, store, advance)
            completed(work.all(missing))
    return joined_chains(store)


class _Asking:
    """Requests in flight, and answers that wait for the rest of their shard."""

    def __init__(
        self,
        server: Server,
        prompts: Sequence[Sequence[int]],
        attempts: int,
        how: Sampling,
        tokenizer: Any,
        store: Store,
        advance: Advance,
    ) -> None:
        self.server, self.prompts, self.attempts, self.how = server, prompts, attempts, how
        self.tokenizer, self.store, self.advance = tokenizer, store, advance
        self._special = special_ids(tokenizer)
        self._held: dict[int, list[Attempt]] = {}

    async def all(self, starts: Sequence[int]) -> None:
        """Request every problem of these shards; the first one alone, so that an error costs a single request."""
        async with Conversation(self.server, lambda text: self.advance(0, text), SHARDS_KEPT) as talk:
            self._check_context(await talk.longest())
            places = iter([place for start in starts for place in self.store.range(start)])
            first = next(places)
            self._done(first, await self._ask(talk, first))

            async def one(place: int) -> None:
                self._done(place, await self._ask(talk, place))

            await together(places, self.server.in_flight, one)

    async def _ask(self, talk: Conversation, place: int) -> list[Attempt]:
        how = self.how
        question = sampled(self.server.name, self.prompts[place], self.attempts, how, place)
        answer = await talk.completions(question, most_bytes(self.attempts, how))
        try:
            choices = answer["choices"]
            if len(choices) != self.attempts:
                raise BadInput(f"it gives {len(choices)} attempts where {self.attempts} were asked for")
            in_order = sorted(choices, key=lambda choice: int(choice["index"]))
            return [attempt_of(choice, self.how, self.tokenizer, self._special) for choice in in_order]
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise BadInput(f"{self.server.base} answers problem {place} with no attempts: {error}") from error
        except BadInput as error:
            raise BadInput(f"{self.server.base}, problem {place}: {error}") from error

    def _done(self, place: int, attempts: list[Attempt]) -> None:
        """Store an answer; write its shard if it is complete."""
        self._held[place] = attempts
        self.advance(self.attempts)
        start = place - place % self.store.per_shard
        places = self.store.range(start)
        if any(each not in self._held for each in places):
            return
        answers = [self._held.pop(each) for each in places]
        tokens = torch.full((len(answers), self.attempts, self.how.new_tokens), -1, dtype=torch.int32)
        for problem, each in enumerate(answers):
            for attempt, (ids, _) in enumerate(each):
                tokens[problem, attempt, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
        log_p = torch.tensor([[value for _, value in each] for each in answers], dtype=torch.float32)
        lengths = (tokens >= 0).sum(-1).int()
        self.store.write(shard(start), {"tokens": tokens, "log_p": log_p, "lengths": lengths})

    def _check_context(self, longest: int | None) -> None:
        tokens = max(map(len, self.prompts)) + self.how.new_tokens
        if longest is not None and tokens > longest:
            raise BadInput(
                f"a problem needs {tokens} tokens, but {self.server.name} at {self.server.base} takes {longest}; lower"
                " think.new_tokens, or start it with more (--max-model-len)"
            )
