"""A class that the student never sees (Hinton, Vinyals, Dean 2015, section 3), every class in its turn.

Students of one teacher, each without the images of one class.  The bias of that class follows from its prior in two
ways (`priors`): "shifted", from the transfer set alone, which is the one that is told of; and "matched", so that the
mean probability of the class over all training images, whose labels are not looked at, is its prior.  Nothing is chosen
on the test set.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from torch import Tensor

from flashstill.distill.classifiers.nets import Nets, logits_of
from flashstill.distill.classifiers.priors import biased, matching_bias, recall, shifted
from flashstill.recipes.classifiers import StudentTable
from flashstill.studies.classifiers.workdir import Workdir
from flashstill.studies.seeds import Result


def unseen(workdir: Workdir, teacher: Nets, table: StudentTable, headline: int) -> Result:
    """measures: recall of the headline class and its mean over all classes; details: class by class."""
    without = [(workdir.labels != each).nonzero().flatten() for each in range(workdir.classes)]
    students = workdir.trained(
        "unseen",
        table,
        lambda: workdir.answers(teacher, table.temperature, "targets of unseen", workdir.train),
        without,
    )
    everywhere, tested = logits_of(students, workdir.train), workdir.tested(students)
    plain = logits_of(teacher, workdir.train)[0].softmax(-1)
    own = workdir.tested(teacher)[0]
    rows = []
    for each in range(workdir.classes):
        transfer = plain[without[each]].mean(0)
        bias = matching_bias(everywhere[each], each, float(workdir.prior[each]))
        row = _row(workdir, each, {
            "before": tested[each],
            "shifted": shifted(tested[each], transfer, workdir.prior),
            "matched": biased(tested[each], each, bias),
        })  # fmt: skip
        rows.append({**row, "bias": bias, "transfer_share": float(transfer[each]),
                     "teacher_recall": recall(own, workdir.test_labels, each)})  # fmt: skip
    return Result(measures=_measures(rows, headline), details={"unseen": rows, "unseen_class": headline})


def _row(workdir: Workdir, each: int, ways: dict[str, Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {"class": each}
    for name, logits in ways.items():
        found[f"recall_{name}"] = recall(logits, workdir.test_labels, each)
        found[f"accuracy_{name}"] = workdir.accuracy(logits)
    return found


def _measures(rows: list[dict[str, Any]], headline: int) -> dict[str, float]:
    first = rows[headline]
    return {
        "unseen_recall_before": first["recall_before"],
        "unseen_recall": first["recall_shifted"],
        "unseen_recall_matched": first["recall_matched"],
        "unseen_recall_of_teacher": first["teacher_recall"],
        "unseen_accuracy_before": first["accuracy_before"],
        "unseen_accuracy": first["accuracy_shifted"],
        "every_class_unseen_recall_before": fmean(row["recall_before"] for row in rows),
        "every_class_unseen_recall": fmean(row["recall_shifted"] for row in rows),
        "every_class_recall_of_teacher": fmean(row["teacher_recall"] for row in rows),
    }
