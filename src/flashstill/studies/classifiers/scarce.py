"""Few examples (Hinton, Vinyals, Dean 2015, section 6: soft targets as regularisers, with 3 % of the data).

    recovered = (soft - labels) / (full - labels)

full: labels of the whole training set, the small student's.  A teacher is a
function: it is asked about a transfer set of warped and mixed images.  Labels are tried on the same set, shared out as
the images were mixed, and on the examples as they are; soft targets are measured against the better of the two.
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
from flashstill.studies.classifiers.workdir import Lesson, Workdir
from flashstill.studies.seeds import Result


def scarce(workdir: Workdir, teachers: Nets, full: float, table: ScarceTable) -> Result:
    """full: the accuracy of this shape on all labels."""
    kept = max(1, round(table.share * len(workdir.train)))
    order = torch.randperm(len(workdir.train), generator=torch.Generator().manual_seed(workdir.number("sample")))
    sample = order[:kept]
    bare = dataclasses.replace(table, epochs=table.label_epochs)

    @functools.cache
    def transfer() -> Transfer:
        return workdir.variants(sample, table.variants, workdir.number("transfer"))

    def varied_labels() -> Lesson:
        return Lesson(inputs=transfer().inputs, loss=soft(transfer().labels, 1.0))

    def answers() -> Lesson:
        return workdir.answers(teachers, table.temperature, "targets of scarce", transfer().inputs)

    arms = {
        "labels": workdir.trained("scarce-labels", bare, workdir.bare_labels, [sample] * table.count),
        "labels_moved": workdir.trained("scarce-moved", table, varied_labels, table.count),
        "soft": workdir.trained("scarce-soft", table, answers, table.count),
    }
    found = {name: workdir.accuracies(nets) for name, nets in arms.items()}
    measures = {f"scarce_{name}_accuracy": fmean(each) for name, each in found.items()}
    soft_targets, bare_labels = (measures[f"scarce_{name}_accuracy"] for name in ("soft", "labels"))
    base = max(bare_labels, measures["scarce_labels_moved_accuracy"])
    shares = {
        "scarce_loss_recovered": (soft_targets - base, full - base),
        "scarce_loss_recovered_from_bare_labels": (soft_targets - bare_labels, full - bare_labels),
    }
    return Result(measures=measures, shares=shares, details={"scarce": {"examples": kept, **found}})
