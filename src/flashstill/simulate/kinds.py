"""What a million tokens cost by kind: found in a prefix cache, prefilled, and put out.

Each pays for the part of the steps that it causes, by the step tables (tables.py):

    output    the decode steps of their batch and contexts
    input     what prompt tokens that are computed add to steps, as if nothing had been found in a cache before them;
              what is computed again after a preemption counts as well, what is then found if nothing was found before,
              and the first token, which comes with its prompt
    cached    what attention to the tokens found in a cache adds to that

Time in which the replicas of a role do nothing is shared in proportion to the time that they work, and so are its
dollars and joules: those of replicas that only prefill fall on prompts, whatever their chips cost.
Then the tokens of each kind, times their price, add up to what all of it costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flashstill.economics.token_kinds import KINDS
from flashstill.economics.token_kinds import per_million as by_kind
from flashstill.simulate.state import BUSY_S, JOULES, PROMPT_J, PROMPT_S, SHARED_J, SHARED_S, Fleet

__all__ = ["KINDS", "caused", "joules_by_kind", "per_million", "seconds_by_kind"]
ALL_REPLICAS = slice(None)
ROUNDING = 1e-9


def per_million(total: float, parts: Mapping[str, float], tokens: Mapping[str, int]) -> dict[str, float | None]:
    """As economics/token_kinds.py, where what was found again after a preemption only counts as input."""
    if not tokens["cached"]:  # found again after a preemption only, in a cache or the host's memory
        parts = {**parts, "cached": 0.0, "input": parts["input"] + parts["cached"]}
    return by_kind(total, parts, tokens)


def caused(roles: Iterable[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """What each kind causes of the totals of several roles, each with its parts in any unit."""
    sums = dict.fromkeys(KINDS, 0.0)
    for total, parts in roles:
        whole = sum(parts.values())
        for kind in KINDS if whole else ():
            sums[kind] += total * parts[kind] / whole
    return sums


def seconds_by_kind(fleet: Fleet, replicas: slice = ALL_REPLICAS) -> dict[str, float]:
    """Busy seconds of replicas."""
    return _by_kind(*(float(fleet.clock[replicas, column].sum()) for column in (BUSY_S, PROMPT_S, SHARED_S)))


def joules_by_kind(fleet: Fleet, replicas: slice = ALL_REPLICAS) -> dict[str, float]:
    """Joules of the steps of replicas."""
    return _by_kind(*(float(fleet.clock[replicas, column].sum()) for column in (JOULES, PROMPT_J, SHARED_J)))


def _by_kind(whole: float, prompts: float, shared: float) -> dict[str, float]:
    decoding = whole - prompts
    if decoding < ROUNDING * whole:  # nothing was decoded after the first tokens, but for what sums of steps round
        decoding = 0.0
    return {"cached": shared, "input": prompts - shared, "output": decoding}
