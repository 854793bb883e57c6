"""Pairs of layouts, one that prefills and one that decodes, the most promising first, by the closed form.

    decode    n_d = rate D c(x)         replicas;   c(x) = min T(b) / b over steps T(b) <= x, the TPOT bound
    prefill   n_p                       the fewest instances with   F + w_q <= the TTFT bound
    wait      w_q = v T_p / (2 n_p (1 - r)) ln(P_w / (1 - q)),   P_w = r^(sqrt(2 (n_p + 1)) - 1),   r = rate T_p / n_p

with D decoded tokens of a request, F the prefill of the bound's prompt on an idle instance, T_p the least seconds of a
mean prompt, v the mean square of the prompts over the square of their mean, and q the bound's percentile.  The wait is
v / 2 of an M/M/k queue's (Sakasegawa 1977, as in cost/disaggregated.py, where all prompts are equal), with an
exponential tail.  A pair costs the sum of both, so that the best few of
each role are paired.  Without the wait, in all the time that a fleet may take, it is what the pair costs at least.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flashstill.errors import FlashstillError
from flashstill.fleets.candidates import Candidates
from flashstill.fleets.copies import Candidate, Copies, Prefill
from flashstill.fleets.search import Question
from flashstill.fleets.slo import tightest
from flashstill.fleets.space import Kind
from flashstill.fleets.trials import Trials
from flashstill.simulate.apart import prompt_limits
from flashstill.simulate.capacity import decode_only
from flashstill.simulate.prepare import sizes_of
from flashstill.simulate.state import Counts, Values

NOT_JOINED = "no links between pools"
OF_A_ROLE = 4
"""layouts of a role that are paired, of each kind of chip"""
MOST_INSTANCES = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two layouts: least: without which the requests are not served in time; guess: from where simulation begins."""

    candidate: Candidate
    least: Copies
    guess: Copies


class _Role(NamedTuple):
    """Of some layouts of a kind: their places, and counts at least and by the closed form."""

    places: Counts
    least: Counts
    guess: Counts


class _Found(NamedTuple):
    guess_usd: float
    least_usd: float
    kind: int
    decode: int
    prefill: int
    least: Copies
    guess: Copies


def pairs_below(
    candidates: Candidates, trials: Trials, question: Question, dear: float, most: int, reasons: Counter[str]
) -> tuple[list[Pair], int]:
    """The most promising pairs that may cost less than `dear` dollars per hour, and how many may."""
    found: list[_Found] = []
    if candidates.mix.decoded <= 0.0:
        return [], 0
    for number, kind in enumerate(candidates.kinds):
        joined = chips_joined(kind)
        if joined < 2:
            reasons[NOT_JOINED] += 1
            continue
        decode, prefill = _roles(candidates, kind, trials, question)
        for d, p in ((d, p) for d in range(len(decode.places)) for p in range(len(prefill.places))):
            here, there = int(decode.places[d]), int(prefill.places[p])
            least = Copies(int(decode.least[d]), int(prefill.least[p]))
            guess = Copies(int(decode.guess[d]), int(prefill.guess[p]))
            prices = float(kind.usd_per_hour[here]), float(kind.usd_per_hour[there])
            least_usd, guess_usd = (each.replicas * prices[0] + each.prefills * prices[1] for each in (least, guess))
            chips = least.replicas * kind.layouts[here].chips + least.prefills * kind.layouts[there].chips
            if least_usd < dear * (1.0 - 1e-9) and chips <= joined:
                found.append(_Found(guess_usd, least_usd, number, here, there, least, guess))
    made = (_pair(candidates, trials, question, each, reasons) for each in sorted(found)[:most])
    return [pair for pair in made if pair is not None], len(found)


def chips_joined(kind: Kind) -> float:
    """The most chips between which caches can travel; 0 if none can."""
    chip = kind.setup.conditions.chip
    if chip.system.scale_out_bytes_per_s:
        return math.inf
    return float(chip.system.domain_chips) if chip.topology.link_bytes_per_s else 0.0


def _roles(candidates: Candidates, kind: Kind, trials: Trials, question: Question) -> tuple[_Role, _Role]:
    """The layouts that decode, and those that prefill, at the least cost."""
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
    return (
        _cheapest(kind.usd_per_hour, decoding / end_s, decoding / span_s, np.isfinite(decoding)),
        _cheapest(kind.usd_per_hour, filling / end_s, enough, (left_s > 0.0) & np.isfinite(filling)),
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


def _cheapest(price: Values, least: Values, guess: Values, usable: np.typing.NDArray[np.bool_]) -> _Role:
    """Layouts by the dollars of their guess in whole instances, and where these are equal in fractions."""
    places = np.flatnonzero(usable & np.isfinite(guess))
    whole = np.maximum(np.ceil(guess[places] - 1e-9), 1.0)
    order = np.lexsort((guess[places] * price[places], whole * price[places]))[:OF_A_ROLE]
    at = places[order]
    needed = np.maximum(np.ceil(least[at] - 1e-9), 1.0).astype(np.int64)
    return _Role(at, needed, np.maximum(whole[order].astype(np.int64), needed))


def _pair(
    candidates: Candidates, trials: Trials, question: Question, found: _Found, reasons: Counter[str]
) -> Pair | None:
    decode = candidates.of((found.kind, found.decode), reasons)
    prefill = candidates.of((found.kind, found.prefill), reasons)
    if decode is None or prefill is None:
        return None
    kind, one, other = candidates.kinds[found.kind], decode.prepared, prefill.prepared
    sizes = sizes_of(candidates.demand.requests)
    try:
        limits = prompt_limits(candidates.facts, other.resolved, candidates.choices.policy, sizes)
    except FlashstillError as error:
        reasons[str(error)] += 1
        return None
    candidate = Candidate(
        key=(found.kind, found.decode, found.prefill),
        prepared=one,
        capacity=decode_only(one.tables, one.limits, candidates.mix).times(one.limits.ranks),
        usd_per_hour=decode.usd_per_hour,
        prefill=Prefill(
            prepared=other,
            limits=limits._replace(first_s=other.limits.first_s),
            requests_per_s=1.0 / (candidates.mix.prefilled * float(kind.prompt_s[found.prefill])),
            usd_per_hour=prefill.usd_per_hour,
            chips_joined=chips_joined(kind),
        ),
    )
    return Pair(candidate=candidate, least=found.least, guess=_learnt(trials, candidate.key, question, found))


def _learnt(trials: Trials, key: tuple[int, ...], question: Question, found: _Found) -> Copies:
    """The guess, or what the same pair needed for another multiple of the traffic, in proportion."""
    known = trials.needed.get((key, question.bounds))
    if known is None or question.traffic.times == known[0]:
        return found.guess
    share = question.traffic.times / known[0]
    return Copies(*(max(math.ceil(share * count), low) for count, low in zip(known[1], found.least, strict=True)))
