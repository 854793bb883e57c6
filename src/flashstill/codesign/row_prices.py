"""Costs of rows, and the work that is behind them, kept for rows that differ in links only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Costs of rows, (objectives, rows): `bare` whether feasible or not, `costs` infinite where not.

    nearly: whether a small change could make the row feasible.  gain, risk: see `price`.
    watts: of a chip.  links: share of the seconds in which chips exchange data, of decode or of prefill steps, the
    larger one.
    refused: masks of rows by reason.
    done: work of the operations of all steps, (works, numbers, steps, rows), as `price` takes it (cost/parts.py).
    """

    bare: Values
    feasible: npt.NDArray[np.bool_]
    nearly: npt.NDArray[np.bool_]
    gain: Values
    risk: Values
    watts: Values
    links: Values
    refused: dict[str, npt.NDArray[np.bool_]]
    done: Values

    @property
    def costs(self) -> Values:
        """Infinite where not feasible."""
        return np.where(self.feasible, self.bare, np.inf)

    def and_(self, other: Prices) -> Prices:
        """The prices of these rows, then of the others."""
        masks = {**dict.fromkeys(self.refused, False), **dict.fromkeys(other.refused, False)}
        return Prices(
            bare=np.concatenate((self.bare, other.bare), axis=1),
            feasible=np.concatenate((self.feasible, other.feasible)),
            nearly=np.concatenate((self.nearly, other.nearly)),
            gain=np.concatenate((self.gain, other.gain)),
            risk=np.concatenate((self.risk, other.risk)),
            watts=np.concatenate((self.watts, other.watts)),
            links=np.concatenate((self.links, other.links)),
            refused={why: np.concatenate((self.refused[why], other.refused[why])) for why in masks},
            done=np.concatenate(
                (with_steps(self.done, other.done, len(self.gain)), with_steps(other.done, self.done, len(other.gain))),
                axis=-1,
            ),
        )


def with_steps(works: Values | None, more: Values, many: int) -> Values:
    """A table of the works of `many` rows, with at least as many works as `more` has."""
    if works is not None and len(works) >= len(more):
        return works
    table = np.zeros((*more.shape[:-1], many))
    if works is not None and works.size:
        table[: len(works)] = works
    return table
