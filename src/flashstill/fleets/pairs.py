"""Pairs of layouts, one that prefills and one that decodes, the most promising first, by the closed form (roles.py).

A pair costs the sum of both, so that the best few of each role are paired: on one kind of chip here, on two kinds in
mixed.py.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from flashstill.errors import FlashstillError
from flashstill.fleets.candidates import Candidates
from flashstill.fleets.copies import Candidate, Copies, Prefill
from flashstill.fleets.mixed import Couple, couple_of, couples_across
from flashstill.fleets.roles import Roles, roles_of
from flashstill.fleets.search import Question
from flashstill.fleets.space import Kind
from flashstill.fleets.trials import Trials
from flashstill.simulate.apart import prompt_limits
from flashstill.simulate.capacity import decode_only
from flashstill.simulate.prepare import sizes_of

NOT_JOINED = "no links between pools"
MOST_FURTHER = 256
"""pairs of any two layouts that are looked at"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two layouts: least: without which the requests are not served in time; guess: from where simulation begins."""

    candidate: Candidate
    least: Copies
    guess: Copies


def pairs_below(
    candidates: Candidates, trials: Trials, question: Question, dear: float, most: int, reasons: Counter[str]
) -> tuple[list[Pair], int]:
    """The most promising pairs that may cost less than `dear` dollars per hour, and how many may: up to `most` on one
    kind of chip, so that further kinds never hide them, and as many on two kinds."""
    if candidates.mix.decoded <= 0.0:
        return [], 0
    roles = [roles_of(candidates, number, trials, question) for number in range(len(candidates.kinds))]
    found = [couple for each in roles for couple in _of_one_kind(each, dear, reasons)]
    across, count = couples_across(candidates, trials, question, roles, dear, most, reasons)
    chosen = sorted([*sorted(found)[:most], *across])
    made = (_pair(candidates, trials, question, each, reasons) for each in chosen)
    return [pair for pair in made if pair is not None], len(found) + count


def further_pairs(
    candidates: Candidates, trials: Trials, question: Question, dear: float, known: Collection[tuple[int, ...]]
) -> Iterator[Pair]:
    """The most promising pairs of any two layouts that may cost less than `dear` dollars per hour, without those whose
    key is `known`: the closed form knows no waiting, so that the best few of a role may keep no bound."""
    if candidates.mix.decoded <= 0.0:
        return
    reasons = Counter[str]()  # counted with the first pairs
    numbers = range(len(candidates.kinds))
    roles = [roles_of(candidates, number, trials, question, None) for number in numbers]
    found = [couple for each in roles for couple in _of_one_kind(each, dear, reasons)]
    across, _ = couples_across(candidates, trials, question, roles, dear, MOST_FURTHER, reasons)
    for couple in heapq.nsmallest(MOST_FURTHER, [*found, *across]):
        if (*couple.decode.key, *couple.prefill.key) not in known:
            pair = _pair(candidates, trials, question, couple, reasons)
            if pair is not None:
                yield replace(pair, guess=_as_many_as_cost(pair, dear))


def _as_many_as_cost(pair: Pair, usd: float) -> Copies:
    """Its guess times what makes it cost so many dollars per hour: where that is too few, fewer are as well, so that
    few runs show that a pair is not cheaper."""
    times = usd / pair.candidate.usd_of(pair.guess)
    return Copies(*(math.ceil(times * count) for count in pair.guess)) if 1.0 < times < math.inf else pair.guess


def _of_one_kind(roles: Roles, dear: float, reasons: Counter[str]) -> Sequence[Couple]:
    """Its pairs that may cost less than `dear`."""
    joined = chips_joined(roles.kind)
    if joined < 2:
        reasons[NOT_JOINED] += 1
        return []
    return [
        couple_of(decode, prefill)
        for decode in roles.decode
        for prefill in roles.prefill
        if decode.least_usd + prefill.least_usd < dear * (1.0 - 1e-9)
        and decode.least * decode.chips + prefill.least * prefill.chips <= joined
    ]


def chips_joined(kind: Kind) -> float:
    """The most chips between which caches can travel; 0 if none can."""
    chip = kind.setup.conditions.chip
    if chip.system.scale_out_bytes_per_s:
        return math.inf
    return float(chip.system.domain_chips) if chip.topology.link_bytes_per_s else 0.0


def _pair(
    candidates: Candidates, trials: Trials, question: Question, couple: Couple, reasons: Counter[str]
) -> Pair | None:
    decode = candidates.of(couple.decode.key, reasons)
    prefill = candidates.of(couple.prefill.key, reasons)
    if decode is None or prefill is None:
        return None
    kind, one, other = candidates.kinds[couple.prefill.key[0]], decode.prepared, prefill.prepared
    sizes = sizes_of(candidates.demand.requests)
    try:
        limits = prompt_limits(candidates.facts, other.resolved, candidates.choices.policy, sizes)
    except FlashstillError as error:
        reasons[str(error)] += 1
        return None
    is_one_chip = one.resolved.chip.name == other.resolved.chip.name
    candidate = Candidate(
        key=(*couple.decode.key, *couple.prefill.key),
        prepared=one,
        capacity=decode_only(one.tables, one.limits, candidates.mix).times(one.limits.ranks),
        usd_per_hour=decode.usd_per_hour,
        prefill=Prefill(
            prepared=other,
            limits=limits._replace(first_s=other.limits.first_s),
            requests_per_s=1.0 / (candidates.mix.prefilled * float(kind.prompt_s[couple.prefill.key[1]])),
            usd_per_hour=prefill.usd_per_hour,
            chips_joined=chips_joined(kind) if is_one_chip else math.inf,
        ),
    )
    return Pair(
        candidate=candidate,
        least=Copies(couple.decode.least, couple.prefill.least),
        guess=_learnt(trials, candidate.key, question, couple),
    )


def _learnt(trials: Trials, key: tuple[int, ...], question: Question, couple: Couple) -> Copies:
    """The guess, or what the same pair needed for another multiple of the traffic, in proportion."""
    guess, least = Copies(couple.decode.guess, couple.prefill.guess), (couple.decode.least, couple.prefill.least)
    known = trials.needed.get((key, question.bounds))
    if known is None or question.traffic.times == known[0]:
        return guess
    share = question.traffic.times / known[0]
    return Copies(*(max(math.ceil(share * count), low) for count, low in zip(known[1], least, strict=True)))
