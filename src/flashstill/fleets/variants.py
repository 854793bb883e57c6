"""Variants of a question: one more nine, half of each bound, and multiples of the traffic.

Many replicas are looked at as cells: a fleet for 100 times the traffic that would have over `CELL` replicas is so many
equal ones, each with its router and its share of the traffic, of which one is simulated.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from flashstill.fleets.answer import Fleet, Variant
from flashstill.fleets.copies import Copies
from flashstill.fleets.question import Sizing
from flashstill.fleets.search import Sized
from flashstill.fleets.slo import Bound, tightest
from flashstill.fleets.trials import Traffic

VARIANT_SEEDS = 3
SCALES = (1.0, 10.0, 100.0)
COARSE = 0.03
REQUESTS_AT_SCALE, STAYS, CELL, HEADROOM = 8_000, 8.0, 32, 1.5
"""requests simulated at a multiple of the traffic, at least; the shortest part of the trace, in stays of a mean
request, so that it is not all warming up; replicas of a cell; and replicas over those that are busy at the best rate"""


def fleet_of(best: Sized, counts: Sequence[Copies]) -> Fleet:
    """The fleet of a sized candidate. counts: its replicas in each window."""
    prefill = best.candidate.prefill
    return Fleet(
        deployment=best.candidate.deployment,
        prefill_deployment=best.candidate.prefill_deployment,
        replicas=best.copies.replicas,
        replicas_by_window=tuple(each.replicas for each in counts),
        usd_per_hour_of_a_replica=best.candidate.usd_per_hour,
        prefill_replicas=best.copies.prefills,
        prefill_replicas_by_window=tuple(each.prefills for each in counts) if prefill else (),
        usd_per_hour_of_a_prefill_replica=prefill.usd_per_hour if prefill else None,
    )


def tighter(sizing: Sizing, best: Sized, traffic: Traffic, seeds: int) -> tuple[Variant, dict[str, Variant]]:
    """One more nine on all bounds, and half of each by itself.

    seeds: those with which the fleet for the bounds as asked was proved; a tighter bound that seems cheaper with fewer
    seeds gets as many.
    """

    def ask(question: str, bounds: tuple[Bound, ...]) -> Variant:
        proved = VARIANT_SEEDS
        found, reasons = sizing.sized(bounds, traffic, proved)
        if found is not None and found.usd_per_hour < best.usd_per_hour * (1.0 - 1e-9):
            proved = seeds
            found, reasons = sizing.sized(bounds, traffic, proved)
        seconds = sizing.trials.span_s(traffic)
        return _variant(question, found, reasons, best.usd_per_hour, sizing.bound_usd(bounds), proved, seconds)

    asked = sizing.bounds
    nines = tuple(bound.one_more_nine() for bound in asked)
    halves = {
        bound.name: ask(f"{bound.name} halved", tuple(each.halved() if each is bound else each for each in asked))
        for bound in asked
    }
    return ask(", ".join(bound.name for bound in nines), nines), halves


def scales(sizing: Sizing, best: Sized, busiest: Traffic, seeds: int) -> tuple[Variant, ...]:
    """The cheapest fleets at multiples of the traffic, on as much of the busiest window as can be simulated.

    seeds: those with which the fleet for the traffic as it is was proved.
    """
    asked_s = sizing.trials.span_s(busiest)
    variants = []
    for times in SCALES:
        least = sizing.bound_usd(sizing.bounds, times)
        found: Sized | None
        if times == 1.0:
            found, reasons, seconds, proved = best, Counter[str](), asked_s, seeds
        else:
            needed = sum(
                min(HEADROOM * busy, float(count))
                for busy, count in zip(_busy_copies(sizing, best, busiest), best.copies, strict=True)
            )
            cells = max(math.ceil(times * needed / CELL), 1)
            traffic = _part(sizing, best, busiest, times / cells)
            one, reasons = sizing.sized(sizing.bounds, traffic, 1, COARSE)
            found = None if one is None else replace(one, copies=Copies(*(cells * each for each in one.copies)))
            seconds, proved = sizing.trials.span_s(traffic), 1
        question = f"{times:g}x the traffic"
        variants.append(_variant(question, found, reasons, best.usd_per_hour * times, least, proved, seconds))
    return tuple(variants)


def _busy_copies(sizing: Sizing, best: Sized, traffic: Traffic) -> tuple[float, float]:
    """Replicas that the traffic would keep busy at the best rate within the bounds, by the closed form, and prefill
    instances that it did."""
    rate, _ = best.candidate.capacity.within(tightest(sizing.bounds, "tpot") or math.inf)
    replicas = len(sizing.trials.arrivals(0, traffic).arrival_s) / sizing.trials.span_s(traffic) / rate
    if not best.copies.prefills:
        return replicas, 0.0
    return replicas, best.copies.prefills * sizing.trials.of(best.candidate, best.copies, 0, traffic).prefill_busy


def _part(sizing: Sizing, best: Sized, busiest: Traffic, times: float) -> Traffic:
    """A multiple of the traffic over a part of the busiest window."""
    demand = sizing.demand
    start, end = busiest.part or (0, demand.blocks)
    wanted_s = max(REQUESTS_AT_SCALE / (demand.rate * times), STAYS * _stay_s(sizing, best, busiest))
    blocks = min(max(math.ceil(wanted_s / (demand.span_s / demand.blocks)), 1), end - start)
    return Traffic(times, demand.busiest(blocks))


def _stay_s(sizing: Sizing, best: Sized, traffic: Traffic) -> float:
    """Mean seconds of a request in the fleet."""
    trial = sizing.trials.of(best.candidate, best.copies, 0, traffic)
    return float(trial.tally.area[0]) / max(len(sizing.trials.arrivals(0, traffic).arrival_s), 1)


def _variant(
    question: str,
    found: Sized | None,
    reasons: Counter[str],
    reference_usd: float,
    least: float | None,
    seeds: int,
    seconds: float,
) -> Variant:
    return Variant(
        question=question,
        fleet=None if found is None else fleet_of(found, [found.copies]),
        usd_per_hour=None if found is None else found.usd_per_hour,
        times=None if found is None else found.usd_per_hour / reference_usd,
        lower_bound_usd_per_hour=least,
        seeds=seeds,
        seconds=seconds,
        infeasible={} if found else dict(reasons),
    )
