"""Students of one teacher and of an ensemble (Hinton, Vinyals, Dean 2015, section 3, and section 4 on ensembles).

    gap closed = (soft - labels) / (teacher - labels)       gain kept = (one - member) / (ensemble - member)

An ensemble teaches a small student and one of its members' shape.  All are trained on variants of the training images;
controls of the same shape are trained on labels for as many steps as the students on soft targets.  `labels` in the gap
is the better of the small student's two controls; `member` in the gain is the mean member.
"""

from __future__ import annotations

from statistics import fmean

from flashstill.distill.classifiers.nets import Nets
from flashstill.recipes.classifiers import NetTable, StudentTable
from flashstill.studies.classifiers.work import ClassifierWork
from flashstill.studies.seeds import Result

_KNOWN_AS = {"labels": "labels", "longer": "longer_on_labels", "soft": "soft"}


def paper_student(work: ClassifierWork, teacher: Nets, table: StudentTable) -> Result:
    """The student of the paper, trained from scratch on labels and on soft targets."""
    arms = {
        "labels": work.plain_labels,
        "soft": lambda: work.soft_targets(teacher, table.temperature, "targets of large", work.train),
    }
    accuracies = {
        name: work.accuracies(work.trained(f"large-{name}", table, each, table.count)) for name, each in arms.items()
    }
    [best] = work.accuracies(teacher)
    measures = {
        "teacher_accuracy": best,
        **{f"large_{name}_accuracy": fmean(each) for name, each in accuracies.items()},
    }
    return Result(measures=measures, details={"large": {**accuracies, "temperature": table.temperature}})


def small_student(work: ClassifierWork, teachers: Nets, on_labels: NetTable, table: StudentTable) -> Result:
    """A student much smaller than its teacher, which is one net or an ensemble."""
    best = work.accuracy(work.tested(teachers).softmax(-1).mean(0))
    on_few_steps = work.trained("small-labels", on_labels, work.labels_of_variants, table.count)
    accuracies = {"labels": work.accuracies(on_few_steps), **students(work, "small", teachers, table)}
    mean = {name: fmean(each) for name, each in accuracies.items()}
    base = max(value for name, value in mean.items() if name != "soft")
    measures = {"small_teacher_accuracy": best, **{f"small_{_KNOWN_AS[arm]}_accuracy": mean[arm] for arm in mean}}
    details = {
        **accuracies, "temperature": table.temperature, "parameters": on_few_steps.parameters_each,
        "teacher_parameters": teachers.parameters_each * len(teachers),
    }  # fmt: skip
    shares = {"small_gap_closed": (mean["soft"] - base, best - base)}
    return Result(measures=measures, shares=shares, details={"small": details})


def ensemble(work: ClassifierWork, members: Nets, table: StudentTable) -> Result:
    """An ensemble, and one net of its members' size that is distilled from it."""
    logits = work.tested(members)
    alone = [work.accuracy(each) for each in logits]
    together, single = work.accuracy(logits.softmax(-1).mean(0)), fmean(alone)
    accuracies = students(work, "one", members, table)
    measures = {"members_accuracy": single, "ensemble_accuracy": together}
    measures |= {f"one_{_KNOWN_AS[arm]}_accuracy": fmean(each) for arm, each in accuracies.items()}
    shares = {"ensemble_gain_kept": (fmean(accuracies["soft"]) - single, together - single)}
    details = {"members": alone, **accuracies, "temperature": table.temperature}
    return Result(measures=measures, shares=shares, details={"ensemble": details})


def students(work: ClassifierWork, name: str, teachers: Nets, table: StudentTable) -> dict[str, list[float]]:
    """Accuracies of nets trained on the teachers' soft targets, `soft`, and of controls trained on labels for as many
    steps, `longer`."""
    longer = work.trained(f"{name}-longer", table, work.labels_of_variants, table.count)
    on_soft = work.trained(
        f"{name}-soft", table, lambda: work.soft_targets(teachers, table.temperature, f"targets of {name}"), table.count
    )
    return {"longer": work.accuracies(longer), "soft": work.accuracies(on_soft)}
