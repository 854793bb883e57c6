"""Students of one teacher and of an ensemble (Hinton, Vinyals, Dean 2015, section 3, and section 4 on ensembles).

Every arm of a comparison has the same nets, steps and augmentation; only what it learns from differs.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from flashstill.distill.classifiers.nets import Nets
from flashstill.distill.classifiers.targets import hard, said, soft
from flashstill.family.studies.classifiers.desk import Desk
from flashstill.family.studies.seeds import Result
from flashstill.recipes.classifiers import StudentTable


def one_teacher(desk: Desk, teacher: Nets, large: StudentTable, small: StudentTable) -> Result:
    """The paper's student, and a clearly smaller one; the gap is what the smaller one lacks on labels."""
    [best] = desk.accuracies(teacher)
    measures: dict[str, float] = {"teacher_accuracy": best}
    details: dict[str, Any] = {"teacher": {"accuracy": best, "parameters": teacher.parameters_each}}
    for name, table in (("large", large), ("small", small)):
        on_labels = desk.trained(f"{name}-labels", table, hard(desk.labels), table.count)
        on_soft = taught(desk, name, table, teacher)
        labels, soft_targets = desk.accuracies(on_labels), desk.accuracies(on_soft)
        measures |= {f"{name}_labels_accuracy": fmean(labels), f"{name}_soft_accuracy": fmean(soft_targets)}
        details[name] = {
            "labels": labels, "soft": soft_targets, "temperature": table.temperature,
            "parameters": on_soft.parameters_each,
        }  # fmt: skip
    won = measures["small_soft_accuracy"] - measures["small_labels_accuracy"]
    shares = {"small_gap_closed": (won, best - measures["small_labels_accuracy"])}
    return Result(measures=measures, shares=shares, details=details)


def taught(desk: Desk, name: str, table: StudentTable, teachers: Nets, first: Nets | None = None) -> Nets:
    """Students on what the teachers say."""
    targets = said(teachers, desk.train, table.temperature, table.jitter, desk.progress, f"targets of {name}")
    return desk.trained(f"{name}-soft", table, soft(targets, table.temperature), table.count, first=first)


def ensemble(desk: Desk, members: Nets, one: StudentTable) -> Result:
    """Many models, and one of their size that learns from all of them."""
    logits = desk.tested(members)
    alone = [desk.accuracy(each) for each in logits]
    together, single = desk.accuracy(logits.softmax(-1).mean(0)), fmean(alone)
    on_soft = desk.accuracies(taught(desk, "one", one, members))
    measures = {"members_accuracy": single, "ensemble_accuracy": together, "one_soft_accuracy": fmean(on_soft)}
    shares = {"ensemble_gain_kept": (fmean(on_soft) - single, together - single)}
    details = {"members": alone, "soft": on_soft, "temperature": one.temperature, "parameters": members.parameters_each}
    return Result(measures=measures, shares=shares, details={"ensemble": details})
