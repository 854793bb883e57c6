"""The loggers of one distillation."""

from __future__ import annotations

import contextlib
import dataclasses

from flashstill.loggers import Logs, logs_of
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.runs.workdir import Workdir


def logs_for(
    recipe: DistillRecipe, workdir: Workdir, progress: Progress, is_main: bool = True
) -> contextlib.AbstractContextManager[Logs]:
    """Context with the loggers that a recipe names: runs are called as the student, and grouped by directory."""
    about = {"name": recipe.name, "group": workdir.out.resolve().name, "config": dataclasses.asdict(recipe)}
    return logs_of(recipe.log, workdir.training, about, progress, is_main)
