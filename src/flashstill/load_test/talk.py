"""What the driver of a run asks of requests that come after others: of a trace's conversations, and of agents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from flashstill.load_test.client import Reply
from flashstill.load_test.prompts import Prompts

Said = tuple[tuple[str, str], ...]
"""prompts and answers, one after the other"""


class Talk(Protocol):
    """What is said in a run. firsts: numbers of the requests that follow none, in order of their times."""

    @property
    def firsts(self) -> Sequence[int]: ...

    def text(self, number: int, prompt: int, cached: int, drawn: np.random.Generator, least: int) -> tuple[Said, str]:
        """What was said before a request, and its new words, at least so many, for a prompt of so many tokens."""
        ...

    def ended(self, number: int, prompt: str, answer: str, reply: Reply) -> None:
        """A request with these new words has ended."""
        ...

    def after(self, number: int, ended_s: float) -> Iterable[tuple[int, float, float]]:
        """The requests that follow one which has ended: number, when it is due, by how much later than published."""
        ...


class Followers(Protocol):
    """Requests that follow others."""

    def talk(self, prompts: Prompts, arrival_s: np.ndarray, seed: int) -> Talk:
        """A run of them. arrival_s [N]: their published times; seed: of the run's prompts."""
        ...


class Marks:
    """Tokens that a server adds for a turn beside its words (the marks of roles in a chat), as in the last turn."""

    def __init__(self) -> None:
        self.tokens = 0

    def learn(self, reply: Reply, said_tokens: int, prompt: str) -> None:
        """Count them in a reply to new words after what was said."""
        if reply.prompt_tokens is not None:
            self.tokens = max(reply.prompt_tokens - said_tokens - prompt.count(" "), 0)


def answered(answer: str, reply: Reply, prompts: Prompts, number: int) -> tuple[str, int]:
    """The text that stands for an answer, and its tokens: words where none came."""
    tokens = reply.output_tokens if answer else reply.wanted_output
    return answer or prompts.more(tokens, np.random.default_rng(number)), tokens
