"""The work of many rows of a stack of chips, priced in parts: each part of a step only for the rows that differ in it.

A row is a chip with a layout of its own.  Operations, experts and exchanges depend on different numbers of a row: one
with a faster link does the same operations, one with another number of pipeline stages does them as well.  What the
operations of a step were found to take can be kept, and used again for rows whose exchanges alone differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.cost.chip_work import BOUNDS, LEVELS, ChipWork, chip_work
from flashstill.cost.conditions import Conditions
from flashstill.parallel import Exchange, Sharded, at_places
from flashstill.workload import Experts, Operation

Places = npt.NDArray[np.intp]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """The distinct rows of one part of a step.

    conditions: of the distinct rows.  first: their places among all rows; at: the place of each row among them.
    """

    conditions: Conditions
    first: Places
    at: Places


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Parts:
    """What is distinct of a step's parts; None for a part that is priced for all rows.

    operations: all but those of experts.
    kept: where the work of the operations is added, if any: of all steps of serving (together.py), or of their halves.
    ready: that work as it was kept, to be taken instead of pricing them.
    """

    operations: Part | None
    experts: Part | None
    exchanges: Part | None
    kept: list[ChipWork] | None = None
    ready: Iterator[ChipWork] | None = None

    def work(self, conditions: Conditions, sharded: Sharded) -> ChipWork:
        """The work of all rows."""
        exchanged = _of_part(conditions, self.exchanges, (), sharded.exchanges)
        if not sharded.operations:
            return exchanged
        done = self._done(conditions, sharded.operations) if self.ready is None else next(self.ready)
        if self.kept is not None:
            self.kept.append(done)
        return done.plus(exchanged)

    def _done(self, conditions: Conditions, operations: Sequence[Operation]) -> ChipWork:
        routed = [operation for operation in operations if isinstance(operation, Experts)]
        others = [operation for operation in operations if not isinstance(operation, Experts)]
        done = _of_part(conditions, self.operations, others, ())
        return done.plus(_of_part(conditions, self.experts, routed, ())) if routed else done


def _of_part(
    conditions: Conditions, part: Part | None, operations: Iterable[Operation], exchanges: Iterable[Exchange]
) -> ChipWork:
    if part is None:
        return chip_work(conditions, operations, exchanges)
    fewer = [at_places(operation, part.first, 0) for operation in operations]
    sent = [at_places(exchange, part.first, 0) for exchange in exchanges]
    return chip_work(part.conditions, fewer, sent).at(part.at, 0)


def as_table(works: Sequence[ChipWork], rows: int) -> Values:
    """(works, numbers of a `ChipWork`, steps, rows): works as one array, whose numbers are of rows and steps."""
    found = [(*work.shares_s.values(), *work.joules.values(), work.macs, work.clocked_s) for work in works]
    steps = max(np.shape(number)[1] for numbers in found for number in numbers if np.ndim(number))
    table = np.zeros((len(works), len(BOUNDS) + len(LEVELS) + 2, steps, rows))
    for columns, numbers in zip(table, found, strict=True):
        for column, number in zip(columns, numbers, strict=True):
            column[:] = np.reshape(number, np.shape(number)[:2]).T if np.ndim(number) else number
    return table


def from_table(table: Values, axes: int) -> list[ChipWork]:
    """The works of a table, as arrays of rows and steps with `axes` in all; numbers that are 0 everywhere are such."""
    steps, rows = table.shape[2:]

    def number(column: Values) -> float | Values:
        return column.T.reshape(rows, steps, *(1,) * (axes - 2)) if column.any() else 0.0

    def work(numbers: Iterator[float | Values]) -> ChipWork:
        return ChipWork(
            shares_s={name: next(numbers) for name in BOUNDS},
            joules={level: next(numbers) for level in LEVELS},
            macs=next(numbers),
            clocked_s=next(numbers),
        )

    return [work(number(column) for column in numbers) for numbers in table]
