"""Whether a chip has a feature, for one chip as for a stack of chips (stacked.py)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Quantity = float | npt.NDArray[np.float64]


def present(number: Quantity) -> bool:
    """Whether a number of a chip is not 0; of a stack, whether any chip's is not."""
    return bool(number.any()) if isinstance(number, np.ndarray) else bool(number)


def either(number: Quantity, yes: Callable[[], Quantity], no: Callable[[], Quantity]) -> Quantity:
    """What `yes` gives where the number of a chip is not 0, else what `no` gives; chips of a stack may differ."""
    if not isinstance(number, np.ndarray):
        return yes() if number else no()
    there = number != 0.0
    if there.all():
        return yes()
    if not there.any():
        return no()
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(there, yes(), no())
