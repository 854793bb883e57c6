"""Texts of tasks as token ids, cut as lm-eval's HFLM cuts them, so that figures compare with published ones.

context, continuation   encoded together, and split where the context's own ids end; spaces at the end of the context
                        belong to the continuation; an empty context is the prefix token (BOS, else EOS)
too long                only the last max_length + 1 ids are kept: the context loses its beginning
rolling                 windows of max_length without overlap of what is predicted, the last with its full context
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.arch.adapter.sizes import CONTEXT, stated_size
from flashstill.distill.models import Model
from flashstill.errors import BadInput

USUAL_LENGTH = 2048
"""lm-eval's assumption for a model that states no number of positions"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """Ids that a model reads, and how many of the last of them are predicted."""

    ids: tuple[int, ...]
    predicted: int


class Encoder:
    """The token ids of a model's tasks. max_length: positions that it reads at once."""

    def __init__(self, model: Model, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.max_length = stated_size(model.config, CONTEXT) or USUAL_LENGTH
        self.end = tokenizer.eos_token_id
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else self.end
        if prefix is None:
            raise BadInput("the tokenizer has neither a BOS nor an EOS token, one of which stands for an empty context")
        self.prefix: int = prefix

    def ids(self, text: str) -> list[int]:
        """A text with the special tokens that the tokenizer adds, unless it begins with the prefix token's text."""
        begun = text.startswith(self.tokenizer.decode(self.prefix))
        encoded: list[int] = self.tokenizer.encode(text, **({"add_special_tokens": False} if begun else {}))
        return encoded

    def pair(self, context: str, continuation: str) -> Scored:
        """A continuation after a context; BadInput if it has no token of its own, or more than the model reads."""
        if not context:
            tail: list[int] = self.tokenizer.encode(continuation, add_special_tokens=False)
            head, tail = ([self.prefix], tail) if tail[:1] != [self.prefix] else (tail[:1], tail[1:])
        else:
            spaces = len(context) - len(context.rstrip())
            if spaces:
                continuation, context = context[-spaces:] + continuation, context[:-spaces]
            whole, head = self.ids(context + continuation), self.ids(context)
            tail = whole[len(head) :]
        if not tail or not head:
            raise BadInput(f"the answer {continuation!r} of a task has no token of its own after its question")
        if len(tail) > self.max_length:
            raise BadInput(
                f"an answer of a task has {len(tail):,} tokens, more than the {self.max_length:,} that the model reads"
            )
        return Scored(ids=tuple([*head, *tail][-(self.max_length + 1) :]), predicted=len(tail))

    def rolling(self, text: str) -> Iterator[Scored]:
        """Windows in which each token of a text is predicted once, with as much context as the model reads."""
        ids = [self.prefix, *self.ids(text)]
        for first in range(1, len(ids), self.max_length):
            stop = min(first + self.max_length, len(ids))
            yield Scored(ids=tuple(ids[max(0, stop - self.max_length - 1) : stop]), predicted=stop - first)

    def prompt(self, text: str, new_tokens: int) -> list[int]:
        """A prompt that leaves room for new tokens: its beginning is left out if it is too long."""
        room = self.max_length - new_tokens
        if room < 1:
            raise BadInput(
                f"a task asks for {new_tokens:,} new tokens, but the model reads {self.max_length:,} in all; give the"
                " task a smaller max_gen_toks"
            )
        begun = bool(self.tokenizer.bos_token) and text.startswith(self.tokenizer.bos_token)
        ids: list[int] = self.tokenizer.encode(text, **({"add_special_tokens": False} if begun else {}))
        return (ids or [self.prefix])[-room:]


def cut(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of the stop strings that it holds, one after the other."""
    for stop in stops:
        if stop:
            text = text.partition(stop)[0]
    return text
