"""The answer of a chip search: the design to build, for which future, at what regret, and beside which chips."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flashstill.codesign.described import described, rows_of, served, with_nearest
from flashstill.codesign.finer import alone, refined
from flashstill.codesign.hunt import Found, Hunt, least
from flashstill.codesign.insurance import features_of
from flashstill.codesign.regret import Regrets, largest_of, regrets_of
from flashstill.codesign.screened import screen
from flashstill.codesign.search_front import OBJECTIVES, candidates_of, ends_of, front_of, open_ends, shown
from flashstill.codesign.search_question import REGRET, Question, names_of, tasks_of
from flashstill.economics.tco import terms_of
from flashstill.errors import InfeasiblePlan
from flashstill.facts import Facts
from flashstill.tables import Displayed, Table, cell

UNSERVED = "the design serves no load within the bounds"
Told = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChipSearch(Displayed):
    """best: the design, as `described`, with its cost and how it serves each load. regret: None with one future.

    futures: the best design for each, its cost and the regret of the chosen one.  front: designs by usd, joules and
    latency of the mean over futures, none beaten by another that was priced in full.
    """

    objective: str
    best: dict[str, Any]
    futures: list[dict[str, Any]]
    regret: dict[str, Any] | None
    front: list[dict[str, Any]]
    insurance: list[dict[str, Any]]
    searched: dict[str, Any]
    infeasible: dict[str, int]
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The document that `codesign --search --json` prints."""
        return {
            "objective": self.objective,
            "objectives": OBJECTIVES,
            "best": self.best,
            "futures": self.futures,
            "regret": self.regret,
            "front": self.front,
            "insurance": self.insurance,
            "searched": self.searched,
            "infeasible": self.infeasible,
            "notes": list(self.notes),
        }

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row for each design of the front."""
        return [_flat(one) for one in self.front]

    def _table(self) -> Table:
        rows = [[cell(one["words"]), *(cell(one[name]) for name in OBJECTIVES)] for one in self.front]
        return Table(("design", *OBJECTIVES), rows, f"{len(self.front)} designs on the front")


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in document.items() if not isinstance(value, dict)}
    return {**flat, **document["chip"]}


def answer_search(
    facts: Facts, question: Question, notes: Sequence[str] = (), told: Told = lambda text: None
) -> ChipSearch:
    """The search; InfeasiblePlan, with the reasons counted, if no design serves what is asked.

    told: called with lines of progress.  Raises MissingFact for nodes, memories or formats without rows.
    """
    began = time.process_time()
    tasks, terms = tasks_of(question), terms_of(facts)
    told(f"bounding {question.space.size:,} designs from below, each at {len(tasks.loads)} loads")
    screened = screen(facts, question.space, tasks.loads, tasks.wanted, terms)
    screening_s = time.process_time() - began
    hunt = Hunt(facts=facts, space=question.space, loads=tasks.loads, wanted=tasks.wanted, terms=terms,
                screened=screened)  # fmt: skip
    told(f"pricing those of {screened.buildable:,} that may be the best for {', '.join(names_of(question.futures))}")
    futures, chances = list(range(len(question.futures))), [one.probability for one in question.futures]
    found = regrets_of(hunt, futures, chances)
    reasons = Counter(screened.reasons)
    mean = least(hunt, [tasks.mean[question.base]])
    chosen = mean if question.objective != REGRET else found.minimax
    if chosen is None or chosen.design < 0:
        reasons += Counter({UNSERVED: screened.buildable})  # a count of 0 is left out
        lost = [future.name for future, one in zip(question.futures, found.best, strict=True) if one.design < 0]
        words = f" in the future {lost[0]!r}" if len(question.futures) > 1 and lost else ""
        raise InfeasiblePlan(
            f"none of {question.space.size} designs serves the mix{words} within these bounds", reasons
        )
    reasons[UNSERVED] = int(np.isinf(screened.bounds[tasks.mean[question.base]]).sum()) - sum(screened.reasons.values())
    told("pricing the front of dollars, joules and latency")
    bests = ends_of(hunt, tasks.mean, question.base, mean)
    told("moving the best designs between the points of the grid")
    named = np.unique([*candidates_of(hunt, tasks.mean, bests), *found.chosen, chosen.design])
    finer = refined(hunt, chances, {place: bests[name] for name, place in tasks.mean.items()}, found,
                    tasks.mean[question.base], named, chosen.design)  # fmt: skip
    coarse, hunt = hunt, finer.hunt
    found = regrets_of(hunt, futures, chances)
    mean = least(hunt, [tasks.mean[question.base]])
    chosen = found.minimax if question.objective == REGRET and found.minimax else mean
    finest = ends_of(hunt, tasks.mean, question.base, mean)
    front = front_of(hunt, tasks.mean, finest)
    asked = futures if question.objective == REGRET else [tasks.mean[question.base]]
    combined = largest_of([one.cost for one in found.best]) if question.objective == REGRET else alone
    before, after = combined([hunt.cost(future, np.array([finer.start, chosen.design])) for future in asked])
    told("what could be added to the best design")
    names = names_of(question.futures)
    insured = features_of(hunt, chosen.design, futures, names, chances)
    best = with_nearest(facts, described(hunt, chosen.design))
    volume = tasks.wanted[tasks.mean[question.base]].volume
    return ChipSearch(
        objective=question.objective,
        best={
            **best,
            "cost": shown(hunt.cost(tasks.mean[question.base], np.array([chosen.design]))[0], question.base),
            "loads": served(hunt, chosen.design, volume, question.base, range(len(tasks.loads))),
            "rows": rows_of(hunt, chosen.design),
        },
        futures=_futures(hunt, question, found, chosen),
        regret=_regret(question, hunt, found),
        front=front,
        insurance=[one.as_dict() for one in insured],
        searched={
            "designs": question.space.size,
            "can_be_made": screened.buildable,
            "priced_in_full": coarse.priced + finer.priced,
            "refined": finer.priced,
            "refined_saves": float(1.0 - after / before),
            "deployments_of_each": sum(int(np.prod(load.chosen.shape)) for load in tasks.loads),
            "screening_cpu_s": screening_s,
            "cpu_s": time.process_time() - began,
        },
        infeasible={name: count for name, count in reasons.items() if count},
        notes=(*notes, *open_ends(bests, {name: one.cost for name, one in finest.items()})),
    )


def _futures(hunt: Hunt, question: Question, found: Regrets, chosen: Found) -> list[dict[str, Any]]:
    rows = []
    for place, (future, best) in enumerate(zip(question.futures, found.best, strict=True)):
        mine = float(hunt.cost(place, np.array([chosen.design]))[0])
        rows.append(
            {
                "name": future.name,
                "kind": future.kind,
                "probability": future.probability,
                "best": described(hunt, best.design) if best.design >= 0 else None,
                "cost": shown(best.cost, question.base),
                "chosen_cost": shown(mine, question.base),
                "chosen_regret": mine / best.cost - 1.0 if np.isfinite(mine) else None,
                "notes": list(future.notes),
            }
        )
    return rows


def _regret(question: Question, hunt: Hunt, found: Regrets) -> dict[str, Any] | None:
    """The table: designs that are best for something, and what each costs more than the best in every future."""
    if len(question.futures) < 2:
        return None
    names, table = names_of(question.futures), found.regrets
    roles: dict[int, list[str]] = {}
    for name, one in zip((*names, "least largest regret", "least mean regret"),
                         (*found.best, found.minimax, found.mean), strict=True):  # fmt: skip
        if one is not None and one.design >= 0:
            roles.setdefault(one.design, []).append(name)
    chances = np.array([one.probability for one in question.futures])
    rows = []
    for design, regrets in zip(found.chosen, table, strict=True):
        finite = [float(value) if np.isfinite(value) else None for value in regrets]
        served_all = all(value is not None for value in finite)
        rows.append(
            {
                "best_for": roles[design],
                "design": described(hunt, design),
                "regret": dict(zip(names, finite, strict=True)),
                "largest": float(regrets.max()) if served_all else None,
                "mean": float((chances * regrets).sum()) if served_all else None,
            }
        )
    return {
        "designs": rows,
        "minimax": found.minimax.design if found.minimax else None,
        "mean": found.mean.design if found.mean else None,
        "guessed_wrong": _guessed_wrong(names, found),
    }


def _guessed_wrong(names: Sequence[str], found: Regrets) -> dict[str, dict[str, float | None]]:
    """Built for one future, and another comes: the share by which its tokens cost more than on that one's best chip."""
    rows = dict(zip(found.chosen, found.regrets, strict=True))
    return {
        name: {
            other: float(value) if np.isfinite(value) else None
            for other, value in zip(names, rows[one.design], strict=True)
        }
        for name, one in zip(names, found.best, strict=True)
        if one.design >= 0
    }
