"""The fact table: read rows, find a number, say where it came from."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from flashstill.errors import BadInput, MissingFact, nearest, unknown
from flashstill.files import home_directory

COLUMNS = ("name", "quantity", "value", "low", "high", "unit", "per", "condition", "kind", "source", "as_of", "note")
KINDS = ("datasheet", "measured", "secondary", "estimate", "what-if")
UNITS = {
    "FLOP/s", "B", "B/s", "1", "W", "nm", "mm2", "USD", "USD/h", "USD/kWh", "pJ", "s", "year", "J",
}  # fmt: skip
_WORDS = tuple(column for column in COLUMNS if column not in ("value", "low", "high"))
_PACKAGE = Path(__file__).parent
_MACHINES = "machines.csv"
_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One number. `low` and `high` bound it; for a datasheet figure they may equal `value`."""

    name: str
    quantity: str
    value: float
    low: float
    high: float
    unit: str
    per: str
    condition: str
    kind: str
    source: str
    as_of: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a chip is, beside its numbers. `chip_class` is what it inherits calibration from."""

    name: str
    title: str
    maker: str
    chip_class: str
    year: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """All rows, by (name, quantity), and the machines they describe.

    A value: rows are edited by making new Facts, which forget whatever was derived from the old ones.
    """

    rows: dict[tuple[str, str], tuple[Fact, ...]]
    machines: dict[str, Machine]
    _derived: dict[Hashable, object] = field(init=False, default_factory=dict, compare=False, repr=False)

    def derived(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """What `make` makes of these rows, made once: a chip, an engine. Errors are raised anew each time."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]  # type: ignore[return-value]

    def chip_name(self, name: str) -> str | None:
        """The machine that `name` spells: any case, underscores for dashes, with or without the form factor."""
        plain = name.strip().lower().replace("_", "-").replace(" ", "-")
        bare = plain.removesuffix("-sxm").removesuffix("-80gb").removesuffix("-nvl72")
        spellings = (
            plain,
            bare,
            f"{bare}-sxm",
            f"{bare}-80g",
            plain.replace("gb", "g"),
            plain.replace("tpuv", "tpu-v"),
        )
        return next((spelling for spelling in spellings if spelling in self.machines), None)

    def machine(self, name: str) -> Machine:
        """The machine called `name`; MissingFact names the nearest ones."""
        found = self.chip_name(name)
        if found is None:
            raise MissingFact(unknown("chip", name, self.machines))
        return self.machines[found]

    def of(self, name: str) -> tuple[Fact, ...]:
        """Every row of one name."""
        return tuple(fact for (owner, _), facts in self.rows.items() if owner == name for fact in facts)

    def find(self, name: str, quantity: str, starting: str = "") -> Fact | None:
        """The row whose condition starts with `starting`, or None."""
        for fact in self.rows.get((name, quantity), ()):
            if fact.condition.startswith(starting):
                return fact
        return None

    def get(self, name: str, quantity: str, starting: str = "") -> Fact:
        """As `find`, but a missing row is an error that says which."""
        fact = self.find(name, quantity, starting)
        if fact is None:
            where = f" for {starting!r}" if starting else ""
            raise MissingFact(f"no fact row gives {quantity} of {name}{where}; add one with --facts DIR")
        return fact

    def value(self, name: str, quantity: str, starting: str = "") -> float:
        """The number alone, in the row's unit."""
        return self.get(name, quantity, starting).value

    def edited(self, edits: Iterable[str]) -> Facts:
        """A copy with what-if edits `name.quantity=value`, for example h100-sxm.memory_bytes_per_s=5e12."""
        rows = dict(self.rows)
        for edit in edits:
            name, quantity, value = _parse_edit(edit)
            known = rows.get((name, quantity))
            if known is None:
                choices = [f"{owner}.{what}" for owner, what in rows]
                raise MissingFact(unknown("quantity", f"{name}.{quantity}", choices))
            rows[name, quantity] = tuple(
                replace(fact, value=value, low=value, high=value, kind="what-if", source="--set") for fact in known
            )
        return Facts(rows=rows, machines=self.machines)


def _parse_edit(edit: str) -> tuple[str, str, float]:
    target, equals, number = edit.partition("=")
    name, dot, quantity = target.strip().rpartition(".")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (equals and dot and math.isfinite(value) and value > 0):
        raise BadInput(f"cannot read --set {edit!r}; write NAME.QUANTITY=NUMBER, the number positive")
    return name.lower(), quantity, value


def user_directory() -> Path:
    """Where `measure` keeps the rows of this machine."""
    return home_directory() / "facts"


def load(directories: Sequence[Path] = (), edits: Iterable[str] = ()) -> Facts:
    """The package's rows, then this machine's, then those of `directories`; then the what-if edits."""
    for directory in directories:
        if not directory.is_dir():
            raise BadInput(f"facts directory {directory} does not exist")
    rows: dict[tuple[str, str], dict[str, Fact]] = {}
    machines: dict[str, Machine] = {}
    for directory in (_PACKAGE, user_directory(), *directories):
        for path in sorted(directory.glob("*.csv")):
            if path.name == _MACHINES:
                machines.update((machine.name, machine) for machine in _read_machines(path))
                continue
            for fact in read_rows(path):
                rows.setdefault((fact.name, fact.quantity), {})[fact.condition] = fact
    table = Facts(rows={key: tuple(facts.values()) for key, facts in rows.items()}, machines=machines)
    return table.edited(edits)


def _read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if tuple(reader.fieldnames or ()) != tuple(columns):
                raise BadInput(f"{path} must have the columns {','.join(columns)}")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as CSV in UTF-8: {error}") from error


def _read_machines(path: Path) -> list[Machine]:
    machines = []
    for row in _read_csv(path, ("name", "title", "maker", "class", "year")):
        try:
            year = int(row["year"])
        except (TypeError, ValueError) as error:
            raise BadInput(f"{path}: the year {row['year']!r} of {row['name']!r} is not a number") from error
        machines.append(
            Machine(name=row["name"], title=row["title"], maker=row["maker"], chip_class=row["class"], year=year)
        )
    return machines


def read_rows(path: Path) -> list[Fact]:
    """The rows of one CSV file; BadInput names the first bad one."""
    return [_fact(path, number, row) for number, row in enumerate(_read_csv(path, COLUMNS), start=2)]


def _fact(path: Path, number: int, row: dict[str, str]) -> Fact:
    place = f"{path}, line {number}"
    if None in row or None in row.values():
        raise BadInput(f"{place} has not {len(COLUMNS)} fields")
    try:
        value = float(row["value"])
        low = float(row["low"] or row["value"])
        high = float(row["high"] or row["value"])
    except ValueError as error:
        raise BadInput(f"{place}: value, low and high must be numbers") from error
    if not (math.isfinite(low) and math.isfinite(high) and low <= value <= high):
        raise BadInput(f"{place}: expected low <= value <= high, all finite")
    for column, choices in (("unit", UNITS), ("kind", KINDS)):
        if row[column] not in choices:
            close = ", ".join(nearest(row[column], choices))
            raise BadInput(f"{place}: unknown {column} {row[column]!r}; the nearest known: {close}")
    if not (row["name"] and row["quantity"] and row["source"] and row["as_of"]):
        raise BadInput(f"{place}: name, quantity, source and as_of must not be empty")
    return Fact(value=value, low=low, high=high, **{column: row[column] for column in _WORDS})


def to_csv(facts: Iterable[Fact]) -> str:
    """Rows as CSV text with a header, the form that `read_rows` takes."""
    import io

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for fact in facts:
        writer.writerow([getattr(fact, column) for column in COLUMNS])
    return stream.getvalue()
