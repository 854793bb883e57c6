"""The loggers that a recipe names: a key of a student's and a family's recipe, which the command line can override."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, TypeAlias, TypeVar

from flashstill.checked import one_of, sized
from flashstill.errors import BadInput, unknown

LOGGERS = ("tensorboard", "trackio", "wandb")
Loggers: TypeAlias = Annotated[tuple[Annotated[str, one_of(LOGGERS)], ...], sized(0, len(LOGGERS))]
R = TypeVar("R")


def with_log(recipe: R, names: Sequence[str]) -> R:
    """The recipe of a student or a family with these loggers; BadInput for an unknown one."""
    for name in names:
        if name not in LOGGERS:
            raise BadInput(unknown("logger", name, LOGGERS))
    if not hasattr(recipe, "log"):
        raise BadInput("loggers are for the training of a student or a family; a study has its own page")
    return dataclasses.replace(recipe, log=tuple(dict.fromkeys(names)))  # type: ignore[type-var]
