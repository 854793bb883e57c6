"""Agents: sessions of turns in a closed loop, whose prompts repeat everything that was said before.

    turn      fan_out requests at once, each with isl new tokens and an answer of osl
    prompt    the shared prefix, all earlier turns' prompts and answers one after the other, and the new tokens
    next      return_s and a think time after the last answer of the turn before; exponential, drawn from the seed, the
              agent and the turn alone, so that two policies are compared on the same agents

The transcript of an agent goes on with the first request of each turn, whose cache the next turn finds; what the others
of the turn have said comes after it there, and so is computed again, once.  The first turn comes after a think time
as well.  A request that is refused or given up counts as answered.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np

from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.state import Counts
from flashstill.simulate.traffic import Traffic


@dataclass(kw_only=True, slots=True)
class Agents:
    """All agents of a run and what they do next. Arrays [N] are by agent.

    unit: tokens that a key of the prefix cache stands for, 0 without one.  return_s: from the last token of an answer
    until the next request reaches the scheduler, without thinking.
    turn, context: turns done, and tokens of the transcript; waits_for: requests of the turn that have not left.
    coming: (time, agent) of the next turns, as a heap; running: number of a request -> agent.
    """

    traffic: Traffic
    seed: int
    unit: int
    return_s: float
    turn: Counts
    context: Counts
    waits_for: Counts
    coming: list[tuple[float, int]]
    running: dict[int, int] = field(default_factory=dict)
    handed: list[tuple[float, int]] = field(default_factory=list)
    """turns given to the loop last, which may not have come yet"""

    @property
    def is_last(self) -> bool:
        """Whether no turn comes unless a request leaves."""
        return not self.coming

    def due(self, number: int) -> Arrivals:
        """The requests of the earliest turns, which come at one moment. number: of the first of them."""
        first_s = self.coming[0][0]
        self.handed = []
        while self.coming and self.coming[0][0] == first_s:
            self.handed.append(heapq.heappop(self.coming))
        chosen = [agent for _, agent in self.handed]
        for agent in chosen:
            for _ in range(self.traffic.fan_out):
                self.running[number] = agent
                number += 1
        return joined(first_s, [self._requests(agent) for agent in chosen])

    def leave(self, numbers: list[int], now: float, piece: Arrivals, position: int) -> bool:
        """Requests have left; agents that wait for none of their turn any more think. Whether the turns in `piece`,
        from which the loop has taken nothing, are to be asked for again, as another one comes before."""
        for number in numbers:
            agent = self.running.pop(number)
            self.waits_for[agent] -= 1
            if self.waits_for[agent] == 0:
                self._end_turn(agent, now)
        waiting = position < len(piece.arrival_s)
        if not (waiting and self.coming and self.coming[0][0] <= piece.arrival_s[position]):
            return False
        for each in self.handed:
            heapq.heappush(self.coming, each)
        return True

    def _end_turn(self, agent: int, now: float) -> None:
        lengths = turn_lengths(self.traffic, self.seed, agent, int(self.turn[agent]))
        self.turn[agent] += 1
        self.context[agent] += lengths.sum()
        if self.turn[agent] < self.traffic.turns:
            self.waits_for[agent] = self.traffic.fan_out
            think = think_s(self.traffic, self.seed, agent, int(self.turn[agent]))
            heapq.heappush(self.coming, (now + self.return_s + think, agent))

    def _requests(self, agent: int) -> tuple[Counts, Counts, list[Counts]]:
        """Prompts [F], answers [F] and keys of the requests of an agent's next turn."""
        context, turn, fan_out = int(self.context[agent]), int(self.turn[agent]), self.traffic.fan_out
        prompt, output = turn_lengths(self.traffic, self.seed, agent, turn)
        keys: list[Counts] = []
        for branch in range(fan_out if self.unit else 0):
            units = np.arange((context + prompt[branch] + output[branch]) // self.unit)
            shared, known = self.traffic.shared_prefix // self.unit, context // self.unit
            width = self.traffic.longest_tokens // self.unit + 1
            names = units + (agent + 1) * width
            names[:shared] = units[:shared]
            if branch:
                number = (agent * self.traffic.turns + turn) * fan_out + branch
                names[known:] = units[known:] + (len(self.turn) + 1 + number) * width
            keys.append(names)
        return context + prompt, output, keys


def agents_of(traffic: Traffic, seed: int, unit: int, return_s: float) -> Agents:
    """The agents before their first turns."""
    assert traffic.agents is not None
    count = traffic.agents
    coming = [(think_s(traffic, seed, agent, 0), agent) for agent in range(count)]
    heapq.heapify(coming)
    return Agents(
        traffic=traffic,
        seed=seed,
        unit=unit,
        return_s=return_s,
        turn=np.zeros(count, dtype=np.int64),
        context=np.full(count, traffic.shared_prefix, dtype=np.int64),
        waits_for=np.full(count, traffic.fan_out, dtype=np.int64),
        coming=coming,
    )


def think_s(traffic: Traffic, seed: int, agent: int, turn: int) -> float:
    """Seconds that an agent thinks before a turn."""
    if traffic.think_s == 0.0:
        return 0.0
    return float(np.random.default_rng([seed, 2, agent, turn]).exponential(traffic.think_s))


def turn_lengths(traffic: Traffic, seed: int, agent: int, turn: int) -> Counts:
    """New prompt tokens and answers [2, F] of the requests of a turn."""
    numbers = np.random.default_rng([seed, 3, agent, turn]) if traffic.least_ratio < 1.0 else None
    rows = []
    for nominal in (traffic.isl, traffic.osl):
        least = max(round(nominal * traffic.least_ratio), 1)
        rows.append(
            np.full(traffic.fan_out, nominal, dtype=np.int64)
            if numbers is None
            else numbers.integers(least, nominal, traffic.fan_out, endpoint=True)
        )
    return np.stack(rows)


def joined(arrival_s: float, turns: list[tuple[Counts, Counts, list[Counts]]]) -> Arrivals:
    """Requests of several turns that come at one moment."""
    prompt, output = (np.concatenate([turn[part] for turn in turns]) for part in (0, 1))
    keys = [each for _, _, names in turns for each in names]
    none = np.zeros(0, dtype=np.int64)
    return Arrivals(
        np.full(len(prompt), arrival_s),
        prompt,
        output,
        np.zeros(len(prompt), dtype=np.int64),
        np.cumsum([len(each) for each in keys], dtype=np.int64),
        np.concatenate([none, *keys]),
    )
