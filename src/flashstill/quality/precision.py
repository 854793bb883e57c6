"""What a number format costs in effective parameters (Kumar et al. 2024), against the same model in 16 bits.

    N_eff / N = product over weights, activations, cache of (1 - exp(-bits / its scale))
    damage of quantising after training = C_T D^gamma_D / N_eff^gamma_N exp(-bits / post)

Of the published fit only the shape is to be used: models of up to 1.7B parameters and 26B tokens of one corpus.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
FULL_BITS = 16.0
"""format of what is not said to be narrower"""


def kept_share(
    c: Mapping[str, Any],
    weight_bits: Values | None = None,
    activation_bits: Values | None = None,
    cache_bits: Values | None = None,
) -> Values:
    """Effective over actual parameters; a format that is None has 16 bits."""
    share = np.asarray(1.0)
    for scale, bits in (("weights", weight_bits), ("activations", activation_bits), ("cache", cache_bits)):
        share = share * -np.expm1(-np.asarray(FULL_BITS if bits is None else bits) / c[scale])
    return np.asarray(share)


def quantisation_damage(c: Mapping[str, Any], parameters: Values, tokens: Values, bits: Values) -> Values:
    """Nats that quantising weights to `bits` after training adds; it grows with tokens a parameter."""
    ratio = tokens ** c["gamma_D"] / parameters ** c["gamma_N"]
    return np.asarray(c["C_T"] * ratio * np.exp(-np.asarray(bits) / c["post"]))
