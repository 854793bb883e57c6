"""Records of data files: where each stands, and the count of those that cannot be used.

A record that cannot be used is counted and skipped.  When the share of such records exceeds what the recipe allows
(`records.bad_share`), the data is refused in a sentence that names the first one and counts the reasons.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from flashstill.errors import BadInput

BAD_SHARE = 0.01
EARLY = 100
"""bad records after which reading stops before the end of the data, if their share is too large by then"""
MOST_REASONS, MOST_KINDS = 8, 200
"""reasons in a sentence; and counted apart, as those that a template gives may all differ"""
OTHER = "another reason"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One record as it stands in a file.

    name: of the document that it becomes ("a.jsonl:3"); where: for messages ("data file a.jsonl, line 3"); value: what
    was read; problem: why it could not be read, as a predicate ("is not JSON").
    """

    name: str
    where: str
    value: Any = None
    problem: str = ""


class Unusable(Exception):
    """A record that cannot be used; its text is a predicate: 'has no "role" in message 2'.

    kind: the reason by which it is counted, without what differs between records.
    """

    def __init__(self, problem: str, kind: str = "") -> None:
        super().__init__(problem)
        self.kind = kind or problem


@dataclass(kw_only=True, slots=True)
class Tally:
    """Counts of the records of a source. most: share of bad records above which it is refused.

    good, bad: number of records; reasons: how often each reason occurred; first: the first bad record, as a sentence.
    """

    most: float = BAD_SHARE
    good: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: str = ""
    notes: Counter[str] = field(default_factory=Counter)

    @property
    def bad(self) -> int:
        """Number of records that cannot be used."""
        return self.reasons.total()

    @property
    def read(self) -> int:
        """Number of records read so far."""
        return self.good + self.bad

    def skip(self, where: str, problem: str, kind: str = "") -> None:
        """Count a bad record; BadInput at once if there are already many, and too many."""
        self.first = self.first or f"{where} {problem}"
        reason = kind or problem
        self.reasons[reason if reason in self.reasons or len(self.reasons) < MOST_KINDS else OTHER] += 1
        if self.bad >= EARLY:
            self.check()

    def note(self, what: str) -> None:
        """Count something worth telling about a record that was used ("cut at the end")."""
        self.notes[what] += 1

    def check(self) -> None:
        """BadInput if the share of bad records is above `most`."""
        if self.bad > self.most * self.read:
            others = f" ({self.counted})" if self.bad > 1 else ""
            raise BadInput(
                f"{self.first}; {self.bad:,} of {self.read:,} records cannot be used{others}, and"
                f" records.bad_share skips {self.most:.2%} of them at most"
            )

    @property
    def counted(self) -> str:
        """The reasons with their counts, the most frequent first."""
        common = [f"{reason}: {count:,}" for reason, count in self.reasons.most_common(MOST_REASONS)]
        left = len(self.reasons) - len(common)
        return "; ".join([*common, *([f"{left} other reasons"] if left else [])])

    def lines(self) -> list[str]:
        """What was skipped, and what was done to records that were used, as sentences."""
        skipped = f"{self.bad:,} of {self.read:,} records were skipped ({self.counted}): {self.first}"
        notes = [f"{count:,} conversations: {what}" for what, count in self.notes.most_common()]
        return [skipped, *notes] if self.bad else notes

    def as_dict(self) -> dict[str, Any]:
        """Plain values for summaries."""
        return {
            "read": self.read, "used": self.good, "skipped": self.bad, "reasons": dict(self.reasons.most_common()),
            "first_skipped": self.first, "notes": dict(self.notes.most_common()),
        }  # fmt: skip

    @staticmethod
    def restored(plain: dict[str, Any]) -> Tally:
        """Counts from the plain values of `as_dict`."""
        return Tally(
            good=plain["used"], reasons=Counter(plain["reasons"]), first=plain["first_skipped"],
            notes=Counter(plain["notes"]),
        )  # fmt: skip

    def add(self, other: Tally) -> None:
        """Add the counts of another source."""
        self.good += other.good
        self.reasons.update(other.reasons)
        self.notes.update(other.notes)
        self.first = self.first or other.first
