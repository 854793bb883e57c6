"""Measured acceptance of a draft: rates by position, or the records of a measurement (evaluate/drafts, records.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flashstill.arch import Architecture
from flashstill.errors import BadInput, shortened

if TYPE_CHECKING:
    from flashstill.records import AcceptanceRecord

FILE = "acceptance.jsonl"
"""the file in a draft's directory with its records"""
NOT_MEASURED = "none"
"""the word for a draft whose directory has records that are not to be used"""
APART = 0.01
"""difference of parameters, as a share, beyond which a draft is another than the one that was measured"""


class Accepted(NamedTuple):
    """rates: acceptance at each position, empty if nothing was measured; note: of what it was measured."""

    rates: tuple[float, ...] = ()
    note: str = ""


def accepted_rates(source: str | None, draft: str, model: Architecture, small: Architecture | None) -> Accepted:
    """The measured acceptance of a draft for `model`.

    source: rates with commas between ("0.6,0.5"), a file of records, FILE@T for those at temperature T, or "none"; None
    looks for acceptance.jsonl in the draft's directory.  Of several records at different temperatures the one with the
    highest counts, and is named.  small: the model or head that drafts.  Raises BadInput for records of another
    vocabulary or of another draft.
    """
    if source == NOT_MEASURED:
        return Accepted()
    if source is not None and (rates := _listed(source)):
        return Accepted(rates, "acceptance by position as given")
    path, temperature = _file(source, draft)
    if path is None:
        return Accepted()
    from flashstill.records import AcceptanceRecord, read_records

    records = [record for record in read_records(path) if isinstance(record, AcceptanceRecord)]
    if temperature is not None:
        records = [record for record in records if record.temperature == temperature]
    if not records:
        at = "" if temperature is None else f" at temperature {temperature:g}"
        raise BadInput(f"{shortened(str(path), 200)} holds no record of a draft's acceptance{at}")
    records = _of_draft(records, small, path)
    record = max(records, key=lambda each: each.temperature)
    same = [each for each in records if each.temperature == record.temperature]
    if len(same) > 1:
        names = ", ".join(f"{each.draft} on {each.domain}" for each in same[:4])
        raise BadInput(
            f"{shortened(str(path), 200)} holds several records of one temperature ({names}); keep one of them"
        )
    if record.vocabulary < model.vocabulary * (1 - APART) or record.vocabulary > model.vocabulary * (1 + APART):
        raise BadInput(
            f"the acceptance in {shortened(str(path), 200)} is of a vocabulary of {record.vocabulary:,} tokens, and"
            f" {model.name} has {model.vocabulary:,}; give rates by position to ask what if, as 0.6,0.5,0.4"
        )
    note = (
        f"acceptance of {record.draft} for {record.target} as measured on {record.domain} text at temperature"
        f" {record.temperature:g} ({record.documents} documents)"
    )
    return Accepted(record.acceptance, note)


def _listed(source: str) -> tuple[float, ...]:
    """The rates of a list with commas between; empty for other text."""
    try:
        rates = tuple(float(word) for word in source.split(","))
    except ValueError:
        return ()
    if not all(0.0 <= rate <= 1.0 for rate in rates):
        raise BadInput(f"acceptance by position must lie between 0 and 1, not {shortened(source)}")
    return rates


def _file(source: str | None, draft: str) -> tuple[Path | None, float | None]:
    """The file of records and the temperature that is asked for."""
    if source is None:
        return record_beside(draft), None
    name, mark, after = source.rpartition("@")
    if mark:
        try:
            return Path(name).expanduser(), float(after)
        except ValueError:
            pass  # an @ that belongs to the path
    return Path(source).expanduser(), None


def record_beside(draft: str) -> Path | None:
    """The file of records in a draft's directory, if there is one."""
    try:
        path = Path(draft).expanduser() / FILE
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _of_draft(records: list[AcceptanceRecord], small: Architecture | None, path: Path) -> list[AcceptanceRecord]:
    """The records of a draft of this size; BadInput if there is none."""
    if small is None:
        return records
    own = [
        record
        for record in records
        if not record.draft_parameters or abs(record.draft_parameters / small.parameters - 1.0) <= APART
    ]
    if not own:
        other = records[0]
        raise BadInput(
            f"the acceptance in {shortened(str(path), 200)} is of {other.draft}, a draft of {other.draft_parameters:,}"
            f" parameters; {small.name} has {small.parameters:,}"
        )
    return own
