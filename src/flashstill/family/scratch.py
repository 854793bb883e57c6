"""The same quality without a teacher: larger models or more tokens on labels, and the cheapest of them at a traffic.

D(N)      tokens with which N parameters reach the student's loss on labels (the law, inverted); infinite below the
          size that no number of tokens brings there
fixed     dollars of a trained token x N / N_student x D(N) + other dollars of the student (staff, experiments, failed
          runs), which a model on labels has as well
serving   the student's price x N / N_student: a model of another size is priced by its parameters alone
cost(V)   the least over N of fixed + V x serving
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.family.member_costs import MemberCosts
from flashstill.quality import Law
from flashstill.units import TOKENS_PER_MILLION

Values = npt.NDArray[np.float64]
_LARGEST, _SIZES = 30.0, 120
"""sizes that are tried, up to so many times the student"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scratch:
    """Models on labels that reach the student's loss: parameters, tokens, dollars of training and per million tokens.

    Empty arrays if none does.
    """

    loss: float
    parameters: Values
    tokens: Values
    usd: Values
    usd_per_million_tokens: Values

    def cheapest(self, million_tokens: float) -> int | None:
        """Index of the cheapest at a number of (discounted) million tokens; None if there is none."""
        if not self.parameters.size:
            return None
        return int(np.argmin(self.usd + million_tokens * self.usd_per_million_tokens))


def scratch(student: MemberCosts, loss: float, law: Law) -> Scratch | None:
    """The models that reach `loss` on labels; None if what the student's tokens cost is not known."""
    price, run = student.served.usd_per_million_tokens, student.run
    if price is None or not (run.usd and run.tokens):
        return None
    size = student.model.dense_parameters
    parameters = size * np.geomspace(1.0, _LARGEST, _SIZES)
    tokens = np.asarray(law.tokens_for(loss, parameters), dtype=np.float64)
    reach = np.isfinite(tokens)
    parameters, tokens = parameters[reach], tokens[reach]
    times = parameters / size
    return Scratch(
        loss=loss,
        parameters=parameters,
        tokens=tokens,
        usd=run.usd / run.tokens * times * tokens + student.member.other_usd,
        usd_per_million_tokens=price * times,
    )


def discounted_millions(tokens_per_day: float, discounted_days: float) -> float:
    """Million tokens of a life at a traffic, discounted."""
    return tokens_per_day * discounted_days / TOKENS_PER_MILLION
