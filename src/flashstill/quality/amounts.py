"""Amounts that laws are asked for, as arrays: finite and positive, or a sentence that names them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.errors import BadInput

Values = npt.NDArray[np.float64]


def positive(name: str, value: Any) -> Values:
    """An amount as an array of finite positive numbers; BadInput names it otherwise."""
    try:
        amounts = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be a number or numbers, not {value!r}") from error
    if amounts.size == 0 or not np.all(np.isfinite(amounts) & (amounts > 0)):
        raise BadInput(f"{name} must be positive, not {value!r}")
    return amounts


def check_level(level: float) -> None:
    """BadInput unless 0 < level < 1."""
    if not np.all((positive("level", level) < 1) & (np.ndim(level) == 0)):
        raise BadInput(f"level must lie between 0 and 1, as 0.8, not {level!r}")
