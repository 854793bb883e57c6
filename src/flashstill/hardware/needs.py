"""Look up the rows that a chip needs, and list all missing ones in one error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flashstill.errors import MissingFact, nearest
from flashstill.facts import Fact, Facts

_ABSENT = 1.0
"""placeholder for a missing number until `refuse` raises; never used in a result"""


@dataclass(frozen=True, kw_only=False, slots=True)
class Needs:
    """Lookup of rows of one chip, its maker's class and its class. missing: requested quantities without a row.

    between: owners looked up after `name` and before `kind`.
    elsewhere: of missing rows that another owner would have, that owner and the owners that have such a row.
    """

    facts: Facts
    name: str
    kind: str
    missing: list[str] = field(default_factory=list)
    between: tuple[str, ...] = ()
    elsewhere: dict[str, tuple[str, list[str]]] = field(default_factory=dict)

    def find(self, quantity: str) -> Fact | None:
        """The chip's own row if it has one, else that of its maker's class, else that of its class."""
        rows = (self.facts.find(owner, quantity) for owner in (self.name, *self.between, self.kind))
        return next((row for row in rows if row is not None), None)

    def one_row_each(self, quantities: Iterable[str]) -> None:
        """MissingFact for a number of which the chip itself has several rows: the first would be taken silently."""
        for quantity in quantities:
            rows = self.facts.rows.get((self.name, quantity), ())
            if len(rows) > 1:
                named = "; ".join(row.condition or "no condition" for row in rows)
                raise MissingFact(
                    f"{self.name} has {len(rows)} rows of {quantity} ({named}), and a chip has one; rows replace those"
                    " of the same condition alone"
                )

    def number(self, quantity: str, absent: float = _ABSENT) -> float:
        """A required number. absent: placeholder returned if it is missing, until `refuse` raises."""
        row = self.find(quantity)
        if row is None:
            self.missing.append(quantity)
        return row.value if row else absent

    def optional(self, quantity: str) -> float:
        """An optional number of the chip; 0 if it has no row."""
        row = self.facts.find(self.name, quantity)
        return row.value if row else 0.0

    def either(self, quantity: str, other: str) -> float:
        """`quantity` if it has a row, else `other`; at least one is required."""
        row = self.find(quantity) or self.find(other)
        if row is None:
            self.missing.append(f"{quantity} (or {other})")
        return row.value if row else _ABSENT

    def of(self, owner: str, quantity: str, starting: str = "") -> float:
        """A required number of another owner: a process node, a memory type, a number format."""
        row = self.facts.find(owner, quantity, starting)
        if row is None:
            what = f"{quantity} of {owner}{f' for {starting}' if starting else ''}"
            self.missing.append(what)
            self.elsewhere[what] = owner, sorted({name for name, own in self.facts.rows if own == quantity})
        return row.value if row else _ABSENT

    def refuse(self) -> None:
        """Raise MissingFact listing all missing quantities, if there are any."""
        if self.missing:
            missing = dict.fromkeys(self.missing)
            rows = ", ".join(missing)
            measure = "run `flashstill measure`, or " if self.kind == "cpu" else ""
            own = set(missing) - set(self.elsewhere)
            edit = f" or --set {self.name}.QUANTITY=AMOUNT" if own else ""
            raise MissingFact(
                f"no fact row gives {rows} of {self.name}; {measure}add them with --facts DIR (docs/facts.md says what"
                f" each is){edit}{self._neighbours()}",
                missing,
            )

    def _neighbours(self) -> str:
        """For a memory or a process without rows, those of the nearest names, whose rows show what is needed."""
        told = []
        for owner, known in dict(self.elsewhere.values()).items():
            close = nearest(owner, known, 2) if known and owner not in known else []
            told += [f"; nearest to {owner}: {', '.join(close)}"] if close else []
        return "".join(told)
