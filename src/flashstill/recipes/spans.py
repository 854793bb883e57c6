"""Recipes whose student has another tokenizer than its teacher (align = "spans")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flashstill.recipes.distillation import DistillRecipe

ALIGNMENTS = ("", "spans")
OVER_SPANS = ("uld", "gold")
"""losses over spans only; GOLD takes a beta after a colon"""


def unlike_a_span_loss(name: str) -> bool:
    """Whether a name is none of "uld", "gold" and "gold:BETA" with beta from 0 to below 1."""
    kind, mark, beta = name.partition(":")
    if kind != "gold" or not mark:
        return name not in OVER_SPANS
    try:
        return not 0.0 <= float(beta) < 1.0
    except ValueError:
        return True


def spans_problems(recipe: DistillRecipe) -> Iterator[str]:
    """Contradictions between the alignment and the rest of the recipe, as sentences."""
    student = recipe.student
    if recipe.align != "spans":
        for loss in recipe.losses:
            if loss.divergence.partition(":")[0] in OVER_SPANS:
                yield f'the loss {loss.divergence} compares spans of two tokenizers; set align = "spans"'
        if student.tokenizer:
            yield 'student.tokenizer is for a student with another tokenizer than its teacher; set align = "spans"'
        return
    if student.kind == "scratch" and not student.tokenizer:
        yield "student.tokenizer must name the directory of the tokenizer of a student of kind scratch"
    if student.kind != "scratch" and student.tokenizer:
        yield f"a student of kind {student.kind} has the tokenizer of its model; leave student.tokenizer out"
    if student.kind != "scratch" and not student.model:
        yield 'align = "spans" is for a student made of another model than its teacher; name it with student.model'
    if recipe.signals.kind in ("sampled", "topk"):
        yield (
            f'signals of kind {recipe.signals.kind} know some ids of the teacher\'s vocabulary only; align = "spans"'
            " needs kind hidden or none"
        )
    if any(teacher.served for teacher in recipe.teachers):
        yield 'a teacher behind a server gives its likeliest ids only; align = "spans" needs a local teacher'
    if recipe.regime.kind != "offline":
        yield f'align = "spans" aligns the text as it is: regime.kind must be offline, not {recipe.regime.kind}'
    if recipe.routed:
        yield 'align = "spans" has one text for all teachers; leave out the data of the teachers'
    if recipe.budget.is_set:
        yield 'a [budget] measures students with the teacher\'s tokenizer; leave it out, or align = "spans"'
