"""Pairs of pools on two kinds of chips: prefill on one, decode on the other, the cheapest first.

Both must hold the cache in the same format and run the same engine, whose layout of the cache it is, and both need a
network beyond their links.  A cache that travels K seconds (cost/disaggregated.py, at the rate of the slower side)
takes a lane of either pool for as long, so that

    n >= requests K / (lanes of one copy x seconds)

of both roles.  What a pair costs is the sum of its roles: from two lists in the order of their dollars the pairs come
in the order of the sum, and only those that come up are priced with their transfer, so that the work grows with the
number of kinds and not with its square.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from flashstill.cost.disaggregated import Pools, transfer
from flashstill.fleets.candidates import Candidates
from flashstill.fleets.roles import Part, Roles
from flashstill.fleets.search import Question
from flashstill.fleets.slo import tightest
from flashstill.fleets.space import Kind
from flashstill.fleets.trials import Trials
from flashstill.simulate.apart import cache_layout

OTHER_ENGINE, OTHER_CACHE = "pools under two engines", "no cache format that both pools hold"
SLOW_NETWORK = "the transfer of the cache between pools takes ttft above the bound"
LOOKED_AT = 8
"""pairs that are looked at for each layout of a role, at most"""


class Couple(NamedTuple):
    """A layout that decodes and one that prefills, and the dollars per hour of both."""

    guess_usd: float
    least_usd: float
    decode: Part
    prefill: Part


def couple_of(decode: Part, prefill: Part) -> Couple:
    """Both with the sum of their dollars."""
    return Couple(decode.guess_usd + prefill.guess_usd, decode.least_usd + prefill.least_usd, decode, prefill)


def couples_across(
    candidates: Candidates, trials: Trials, question: Question, roles: Sequence[Roles], dear: float, most: int,
    reasons: Counter[str],
) -> tuple[list[Couple], int]:  # fmt: skip
    """The most promising pairs on two kinds of chips that may cost less than `dear` dollars per hour, and how many may
    by the sum of their roles."""
    found: list[Couple] = []
    count = 0
    for group in _alike(roles, reasons):
        chips = {number: _chip(candidates.kinds[number]) for number in {part.key[0] for part in _parts(group)}}
        decode = [part for each in group for part in each.decode]
        prefill = [part for each in group for part in each.prefill]
        decode, prefill = _affordable(decode, prefill, chips, dear), _affordable(prefill, decode, chips, dear)
        count += _number_below(decode, prefill, chips, dear)
        found += _cheapest(candidates, trials, question, decode, prefill, chips, dear, most, reasons)
    return sorted(found)[:most], count


def _chip(kind: Kind) -> str:
    return kind.setup.conditions.chip.name


def _parts(group: Sequence[Roles]) -> Iterator[Part]:
    return (part for each in group for part in (*each.decode, *each.prefill))


def _alike(roles: Sequence[Roles], reasons: Counter[str]) -> list[list[Roles]]:
    """Kinds that can send caches to each other; pairs of kinds that cannot are counted by their reason."""
    groups: dict[tuple[str, str, float], list[Roles]] = {}
    for each in roles:
        conditions = each.kind.setup.conditions
        if conditions.chip.system.scale_out_bytes_per_s:
            groups.setdefault(cache_layout(conditions), []).append(each)
    for one, other in itertools.combinations(groups, 2):
        reasons[OTHER_ENGINE if one[0] != other[0] else OTHER_CACHE] += len(groups[one]) * len(groups[other])
    return list(groups.values())


def _affordable(parts: Sequence[Part], others: Sequence[Part], chips: dict[int, str], dear: float) -> list[Part]:
    """Those that may cost less than `dear` with the cheapest layout of the other role on another chip; by the guess."""
    by_least = sorted(others, key=lambda part: part.least_usd)
    kept = []
    for part in parts:
        other = next((each for each in by_least if chips[each.key[0]] != chips[part.key[0]]), None)
        if other is not None and part.least_usd + other.least_usd < dear * (1.0 - 1e-9):
            kept.append(part)
    return sorted(kept, key=lambda part: (part.guess_usd, part))


def _number_below(decode: Sequence[Part], prefill: Sequence[Part], chips: dict[int, str], dear: float) -> int:
    """Pairs on two kinds of chips that cost less than `dear` at least: all of them, less those on one kind."""

    def below(some: Sequence[Part], others: Sequence[Part]) -> int:
        usd = np.sort([part.least_usd for part in others])
        return int(np.searchsorted(usd, [dear * (1.0 - 1e-9) - part.least_usd for part in some]).sum())

    same = 0
    for chip in set(chips.values()):
        same += below(*([part for part in role if chips[part.key[0]] == chip] for role in (decode, prefill)))
    return below(decode, prefill) - same


def _cheapest(
    candidates: Candidates, trials: Trials, question: Question, decode: Sequence[Part], prefill: Sequence[Part],
    chips: dict[int, str], dear: float, most: int, reasons: Counter[str],
) -> list[Couple]:  # fmt: skip
    """The first pairs by their guess, with what their transfers need."""
    priced: list[Couple] = []
    looked = 0
    for couple in _by_sum(decode, prefill):
        if len(priced) >= most and couple.guess_usd > priced[most - 1].guess_usd:
            break  # no later one is cheaper, as transfers only add
        looked += 1
        if looked > LOOKED_AT * (len(decode) + len(prefill)):
            break
        if chips[couple.decode.key[0]] == chips[couple.prefill.key[0]]:
            continue
        if couple.least_usd < dear * (1.0 - 1e-9):
            sent = _with_transfer(candidates, trials, question, couple)
            if sent is None:
                reasons[SLOW_NETWORK] += 1
            elif sent.least_usd < dear * (1.0 - 1e-9):
                priced = sorted([*priced, sent])
    return priced[:most]


def _by_sum(decode: Sequence[Part], prefill: Sequence[Part]) -> Iterator[Couple]:
    """All pairs of two sorted lists in the order of the sum of their guesses; a part of them costs only that part."""
    heap = [(couple_of(decode[0], prefill[0]), 0, 0)] if decode and prefill else []
    while heap:
        couple, one, other = heapq.heappop(heap)
        yield couple
        following = [(one, other + 1)] + ([(one + 1, 0)] if other == 0 else [])
        for at, beside in following:
            if at < len(decode) and beside < len(prefill):
                heapq.heappush(heap, (couple_of(decode[at], prefill[beside]), at, beside))


def _with_transfer(candidates: Candidates, trials: Trials, question: Question, couple: Couple) -> Couple | None:
    """With as many copies as the lanes need; None where the transfer alone breaks the TTFT bound."""
    to, since = (candidates.kinds[part.key[0]] for part in (couple.decode, couple.prefill))
    layouts = (to.layouts[couple.decode.key[1]].layout, since.layouts[couple.prefill.key[1]].layout)
    pools = Pools(prefill=layouts[1], instances=1.0, decode=layouts[0])
    arrivals = trials.arrivals(question.seeds[0], question.traffic)
    prompts = arrivals.prompt[arrivals.output > 1].astype(np.float64)
    if not len(prompts):
        return couple
    knots = np.linspace(0.0, float(prompts.max()), 65)
    _, seconds = transfer(candidates.model, to.setup.conditions, pools, knots, since.setup.conditions)
    each_s = np.interp(prompts, knots, np.asarray(seconds))
    ttft_s = tightest(question.bounds, "ttft")
    share = min((bound.share for bound in question.bounds if bound.metric == "ttft"), default=0.5)
    if ttft_s is not None and float(since.first_s[couple.prefill.key[1]] + np.quantile(each_s, share)) >= ttft_s:
        return None
    work_s, span_s = float(each_s.sum()), trials.span_s(question.traffic)

    def needed(part: Part) -> Part:
        least, guess = (work_s / part.lanes / time for time in (span_s + trials.late_s, span_s))
        more = max(part.least, math.ceil(least - 1e-9))
        return part._replace(least=more, guess=max(part.guess, more, math.ceil(guess - 1e-9)))

    return couple_of(needed(couple.decode), needed(couple.prefill))
