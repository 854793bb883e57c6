"""Students of one teacher and of an ensemble (Hinton, Vinyals, Dean 2015, section 3, and section 4 on ensembles).

    gap closed = (soft - labels) / (teacher - labels)       gain kept = (one - member) / (ensemble - member)

An ensemble teaches a small student and one of its members' shape.  All have variants of the training images; as
controls, nets of the same shape have labels for as many steps as the students have soft targets.  The gap is counted
from the better of the small student's two results on labels, the gain from the mean member.
"""

from __future__ import annotations

from statistics import fmean

from flashstill.distill.classifiers.nets import Nets
from flashstill.recipes.classifiers import NetTable, StudentTable
from flashstill.studies.classifiers.workdir import Workdir
from flashstill.studies.seeds import Result

_KNOWN_AS = {"labels": "labels", "longer": "longer_on_labels", "soft": "soft"}


def paper_student(workdir: Workdir, teacher: Nets, table: StudentTable) -> Result:
    """The paper's student, on labels and on soft targets, from scratch."""
    arms = {
        "labels": workdir.bare_labels,
        "soft": lambda: workdir.answers(teacher, table.temperature, "targets of large", workdir.train),
    }
    found = {
        name: workdir.accuracies(workdir.trained(f"large-{name}", table, each, table.count))
        for name, each in arms.items()
    }
    [best] = workdir.accuracies(teacher)
    measures = {"teacher_accuracy": best, **{f"large_{name}_accuracy": fmean(each) for name, each in found.items()}}
    return Result(measures=measures, details={"large": {**found, "temperature": table.temperature}})


def small_student(workdir: Workdir, teachers: Nets, on_labels: NetTable, table: StudentTable) -> Result:
    """A student that is clearly smaller than its teacher, which is one net or many."""
    best = workdir.accuracy(workdir.tested(teachers).softmax(-1).mean(0))
    begun = workdir.trained("small-labels", on_labels, workdir.varied_labels, table.count)
    found = {"labels": workdir.accuracies(begun), **students(workdir, "small", teachers, table)}
    mean = {name: fmean(each) for name, each in found.items()}
    base = max(value for name, value in mean.items() if name != "soft")
    measures = {"small_teacher_accuracy": best, **{f"small_{_KNOWN_AS[arm]}_accuracy": mean[arm] for arm in mean}}
    details = {
        **found, "temperature": table.temperature, "parameters": begun.parameters_each,
        "teacher_parameters": teachers.parameters_each * len(teachers),
    }  # fmt: skip
    shares = {"small_gap_closed": (mean["soft"] - base, best - base)}
    return Result(measures=measures, shares=shares, details={"small": details})


def ensemble(workdir: Workdir, members: Nets, table: StudentTable) -> Result:
    """Many models, and one of their size that learns from all of them."""
    logits = workdir.tested(members)
    alone = [workdir.accuracy(each) for each in logits]
    together, single = workdir.accuracy(logits.softmax(-1).mean(0)), fmean(alone)
    found = students(workdir, "one", members, table)
    measures = {"members_accuracy": single, "ensemble_accuracy": together}
    measures |= {f"one_{_KNOWN_AS[arm]}_accuracy": fmean(each) for arm, each in found.items()}
    shares = {"ensemble_gain_kept": (fmean(found["soft"]) - single, together - single)}
    details = {"members": alone, **found, "temperature": table.temperature}
    return Result(measures=measures, shares=shares, details={"ensemble": details})


def students(workdir: Workdir, name: str, teachers: Nets, table: StudentTable) -> dict[str, list[float]]:
    """Accuracies of those who learn what the teachers say, `soft`, and of those who have labels for as many steps,
    `longer`."""
    longer = workdir.trained(f"{name}-longer", table, workdir.varied_labels, table.count)
    learnt = workdir.trained(
        f"{name}-soft", table, lambda: workdir.answers(teachers, table.temperature, f"targets of {name}"), table.count
    )
    return {"longer": workdir.accuracies(longer), "soft": workdir.accuracies(learnt)}
