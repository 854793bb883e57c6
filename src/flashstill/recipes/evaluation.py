"""The table [evaluate] of a family: tasks that its models are scored on, beside the held-out text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from flashstill.checked import between, sized
from flashstill.recipes.ranges import Given, Whole


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateRecipe:
    """tasks: as of `flashstill evaluate --task`, for teacher, students and controls. items: at most so many of each,
    0 for all; attempts: at each problem with a verifier, beside the greedy one; chat: whether tasks are asked through
    each model's chat template; allow_task_code: whether task files may run the Python code that they name."""

    tasks: Annotated[tuple[Given, ...], sized(0, 64)] = ()
    items: Whole = 0
    attempts: Annotated[int, between(0, 2**16 - 1)] = 0
    chat: bool = False
    allow_task_code: bool = False
