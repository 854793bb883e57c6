"""The Python face of capacity plans: a fleet shared by today's users and training runs, hour by hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.asking import Edits, FactsLike, check_asked_edits, facts_of
from flashstill.calls import refuses_other_keywords
from flashstill.capacity.answer import CapacityAnswer
from flashstill.capacity.plan import CapacityPlan
from flashstill.capacity.problem import problem_of
from flashstill.capacity.reader import checked, plan_of, read_plan
from flashstill.capacity.solve import Limits, solve
from flashstill.errors import BadInput, shown

if TYPE_CHECKING:
    Plan = str | Path | Mapping[str, Any] | CapacityPlan

__all__ = ["capacity"]
MOST_POINTS = 100


@refuses_other_keywords
def capacity(
    plan: Plan,
    *,
    price: str = "rented",
    rolling_hours: float | None = None,
    gang_gap: float | None = None,
    gang_seconds: float | None = None,
    frontier: Sequence[float] = (),
    told: Callable[[str], None] = lambda text: None,
    facts: FactsLike = (),
    set: Edits | None = None,
) -> CapacityAnswer:
    """How many chip-hours each product and training run gets, hour by hour, by a linear programme that HiGHS solves.

    plan: the path of a PLAN.toml, the same as nested tables, or a `CapacityPlan`.  rolling_hours: solve in windows of
    so many hours, with a bound on the gap (None: only plans that are too large to solve at once).  gang_gap,
    gang_seconds: where the search for gangs of whole sizes ends, in each window [0.02, 5].
    frontier: shares of the demand, between 0 and 1, for each of which the answer says when the runs finish at the
    earliest.  told: called with lines of progress.  price: basis of prices that the plan does not give; price, facts
    and set work as in `predict`.
    A plan that cannot be kept has an answer too: its status is "infeasible", and its violations say what would mend it.
    Raises BadInput, with the key, for a mistake in the plan, MissingFact for an unknown name, and InfeasiblePlan if no
    chip can do a product or a run at all.
    """
    from flashstill.capacity.frontier import frontier_of

    if isinstance(plan, CapacityPlan):
        asked = checked(plan)
    elif isinstance(plan, Mapping):
        asked = plan_of(plan)
    elif isinstance(plan, str | Path):
        asked = read_plan(Path(plan))
    else:
        raise BadInput(f"the plan is {shown(plan)}, not the path of a PLAN.toml or its tables")
    limits = _limits(rolling_hours, gang_gap, gang_seconds)
    shares = _shares(frontier)
    table = facts_of(facts, set)
    names = [kind.chip or kind.name for kind in asked.chips]  # also kinds of one's own, with prices and rates told
    check_asked_edits(table, facts, [name for name in names if table.chip_name(name) is not None])
    problem = problem_of(table, asked, price)
    for name, value in (("gang_gap", gang_gap), ("gang_seconds", gang_seconds)):
        if value is not None and not problem.gangs.any():
            raise BadInput(f"{name} is of gangs, and no run of the plan has one or loses hours as it restarts")
    answer = solve(problem, limits, told)
    return replace(answer, frontier=frontier_of(problem, shares, limits, told)) if shares else answer


def _limits(rolling_hours: float | None, gang_gap: float | None, gang_seconds: float | None) -> Limits:
    usual = Limits()
    gap, seconds = (
        (usual.gap if gang_gap is None else gang_gap),
        (usual.seconds if gang_seconds is None else gang_seconds),
    )
    if rolling_hours is not None and not 0.0 < rolling_hours < float("inf"):
        raise BadInput(f"rolling_hours is {shown(rolling_hours)}, not a number of hours above 0")
    if not 0.0 <= gap < 1.0:
        raise BadInput(f"gang_gap is {shown(gap)}, not a share of at least 0 and below 1")
    if not 0.0 < seconds < float("inf"):
        raise BadInput(f"gang_seconds is {shown(seconds)}, not a number of seconds above 0")
    return Limits(rolling_hours=rolling_hours, gap=gap, seconds=seconds)


def _shares(frontier: Sequence[float]) -> list[float]:
    given: Any = frontier
    if isinstance(given, str) or not all(isinstance(share, int | float) for share in given):
        raise BadInput(f"frontier is {shown(frontier)}, not a list of shares, as [0.5, 1.0]")
    shares = sorted({float(share) for share in frontier})
    for share in shares:
        if not 0.0 <= share <= 1.0:
            raise BadInput(f"frontier holds {share:g}; each number is a share of the demand, between 0 and 1")
    if len(shares) > MOST_POINTS:
        raise BadInput(f"frontier holds {len(shares)} shares; give at most {MOST_POINTS}")
    return shares
