"""Does silicon of one's own pay? Designs of each variant and node against the best that can be rented or bought.

Of the nodes of a variant, and of the variants, the one is taken that is worth most at the volume; where none pays, the
one that would pay at the lowest volume; where none ever would, the one with the fewest dollars a token at the volume.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.asic.alternative import RENTED, Alternative, options, within
from flashstill.asic.design import HARDWIRED
from flashstill.asic.designing import design_chip, with_design
from flashstill.asic.document import variant_document
from flashstill.asic.point import Point, best_point, candidates_of
from flashstill.asic.question import Question, check_question, node_nm
from flashstill.asic.rows import deployment_of
from flashstill.asic.trial import Trial, VariantAnswer, record_of
from flashstill.asic.verdict import verdict
from flashstill.errors import InfeasiblePlan
from flashstill.facts import Facts
from flashstill.progress import Advance, Progress, Silent
from flashstill.tables import Displayed, Table, cell
from flashstill.units import short_count

_TRIAL_DRAWS = 4096
CONCURRENCIES = (16, 128, 1024)
"""sequences that a machine is sized for, if not asked for"""


@dataclass(frozen=True, kw_only=True, slots=True)
class AsicAnswer(Displayed):
    """Variants, the best first. infeasible: for each variant that cannot be, the reasons counted."""

    question: Question
    variants: tuple[VariantAnswer, ...]
    infeasible: dict[str, dict[str, int]]

    @property
    def best(self) -> VariantAnswer:
        """The variant that is worth most."""
        return self.variants[0]

    def as_dict(self) -> dict[str, Any]:
        """The document that `asic --json` prints: the best variant's figures, and every variant's."""
        each = {one.variant: variant_document(one) for one in self.variants}
        return {
            **each[self.best.variant],
            "tokens_per_day": self.question.tokens_per_day,
            "draws": self.question.draws,
            "decided": self.question.decided.isoformat(),
            "variants": each,
            "infeasible": self.infeasible,
        }

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per variant: what was chosen, and its figures with intervals."""
        return [record_of(one) for one in self.variants]

    def _table(self) -> Table:
        rows = self.as_records()
        pays = "pays" if self.best.verdict.pays else "does not pay"
        title = f"{self.question.model.name}, {short_count(self.question.tokens_per_day)} tokens a day: {pays}"
        return Table(tuple(rows[0]), [[cell(value) for value in row.values()] for row in rows], title)


def answer(facts: Facts, question: Question, progress: Progress | None = None) -> AsicAnswer:
    """Answer the question. progress: shows how far the search for designs is.

    Raises BadInput for an impossible question, and InfeasiblePlan with counted reasons if no design or no alternative
    serves the model within the bounds.
    """
    check_question(facts, question)
    answers: list[VariantAnswer] = []
    refused: dict[str, dict[str, int]] = {}
    searches = 1 + len(question.variants) * (len(question.nodes) + len(_sizes(question)) - 1)
    with (progress or Silent()).task("search alternatives and designs", searches, "searches") as advance:
        found = options(
            facts, question.scenario, question.alternatives, question.bases, question.precision, question.kv_precision
        )
        waiting = _waiting(facts, question, found)
        advance(1.0)
        for variant in question.variants:
            one, reasons = _variant(facts, question, variant, found, waiting, advance)
            if one is None:
                refused[variant] = reasons
            else:
                answers.append(one)
    if not answers:
        counted = sum((Counter(reasons) for reasons in refused.values()), Counter[str]())
        tried = " or ".join(question.variants)
        raise InfeasiblePlan(f"no {tried} chip serves {question.model.name} within these bounds", dict(counted))
    return AsicAnswer(
        question=question, variants=tuple(sorted(answers, key=lambda each: each.rank)), infeasible=refused
    )


def _variant(
    facts: Facts,
    question: Question,
    variant: str,
    found: Sequence[Alternative],
    waiting: Alternative | None,
    advance: Advance,
) -> tuple[VariantAnswer | None, dict[str, int]]:
    """The best design of a variant, or None; and why designs were refused, counted."""
    reasons: Counter[str] = Counter()
    nodes: dict[str, Trial] = {}
    sizes = _sizes(question)
    for number, nanometres in enumerate(sorted({node_nm(facts, node) for node in question.nodes}, reverse=True)):
        trials = [_trial(facts, question, variant, nanometres, size, found, waiting, reasons) for size in sizes]
        possible = [trial for trial in trials if trial is not None]
        if possible:
            best = min(possible, key=lambda trial: trial.rank)
            nodes[f"n{nanometres}"] = best
            sizes = (best.design.concurrency,)  # of the coarsest node that can be; the others are sized for as many
        advance(1.0 if number else float(len(_sizes(question))), f"{variant} n{nanometres}")
    if not nodes:
        return None, dict(reasons)
    best = min(nodes.values(), key=lambda trial: trial.rank)
    return (
        VariantAnswer(
            question=question,
            best=best,
            verdict=verdict(best.point.decision, question.tokens_per_day, question.draws, question.seed),
            nodes=nodes,
            latency=_as_quick(facts, question, best, found, waiting),
            infeasible=dict(reasons),
        ),
        dict(reasons),
    )


def _waiting(facts: Facts, question: Question, found: Sequence[Alternative]) -> Alternative | None:
    """The cheapest that can be rented, for the weeks in which a hard-wired fleet has no chips; None without one."""
    rented = [one for one in found if one.rented]
    if rented or HARDWIRED not in question.variants:
        return next(iter(rented), None)
    for names in dict.fromkeys((question.alternatives, ())):  # any, if none of those that are named can be rented
        try:
            return options(facts, question.scenario, names, (RENTED,), question.precision, question.kv_precision)[0]
        except InfeasiblePlan:
            continue
    return None


def _sizes(question: Question) -> tuple[int, ...]:
    """Sequences that machines are sized for."""
    return question.concurrency or CONCURRENCIES


def _trial(
    facts: Facts,
    question: Question,
    variant: str,
    nanometres: int,
    concurrency: int,
    alternatives: Sequence[Alternative],
    waiting: Alternative | None,
    reasons: Counter[str],
) -> Trial | None:
    """One design and its verdict; None, with its reasons counted, if it cannot be."""
    try:
        design = design_chip(
            facts, question.model, variant=variant, node=f"n{nanometres}", precision=question.precision,
            kv_precision=question.kv_precision, concurrency=concurrency, isl=question.isl, osl=question.osl,
            max_tpot_s=question.max_tpot_s, max_ttft_s=question.max_ttft_s, memory=question.memory,
            name=f"own-{variant}-n{nanometres}",
        )  # fmt: skip
        with_chip = with_design(facts, design)
        machine = deployment_of(design)
        found = candidates_of(with_chip, design, question.scenario, machine)
    except InfeasiblePlan as error:
        reasons.update(error.reasons or {str(error): 1})
        return None
    point = best_point(with_chip, design, question.scenario, found, within(alternatives), waiting)
    return _judged(question, point)


def _judged(question: Question, point: Point) -> Trial:
    draws = min(question.draws, _TRIAL_DRAWS)
    return Trial(point=point, verdict=verdict(point.decision, question.tokens_per_day, draws, question.seed))


def _as_quick(
    facts: Facts, question: Question, best: Trial, found: Sequence[Alternative], waiting: Alternative | None
) -> Trial | None:
    """The same design against alternatives that take no longer for an output token; None if there are none."""
    chosen = best.point.candidate
    quick = within(found, chosen.prediction.tpot_s)
    if not quick:
        return None
    with_chip = with_design(facts, best.design)
    return _judged(question, best_point(with_chip, best.design, question.scenario, [chosen], quick, waiting))
