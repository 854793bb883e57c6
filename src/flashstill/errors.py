"""The error tree, and the sentence for a name that is not known.

    FlashstillError
    ├── BadInput                  what the user gave cannot be used            exit 2
    │   ├── UnsupportedArchitecture   a model that the adapter does not know   exit 2
    │   ├── MissingFact               a number or name that no fact row holds  exit 2
    │   └── DiskTrouble               the disk is full or may not be written   exit 2
    └── InfeasiblePlan            nothing satisfies what was asked             exit 3

Every message is one sentence: what came, what was expected, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache


class FlashstillError(Exception):
    """Root of the errors that a user meets; `exit_code` is what the command returns."""

    exit_code = 2


class BadInput(FlashstillError):
    """Something the user gave cannot be used."""


class UnsupportedArchitecture(BadInput):
    """A model configuration outside what the adapter understands; names the field."""


class MissingFact(BadInput):
    """A chip, model or number that no fact row holds; names the nearest ones. missing: the quantities, where it is rows
    of one chip."""

    def __init__(self, message: str, missing: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


class DiskTrouble(BadInput):
    """The disk is full, or a path may not be written."""


class InfeasiblePlan(FlashstillError):
    """Nothing satisfies the constraints; carries the reasons, counted."""

    exit_code = 3

    def __init__(self, message: str, reasons: dict[str, int] | None = None) -> None:
        super().__init__(message)
        self.reasons = dict(reasons or {})


def shortened(text: str, most: int = 80) -> str:
    """`text` with its middle left out where it is longer than `most` characters, so that a sentence stays one."""
    kept = (most - 1) // 2
    return text if len(text) <= most else f"{text[:kept]}…{text[-kept:]}"


def shown(value: object) -> str:
    """A value of a user in a sentence: quoted where it is text, and never long, whatever it holds."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"a number of about {int(abs(value).bit_length() * 0.30103) + 1} digits"
    if isinstance(value, list | dict) and len(value) > 12:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} entries"
    return shortened(repr(value))


def check_counts(counts: Mapping[str, int | None]) -> None:
    """Raise BadInput for a count below 1; None is no count."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise BadInput(f"{name} must be at least 1, not {value}")


def printable(text: str) -> str:
    """`text` with what a terminal would act on written out: what the user gave may hold anything."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def one_line(text: object, most: int = 200) -> str:
    """What another program or library says, to stand in a sentence of ours: one printable line, cut at `most`."""
    return printable(" ".join(str(text).split()))[:most]


def first_line(error: BaseException) -> str:
    """Of what an error says, else its kind."""
    return one_line(next(iter(str(error).strip().splitlines()), "") or type(error).__name__)


def nearest(name: str, known: Iterable[str], count: int = 4) -> list[str]:
    """The known names closest to `name`, best first; never empty while any name is known."""
    return list(_nearest(name, tuple(sorted(known)), count))


@lru_cache(maxsize=256)  # a cases file often repeats one misspelt name in every row
def _nearest(name: str, known: tuple[str, ...], count: int) -> list[str]:
    import difflib  # 5 ms, for a sentence that most runs never print

    by_lower = {choice.lower(): choice for choice in known}
    written = shortened(name).lower()
    close = difflib.get_close_matches(written, by_lower, n=count, cutoff=0.4)
    inside = [low for low in by_lower if written and (written in low or low in written) and low not in close]
    best = (close + inside)[:count] or difflib.get_close_matches(written, by_lower, n=count, cutoff=0.0)
    return [by_lower[low] for low in best]


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence for an unknown name, with the nearest known ones."""
    choices = nearest(name, known)
    hint = f"the nearest known: {', '.join(choices)}" if choices else "none is known"
    return f"unknown {kind} {shortened(name)!r}; {hint}"
