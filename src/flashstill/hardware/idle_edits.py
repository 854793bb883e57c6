"""What-if edits that cannot change an answer, as they are of other chips than those that are asked about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flashstill.errors import BadInput
from flashstill.facts import Edit, Facts
from flashstill.hardware.calibration import COLLECTIVES, KINDS
from flashstill.hardware.calibration_rows import SAME_DIE, same_die


def check_edits(facts: Facts, edits: Iterable[Edit], chips: Iterable[str | None]) -> None:
    """BadInput for an edit of another chip than those that are asked about (see `idle_edits`)."""
    for edit, about in idle_edits(facts, edits, chips):
        raise BadInput(f"--set {edit.target} is of {edit.name}, and the question is about {about}; leave it out")


def idle_edits(facts: Facts, edits: Iterable[Edit], chips: Iterable[str | None]) -> Iterator[tuple[Edit, str]]:
    """Edits of other chips than those that are asked about, which would change nothing, each with these chips in words.

    chips: None is left out. No chip, or one that nobody knows: none of the edits.
    """
    names = [facts.chip_name(chip) if isinstance(chip, str) else None for chip in chips if chip is not None]
    known = list(dict.fromkeys(name for name in names if name is not None))
    if not known or None in names:
        return
    about = " and ".join(filter(None, (", ".join(known[:-1]), known[-1])))
    for edit in edits:
        if not any(bears_on(facts, edit.name, edit.quantity, name) for name in known):
            yield edit, about


def bears_on(facts: Facts, owner: str, quantity: str, name: str) -> bool:
    """Whether a row can say anything about chip `name`: one of the chip itself, of what is no chip, or of its die."""
    if owner not in facts.machines or owner == name or quantity in SAME_DIE:
        return True
    return quantity.partition(".")[0] in (*KINDS, *COLLECTIVES) and owner in same_die(facts, name)
