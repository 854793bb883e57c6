"""Loss that the distillation law expects of a student of a teacher: of the answer, of a family and of its generations.

No teacher takes a student below what endless tokens on labels do: beyond its runs the formula would, so that the larger
of both is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.quality import Law

ENDLESS = 1e24
"""tokens: a model of a size can do no better, with or without a teacher"""


def taught_loss(
    law: Law, parameters: Any, tokens: Any, teacher_loss: Any, **conditions: Any
) -> npt.NDArray[np.float64]:
    """Nats per token of so many parameters after so many tokens of a teacher of that loss; arrays broadcast."""
    by_law = law.loss(parameters, tokens, teacher_loss=teacher_loss, **conditions)
    return np.maximum(by_law, law.loss(parameters, ENDLESS))
