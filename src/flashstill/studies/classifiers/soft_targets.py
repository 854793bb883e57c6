"""A smaller net on labels, and on a large net's soft targets for the same examples (Hinton et al. 2015, section 3).

    gap closed = (errors on labels - errors on soft targets) / (errors on labels - the teacher's errors)

The paper, on MNIST: a teacher of 1200-1200 with dropout, which saw its images moved by up to two pixels, makes 67
errors; 800-800 makes 146 on labels and 74 on the teacher's soft targets at T = 20: 0.91 of the gap.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from flashstill.distill.classifiers.data import load
from flashstill.distill.classifiers.nets import Nets
from flashstill.distill.classifiers.targets import hard
from flashstill.distill.models.arithmetic import FILE, settled
from flashstill.distill.models.product_speed import Shape
from flashstill.progress import Progress
from flashstill.recipes.soft_targets import SoftTargets
from flashstill.records import write_records
from flashstill.studies.classifiers.records import net_records
from flashstill.studies.classifiers.work import ClassifierWork, TrainingTask, work_for
from flashstill.studies.seeds import RECORDS, Bar, Result

GAP = "errors_of_labels_less_teacher"
BARS = {"gap_closed": Bar(least=0.6, given=GAP)}


def run(recipe: SoftTargets, seed: int, place: Path, progress: Progress) -> Result:
    """Run one seed, which decides initial weights, orders, and how images are moved."""
    width = max(*recipe.teacher.hidden, *recipe.student.hidden)
    arithmetic = settled(recipe.arithmetic, lambda: Shape(width=width, feed_forward=width), place / FILE)
    work = work_for(load(recipe.data, seed), seed, place, progress, arithmetic.dtype)
    teacher = work.trained("teacher", recipe.teacher, work.plain_labels)
    student = recipe.student
    on_labels = work.trained("student-labels", student, work.plain_labels, student.count)
    on_soft = work.trained("student-soft", student, lambda: _taught(work, teacher, recipe), student.count)
    write_records(place / RECORDS, net_records(work, str(arithmetic)))
    errors = {name: _errors(work, nets) for name, nets in (("labels", on_labels), ("soft", on_soft))}
    [best] = _errors(work, teacher)
    mean = {name: fmean(each) for name, each in errors.items()}
    return Result(
        measures={
            "teacher_errors": best,
            **{f"{name}_errors": each for name, each in mean.items()},
            GAP: mean["labels"] - best,
            "errors_spared": mean["labels"] - mean["soft"],
        },
        shares={"gap_closed": (mean["labels"] - mean["soft"], mean["labels"] - best)},
        details={
            "arithmetic": asdict(arithmetic), "errors": errors, "tested": len(work.test_labels),
            "parameters": {"teacher": teacher.parameters_each, "student": on_soft.parameters_each},
        },
    )  # fmt: skip


def _taught(work: ClassifierWork, teacher: Nets, recipe: SoftTargets) -> TrainingTask:
    """The teacher's soft targets for the training examples, and their labels with the weight that the recipe gives."""
    soft = work.soft_targets(teacher, recipe.student.temperature, "targets of the student", work.train)
    labels, weight = hard(work.labels), recipe.student.hard_weight
    if not weight:
        return soft
    return TrainingTask(
        inputs=soft.inputs, loss=lambda logits, batch: soft.loss(logits, batch) + weight * labels(logits, batch)
    )


def _errors(work: ClassifierWork, nets: Nets) -> list[float]:
    """Number of test examples that each net gets wrong."""
    count = len(work.test_labels)
    return [float(round((1.0 - each) * count)) for each in work.accuracies(nets)]
