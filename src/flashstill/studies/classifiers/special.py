"""A generalist and its specialists (Hinton, Vinyals, Dean 2015, section 5); the generalist is the teacher."""

from __future__ import annotations

import torch

from flashstill.distill.classifiers.nets import Nets, logits_of
from flashstill.distill.classifiers.specialists import (
    Classes,
    Opinion,
    clusters,
    combined,
    confusion,
    corrected,
    half_and_half,
    own_labels,
    specialist_from,
)
from flashstill.distill.classifiers.targets import hard
from flashstill.recipes.classifiers import NetTable, SpecialistTable
from flashstill.studies.classifiers.work import ClassifierWork, TrainingTask
from flashstill.studies.seeds import Result


def specialists(work: ClassifierWork, generalist: Nets, table: SpecialistTable, teacher: NetTable) -> Result:
    """Accuracy with and without specialists: on all test images, and on those whose top class a specialist covers."""
    predictions = (logits_of(generalist, work.train)[0] / table.temperature).softmax(-1)
    groups = clusters(confusion(predictions), table.clusters, work.seed_for("clusters"))
    own = work.tested(generalist)[0]
    opinions = [_opinion(work, generalist, group, table, teacher) for group in groups]
    together = combined(own, opinions)
    covered = torch.isin(own.argmax(-1), torch.tensor([each for group in groups for each in group]))
    measures = {
        "generalist_accuracy": work.accuracy(own),
        "with_specialists_accuracy": work.accuracy(together),
    }
    details = {
        "clusters": [list(group) for group in groups], "covered": float(covered.float().mean()),
        "covered_generalist": _among(work, own, covered),
        "covered_with_specialists": _among(work, together, covered),
    }  # fmt: skip
    return Result(measures=measures, details={"specialists": details})


def _opinion(
    work: ClassifierWork, generalist: Nets, group: Classes, table: SpecialistTable, teacher: NetTable
) -> Opinion:
    name = "specialist-" + "-".join(map(str, group))
    how = NetTable(hidden=teacher.hidden, epochs=table.epochs, batch=table.batch, learning_rate=table.learning_rate,
                   dropout=teacher.dropout)  # fmt: skip
    examples = half_and_half(work.labels, group, work.seed_for(name))
    first = specialist_from(generalist, group)
    task = TrainingTask(inputs=work.train, loss=hard(own_labels(work.labels, group)))
    net = work.trained(name, how, lambda: task, [examples], first=first)
    share = float(work.prior[list(group)].sum())
    sampled = float(torch.isin(work.labels[examples], torch.tensor(group)).float().mean())
    logits = corrected(work.tested(net)[0], share, sampled)
    return Opinion(classes=group, log_probabilities=logits.log_softmax(-1))


def _among(work: ClassifierWork, logits: torch.Tensor, chosen: torch.Tensor) -> float | None:
    """Accuracy among some test images; None where there are none."""
    right = (logits.argmax(-1) == work.test_labels)[chosen]
    return float(right.float().mean()) if len(right) else None
