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
from flashstill.studies.classifiers.workdir import Lesson, Workdir
from flashstill.studies.seeds import Result


def specialists(workdir: Workdir, generalist: Nets, table: SpecialistTable, teacher: NetTable) -> Result:
    """Accuracy with and without them: of all, and of the test images whose likeliest class a specialist covers."""
    predictions = (logits_of(generalist, workdir.train)[0] / table.temperature).softmax(-1)
    groups = clusters(confusion(predictions), table.clusters, workdir.number("clusters"))
    own = workdir.tested(generalist)[0]
    opinions = [_opinion(workdir, generalist, group, table, teacher) for group in groups]
    together = combined(own, opinions)
    covered = torch.isin(own.argmax(-1), torch.tensor([each for group in groups for each in group]))
    measures = {
        "generalist_accuracy": workdir.accuracy(own),
        "with_specialists_accuracy": workdir.accuracy(together),
    }
    details = {
        "clusters": [list(group) for group in groups], "covered": float(covered.float().mean()),
        "covered_generalist": _among(workdir, own, covered),
        "covered_with_specialists": _among(workdir, together, covered),
    }  # fmt: skip
    return Result(measures=measures, details={"specialists": details})


def _opinion(workdir: Workdir, generalist: Nets, group: Classes, table: SpecialistTable, teacher: NetTable) -> Opinion:
    name = "specialist-" + "-".join(map(str, group))
    how = NetTable(hidden=teacher.hidden, epochs=table.epochs, batch=table.batch, learning_rate=table.learning_rate,
                   dropout=teacher.dropout)  # fmt: skip
    examples = half_and_half(workdir.labels, group, workdir.number(name))
    first = specialist_from(generalist, group)
    lesson = Lesson(inputs=workdir.train, loss=hard(own_labels(workdir.labels, group)))
    net = workdir.trained(name, how, lambda: lesson, [examples], first=first)
    share = float(workdir.prior[list(group)].sum())
    sampled = float(torch.isin(workdir.labels[examples], torch.tensor(group)).float().mean())
    logits = corrected(workdir.tested(net)[0], share, sampled)
    return Opinion(classes=group, log_probabilities=logits.log_softmax(-1))


def _among(workdir: Workdir, logits: torch.Tensor, chosen: torch.Tensor) -> float | None:
    """Accuracy among some test images; None where there are none."""
    right = (logits.argmax(-1) == workdir.test_labels)[chosen]
    return float(right.float().mean()) if len(right) else None
