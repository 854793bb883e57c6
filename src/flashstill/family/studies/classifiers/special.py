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
from flashstill.family.studies.classifiers.desk import Desk, Lesson
from flashstill.family.studies.seeds import Result
from flashstill.recipes.classifiers import NetTable, SpecialistTable


def specialists(desk: Desk, generalist: Nets, table: SpecialistTable, teacher: NetTable) -> Result:
    """Accuracy with and without them: of all, and of the test images whose likeliest class a specialist covers."""
    predictions = (logits_of(generalist, desk.train)[0] / table.temperature).softmax(-1)
    groups = clusters(confusion(predictions), table.clusters, desk.number("clusters"))
    own = desk.tested(generalist)[0]
    opinions = [_opinion(desk, generalist, group, table, teacher) for group in groups]
    together = combined(own, opinions)
    covered = torch.isin(own.argmax(-1), torch.tensor([each for group in groups for each in group]))
    measures = {
        "generalist_accuracy": desk.accuracy(own),
        "with_specialists_accuracy": desk.accuracy(together),
    }
    details = {
        "clusters": [list(group) for group in groups], "covered": float(covered.float().mean()),
        "covered_generalist": _among(desk, own, covered), "covered_with_specialists": _among(desk, together, covered),
    }  # fmt: skip
    return Result(measures=measures, details={"specialists": details})


def _opinion(desk: Desk, generalist: Nets, group: Classes, table: SpecialistTable, teacher: NetTable) -> Opinion:
    name = "specialist-" + "-".join(map(str, group))
    how = NetTable(hidden=teacher.hidden, epochs=table.epochs, batch=table.batch, learning_rate=table.learning_rate,
                   dropout=teacher.dropout)  # fmt: skip
    examples = half_and_half(desk.labels, group, desk.number(name))
    first = specialist_from(generalist, group)
    lesson = Lesson(inputs=desk.train, loss=hard(own_labels(desk.labels, group)))
    net = desk.trained(name, how, lambda: lesson, [examples], first=first)
    share = float(desk.prior[list(group)].sum())
    sampled = float(torch.isin(desk.labels[examples], torch.tensor(group)).float().mean())
    logits = corrected(desk.tested(net)[0], share, sampled)
    return Opinion(classes=group, log_probabilities=logits.log_softmax(-1))


def _among(desk: Desk, logits: torch.Tensor, chosen: torch.Tensor) -> float | None:
    """Accuracy among some test images; None where there are none."""
    right = (logits.argmax(-1) == desk.test_labels)[chosen]
    return float(right.float().mean()) if len(right) else None
