"""The results of Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", on any labelled images.

DIR/seed-S/nets/           every trained net, read back when resumed: an interruption loses at most one net
DIR/seed-S/records.jsonl   each net and its accuracy
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from flashstill.distill.classifiers.data import load
from flashstill.distill.models.arithmetic import FILE, settled
from flashstill.distill.models.product_speed import Shape
from flashstill.errors import BadInput
from flashstill.progress import Progress
from flashstill.recipes.classifiers import ClassifierStudy
from flashstill.records import write_records
from flashstill.studies.classifiers.records import net_records
from flashstill.studies.classifiers.scarce import scarce
from flashstill.studies.classifiers.special import specialists
from flashstill.studies.classifiers.students import ensemble, paper_student, small_student
from flashstill.studies.classifiers.unseen import unseen
from flashstill.studies.classifiers.work import work_for
from flashstill.studies.seeds import RECORDS, Bar, Result

BARS = {
    "small_gap_closed": Bar(least=0.6),
    "ensemble_gain_kept": Bar(least=0.8),
    "unseen_recall": Bar(least=0.9),
    "scarce_loss_recovered": Bar(least=0.8),
}


def run(recipe: ClassifierStudy, seed: int, place: Path, progress: Progress) -> Result:
    """Run one seed: a teacher, an ensemble, and all nets distilled from them."""
    data = load(recipe.data, seed)
    if recipe.unseen_class >= data.classes:
        raise BadInput(f"unseen_class is {recipe.unseen_class}, but the data has the classes 0 to {data.classes - 1}")
    nets = Shape(width=max(recipe.teacher.hidden), feed_forward=max(recipe.teacher.hidden))
    arithmetic = settled(recipe.arithmetic, lambda: nets, place / FILE)
    work = work_for(data, seed, place, progress, arithmetic.dtype, recipe.variants, recipe.transfer)
    teacher = work.trained("teacher", recipe.teacher, work.plain_labels)
    members = work.trained("members", recipe.members, work.labels_of_variants, recipe.members.size)
    small = small_student(work, members, recipe.small_labels, recipe.small)
    full = max(value for name, value in small.measures.items() if "labels" in name and value is not None)
    parts = [
        paper_student(work, teacher, recipe.large),
        small,
        ensemble(work, members, recipe.one),
        unseen(work, teacher, recipe.unseen, recipe.unseen_class),
        scarce(work, members, full, recipe.scarce),
        specialists(work, teacher, recipe.specialists, recipe.teacher),
    ]
    write_records(place / RECORDS, net_records(work, str(arithmetic)))
    return Result(
        measures={name: value for part in parts for name, value in part.measures.items()},
        shares={name: value for part in parts for name, value in part.shares.items()},
        details={
            "arithmetic": asdict(arithmetic),
            **{name: value for part in parts for name, value in part.details.items()},
        },
    )
