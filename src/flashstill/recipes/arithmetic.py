"""The arithmetic in which models run: a key of every recipe, which the command line can override."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from flashstill.errors import BadInput, unknown

ARITHMETIC = ("auto", "bf16", "fp32")
"""auto: the faster one on the machine where the run starts"""
DEVICES = ("auto", "cpu", "cuda", "mps")
"""auto: a CUDA GPU where there is one, else the CPU (distill/models/devices.py)"""
R = TypeVar("R")


def with_arithmetic(recipe: R, value: str) -> R:
    """The recipe of a student, a family or a study, run in this arithmetic; BadInput for an unknown one."""
    if value not in ARITHMETIC:
        raise BadInput(unknown("arithmetic", value, ARITHMETIC))
    changes: dict[str, Any] = {
        name: dataclasses.replace(getattr(recipe, name), arithmetic=value)
        for name in ("train",)
        if hasattr(getattr(recipe, name, None), "arithmetic")
    }
    for name in ("formats", "students"):  # each has a [train] table of its own
        if hasattr(recipe, name):
            changes[name] = tuple(with_arithmetic(each, value) for each in getattr(recipe, name))
    if hasattr(recipe, "arithmetic"):
        changes["arithmetic"] = value
    return dataclasses.replace(recipe, **changes)  # type: ignore[type-var]
