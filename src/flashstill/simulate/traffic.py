"""Requests over time: Poisson and burstier arrivals, closed loops, and traces (traces.py), in pieces of bounded size.

open loop     arrivals by themselves: gamma-distributed gaps with a coefficient of variation (1: Poisson)
closed loop   a fixed number in flight: so many come at time 0, or `spacing_s` apart, as a client sends one after the
              other; each further one when another is done
agents        sessions of turns, each a think time after the one before it (agents.py)
conversations of a trace, whose turns wait for each other (sessions.py)
daily curve   as the open loop, at a rate that changes by windows of time (daily.py)
lengths       uniform between `least_ratio` and 1 times the nominal ones, as public benchmarks draw them; or gamma-
              distributed about them with a coefficient of variation; or drawn from a list of pairs
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashstill.cost.lengths import decoding_tokens
from flashstill.errors import BadInput, check_counts, unknown
from flashstill.plan.scenario import check_spread
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.daily import PIECE, arrival_times, read_day, read_lengths
from flashstill.simulate.drawn_lengths import cached_tokens, gamma_lengths, uniform_lengths
from flashstill.simulate.servegen import requests_of_clients
from flashstill.simulate.state import Values
from flashstill.traces.reading import DEFAULT, READING, Reading

WHOLE = 2**20
"""requests of a closed loop up to which they are made at once"""
SOURCES = ("trace", "rate", "concurrency", "daily", "agents")
OF_AGENTS = ("turns", "think_s", "fan_out", "shared_prefix")
OPEN_LOOP, IN_ORDER, CLOSED_LOOP = REPLAYS = ("open-loop", "in-order", "closed-loop")
"""how the turns of a trace's conversations come: at their times; then, but not before the one before them is answered;
or a think time after that"""
ONLY_OF = {
    "speed": ("trace",),
    "replay": ("trace",),
    "cv": ("rate", "daily"),
    "spacing_s": ("concurrency",),
    "turnaround_s": ("concurrency",),
    "least_ratio": ("rate", "concurrency", "daily", "agents"),
    "cached_ratio": ("rate", "concurrency", "daily", "agents"),
    "isl_cv": ("rate", "concurrency", "daily"),
    "osl_cv": ("rate", "concurrency", "daily"),
}
"""settings that some sources do not know"""
BOUNDS = {
    "rate": (1e-9, 1e9),
    "speed": (1e-6, 1e6),
    "cv": (1e-3, 1e3),
    "requests": (1, 1e9),
    "rate_scale": (1e-6, 1e6),
    "think_s": (0.0, 1e9),
    "spacing_s": (0.0, 1e3),
    "turnaround_s": (0.0, 1e3),
    "shared_prefix": (0, 1e9),
    "agents": (1, 1e6),
}
"""beyond these, times lose their digits or a run never ends"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What comes in. Exactly one of trace, rate, concurrency, daily and agents is given.

    trace: a file of requests in a known format (flashstill/traces); speed: its arrivals so many times as fast.
    replay: of its conversations, one of REPLAYS (sessions.py).
    rate: requests per second; cv: coefficient of variation of the gaps between them.  concurrency: requests in flight;
    spacing_s: between the first ones; turnaround_s: of the client, from the last token of an answer to the request that
    follows it (None: a fact).  requests: how many (not with a trace or agents).  isl, osl: nominal tokens of a
    prompt and its answer; least_ratio: shortest drawn length over it; isl_cv, osl_cv: standard deviation over mean of
    lengths of which isl and osl are the means.  cached_ratio: share of each prompt found in a
    prefix cache.  reading: what the user says of the trace that its file does not.
    daily: a CSV file of rates over time, see daily.py, which decides how many requests there are, or a folder of
    ServeGen's clients, which have lengths of their own (servegen.py); rate_scale: factor of these rates.
    lengths: a file of pairs to draw from, in place of isl and osl.
    agents: sessions of `turns` turns each, think_s seconds apart on average; a turn is fan_out requests at once, each
    with isl new tokens; shared_prefix: tokens that all prompts begin with (agents.py).
    """

    trace: Path | None = None
    speed: float = 1.0
    replay: str = OPEN_LOOP
    rate: float | None = None
    cv: float = 1.0
    concurrency: int | None = None
    spacing_s: float = 0.0
    turnaround_s: float | None = None
    requests: int = 10_000
    isl: int = 1024
    osl: int = 1024
    least_ratio: float = 1.0
    isl_cv: float = 0.0
    osl_cv: float = 0.0
    cached_ratio: float = 0.0
    reading: Reading = DEFAULT
    daily: Path | None = None
    rate_scale: float = 1.0
    lengths: Path | None = None
    agents: int | None = None
    turns: int = 10
    think_s: float = 0.0
    fan_out: int = 1
    shared_prefix: int = 0

    def __post_init__(self) -> None:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise BadInput(
                f"give one of {', '.join(SOURCES[:-1])} and {SOURCES[-1]}, not {' and '.join(given) or 'none of them'}"
            )
        if self.lengths is not None and self.trace is not None:
            raise BadInput("a trace has lengths of its own; leave the lengths out")
        if self.rate_scale != 1.0 and self.daily is None:
            raise BadInput("rate_scale is of a daily curve; change rate or speed instead")
        if self.replay not in REPLAYS:
            raise BadInput(unknown("replay of a trace", self.replay, REPLAYS))
        counts = {"requests": self.requests, "isl": self.isl, "osl": self.osl, "concurrency": self.concurrency}
        counts |= {"agents": self.agents, "turns": self.turns, "fan_out": self.fan_out}
        check_counts(counts)
        if self.reading != DEFAULT and self.trace is None:
            said = next(name for name in READING if getattr(self.reading, name) != getattr(DEFAULT, name))
            raise BadInput(f"{said} says how a trace is read; give a trace")
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise BadInput(f"{name} must lie between {least:g} and {most:g}, not {value}")
        check_spread({"isl": (self.isl, self.isl_cv), "osl": (self.osl, self.osl_cv)})
        for name in ("least_ratio", "cached_ratio"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise BadInput(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        source = given[0]
        for name, sources in ONLY_OF.items():
            if source not in sources and getattr(self, name) != self.__dataclass_fields__[name].default:
                raise BadInput(f"{name} has no effect with {source}; it is of {' and '.join(sources)}")
        if self.by_clients:
            own = ("isl", "osl", "least_ratio", "isl_cv", "osl_cv", "lengths", "cv")
            given = [name for name in own if getattr(self, name) != self.__dataclass_fields__[name].default]
            if given:
                raise BadInput(f"the clients in {self.daily} say what {given[0]} would; leave it out")
        if self.lengths is not None and self.least_ratio != 1.0:
            raise BadInput("lengths from a file are taken as they are; leave least_ratio out")
        if self.isl_cv or self.osl_cv:
            name = "isl_cv" if self.isl_cv else "osl_cv"
            if self.lengths is not None:
                raise BadInput(f"lengths from a file are taken as they are; leave {name} out")
            if self.least_ratio != 1.0:
                raise BadInput(f"least_ratio says how lengths vary; leave {name} out")
        for name in OF_AGENTS:
            if self.agents is None and getattr(self, name) != self.__dataclass_fields__[name].default:
                raise BadInput(f"{name} is of agents; say how many there are with agents")
        if self.agents is not None and (self.cached_ratio or self.lengths is not None):
            other = "cached_ratio" if self.cached_ratio else "lengths"
            raise BadInput(
                f"what agents have cached and how long their prompts are follows from turns; leave {other} out"
            )
        if self.concurrency is not None and self.requests < self.concurrency:
            raise BadInput(f"{self.requests} requests cannot keep {self.concurrency} in flight; give more requests")

    @property
    def closed(self) -> bool:
        """Whether a request comes only when another is done."""
        return self.concurrency is not None

    @property
    def by_clients(self) -> bool:
        """Whether the requests are those of ServeGen's clients."""
        return self.daily is not None and self.daily.is_dir()

    @property
    def waits(self) -> bool:
        """Whether turns of a trace's conversations wait for each other."""
        return self.replay != OPEN_LOOP

    @property
    def turn_tokens(self) -> int:
        """Tokens by which the context of an agent grows with a turn, at most."""
        return self.fan_out * (self.isl + self.osl)

    @property
    def longest_tokens(self) -> int:
        """Tokens of an agent's last turn with its answer, at most."""
        return self.shared_prefix + (self.turns - 1) * self.turn_tokens + self.isl + self.osl

    @property
    def mean_tokens(self) -> float:
        """Mean cached tokens of a request while it decodes, for generated traffic."""
        mean = (1.0 + self.least_ratio) / 2.0
        past = 0.0 if self.agents is None else self.shared_prefix + mean * self.turn_tokens * (self.turns - 1) / 2.0
        return past + float(decoding_tokens(mean * self.isl, mean * self.osl, self.osl_cv))


def generated(traffic: Traffic, seed: int) -> Iterator[Arrivals]:
    """The requests of generated traffic; the same for the same seed."""
    if traffic.by_clients:
        assert traffic.daily is not None
        for piece in requests_of_clients(traffic.daily, seed, traffic.rate_scale):
            yield piece._replace(cached=cached_tokens(piece.prompt, traffic.cached_ratio))
        return
    numbers = np.random.default_rng(seed)
    pairs = None if traffic.lengths is None else read_lengths(traffic.lengths)
    for times in _times(traffic, numbers):
        count = len(times)
        if pairs is not None:
            drawn = numbers.integers(len(pairs[0]), size=count)
            prompt, output = pairs[0][drawn], pairs[1][drawn]
        else:
            prompt, output = (
                gamma_lengths(numbers, nominal, varied, count)
                if varied
                else uniform_lengths(numbers, nominal, traffic.least_ratio, count)
                for nominal, varied in ((traffic.isl, traffic.isl_cv), (traffic.osl, traffic.osl_cv))
            )
        yield Arrivals(times, prompt, output, cached_tokens(prompt, traffic.cached_ratio))


def _times(traffic: Traffic, numbers: np.random.Generator) -> Iterator[Values]:
    """Times of arrival, in pieces; of a closed loop infinite for those that come when another is done."""
    if traffic.daily is not None:
        yield from arrival_times(read_day(traffic.daily, traffic.cv, traffic.rate_scale), numbers, PIECE)
        return
    clock, left = 0.0, traffic.requests
    while left > 0:
        count = min(left, PIECE)
        if traffic.concurrency is not None:
            first = traffic.requests - left
            count = (
                left if traffic.requests <= WHOLE else min(left, PIECE if first else max(PIECE, traffic.concurrency))
            )
            number = np.arange(first, first + count)
            times: Values = np.where(number < traffic.concurrency, number * traffic.spacing_s, np.inf)
        else:
            assert traffic.rate is not None
            shape = 1.0 / traffic.cv**2
            times = clock + np.cumsum(numbers.gamma(shape, 1.0 / (shape * traffic.rate), count))
            clock = float(times[-1])
        yield times
        left -= count
