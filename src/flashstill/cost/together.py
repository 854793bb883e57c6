"""The steps that serving needs, priced in one pass over their operations: most of the time of one answer is overhead.

A mixed step without prompts is a decode step, and one without decoding sequences a prefill (workload/mixed_step.py).
So several steps are one mixed step whose numbers are arrays along an axis of steps:

    (..., steps, layouts, batches ...)    before the axes of layouts and batches, behind that of a stack of chips
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost.conditions import Conditions
from flashstill.cost.phases import mixed_step
from flashstill.cost.step import StepCost
from flashstill.hardware.stacked import AXES
from flashstill.parallel import Layout
from flashstill.workload import Chunks, Decoding, Quantity

Step = tuple[Decoding, Chunks]
"""what one step of a tensor-parallel group decodes and prefills"""


def steps_together(
    model: Architecture, conditions: Conditions, layout: Layout, steps: Sequence[Step]
) -> list[StepCost]:
    """The cost of each of several steps on the same layout, as `mixed_step` prices them one by one."""
    decoding, chunks = zip(*steps, strict=True)
    degrees = (layout.tp, layout.pp, layout.ep, layout.dp, layout.redundant)
    numbers = [getattr(part, name) for part in (*decoding, *chunks) for name in part.__slots__]
    axis = _Axis(dimensions=max(map(np.ndim, (*degrees, *numbers))))
    whole = mixed_step(model, conditions, layout, axis.along(decoding), axis.along(chunks))
    return [axis.at(whole, place) for place in range(len(steps))]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Axis:
    """The axis of steps. dimensions: the most that an array of one step has."""

    dimensions: int
    behind: int = field(init=False)
    """number of axes behind that of steps; with all AXES of a row of a stack, the first of them is free for it"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "behind", min(self.dimensions, AXES - 1))

    def along(self, parts: Sequence[Any]) -> Any:
        """The numbers of several parts of a step as those of one."""
        names = parts[0].__slots__
        return replace(parts[0], **{name: self._joined([getattr(part, name) for part in parts]) for name in names})

    def _joined(self, numbers: Sequence[Quantity]) -> Quantity:
        if all(number is numbers[0] for number in numbers):
            return numbers[0]
        shape = np.broadcast_shapes(*{np.shape(number) for number in numbers})
        whole = [1] * (max(self.dimensions, self.behind + 1) - len(shape)) + list(shape)
        whole[-self.behind - 1] = len(numbers)
        steps = np.empty(whole)
        for place, number in enumerate(numbers):
            mine: Any = (..., slice(place, place + 1), *(slice(None),) * self.behind)
            steps[mine] = number
        return steps

    def at(self, step: StepCost, place: int) -> StepCost:
        """The cost of the step at this place."""

        def one(number: Quantity) -> Quantity:
            if not isinstance(number, np.ndarray) or number.ndim <= self.behind:
                return number
            axis = number.ndim - self.behind - 1
            mine = min(place, number.shape[axis] - 1)
            return number[(*(slice(None),) * axis, slice(mine, mine + 1))] if axis else number[mine]

        return step.each(one)
