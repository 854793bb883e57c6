"""Formulas of the published scaling laws: coefficients x (parameters N, tokens D, conditions) -> loss.

additive     L = E + A/N^alpha + B/D^beta                                             Hoffmann et al. 2022, eq. 10
repeated     the same with N', D' of repeated data (repetition.py)                     Muennighoff et al. 2023
distilled    L_sup = E + (A/N^alpha + B/D^beta)^gamma;  with a teacher of loss L_T:    Busbridge et al. 2025, eq. 8
             L = L_T + L_T^-c0 (1 + (L_T / (d1 L_sup))^(1/f1))^(-c1 f1) (A_d/N^alpha_d + B_d/D^beta_d)^gamma_d
joint-moe    L = a Eh^delta N^(alpha + gamma ln Eh) + b Eh^omega D^(beta + zeta ln Eh) + c   Ludziejewski et al. 2025
             1/Eh = 1/(experts - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max;  N = active parameters
precision    L = A/N_eff^alpha + B/D^beta + E + C_T D^gamma_D / N_eff^gamma_N exp(-bits/post)  Kumar et al. 2024
             (precision.py has N_eff)

N, D, conditions and coefficients broadcast against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.quality.precision import kept_share, quantisation_damage
from flashstill.quality.repetition import effective_parameters, effective_tokens

Values = npt.NDArray[np.float64]
Coefficients = Mapping[str, Any]
"""name -> number, or draws that broadcast"""
Form = Callable[..., Values]


def additive(c: Coefficients, parameters: Values, tokens: Values) -> Values:
    """Loss of a dense model of N parameters after D tokens."""
    return np.asarray(c["E"] + c["A"] * parameters ** -c["alpha"] + c["B"] * tokens ** -c["beta"])


def repeated(c: Coefficients, parameters: Values, tokens: Values, unique_tokens: Values | None = None) -> Values:
    """As additive, where only `unique_tokens` of the tokens differ."""
    if unique_tokens is None:
        return additive(c, parameters, tokens)
    size = effective_parameters(parameters, best_parameters(c, unique_tokens), c["excess"])
    return additive(c, size, effective_tokens(tokens, unique_tokens, c["repeats"]))


def best_parameters(c: Coefficients, tokens: Values) -> Values:
    """Parameters for which `tokens` are compute-optimal under an additive law: alpha A/N^alpha = beta B/D^beta."""
    data = c["beta"] * c["B"] * tokens ** -c["beta"]
    return np.asarray((c["alpha"] * c["A"] / data) ** (1 / c["alpha"]))


def distilled(c: Coefficients, parameters: Values, tokens: Values, teacher_loss: Values | None = None) -> Values:
    """Loss of a student taught by a teacher of loss L_T; of the same model without a teacher if that is None."""
    both = c["A"] * parameters ** -c["alpha"] + c["B"] * tokens ** -c["beta"]
    supervised = np.asarray(c["E"] + both ** c["gamma"])
    if teacher_loss is None:
        return supervised
    own = (c["A_d"] * parameters ** -c["alpha_d"] + c["B_d"] * tokens ** -c["beta_d"]) ** c["gamma_d"]
    # log(1 + x^(1/f1)) without overflow, x = L_T / (d1 L_sup)
    capacity = np.logaddexp(0.0, np.log(teacher_loss / (c["d1"] * supervised)) / c["f1"])
    return np.asarray(teacher_loss + teacher_loss ** -c["c0"] * np.exp(-c["c1"] * c["f1"] * capacity) * own)


def joint_moe(c: Coefficients, parameters: Values, tokens: Values, experts: Values | None = None) -> Values:
    """Loss of a mixture of `experts` experts with N active parameters; of a dense model if that is None."""
    effective = effective_experts(c, np.asarray(1.0 if experts is None else experts))
    log_effective = np.log(effective)
    size = c["a"] * effective ** c["delta"] * parameters ** (c["alpha"] + c["gamma"] * log_effective)
    data = c["b"] * effective ** c["omega"] * tokens ** (c["beta"] + c["zeta"] * log_effective)
    return np.asarray(size + data + c["c"])


def effective_experts(c: Coefficients, experts: Values) -> Values:
    """Eh of a number of experts: E_start for one, at most E_max."""
    start = 1 / (1 / c["E_start"] - 1 / c["E_max"])
    return np.asarray(1 / (1 / (experts - 1 + start) + 1 / c["E_max"]))


def precision(
    c: Coefficients,
    parameters: Values,
    tokens: Values,
    weight_bits: Values | None = None,
    activation_bits: Values | None = None,
    cache_bits: Values | None = None,
    quantised_to_bits: Values | None = None,
) -> Values:
    """Loss of a model trained in given formats, and then quantised to `quantised_to_bits` if that is given."""
    size = parameters * kept_share(c, weight_bits, activation_bits, cache_bits)
    loss = additive(c, size, tokens)
    if quantised_to_bits is None:
        return loss
    return np.asarray(loss + quantisation_damage(c, size, tokens, quantised_to_bits))


FORMS: dict[str, tuple[Form, tuple[str, ...]]] = {
    "additive": (additive, ()),
    "repeated": (repeated, ("unique_tokens",)),
    "distilled": (distilled, ("teacher_loss",)),
    "joint-moe": (joint_moe, ("experts",)),
    "precision": (precision, ("weight_bits", "activation_bits", "cache_bits", "quantised_to_bits")),
}
"""form -> its formula, and the conditions that it takes"""
NEEDED = {
    "additive": ("E", "A", "B", "alpha", "beta"),
    "repeated": ("E", "A", "B", "alpha", "beta", "repeats", "excess"),
    "distilled": (
        "E", "A", "B", "alpha", "beta", "gamma",
        "A_d", "B_d", "alpha_d", "beta_d", "gamma_d", "c0", "c1", "f1", "d1",
    ),
    "joint-moe": ("a", "alpha", "delta", "gamma", "b", "beta", "omega", "zeta", "c", "E_start", "E_max"),
    "precision": (
        "E", "A", "B", "alpha", "beta", "weights", "activations", "cache", "C_T", "gamma_D", "gamma_N", "post",
    ),
}  # fmt: skip
"""form -> the coefficients that it needs"""
