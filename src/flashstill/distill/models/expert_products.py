"""How a mixture's experts are multiplied: in one grouped product, or one by one where its shapes are not taken.

torch's grouped product takes matrices of which each row begins at a multiple of 16 bytes: widths that are multiples of
8 in 16-bit formats, of 4 in float32.  Published models have such widths; students of other ones would stop at their
first step.
"""

from __future__ import annotations

from typing import Any

ROW_BYTES = 16
"""rows must begin at a multiple of it"""
GROUPED, ONE_BY_ONE = "grouped_mm", "eager"


def fit_experts(model: Any) -> None:
    """Let the experts of a model be multiplied one by one if a grouped product does not take one of their matrices."""
    if getattr(model.config, "_experts_implementation", None) != GROUPED:
        return
    stacked = [
        weight
        for module in model.modules()
        if hasattr(module, "is_transposed")  # transformers marks modules of stacked experts so
        for weight in module.parameters(recurse=False)
        if weight.dim() == 3
    ]
    if any(width * weight.element_size() % ROW_BYTES for weight in stacked for width in weight.shape[1:]):
        model.set_experts_implementation(ONE_BY_ONE)
