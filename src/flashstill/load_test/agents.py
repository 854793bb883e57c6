"""Agents against a server: sessions of turns, each of fan_out requests at once, with all that was said before.

Their lengths, think times and order are those of simulate/agents.py, drawn from the same seeds.  A prompt is the shared
prefix, what was said in earlier turns with the answers that the server gave (words in their place where none came), and
new words up to the tokens that the simulation counts.  Transcripts go on with the first request of each turn, so that
a server's prefix cache finds it; those of the others of a turn come after it.  No two runs share a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flashstill.load_test.client import Reply
from flashstill.load_test.prompts import Prompts
from flashstill.load_test.talk import Marks, Said, answered
from flashstill.simulate.agents import think_s, turn_lengths
from flashstill.simulate.state import Counts, Values
from flashstill.simulate.traffic import Traffic


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentTurns:
    """The requests of agents, by agent, turn and branch. think_s [agents, turns]: before a turn.

    arrival_s [N]: of first turns, infinite for later ones.
    """

    turns: int
    fan_out: int
    shared_prefix: int
    think_s: Values
    arrival_s: Values
    prompt: Counts
    output: Counts

    def talk(self, prompts: Prompts, arrival_s: np.ndarray, seed: int) -> AgentTalk:
        """A run of these agents. seed: of the prefix that they share."""
        return AgentTalk(self, prompts, seed)


def turns_of_agents(traffic: Traffic, seed: int) -> AgentTurns:
    """The requests of all agents of a traffic."""
    assert traffic.agents is not None
    shape = traffic.agents, traffic.turns, traffic.fan_out
    prompt, output = (np.zeros(shape, dtype=np.int64) for _ in range(2))
    pauses, arrival_s = np.zeros(shape[:2]), np.full(shape, np.inf)
    for agent in range(traffic.agents):
        context = traffic.shared_prefix
        for turn in range(traffic.turns):
            lengths = turn_lengths(traffic, seed, agent, turn)
            prompt[agent, turn], output[agent, turn] = context + lengths[0], lengths[1]
            context += int(lengths.sum())
            pauses[agent, turn] = think_s(traffic, seed, agent, turn)
        arrival_s[agent, 0] = pauses[agent, 0]
    return AgentTurns(
        turns=traffic.turns, fan_out=traffic.fan_out, shared_prefix=traffic.shared_prefix, think_s=pauses,
        arrival_s=arrival_s.ravel(), prompt=prompt.ravel(), output=output.ravel(),
    )  # fmt: skip


class AgentTalk:
    """What agents and the server have said, as long as a turn goes on with it."""

    def __init__(self, turns: AgentTurns, prompts: Prompts, seed: int) -> None:
        self._turns, self._prompts, self._marks = turns, prompts, Marks()
        known = np.flatnonzero(np.isfinite(turns.arrival_s))
        self.firsts: Sequence[int] = known[np.argsort(turns.arrival_s[known], kind="stable")].tolist()
        self._prefix, self._prefix_tokens = "", 0
        if turns.shared_prefix:
            self._prefix = prompts.make(turns.shared_prefix, 0, np.random.default_rng((seed, 0, 0)))
            self._prefix_tokens = max(turns.shared_prefix, prompts.overhead)
        self._said: dict[int, tuple[Said, int]] = {}
        self._parts: dict[int, dict[int, tuple[str, str, int]]] = {}
        self._ready: set[int] = set()
        """agents whose turn was answered, and whose next one was not asked for"""

    def text(self, number: int, prompt: int, cached: int, drawn: np.random.Generator, least: int) -> tuple[Said, str]:
        """What was said before a request, and its new words, at least so many, for a prompt of so many tokens."""
        said, tokens = self._said.get(self._agent(number), ((), 0))
        if said:
            return said, self._prompts.more(max(prompt - tokens - self._marks.tokens, least), drawn)
        if not self._prefix:
            return (), self._prompts.make(prompt, 0, drawn)
        return (), self._prefix + self._prompts.more(max(prompt - self._prefix_tokens, least), drawn)

    def ended(self, number: int, prompt: str, answer: str, reply: Reply) -> None:
        """Keep what was said; once all requests of a turn are answered, it belongs to what later ones go on with."""
        agent, turns = self._agent(number), self._turns
        said, tokens = self._said.get(agent, ((), self._prefix_tokens))
        if said:
            self._marks.learn(reply, tokens, prompt)
        text, output = answered(answer, reply, self._prompts, number)
        new_tokens = (reply.prompt_tokens or reply.wanted_prompt) - tokens + output
        parts = self._parts.setdefault(agent, {})
        parts[number] = prompt, text, new_tokens
        if len(parts) < turns.fan_out:
            return
        if number // turns.fan_out % turns.turns == turns.turns - 1:
            self._said.pop(agent, None)
            del self._parts[agent]
            return
        first, *others = [parts[each] for each in sorted(parts)]
        cut = 0 if said else len(self._prefix)
        pairs = (first[:2], *((asked[cut:], given) for asked, given, _ in others))
        self._said[agent] = (*said, *pairs), tokens + sum(each[2] for each in (first, *others))
        del self._parts[agent]
        self._ready.add(agent)

    def after(self, number: int, ended_s: float) -> Iterator[tuple[int, float, float]]:
        """The requests of the turn after one whose last request has ended, and when they are due."""
        agent, turns = self._agent(number), self._turns
        if agent not in self._ready:
            return
        self._ready.remove(agent)
        turn = number // turns.fan_out + 1
        due_s = ended_s + float(turns.think_s[agent, turn % turns.turns])
        for branch in range(turns.fan_out):
            yield turn * turns.fan_out + branch, due_s, 0.0

    def _agent(self, number: int) -> int:
        return number // (self._turns.turns * self._turns.fan_out)
