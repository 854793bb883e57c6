"""One student from one recipe, in its own directory or one that shares files with others (runs/workdir.py).

distill.toml                   the resolved recipe; a directory with a different one is refused
records.jsonl summary.json     quality of the student
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from flashstill.checked import json_object
from flashstill.errors import BadInput
from flashstill.loggers import check_loggers
from flashstill.progress import Progress, Silent
from flashstill.recipes import DistillRecipe
from flashstill.recipes.drafts import KIND as EAGLE
from flashstill.recipes.resuming import has_moved
from flashstill.runs import budget, kept
from flashstill.runs.after_training import kept_after_errors
from flashstill.runs.cards import leave_cards
from flashstill.runs.drafts import DraftDistillation
from flashstill.runs.engine import Distillation
from flashstill.runs.extending import make_room
from flashstill.runs.origins import check_origins
from flashstill.runs.run_lock import adopt, claim, free_if_unused, lock
from flashstill.runs.workdir import Workdir

RECIPE = "distill.toml"


def run_distillation(
    recipe: DistillRecipe, out: Path | Workdir, progress: Progress, judged: bool = True
) -> dict[str, Any]:
    """Run every stage that is not finished; returns the summary, also written to summary.json.

    out: a directory, or a Workdir that shares files with other distillations, which must run one after another; judged:
    False skips evaluation and summary, for callers that compare several students.  Raises BadInput for a directory that
    belongs to a different recipe or is in use.
    """
    from flashstill.distill.models.devices import choose, name_of
    from flashstill.distill.training import join_world

    check_loggers(recipe.log)
    choose(recipe.train.device)
    world = join_world()
    workdir = out if isinstance(out, Workdir) else dataclasses.replace(Workdir.alone(out), keeps_state=True)
    shown = progress if world.is_main else Silent()
    changes = claim(recipe, workdir.out, RECIPE) if world.is_main else []
    world.barrier()
    with lock(workdir.out, f".lock-{world.rank}" if world.rank else ".lock"), free_if_unused(workdir.out, RECIPE):
        work = work_of(recipe)(recipe, workdir, shown, world)
        if world.is_main:
            workdir.tidy()
            if any(map(has_moved, changes)):  # before anything of another model is noted
                check_origins(recipe, work.directories, work.models, workdir.out)
            make_room(recipe, workdir, changes, shown)
            adopt(recipe, workdir.out, RECIPE, changes, shown)
            if not (workdir.out / "summary.json").exists():
                check_origins(recipe, work.directories, work.models, workdir.out)
            shown.say(f"models run in {work.arithmetic}, on {name_of(world.device)}")
        world.barrier()
        work.text()
        work.recipe = budget.settled(work)
        work.teacher_text((world.rank, world.size))
        built = work.signals((world.rank, world.size))
        if world.is_main:
            budget.note_signals(recipe, workdir, built, work.packed("train").token_count // world.size)
        world.barrier()
        if world.is_main:
            work.first_weights()
        world.barrier()
        work.train()
        with kept_after_errors("the student is trained", workdir.student):
            if judged and world.is_main and not (workdir.out / "summary.json").exists():
                work.evaluate()
            if judged and world.is_main and recipe.student.kind != EAGLE:
                leave_cards(workdir.out, shown)
        world.barrier()
    if not judged:
        return {}
    path = workdir.out / "summary.json"
    return json_object(path) if recipe.student.kind == EAGLE else kept.student_summary(path)


def work_of(recipe: DistillRecipe) -> type[Distillation]:
    """The stages of this kind of student."""
    return DraftDistillation if recipe.student.kind == EAGLE else Distillation


def build_signals(recipe: DistillRecipe, out: Path, progress: Progress, share: tuple[int, int]) -> dict[str, Any]:
    """Build only text and signals, or the share (i, n) of the signals; returns bytes and rates by teacher."""
    from flashstill.distill.training import World

    changes = claim(recipe, out, RECIPE)
    if recipe.signals.kind == "none" and recipe.regime.kind != "sequence":
        raise BadInput("the recipe keeps no signals (signals.kind is none); nothing to build")
    work = Distillation(recipe, Workdir.alone(out), progress, World())
    with lock(out, ".lock-text", wait=True):
        check_origins(recipe, work.directories, work.models, out)
        adopt(recipe, out, RECIPE, changes, progress)
        progress.say(f"models run in {work.arithmetic}")
        work.text()
    with lock(out, f".lock-signals-{share[0]}-of-{share[1]}"):
        text = work.teacher_text(share)
        return {**text, **work.signals(share)} if work.workdir.packing(work.taught).exists() else text
