"""The Python face of cascades: a question over a corpus, through stages or by attending to all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.asking import Edits, FactsLike, check_asked_edits, facts_of
from flashstill.calls import plain_value, refuses_other_keywords
from flashstill.codesign.cascade_answer import CascadeAnswer, answer_plan
from flashstill.codesign.cascade_plan import CascadePlan, checked, plan_of, read_plan
from flashstill.errors import BadInput, shown

if TYPE_CHECKING:
    Plan = str | Path | Mapping[str, Any] | CascadePlan

__all__ = ["cascade"]


@refuses_other_keywords
def cascade(
    plan: Plan,
    *,
    price: str = "rented",
    told: Callable[[str], None] = lambda text: None,
    facts: FactsLike = (),
    set: Edits | None = None,
) -> CascadeAnswer:
    """Seconds, joules and dollars of a question over a corpus: through stages, and by attending to all of it.

    plan: the path of a PLAN.toml, the same as nested tables, or a `CascadePlan`.  told: called with lines of progress.
    price, facts and set work as in `predict`.
    The answer holds each stage, the corpus size at which both ways cost the same, long contexts model by model, the
    tiers in which the index could be kept, the cheapest sizes for a recall, and retrieval against parameters.
    Raises BadInput, with the key, for a mistake in the plan, MissingFact for an unknown name, and InfeasiblePlan if a
    stage cannot bear the traffic within its bound.
    """
    if isinstance(plan, CascadePlan):
        asked = checked(plan)
    elif isinstance(plan, Mapping):
        asked = plan_of(_listed(plan))
    elif isinstance(plan, str | Path):
        asked = read_plan(Path(plan))
    else:
        raise BadInput(f"the plan is {shown(plan)}, not the path of a PLAN.toml or its tables")
    table = facts_of(facts, set)
    check_asked_edits(
        table,
        facts,
        [*(stage.chip for stage in asked.stages), *(module.chip for module in asked.modules), *asked.chips],
    )
    return answer_plan(table, asked, price, told)


def _listed(value: Any) -> Any:
    """Tables and lists as TOML has them: of tuples lists, of NumPy's numbers plain ones."""
    if isinstance(value, Mapping):
        return {str(key): _listed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(each) for each in value]
    return plain_value(value)
