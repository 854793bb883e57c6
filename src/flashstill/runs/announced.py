"""What a run with a time limit decided to do, in lines for its reader, before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashstill.runs.costs import Spent

if TYPE_CHECKING:
    from flashstill.distill.models.arithmetic import Arithmetic
    from flashstill.recipes import FamilyRecipe


def lines_of(
    recipe: FamilyRecipe, arithmetic: Arithmetic, read_s: float, parts: Spent, total_s: float, is_least: bool
) -> list[str]:
    """The decided amounts, each with its seconds. recipe: with those amounts.  read_s: of a token by the teacher.

    is_least: whether less would show nothing, however few the minutes are.
    """
    students = ", ".join(f"{student.name} {recipe.tokens_of(student):,}" for student in recipe.students)
    controls = ", each with its control" if recipe.control else ""
    judged_tokens = (recipe.text.heldout_tokens, recipe.text.out_of_domain_tokens)
    taught = recipe.text.train_tokens + sum(judged_tokens)
    searched = next((student.search for student in recipe.students if student.kind == "depth"), None)
    how = "" if searched is None else ", blocks to drop by influence"
    if searched is not None and searched.method == "greedy":
        how = f", blocks to drop by {searched.candidates} candidates on {searched.windows} windows"
    lines = [
        f"{arithmetic}; the teacher reads {1.0 / read_s:,.0f} tokens/s here, so:",
        f"  text, and signals of {taught:,} tokens: {parts.text + parts.signals:,.0f} s",
        f"  first weights of the students{how}: {parts.search:,.0f} s",
        f"  training tokens: {students}{controls}: {parts.training:,.0f} s",
        f"  evaluation on {judged_tokens[0]:,} and {judged_tokens[1]:,} tokens: {parts.evaluation:,.0f} s",
        f"  measuring the models here: {parts.measuring:,.0f} s; costs and report: {parts.report:,.0f} s",
        f"  in all about {total_s / 60.0:.1f} minutes (of {recipe.minutes:g}), set-up apart",
    ]
    if recipe.evaluate.tasks:
        items = f"up to {recipe.evaluate.items:,}" if recipe.evaluate.items else "all"
        lines.append(
            f"  tasks ({items} items of each) come on top, whatever the minutes are: evaluate.items bounds them"
        )
    if is_least and total_s > 1.3 * 60.0 * recipe.minutes:
        lines.append(f"  this is the least that shows anything; {recipe.minutes:g} minutes are too few here")
    return lines
