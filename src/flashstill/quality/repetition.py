"""What repeated tokens and parameters in excess of the data are worth (Muennighoff et al. 2023).

D' = U + U r (1 - exp(-R / r)),     R = D / U - 1 repetitions of U unique tokens,  r = 15.4
N' = N_U + N_U e (1 - exp(-X / e)), X = N / N_U - 1 in excess of N_U, the best size for U tokens,  e = 5.3
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def _saturated(amount: Values, base: Values, scale: Any) -> Values:
    """`amount` up to `base`; beyond it, ever less is added, at most `scale` times the base."""
    more = np.maximum(amount / base - 1.0, 0.0)
    return np.asarray(np.minimum(amount, base) + base * scale * -np.expm1(-more / scale))


def effective_tokens(tokens: Values, unique_tokens: Values, repeats: Any) -> Values:
    """Tokens that were seen once and are worth as much as `tokens` drawn from `unique_tokens`."""
    return _saturated(np.asarray(tokens), np.asarray(unique_tokens), repeats)


def effective_parameters(parameters: Values, best: Values, excess: Any) -> Values:
    """Parameters that are worth as much where `best` would be compute-optimal for the unique tokens."""
    return _saturated(np.asarray(parameters), np.asarray(best), excess)
