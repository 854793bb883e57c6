"""Loggers are called as the package that each needs."""

from __future__ import annotations

from collections.abc import Sequence

from flashstill.errors import BadInput
from flashstill.extras import is_installed, missing_package


def check_loggers(names: Sequence[str]) -> None:
    """BadInput for a logger whose package is not installed."""
    for name in names:
        if not is_installed(name):
            missing = missing_package(ModuleNotFoundError(name=name))
            raise BadInput(f"log names {name}: {missing}")
