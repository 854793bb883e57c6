"""Layouts of a kind of chip in one role, decode or prefill, the cheapest first, by the closed form.

    decode    n_d = rate D c(x)         replicas;   c(x) = min T(b) / b over steps T(b) <= x, the TPOT bound
    prefill   n_p                       the fewest instances with   F + w_q <= the TTFT bound
    wait      w_q = v T_p / (2 n_p (1 - r)) ln(P_w / (1 - q)),   P_w = r^(sqrt(2 (n_p + 1)) - 1),   r = rate T_p / n_p

with D decoded tokens of a request, F the prefill of the bound's prompt on an idle instance, T_p the least seconds of a
mean prompt, v the mean square of the prompts over the square of their mean, and q the bound's percentile.  The wait is
v / 2 of an M/M/k queue's (Sakasegawa 1977, as in cost/disaggregated.py, where all prompts are equal), with an
exponential tail.  Without the wait, in all the time that a fleet may take, it is what a role costs at least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flashstill.fleets.candidates import Candidates
from flashstill.fleets.search import Question
from flashstill.fleets.slo import tightest
from flashstill.fleets.space import Kind
from flashstill.fleets.trials import Trials
from flashstill.simulate.state import Values

OF_A_ROLE = 4
"""layouts of a role that are paired, of each kind of chip"""
MOST_INSTANCES = 4096


class Part(NamedTuple):
    """A layout in one role. key: numbers of its kind and of the layout; least: copies without which the requests are
    not served in time; guess: copies by the closed form; price: dollars per hour of one; lanes: caches that one sends
    or receives at a time."""

    key: tuple[int, int]
    least: int
    guess: int
    price: float
    chips: int
    lanes: int

    @property
    def least_usd(self) -> float:
        """Dollars per hour of the least copies."""
        return self.least * self.price

    @property
    def guess_usd(self) -> float:
        """Dollars per hour of the guess."""
        return self.guess * self.price


@dataclass(frozen=True, kw_only=True, slots=True)
class Roles:
    """The cheapest layouts of one kind of chip that decode, and those that prefill."""

    kind: Kind
    decode: Sequence[Part]
    prefill: Sequence[Part]


def roles_of(
    candidates: Candidates, number: int, trials: Trials, question: Question, most: int | None = OF_A_ROLE
) -> Roles:
    """The layouts of a kind (by its number) that decode, and those that prefill, at the least cost: `most`, or all."""
    kind = candidates.kinds[number]
    mix, bounds, traffic = candidates.mix, question.bounds, question.traffic
    ttft_s, tpot_s = tightest(bounds, "ttft"), tightest(bounds, "tpot")
    requests, span_s = len(trials.arrivals(question.seeds[0], traffic).arrival_s), trials.span_s(traffic)
    end_s = span_s + trials.late_s
    decoding = requests * mix.decoded * kind.token_s(tpot_s)
    filling = requests * mix.prefilled * kind.prompt_s
    fresh = candidates.demand.requests.prompt - candidates.demand.requests.cached
    varied = float(np.square(fresh, dtype=np.float64).mean() / max(float(fresh.mean()), 1e-9) ** 2)
    share = min((bound.share for bound in bounds if bound.metric == "ttft"), default=0.5)
    left_s = (math.inf if ttft_s is None else ttft_s) - kind.first_s
    enough = np.array([
        instances_that_keep(requests / span_s, mix.prefilled * each_s, varied, wait_s, share)
        for each_s, wait_s in zip(kind.prompt_s, left_s, strict=True)
    ])  # fmt: skip
    return Roles(
        kind=kind,
        decode=_cheapest(kind, number, decoding / end_s, decoding / span_s, np.isfinite(decoding), most),
        prefill=_cheapest(kind, number, filling / end_s, enough, (left_s > 0.0) & np.isfinite(filling), most),
    )


def instances_that_keep(rate: float, prompt_s: float, varied: float, wait_s: float, share: float) -> float:
    """The fewest instances whose wait keeps a bound for a share of the requests. varied: v, 1 for equal prompts."""
    if not (wait_s > 0.0 and math.isfinite(prompt_s)):
        return math.inf
    count = max(math.ceil(rate * prompt_s + 1e-9), 1)
    while count < MOST_INSTANCES:
        busy = rate * prompt_s / count
        if busy < 1.0:
            power = math.sqrt(2.0 * (count + 1.0)) - 1.0
            spread = math.log(max(busy**power / (1.0 - share), 1.0))
            if varied * prompt_s / (2.0 * count * (1.0 - busy)) * spread <= wait_s:
                return float(count)
        count += 1
    return float(MOST_INSTANCES)


def _cheapest(
    kind: Kind, number: int, least: Values, guess: Values, usable: np.typing.NDArray[np.bool_], most: int | None
) -> tuple[Part, ...]:
    """Layouts by the dollars of their guess in whole instances, and where these are equal in fractions."""
    price = kind.usd_per_hour
    places = np.flatnonzero(usable & np.isfinite(guess))
    whole = np.maximum(np.ceil(guess[places] - 1e-9), 1.0)
    parts = []
    for at in np.lexsort((guess[places] * price[places], whole * price[places]))[:most]:
        place = int(places[at])
        needed = max(math.ceil(float(least[place]) - 1e-9), 1)
        parts.append(
            Part(
                key=(number, place),
                least=needed,
                guess=max(int(whole[at]), needed),
                price=float(price[place]),
                chips=kind.layouts[place].chips,
                lanes=int(kind.layouts[place].dp),
            )
        )
    return tuple(parts)
