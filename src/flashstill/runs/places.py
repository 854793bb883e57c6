"""Where the parts of a distillation lie: in its own directory, or where several share them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flashstill.files import remove_leftovers, remove_orphans

FILE = "arithmetic.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Packed text, what the teachers say of it, and the student's first weights.

    Text may be shared by distillations of one tokenizer and seed, signals by those of the same teachers as well, first
    weights by those that begin alike.  They are made by whichever comes first; two never work in them at a time.
    """

    data: Path
    signals: Path
    initial: Path
    arithmetic: Path
    """a file: in which arithmetic all of them run"""

    @staticmethod
    def within(out: Path) -> Places:
        """All in one directory, which is shared with nobody."""
        return Places(data=out / "data", signals=out / "signals", initial=out / "initial", arithmetic=out / FILE)

    def tidy(self, out: Path) -> None:
        """Remove what a killed run left in them and in `out`; shares of the signals may be at work by now."""
        remove_leftovers(self.data)
        for place in {out, self.initial.parent, *self.signals.glob("**/")}:
            remove_orphans(place)
