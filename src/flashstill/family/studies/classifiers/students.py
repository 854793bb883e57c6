"""Students of one teacher and of an ensemble (Hinton, Vinyals, Dean 2015, section 3, and section 4 on ensembles).

    gap closed = (soft - labels) / (teacher - labels)       gain kept = (one - member) / (ensemble - member)

The small student and the one model start from weights that labels have trained, their own and a member's: soft targets
then need half the steps.  As a control both also go on from there on labels, for as many steps; the gap is counted from
the better of the small student's two results on labels, the gain from the mean member.
"""

from __future__ import annotations

from statistics import fmean

from flashstill.distill.classifiers.nets import Nets
from flashstill.distill.classifiers.targets import hard, said, soft
from flashstill.family.studies.classifiers.desk import Desk
from flashstill.family.studies.seeds import Result
from flashstill.recipes.classifiers import NetTable, StudentTable


def paper_student(desk: Desk, teacher: Nets, table: StudentTable) -> Result:
    """The paper's student, on labels and on soft targets, from scratch."""
    on_labels = desk.accuracies(desk.trained("large-labels", table, hard(desk.labels), table.count))
    on_soft = desk.accuracies(taught(desk, "large", table, teacher))
    measures = {"large_labels_accuracy": fmean(on_labels), "large_soft_accuracy": fmean(on_soft)}
    details = {"labels": on_labels, "soft": on_soft, "temperature": table.temperature}
    return Result(measures=measures, details={"large": details})


def small_student(desk: Desk, teacher: Nets, on_labels: NetTable, table: StudentTable) -> Result:
    """A clearly smaller student than the teacher."""
    [best] = desk.accuracies(teacher)
    begun = desk.trained("small-labels", on_labels, hard(desk.labels), table.count)
    longer = desk.trained("small-longer", table, hard(desk.labels), table.count, first=begun)
    on_soft = taught(desk, "small", table, teacher, begun)
    found = {name: desk.accuracies(nets) for name, nets in (("labels", begun), ("longer", longer), ("soft", on_soft))}
    mean = {name: fmean(each) for name, each in found.items()}
    base = max(mean["labels"], mean["longer"])
    measures = {
        "teacher_accuracy": best, "small_labels_accuracy": mean["labels"],
        "small_longer_on_labels_accuracy": mean["longer"], "small_soft_accuracy": mean["soft"],
    }  # fmt: skip
    details = {
        **found, "temperature": table.temperature, "parameters": on_soft.parameters_each,
        "teacher_parameters": teacher.parameters_each,
    }  # fmt: skip
    shares = {
        "small_gap_closed": (mean["soft"] - base, best - base),
        "small_gap_closed_from_the_start": (mean["soft"] - mean["labels"], best - mean["labels"]),
    }
    return Result(measures=measures, shares=shares, details={"small": details})


def ensemble(desk: Desk, members: Nets, table: StudentTable) -> Result:
    """Many models, and one of their size that learns from all of them."""
    logits = desk.tested(members)
    alone = [desk.accuracy(each) for each in logits]
    together, single = desk.accuracy(logits.softmax(-1).mean(0)), fmean(alone)
    on_soft = desk.accuracies(taught(desk, "one", table, members, members.first(table.count)))
    longer = desk.accuracies(desk.trained("one-longer", table, hard(desk.labels), first=members.first(1)))
    measures = {
        "members_accuracy": single, "ensemble_accuracy": together, "one_soft_accuracy": fmean(on_soft),
        "one_longer_on_labels_accuracy": fmean(longer),
    }  # fmt: skip
    shares = {"ensemble_gain_kept": (fmean(on_soft) - single, together - single)}
    details = {"members": alone, "longer": longer, "soft": on_soft, "temperature": table.temperature}
    return Result(measures=measures, shares=shares, details={"ensemble": details})


def taught(desk: Desk, name: str, table: StudentTable, teachers: Nets, first: Nets | None = None) -> Nets:
    """Students on what the teachers say, from `first` or from scratch."""
    targets = said(teachers, desk.train, table.temperature, table.jitter, desk.progress, f"targets of {name}")
    return desk.trained(f"{name}-soft", table, soft(targets, table.temperature), table.count, first=first)
