"""Runs one seed stage by stage; its figures and records, and the values that the study claims."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from flashstill.progress import Progress
from flashstill.recipes.thinking import ThinkingStudy
from flashstill.studies.deep_think.arms import POLICY, Taught, Tried, arms, examined, main_arm, teach
from flashstill.studies.deep_think.further import policy, rounds
from flashstill.studies.deep_think.ledger import ledger, spent, usd_per_token
from flashstill.studies.deep_think.records import model_records
from flashstill.studies.deep_think.work import Attempted, Work
from flashstill.studies.seeds import RECORDS, Bar, Result


def bars(recipe: ThinkingStudy) -> dict[str, Bar]:
    """What a recipe claims."""
    return {name: Bar(least=least) for name, least in recipe.claims.items()}


def run(recipe: ThinkingStudy, seed: int, out: Path, progress: Progress) -> Result:
    """Run one seed: problems, teacher, attempts, verdicts, arms, figures."""
    with Work(recipe, seed, out, progress) as work:
        return _run(work)


def _run(work: Work) -> Result:
    from flashstill.distill.models import fingerprint
    from flashstill.evaluate.problems import harder_half, many_attempts, one_pass, quality_records
    from flashstill.records import Record, write_records

    think, seed = work.recipe.think, work.seed
    at_test = think.test_attempts or think.attempts
    model = work.teacher  # trained here if it does not exist yet; the fingerprint below needs it
    known_as = work.teacher_known_as
    greedy = work.attempted(model, known_as, "train", 1, True) if "unverified" in think.arms else None
    sampled = work.attempted(model, known_as, "train", think.attempts)
    test_greedy, test = (work.attempted(model, known_as, "test", n, n == 1) for n in (1, at_test))
    hard = harder_half(test.verdicts)
    teacher = one_pass(test_greedy.chains, test_greedy.verdicts, hard)
    attempts = many_attempts(test.chains, test.verdicts, seed, hard)

    students: dict[str, dict[str, Any]] = {}
    learners = {arm.name: arm for arm in arms(work, greedy, sampled)}
    taught = {name: teach(work, arm) for name, arm in learners.items()}
    last = f"verified-{think.attempts}"
    taught |= rounds(work, learners[last].rows, taught[last].directory)
    if work.recipe.policy.steps:
        before = taught[f"round-{think.rounds}" if think.rounds else last]
        taught[POLICY] = policy(work, before.directory)
    main = main_arm(work)
    passes: dict[str, Attempted] = {}
    for name, each in taught.items():
        figures, passes[name] = examined(work, each.directory, hard)
        students[name] = {**figures, "rows": each.rows}
    place = taught[main].directory
    own = work.attempted(work.loaded(place), fingerprint(place), "test", at_test)
    own_costs = _own_attempts(work, taught)
    details = {
        "teacher_params": _teacher_parameters(work),
        "student_params": _parameters(taught[main].directory),
        "teacher_greedy": teacher,
        "teacher_best_of": attempts["best_of"],
        "teacher_majority_of": attempts["majority_of"],
        "student_greedy": students,
        "student": main,
        "student_best_of": many_attempts(own.chains, own.verdicts, seed, hard)["best_of"],
        "problems": {name: len(problems) for name, problems in work.problems.items()},
        "usd_per_token": _prices(work, taught[main].directory),
        "ledger": _ledger(work, sampled, students[last]["rows"]),
        "own_attempts": own_costs,
    }  # fmt: skip
    records: list[Record] = [*model_records(work, taught)]
    records += quality_records("teacher", {"accuracy": teacher}, "test")
    records += quality_records("teacher", {f"best_of_{n}": each for n, each in attempts["best_of"].items()}, "test")
    for name, figures in students.items():
        records += quality_records(name, {"accuracy": figures}, "test")
    write_records(work.out / RECORDS, records)
    measures = _measures(teacher, attempts, students, main)
    measures |= _over_greedy(test_greedy, passes[main])
    return Result(measures=measures | _own_costs(own_costs), details=details)


def _teacher_parameters(work: Work) -> int:
    """Number of parameters of the teacher: counted, or from config.json if it is served."""
    from flashstill.arch.catalogue import read_config

    if not work.recipe.teacher.served:
        return int(work.teacher.num_parameters())
    return round(read_config(work.teacher_directory / "config.json", "teacher").parameters)


def _parameters(place: Path) -> int:
    from flashstill.distill.models import STORED, load_model

    return int(load_model(place, STORED).num_parameters())


def _measures(
    teacher: dict[str, Any], attempts: dict[str, Any], students: dict[str, dict[str, Any]], main: str
) -> dict[str, float | None]:
    ours = students[main]
    found: dict[str, float | None] = {"teacher_greedy": teacher["value"]}
    found |= {f"teacher_best_of_{n}": each["value"] for n, each in attempts["best_of"].items() if int(n) > 1}
    found |= {f"student_{name}": figures["value"] for name, figures in students.items()}
    found |= {
        "hard_half_teacher_greedy": teacher["hard_half"]["value"],
        "hard_half_student": ours["hard_half"]["value"],
        "gain_over_teacher_greedy": ours["value"] - teacher["value"],
    }
    if "4" in attempts["best_of"]:
        found["gain_over_teacher_best_of_4"] = ours["value"] - attempts["best_of"]["4"]["value"]
    if "unverified" in students:
        plain = students["unverified"]
        apart = math.hypot(ours["se"], plain["se"])
        found["gain_over_unverified"] = ours["value"] - plain["value"]
        found["standard_errors_over_unverified"] = (ours["value"] - plain["value"]) / apart if apart else None
    return found


def _over_greedy(teacher: Attempted, student: Attempted) -> dict[str, float | None]:
    """The student's gain over the teacher's greedy pass in standard errors of the difference problem by problem; None
    where every problem has the same difference, as of one problem."""
    apart = student.verdicts.right[:, 0].astype(float) - teacher.verdicts.right[:, 0]
    se = apart.std(ddof=1) / math.sqrt(len(apart)) if len(apart) > 1 else 0.0
    return {"standard_errors_over_teacher_greedy": float(apart.mean() / se) if se else None}


def _own_attempts(work: Work, taught: dict[str, Taught]) -> dict[str, dict[str, Any]]:
    """What the student's own attempts cost, by stage; training is not in it, nor what the teacher's cost."""
    return {
        name: spent(
            each.directory / "config.json", _parameters(each.directory), work.recipe.chip, each.own.read,
            each.own.thought, each.own.chains, each.own.judged,
        ) | _found(each.own)
        for name, each in taught.items() if each.own is not None
    }  # fmt: skip


def _found(own: Tried) -> dict[str, int]:
    """What a round of own attempts found."""
    found = {"problems_solved": own.solved, "answers_not_learned_before": own.unlearned}
    return {name: count for name, count in found.items() if count is not None}


def _own_costs(spent_by: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Thousands of tokens and of verdicts of each stage."""
    found: dict[str, float] = {}
    for name, each in spent_by.items():
        found[f"thousand_tokens_of_{name}"] = each["tokens_thought"] / 1e3
        found[f"thousand_verdicts_of_{name}"] = each["verifier_calls"] / 1e3
    return found


def _prices(work: Work, student: Path) -> dict[str, float | None]:
    """Dollars per decoded token of teacher and student, at the end of their context."""
    places = {"teacher": work.teacher_directory, "student": student}
    return {
        name: usd_per_token(place / "config.json", work.recipe.chip, work.positions) for name, place in places.items()
    }


def _ledger(work: Work, sampled: Attempted, kept: int) -> dict[str, Any]:
    chains = sampled.chains
    read = sum(len(row) for row in work.prompts("train")) * chains.attempts
    return ledger(
        work.teacher_directory / "config.json", _teacher_parameters(work), work.recipe.chip, read,
        int(chains.lengths.sum()), chains.lengths.size, sampled.verdicts.counts, kept,
    )  # fmt: skip
