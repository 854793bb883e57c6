"""A class that the student never sees (Hinton, Vinyals, Dean 2015, section 3), for every class.

Students of one teacher, each trained without the images of one class.  The bias of that class is set by its prior in
two ways (`priors`): "shifted", from the transfer set alone, the one that is reported; and "matched", so that the mean
probability of the class over all training images, whose labels are not used, is its prior.  Nothing is tuned on the
test set.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from torch import Tensor

from flashstill.distill.classifiers.nets import Nets, logits_of
from flashstill.distill.classifiers.priors import biased, matching_bias, recall, shifted
from flashstill.recipes.classifiers import StudentTable
from flashstill.studies.classifiers.work import ClassifierWork
from flashstill.studies.seeds import Result


def unseen(work: ClassifierWork, teacher: Nets, table: StudentTable, headline: int) -> Result:
    """measures: recall of the class `headline` and its mean over all classes; details: of every class."""
    without = [(work.labels != label).nonzero().flatten() for label in range(work.classes)]
    students = work.trained(
        "unseen",
        table,
        lambda: work.soft_targets(teacher, table.temperature, "targets of unseen", work.train),
        without,
    )
    everywhere, tested = logits_of(students, work.train), work.tested(students)
    plain = logits_of(teacher, work.train)[0].softmax(-1)
    own = work.tested(teacher)[0]
    rows = []
    for label in range(work.classes):
        transfer = plain[without[label]].mean(0)
        bias = matching_bias(everywhere[label], label, float(work.prior[label]))
        row = _row(work, label, {
            "before": tested[label],
            "shifted": shifted(tested[label], transfer, work.prior),
            "matched": biased(tested[label], label, bias),
        })  # fmt: skip
        rows.append({**row, "bias": bias, "transfer_share": float(transfer[label]),
                     "teacher_recall": recall(own, work.test_labels, label)})  # fmt: skip
    return Result(measures=_measures(rows, headline), details={"unseen": rows, "unseen_class": headline})


def _row(work: ClassifierWork, label: int, ways: dict[str, Tensor]) -> dict[str, Any]:
    row: dict[str, Any] = {"class": label}
    for name, logits in ways.items():
        row[f"recall_{name}"] = recall(logits, work.test_labels, label)
        row[f"accuracy_{name}"] = work.accuracy(logits)
    return row


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
