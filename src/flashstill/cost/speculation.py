"""Speculative decoding: how many drafted tokens of a step are expected to be accepted, and what a drafting head costs.

Of a step (Leviathan et al. 2023, equation 1): with g drafted tokens, each accepted with probability a,
E = (1 - a^(g+1)) / (1 - a) tokens per step, and the step verifies g + 1 tokens per sequence.  Heads that draft from
their own drafts (MTP, EAGLE) are accepted less at each further position: a_i = a d^(i-1), E = 1 + sum of a_1 ... a_i.
Where acceptance was measured, the a_i are those of the record (evaluate/drafts).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture


@dataclass(frozen=True, kw_only=True, slots=True)
class Speculation:
    """Speculative decoding: `tokens` drafted per step, the first of them accepted with probability `acceptance`.

    decay: factor of the acceptance from one position to the next; 1 if all positions are alike.  measured: acceptance
    at each position given that all before it were accepted, at least `tokens` of them, in place of both; empty if there
    is none.
    draft: a smaller model that drafts; None for the model's own heads, each of one block and the LM head.
    """

    tokens: int
    acceptance: float
    decay: float = 1.0
    draft: Architecture | None = None
    measured: tuple[float, ...] = ()

    @property
    def tokens_per_step(self) -> float:
        """Expected tokens per step: accepted drafts + 1.

        A draft counts if all before it are accepted as well: 1 + sum over i of the product of the first i acceptances.
        """
        rate = self.acceptance
        if self.decay != 1.0 or self.measured:
            return float(1.0 + np.sum(self.accepted_ratios))
        if rate >= 1.0:
            return self.tokens + 1.0
        return (1.0 - rate ** (self.tokens + 1)) / (1.0 - rate)

    @property
    def accepted_ratios(self) -> npt.NDArray[np.float64]:
        """Probability that at least 1, 2, ... `tokens` drafts of a step are accepted."""
        if self.measured:
            products: npt.NDArray[np.float64] = np.multiply.accumulate(np.asarray(self.measured[: self.tokens]))
            return products
        place = np.arange(1.0, self.tokens + 1.0)
        ratios: npt.NDArray[np.float64] = self.acceptance**place * self.decay ** (place * (place - 1.0) / 2.0)
        return ratios


def verified_queries(speculation: Speculation | None) -> float:
    """New tokens per sequence in a step: the next token and the drafted ones."""
    return speculation.tokens + 1.0 if speculation else 1.0


def head_share(model: Architecture) -> float:
    """Cost of a drafting head as a share of a step: one block and one more LM head.

    The heads of DeepSeek-V3 (2024, section 2.2) and of EAGLE have this form.
    """
    return 1.0 / model.depth + model.vocabulary * model.width / model.active_parameters
