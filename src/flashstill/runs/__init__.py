"""The stages of a family's run; finished stages are skipped, interrupted ones resumed."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

from flashstill.economics import hourly_price
from flashstill.facts import load
from flashstill.files import remove_leftovers
from flashstill.hardware import chip_from_facts
from flashstill.loggers import check_loggers
from flashstill.progress import Progress
from flashstill.recipes import FamilyRecipe
from flashstill.records import Record
from flashstill.runs.after_training import kept_after_errors
from flashstill.runs.family import Family
from flashstill.runs.pace import Pace
from flashstill.runs.run_lock import adopt, claim, free_if_unused, lock
from flashstill.runs.stages import STAGES
from flashstill.runs.unchanged import check_moved

__all__ = ["STAGES", "run_family"]


def run_family(recipe: FamilyRecipe, out: Path, progress: Progress, command: str = "") -> list[Record]:
    """Run every stage that is not finished; returns all records.

    Raises BadInput for a directory that belongs to another family or is used by another process.
    """
    _check_cost(recipe)
    check_loggers(recipe.log)
    changes = claim(recipe, out)
    with lock(out), free_if_unused(out, "family.toml"):
        family = Family(recipe, out, progress, command)
        check_moved(family, changes, out / "family.toml")
        adopt(recipe, out, "family.toml", changes, progress)
        remove_leftovers(out)
        pace = family.pace = Pace(family) if recipe.minutes else None
        trained = False
        for number, (name, stage) in enumerate(STAGES.items(), start=1):
            progress.say(f"[{number}/{len(STAGES)}] {name}")
            began = time.monotonic()
            with kept_after_errors("the students are trained", out / "students") if trained else nullcontext():
                stage(family)
            trained = trained or name == "distil"
            if pace is not None:
                pace.done(name, began)
                if name == "teacher":
                    pace.begin()
        if pace is not None:
            pace.finish()
    return family.records()


def _check_cost(recipe: FamilyRecipe) -> None:
    """Check chips and precision before any work, not at the end."""
    facts = load()
    for name in recipe.cost.chips:
        chip = chip_from_facts(facts, name)
        if recipe.cost.precision != "published":
            chip.precision(recipe.cost.precision)
        hourly_price(facts, name, recipe.cost.price)
