"""A finished run that goes on with more tokens: its student is put aside, and training continues from its last state.

training/step-*/        the state after the last step (weights in float32 and moments), kept by a student's own run
earlier/tokens-N/       student (packed, its adapter, its card) and summary as they were after N tokens
"""

from __future__ import annotations

from collections.abc import Sequence

from flashstill.errors import BadInput
from flashstill.files import disk_errors
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.recipes.resuming import Change
from flashstill.runs import kept
from flashstill.runs.cards.content import ADDED
from flashstill.runs.validating import stopped_early
from flashstill.runs.workdir import Workdir

MORE = "train.tokens"


def make_room(recipe: DistillRecipe, workdir: Workdir, changes: Sequence[Change], progress: Progress) -> None:
    """Put the results of a finished run aside if it is to go on; may be repeated after an interruption.

    Raises BadInput if the state after its last step is gone, if a budget has bounded its tokens, or if it has stopped
    early.
    """
    more = [change for change in changes if change.key == MORE]
    if not more:
        return
    if recipe.budget.is_set:
        raise BadInput(f"{more[0]}, but the [budget] was spent on as many as there were; give another --out")
    rows = kept.steps(workdir.training) if (workdir.training / "metrics.jsonl").is_file() else []
    if rows and stopped_early(recipe, rows):
        raise BadInput(
            f"{more[0]}, but training stopped after {len(rows):,} steps, as validation.patience was over: more tokens"
            " would change nothing; give another --out"
        )
    if workdir.student.is_dir() and not any(workdir.training.glob("step-[0-9]*")):
        raise BadInput(
            f"{more[0]}, but {workdir.out} is finished and the state of its training, training/step-*, is gone;"
            f' give another --out, and begin there with student.kind = "copy" and student.model = "{workdir.student}"'
        )
    aside = workdir.out / "earlier" / f"tokens-{more[0].was}"
    files = tuple(workdir.out / name for name in ("summary.json", "records.jsonl", ADDED))
    results = (workdir.student, workdir.packed_student, workdir.adapter, *files)
    left = [path for path in reversed(results) if path.exists()]
    with disk_errors(aside):
        for path in left:  # the student last: without it the run is not finished
            aside.mkdir(parents=True, exist_ok=True)
            path.replace(aside / path.name)
    if left:
        progress.say(f"the student of {more[0].was:,} tokens is now {aside / workdir.student.name}")
