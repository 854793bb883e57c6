"""Layouts that look worse by the closed form, each tried with as many replicas as would still be cheaper.

The closed form knows no waiting, so that under bursts its order of layouts can be wrong by half: a pipeline that costs
a little more at its best rate keeps a bound on the first token with fewer chips.  Of a layout that breaks a bound with
the most replicas that cost less than the best fleet so far, fewer break it as well (as search.py assumes), so that one
run of the trace's busiest part is mostly enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from flashstill.fleets.candidates import Candidates
from flashstill.fleets.copies import Candidate, Copies
from flashstill.fleets.search import Question, Sized, cheapest, most_below
from flashstill.fleets.trials import Trials

MOST_OTHERS, MOST_REQUESTS = 64, 200_000
"""layouts, and requests simulated of them, for one question"""


def cheapest_of_others(
    trials: Trials,
    candidates: Candidates,
    known: Sequence[Candidate],
    question: Question,
    best: Sized | None,
    dear: float,
    told: Callable[[str], None] = lambda text: None,
) -> Sized | None:
    """The cheapest sized layout that is not among those `known`, below the best one's dollars per hour, or `dear` ones
    where there is none; None if no other is cheaper."""
    bounds, traffic = question.bounds, question.traffic
    usd = dear if best is None else best.usd_per_hour
    seconds = trials.span_s(traffic) + trials.late_s
    requests = len(trials.arrivals(question.seeds[0], traffic).arrival_s)
    seen = {each.key for each in known}
    keys = [key for key in candidates.others(bounds, requests, seconds, usd) if key not in seen]
    found: Sized | None = None
    most = trials.requests + MOST_REQUESTS
    for key in keys[:MOST_OTHERS]:
        if trials.requests > most:
            break
        candidate = candidates.of(key, Counter())
        if candidate is None or trials.broken_alone(candidate, Copies(1), bounds) is not None:
            continue
        seed = trials.hardest_first(question.seeds, traffic)[0]
        count = most_below(usd, candidate.usd_per_hour)
        if count < 1 or trials.quickly_broken(candidate, Copies(count), seed, bounds, traffic)[1]:
            continue
        cheaper = cheapest(trials, [candidate], question, Counter(), told, usd)
        if cheaper is not None:
            found, usd = cheaper, cheaper.usd_per_hour
    return found
