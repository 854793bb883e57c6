"""Few examples (Hinton, Vinyals, Dean 2015, section 6: soft targets as regularisers, with 3 % of the data).

    recovered = (soft - labels) / (full - labels)

soft: accuracy of students of soft targets; full: of the small student trained on all labels.  Teachers give soft
targets on a transfer set of warped and mixed images, as they can on any image.  labels: the better of two kinds of
controls, one trained on the same transfer set, its labels mixed as the images are, and one on the examples themselves.
"""

from __future__ import annotations

import dataclasses
import functools
from statistics import fmean

import torch

from flashstill.distill.classifiers.nets import Nets
from flashstill.distill.classifiers.targets import soft
from flashstill.distill.classifiers.transfer import Transfer
from flashstill.recipes.classifiers import ScarceTable
from flashstill.studies.classifiers.work import ClassifierWork, TrainingTask
from flashstill.studies.seeds import Result


def scarce(work: ClassifierWork, teachers: Nets, full: float, table: ScarceTable) -> Result:
    """Train students and controls on few examples. full: accuracy of the same shape trained on all labels."""
    count = max(1, round(table.share * len(work.train)))
    order = torch.randperm(len(work.train), generator=torch.Generator().manual_seed(work.seed_for("sample")))
    sample = order[:count]
    on_labels = dataclasses.replace(table, epochs=table.label_epochs)

    @functools.cache
    def transfer() -> Transfer:
        return work.variants(sample, table.variants, work.seed_for("transfer"))

    def mixed_labels() -> TrainingTask:
        return TrainingTask(inputs=transfer().inputs, loss=soft(transfer().labels, 1.0))

    def soft_targets() -> TrainingTask:
        return work.soft_targets(teachers, table.temperature, "targets of scarce", transfer().inputs)

    arms = {
        "labels": work.trained("scarce-labels", on_labels, work.plain_labels, [sample] * table.count),
        "labels_moved": work.trained("scarce-moved", table, mixed_labels, table.count),
        "soft": work.trained("scarce-soft", table, soft_targets, table.count),
    }
    accuracies = {name: work.accuracies(nets) for name, nets in arms.items()}
    measures = {f"scarce_{name}_accuracy": fmean(each) for name, each in accuracies.items()}
    on_soft, labels = (measures[f"scarce_{name}_accuracy"] for name in ("soft", "labels"))
    base = max(labels, measures["scarce_labels_moved_accuracy"])
    shares = {
        "scarce_loss_recovered": (on_soft - base, full - base),
        "scarce_loss_recovered_from_bare_labels": (on_soft - labels, full - labels),
    }
    return Result(measures=measures, shares=shares, details={"scarce": {"examples": count, **accuracies}})
