"""A predicted loss with everything that belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flashstill.tables import Displayed, Table, cell


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction(Displayed):
    """Loss (number or array) on `scale`; low and high hold it with probability `level`, or None if unknown."""

    law: str
    parameters: Any
    tokens: Any
    conditions: Mapping[str, Any] = field(default_factory=dict)
    loss: Any
    low: Any
    high: Any
    level: float
    scale: str
    kind: str
    source: str
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, lists and texts."""
        return {
            "law": self.law,
            "parameters": plain(self.parameters),
            "tokens": plain(self.tokens),
            "conditions": {name: plain(value) for name, value in self.conditions.items()},
            "loss": plain(self.loss),
            "loss_low": plain(self.low),
            "loss_high": plain(self.high),
            "level": self.level,
            "scale": self.scale,
            "kind": self.kind,
            "source": self.source,
            "notes": list(self.notes),
        }

    def as_records(self) -> list[dict[str, Any]]:
        """One row for each point, for pandas or polars."""
        columns = {"parameters": self.parameters, "tokens": self.tokens, **self.conditions, "loss": self.loss}
        columns |= {} if self.low is None else {"loss_low": self.low, "loss_high": self.high}
        whole = np.broadcast_arrays(*columns.values())
        return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*map(np.ravel, whole), strict=True)]

    def _table(self) -> Table:
        rows = self.as_records()
        return Table(list(rows[0]), [[cell(value) for value in row.values()] for row in rows], caption=self.scale)


def plain(value: Any) -> Any:
    """A NumPy value as a number or nested lists; anything else as it is."""
    if value is None or (isinstance(value, (int, float, str)) and not isinstance(value, np.generic)):
        return value
    return np.asarray(value).tolist()
