"""Compile the inner loop with Numba where it is installed; without it the same functions run as plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

try:
    from numba import njit
except ModuleNotFoundError:
    njit = None


def compiled(function: F) -> F:
    """The function compiled by Numba and cached on disk, or itself."""
    return function if njit is None else njit(cache=True)(function)


IS_COMPILED = njit is not None
