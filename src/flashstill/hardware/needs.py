"""Looking up the rows that a chip needs, and naming all that are missing in one sentence."""

from __future__ import annotations

from dataclasses import dataclass, field

from flashstill.errors import MissingFact
from flashstill.facts import Fact, Facts

_ABSENT = 1.0
"""stands for a missing number until `refuse` is called; nothing is ever made of it"""


@dataclass(frozen=True, kw_only=False, slots=True)
class Needs:
    """Rows of one chip and its class. missing: quantities that were asked for and have no row."""

    facts: Facts
    name: str
    kind: str
    missing: list[str] = field(default_factory=list)

    def find(self, quantity: str) -> Fact | None:
        """The chip's own row where it has one, else that of its class."""
        return self.facts.find(self.name, quantity) or self.facts.find(self.kind, quantity)

    def number(self, quantity: str, absent: float = _ABSENT) -> float:
        """A number that must be there. absent: what stands for it until `refuse` is called."""
        row = self.find(quantity)
        if row is None:
            self.missing.append(quantity)
        return row.value if row else absent

    def optional(self, quantity: str) -> float:
        """A number whose absence means that the chip has no such thing: 0."""
        row = self.facts.find(self.name, quantity)
        return row.value if row else 0.0

    def either(self, quantity: str, other: str) -> float:
        """The first of two numbers that is there."""
        row = self.find(quantity) or self.find(other)
        if row is None:
            self.missing.append(f"{quantity} (or {other})")
        return row.value if row else _ABSENT

    def of(self, owner: str, quantity: str, starting: str = "") -> float:
        """A number that does not belong to the chip: of a process, a memory, a format."""
        row = self.facts.find(owner, quantity, starting)
        if row is None:
            self.missing.append(f"{quantity} of {owner}{f' for {starting}' if starting else ''}")
        return row.value if row else _ABSENT

    def refuse(self) -> None:
        """MissingFact with everything that is missing, if anything is."""
        if self.missing:
            missing = dict.fromkeys(self.missing)
            rows = ", ".join(missing)
            measure = "run `flashstill measure`, or " if self.kind == "cpu" else ""
            raise MissingFact(
                f"no fact row gives {rows} of {self.name}; {measure}add them with --facts DIR (docs/facts.md says what"
                f" each is) or --set {self.name}.QUANTITY=AMOUNT",
                missing,
            )
