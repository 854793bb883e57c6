"""The requests of a run against a server: of a pattern or a trace, each at its time or after others, or of agents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from flashstill.errors import BadInput
from flashstill.load_test.agents import turns_of_agents
from flashstill.load_test.conversations import conversations_of
from flashstill.load_test.question import MOST_REQUESTS
from flashstill.load_test.talk import Followers
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.traffic import Traffic as Replay
from flashstill.traces.reader import Trace


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """The requests of a run: seconds from its start (infinite in a closed loop), and tokens.

    numbers: of the requests, which with the seed make their prompts; no two runs should have the same seed.
    followers: which requests wait for others, of a trace's conversations or of agents.
    """

    arrival_s: np.ndarray
    prompt: np.ndarray
    output: np.ndarray
    cached: np.ndarray
    numbers: np.ndarray
    seed: int
    followers: Followers | None = None

    @staticmethod
    def of(pieces: Iterable[Arrivals], most: int | None, seed: int) -> Traffic:
        """Pieces of arrivals as one, at most `most` requests. BadInput for none, or for more than memory is to hold."""
        kept, count = [], 0
        for piece in pieces:
            kept.append(piece[:4])
            count += len(piece.prompt)
            if most is not None and count >= most:
                break
            _check_held(count)
        if not kept:
            raise BadInput("the trace holds no requests")
        columns = [np.concatenate(column)[:most] for column in zip(*kept, strict=True)]
        numbers = np.arange(len(columns[0]))
        return Traffic(
            arrival_s=columns[0], prompt=columns[1], output=columns[2], cached=columns[3], numbers=numbers, seed=seed
        )

    @staticmethod
    def of_turns(trace: Trace, traffic: Replay, most: int | None, seed: int) -> Traffic:
        """The requests of a trace whose turns wait for each other, at most `most`. BadInput as `of`."""
        rows = []
        for _, row in islice(trace.rows(), most):
            rows.append(row._replace(keys=()))
            _check_held(len(rows))
        if not rows:
            raise BadInput("the trace holds no requests")
        times, *columns = (np.array(column) for column in list(zip(*rows, strict=True))[:4])
        return Traffic(
            arrival_s=times / traffic.speed, prompt=columns[0], output=columns[1], cached=columns[2],
            numbers=np.arange(len(rows)), seed=seed,
            followers=conversations_of(rows, traffic.replay, traffic.speed),
        )  # fmt: skip

    @staticmethod
    def of_agents(traffic: Replay, seed: int, salt: int) -> Traffic:
        """The requests of agents, as `simulate` draws them from a seed. salt: of their prompts."""
        turns = turns_of_agents(traffic, seed)
        return Traffic(
            arrival_s=turns.arrival_s, prompt=turns.prompt, output=turns.output, cached=np.zeros_like(turns.prompt),
            numbers=np.arange(len(turns.prompt)), seed=salt, followers=turns,
        )  # fmt: skip

    def every(self, first: int, step: int) -> Traffic:
        """The requests first, first + step, ..."""
        names = ("arrival_s", "prompt", "output", "cached", "numbers")
        return Traffic(**{name: getattr(self, name)[first::step] for name in names}, seed=self.seed)

    def __len__(self) -> int:
        return len(self.prompt)


def _check_held(requests: int) -> None:
    if requests > MOST_REQUESTS:
        raise BadInput(
            f"the trace has over {MOST_REQUESTS:,} requests, which would be held in memory; give a number of requests,"
            " or a part of it with --trace-until"
        )
