"""Students of one teacher and of an ensemble (Hinton, Vinyals, Dean 2015, section 3, and section 4 on ensembles).

    gap closed = (soft - labels) / (teacher - labels)       gain kept = (one - member) / (ensemble - member)

The small student and the one model start from weights that labels have trained, their own and a member's.  As controls
both also go on from there on labels for as many steps, on the images as they are and on the variants that the teachers
were asked about; the gap is counted from the best of the small student's three results on labels, the gain from the
mean member.
"""

from __future__ import annotations

import dataclasses
from statistics import fmean

import torch

from flashstill.distill.classifiers.nets import Nets
from flashstill.distill.classifiers.targets import hard, said, soft
from flashstill.family.studies.classifiers.desk import Desk
from flashstill.family.studies.seeds import Result
from flashstill.recipes.classifiers import NetTable, TransferTable

_KNOWN_AS = {
    "labels": "labels", "longer": "longer_on_labels", "longer_varied": "longer_on_varied_labels", "soft": "soft",
}  # fmt: skip


def paper_student(desk: Desk, teacher: Nets, table: TransferTable) -> Result:
    """The paper's student, on labels and on soft targets, from scratch."""
    found = students(desk, "large", teacher, table)
    measures = {"large_labels_accuracy": fmean(found["longer"]), "large_soft_accuracy": fmean(found["soft"])}
    details = {"labels": found["longer"], "soft": found["soft"], "temperature": table.temperature}
    return Result(measures=measures, details={"large": details})


def small_student(desk: Desk, teacher: Nets, on_labels: NetTable, table: TransferTable) -> Result:
    """A clearly smaller student than the teacher."""
    [best] = desk.accuracies(teacher)
    begun = desk.trained("small-labels", on_labels, hard(desk.labels), table.count)
    found = {"labels": desk.accuracies(begun), **students(desk, "small", teacher, table, begun)}
    mean = {name: fmean(each) for name, each in found.items()}
    base = max(value for name, value in mean.items() if name != "soft")
    measures = {"teacher_accuracy": best, **{f"small_{_KNOWN_AS[arm]}_accuracy": mean[arm] for arm in mean}}
    details = {
        **found, "temperature": table.temperature, "parameters": begun.parameters_each,
        "teacher_parameters": teacher.parameters_each,
    }  # fmt: skip
    shares = {
        "small_gap_closed": (mean["soft"] - base, best - base),
        "small_gap_closed_from_the_start": (mean["soft"] - mean["labels"], best - mean["labels"]),
    }
    return Result(measures=measures, shares=shares, details={"small": details})


def ensemble(desk: Desk, members: Nets, table: TransferTable) -> Result:
    """Many models, and one of their size that learns from all of them."""
    logits = desk.tested(members)
    alone = [desk.accuracy(each) for each in logits]
    together, single = desk.accuracy(logits.softmax(-1).mean(0)), fmean(alone)
    found = students(desk, "one", members, table, members.first(table.count))
    measures = {"members_accuracy": single, "ensemble_accuracy": together}
    measures |= {f"one_{_KNOWN_AS[arm]}_accuracy": fmean(each) for arm, each in found.items()}
    shares = {"ensemble_gain_kept": (fmean(found["soft"]) - single, together - single)}
    details = {"members": alone, **found, "temperature": table.temperature}
    return Result(measures=measures, shares=shares, details={"ensemble": details})


def students(
    desk: Desk, name: str, teachers: Nets, table: TransferTable, first: Nets | None = None
) -> dict[str, list[float]]:
    """Accuracies of those who learn what the teachers say, `soft`, and of those who have labels for as many steps:
    `longer` on the training set as it is, `longer_varied` on what the teachers were asked about.

    From `first` or from scratch.
    """
    as_they_are = dataclasses.replace(table, epochs=table.passes)
    nets = {"longer": desk.trained(f"{name}-longer", as_they_are, hard(desk.labels), table.count, first=first)}
    seen = desk.train
    if table.copies:
        varied = desk.transfer(f"{name}-transfer", table, torch.arange(len(desk.train)))
        seen, shared_out = varied.inputs, soft(varied.labels[None], 1.0)
        nets["longer_varied"] = desk.trained(
            f"{name}-longer-varied", table, shared_out, table.count, on=seen, first=first
        )
    targets = said(teachers, seen, table.temperature, table.jitter, desk.progress, f"targets of {name}")
    learnt = soft(targets, table.temperature)
    nets["soft"] = desk.trained(f"{name}-soft", table, learnt, table.count, on=seen, first=first)
    return {arm: desk.accuracies(each) for arm, each in nets.items()}
