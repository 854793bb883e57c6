"""The cheapest pools of prefill and decode: the best pairs of layouts, each with as few of both as keep the bounds.

Where a fleet breaks a bound, the pool that is to blame grows (blame.py).  Then both shrink as far as the bounds are
kept, and one more of either is tried where it saves others that cost more.  The result keeps the bounds under every
seed, and one fewer of either pool breaks one.  That no other numbers of the two are cheaper is not certain: where the
wrong pool was blamed, there may be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from flashstill.fleets.blame import DECODE, PREFILL, ROLES, blamed, is_alone_to_blame, to_grow
from flashstill.fleets.copies import Candidate, Copies
from flashstill.fleets.pairs import Pair
from flashstill.fleets.search import ALONE, IDLE, MOST_REPLICAS, Question, Sized, most_below
from flashstill.fleets.trials import Broken, Trials

PLENTY = 4
"""decode replicas in plenty, over the guess"""


def cheapest_apart(
    trials: Trials,
    pairs: Iterable[Pair],
    question: Question,
    dear: float,
    reasons: Counter[str],
    told: Callable[[str], None] = lambda text: None,
    most_requests: float = math.inf,
) -> Sized | None:
    """The cheapest sized pair below `dear` dollars per hour; None if there is none. most_requests: that are simulated,
    but for the last pair."""
    best: Sized | None = None
    most = trials.requests + most_requests
    for pair in pairs:
        if trials.requests > most:
            break
        alone = trials.broken_alone(pair.candidate, pair.guess, question.bounds)
        if alone is not None:
            reasons[ALONE.format(alone.metric)] += 1
            continue
        told(f"{pair.guess.replicas} x {pair.candidate.name} x {pair.guess.prefills}")
        copies = fewest_of_both(trials, pair.candidate, question, pair.least, pair.guess, dear)
        if copies is not None:
            best = Sized(candidate=pair.candidate, copies=copies)
            if question.coarse:
                trials.needed[pair.candidate.key, question.bounds] = question.traffic.times, copies
            dear = best.usd_per_hour
    return best


def hopeful_first(
    trials: Trials, pairs: Iterable[Pair], question: Question, dear: float, most_requests: float
) -> Iterator[Pair]:
    """The pairs, those last whose prefill layout breaks a TTFT bound even with as many instances as cost `dear` dollars
    per hour, beside decode replicas in plenty: one run for each layout. most_requests: that are simulated."""
    last: list[Pair] = []
    is_late: dict[tuple[int, ...], bool] = {}
    most = trials.requests + most_requests
    for pair in pairs:
        if trials.requests > most:
            return
        layout = pair.candidate.key[2:]
        if layout not in is_late:
            is_late[layout] = _is_late_in_plenty(trials, pair, question, dear)
        if is_late[layout]:
            last.append(pair)
        else:
            yield pair
    yield from last


def _is_late_in_plenty(trials: Trials, pair: Pair, question: Question, dear: float) -> bool:
    candidate, bounds, traffic = pair.candidate, question.bounds, question.traffic
    if candidate.prefill is None or trials.broken_alone(candidate, pair.guess, bounds) is not None:
        return True
    count = most_below(dear, candidate.prefill.usd_per_hour)
    copies = Copies(PLENTY * pair.guess.replicas, max(min(count, MOST_REPLICAS), 1))
    seed = trials.hardest_first(question.seeds, traffic)[0]
    trial, broken = trials.quickly_broken(candidate, copies, seed, bounds, traffic)
    return any(each.name.startswith("ttft") and blamed(trial, each) == PREFILL for each in broken)


def explained(trials: Trials, best: Sized, question: Question) -> Sized:
    """A sized pair with what one fewer of either role breaks."""
    fewer = {role: _fewer(trials, best, question, role) for role in ROLES}
    return Sized(candidate=best.candidate, copies=best.copies, fewer=fewer[DECODE], fewer_prefills=fewer[PREFILL])


def fewest_of_both(
    trials: Trials, candidate: Candidate, question: Question, least: Copies, guess: Copies, dear: float = math.inf
) -> Copies | None:
    """As few of both as keep the bounds under all seeds; None if they would cost `dear` dollars per hour."""
    hard = trials.hardest_first(question.seeds, question.traffic)[:1]  # all that were: one alone could go in a circle
    found = _fewest(trials, candidate, question, hard, least, guess, dear)
    while found is not None:
        seeds = trials.hardest_first(question.seeds, question.traffic)
        harder = trials.keeps(candidate, found, seeds, question.bounds, question.traffic)
        if harder is None:
            if question.coarse:
                return found
            smaller = next((less for less in _less(found) if _keeps(trials, candidate, question, less)), None)
            if smaller is None:
                return found
            found = smaller
        else:
            hard.insert(0, harder)
            trials.note_hard(harder, question.traffic)
            found = _fewest(trials, candidate, question, hard, least, found, dear)
    return None


def _keeps(trials: Trials, candidate: Candidate, question: Question, copies: Copies) -> bool:
    bounds, traffic = question.bounds, question.traffic
    seeds = trials.hardest_first(question.seeds, traffic)
    return not any(trials.quickly_broken(candidate, copies, seed, bounds, traffic)[1] for seed in seeds)


def _less(copies: Copies) -> list[Copies]:
    """One fewer of each."""
    return [copies._replace(**{role: count - 1}) for role, count in copies._asdict().items() if count > 1]


def _fewest(
    trials: Trials, candidate: Candidate, question: Question, seeds: Sequence[int], least: Copies, guess: Copies,
    dear: float,
) -> Copies | None:  # fmt: skip
    """The same under some of the seeds."""
    low, copies, bounds, traffic = least, guess, question.bounds, question.traffic
    layouts = dict(zip(ROLES, (candidate.key[:2], candidate.key[2:]), strict=True))
    for role in ROLES:  # what another pair with this layout has shown
        known = max(trials.too_few(role, layouts[role], seed, bounds, traffic) for seed in seeds)
        low = low._replace(**{role: max(getattr(low, role), known + 1)})

    def fits(some: Copies) -> bool:
        joined = candidate.prefill is None or candidate.chips_of(some) <= candidate.prefill.chips_joined
        return joined and candidate.usd_of(some) < dear * (1.0 - 1e-9)

    def keeps(some: Copies) -> bool:
        return not any(trials.quickly_broken(candidate, some, seed, bounds, traffic)[1] for seed in seeds)

    while True:
        if not fits(low):
            return None
        copies = _within(low, copies, fits)
        tried = ((seed, *trials.quickly_broken(candidate, copies, seed, bounds, traffic)) for seed in seeds)
        first = next((each for each in tried if each[2]), None)
        if first is None:
            break
        seed, trial, broken = first
        if max(trial.busy, trial.prefill_busy) < IDLE or max(copies) >= MOST_REPLICAS:
            return None
        role, is_link = to_grow(trials, candidate, copies, seed, traffic, trial, broken[0])
        count = getattr(copies, role)
        if not is_link and is_alone_to_blame(trial, bounds, broken[0]):  # a network is not of a layout
            trials.note_too_few(role, layouts[role], seed, bounds, traffic, broken[0], count)
        factor = min(max(1.0 + 0.4 * (broken[0].ratio - 1.0), 1.1), 2.0)
        low = low._replace(**{role: count + 1})
        copies = copies._replace(**{role: max(count + 1, int(count * factor))})
    for role in sorted(ROLES, key=lambda role: role == PREFILL):
        copies = _shrunk(copies, low, role, keeps, question.coarse)
    if question.coarse:
        return copies
    cheaper: Copies | None = copies
    while cheaper is not None:
        copies = cheaper
        swaps = (_swapped(candidate, copies, least, role) for role in ROLES)
        cheaper = next((each for each in swaps if each is not None and keeps(each)), None)
    return copies


def _within(low: Copies, copies: Copies, fits: Callable[[Copies], bool]) -> Copies:
    """The copies, or fewer of them that cost little enough: first of those that are further above their least."""
    copies = Copies(*(max(pair) for pair in zip(low, copies, strict=True)))
    while not fits(copies):
        role = max(ROLES, key=lambda role: getattr(copies, role) / getattr(low, role))
        copies = copies._replace(**{role: getattr(copies, role) - 1})
    return copies


def _shrunk(copies: Copies, low: Copies, role: str, keeps: Callable[[Copies], bool], coarse: float) -> Copies:
    """As few of one role as keep the bounds beside as many of the other."""
    kept, broken = getattr(copies, role), getattr(low, role) - 1
    while kept - broken > max(1, int(coarse * kept)):
        middle = min(max((kept + broken) // 2, int(0.85 * kept)), kept - 1)
        kept, broken = (middle, broken) if keeps(copies._replace(**{role: middle})) else (kept, middle)
    return copies._replace(**{role: kept})


def _swapped(candidate: Candidate, copies: Copies, least: Copies, more: str) -> Copies | None:
    """One more of a role, and as many fewer of the other as make it cheaper."""
    other = PREFILL if more == DECODE else DECODE
    raised = copies._replace(**{more: getattr(copies, more) + 1})
    while candidate.usd_of(raised) >= candidate.usd_of(copies) * (1.0 - 1e-9):
        count = getattr(raised, other) - 1
        if count < getattr(least, other):
            return None
        raised = raised._replace(**{other: count})
    return raised


def _fewer(trials: Trials, best: Sized, question: Question, role: str) -> tuple[Broken, int] | None:
    """What one fewer of a role breaks, and under which seed; None if there is only one."""
    less = best.copies._replace(**{role: getattr(best.copies, role) - 1})
    if min(less) < 1:
        return None
    seed = trials.keeps(best.candidate, less, question.seeds, question.bounds, question.traffic)
    if seed is None:
        return None
    return trials.broken(best.candidate, less, seed, question.bounds, question.traffic)[0], seed
