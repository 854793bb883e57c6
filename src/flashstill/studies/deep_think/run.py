"""Runs one seed stage by stage; its figures and records, and the values that the study claims."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from flashstill.progress import Progress
from flashstill.recipes.thinking import ThinkingStudy
from flashstill.studies.deep_think.arms import arms, examined, main_arm, rounds, teach
from flashstill.studies.deep_think.ledger import ledger, usd_per_token
from flashstill.studies.deep_think.records import model_records
from flashstill.studies.deep_think.work import Attempted, Work
from flashstill.studies.seeds import RECORDS, Bar, Result

BARS = {"gain_over_teacher_greedy": Bar(least=0.05), "standard_errors_over_unverified": Bar(least=3.0)}


def run(recipe: ThinkingStudy, seed: int, out: Path, progress: Progress) -> Result:
    """Run one seed: problems, teacher, attempts, verdicts, arms, figures."""
    with Work(recipe, seed, out, progress) as work:
        return _run(work)


def _run(work: Work) -> Result:
    from flashstill.evaluate.problems import harder_half, many_attempts, one_pass, quality_records
    from flashstill.records import Record, write_records

    think, seed = work.recipe.think, work.seed
    model = work.teacher  # trained here if it does not exist yet; the fingerprint below needs it
    known_as = work.teacher_known_as
    greedy, sampled = (work.attempted(model, known_as, "train", n, n == 1) for n in (1, think.attempts))
    test_greedy, test = (work.attempted(model, known_as, "test", n, n == 1) for n in (1, think.attempts))
    hard = harder_half(test.verdicts)
    teacher = one_pass(test_greedy.chains, test_greedy.verdicts, hard)
    attempts = many_attempts(test.chains, test.verdicts, seed, hard)

    students: dict[str, dict[str, Any]] = {}
    learners = {arm.name: arm for arm in arms(work, greedy, sampled)}
    taught = {name: teach(work, arm) for name, arm in learners.items()}
    last = f"verified-{think.attempts}"
    taught |= rounds(work, learners[last].rows, taught[last].directory)
    main, own = main_arm(work), None
    for name, each in taught.items():
        figures, tried = examined(work, each.directory, hard, think.attempts if name == main else 0)
        students[name] = {**figures, "rows": each.rows}
        own = tried or own
    assert own is not None
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
        "ledger": _ledger(work, sampled, students[main]["rows"]),
    }  # fmt: skip
    records: list[Record] = [*model_records(work, taught)]
    records += quality_records("teacher", {"accuracy": teacher}, "test")
    records += quality_records("teacher", {f"best_of_{n}": each for n, each in attempts["best_of"].items()}, "test")
    for name, figures in students.items():
        records += quality_records(name, {"accuracy": figures}, "test")
    write_records(work.out / RECORDS, records)
    return Result(measures=_measures(teacher, attempts, students, main), details=details)


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
) -> dict[str, float]:
    ours, plain = students[main], students["unverified"]
    apart = math.hypot(ours["se"], plain["se"])
    found = {"teacher_greedy": teacher["value"]}
    found |= {f"teacher_best_of_{n}": each["value"] for n, each in attempts["best_of"].items() if int(n) > 1}
    found |= {f"student_{name}": figures["value"] for name, figures in students.items()}
    return found | {
        "hard_half_teacher_greedy": teacher["hard_half"]["value"],
        "hard_half_student": ours["hard_half"]["value"],
        "gain_over_teacher_greedy": ours["value"] - teacher["value"],
        "gain_over_unverified": ours["value"] - plain["value"],
        "standard_errors_over_unverified": (ours["value"] - plain["value"]) / apart if apart else 0.0,
    }


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
