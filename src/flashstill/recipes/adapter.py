"""The table [student.adapter] of a distill.toml: low-rank matrices beside weights that stay as they are (LoRA)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from flashstill.checked import between, sized
from flashstill.recipes.ranges import Dropout, Given, Positive

if TYPE_CHECKING:
    from flashstill.recipes.distillation import DistillRecipe

ADAPTED = ("copy", "depth", "width")
"""kinds of students of which all weights come from a trained model, so that most of them may stay as they are"""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterRecipe:
    """rank: of the two matrices of each layer, 0 to train all weights instead; alpha: their product is multiplied by
    alpha / rank, or alpha / sqrt(rank) with `rslora`; dropout: of their inputs; targets: names of layers, such as
    "q_proj", empty for all linear layers of the blocks; dora: also trains a magnitude per output (DoRA)."""

    rank: Annotated[int, between(0, 65_536)] = 0
    alpha: Positive = 16.0
    dropout: Dropout = 0.0
    targets: Annotated[tuple[Given, ...], sized(0, 1000)] = ()
    rslora: bool = False
    dora: bool = False


def adapter_problems(recipe: DistillRecipe) -> Iterator[str]:
    """Contradictions between an adapter and the rest of the recipe, as sentences."""
    adapter, student = recipe.student.adapter, recipe.student
    if not adapter.rank:
        given = [each.name for each in dataclasses.fields(adapter) if getattr(adapter, each.name) != each.default]
        if given:
            yield f"student.adapter.{given[0]} needs student.adapter.rank, the rank of the matrices; 8 to 64 is usual"
        return
    if student.kind not in ADAPTED:
        yield (
            f"student.adapter trains beside a trained model's weights, and a student of kind {student.kind} begins with"
            f" random ones; choose kind {', '.join(ADAPTED[:-1])} or {ADAPTED[-1]}"
        )
    if student.balance_rate > 0 or student.balance_loss > 0:
        yield "student.adapter leaves the routers as they are; leave student.balance_rate and balance_loss out"
    if student.quantise:
        yield "student.adapter leaves the model's weights alone, and student.quantise trains them; leave one out"
    if recipe.budget.is_set:
        yield "a [budget] measures students that train all weights; leave student.adapter out, or the budget"
