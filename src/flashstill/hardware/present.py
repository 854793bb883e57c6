"""Whether a chip has a feature, for one chip as for a stack of chips (stacked.py)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def present(number: float | npt.NDArray[np.float64]) -> bool:
    """Whether a number of a chip is not 0; the chips of a stack agree on that."""
    return bool(number.any()) if isinstance(number, np.ndarray) else bool(number)
