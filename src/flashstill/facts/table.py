"""The fact table: read rows, look up a number and its source."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TypeVar

from flashstill.errors import BadInput, MissingFact, unknown
from flashstill.facts.csv_files import MACHINES_FILE, read_machines, read_rows
from flashstill.facts.edits import Edit, edited, plain
from flashstill.facts.owners import check_owners
from flashstill.facts.row import Fact, Machine
from flashstill.files import home_directory

_PACKAGE = Path(__file__).parent
CLASS_ROW = "crossing_ratio"
"""quantity for which every class of chips, and no other owner, has a row"""
SMALL_FILE = 2**20
"""bytes of a user's file that is compared whole"""
_FILE = re.compile(r"/|\.(toml|csv|json)$")
"""names of chips that are meant as files"""
SPELLINGS = "spellings"
"""key of the names of machines among what is derived"""
_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """All rows, by (name, quantity), and the machines they describe.

    Immutable: an edit makes a new Facts with an empty cache of derived objects.
    edits: the changes made to the rows as read, in order.
    """

    rows: dict[tuple[str, str], tuple[Fact, ...]]
    machines: dict[str, Machine]
    edits: tuple[Edit, ...] = ()
    _derived: dict[Hashable, object] = field(init=False, default_factory=dict, compare=False, repr=False)

    def derived(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """The result of `make`, cached under `key`: a chip or an engine. Errors are not cached."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]  # type: ignore[return-value]

    def chip_name(self, name: str) -> str | None:
        """Canonical machine name: case-insensitive, underscores as dashes, form factor optional; None if unknown."""
        written = plain(name)
        bare = written.removesuffix("-sxm").removesuffix("-80gb").removesuffix("-nvl72")
        spellings = (
            written,
            bare,
            f"{bare}-sxm",
            f"{bare}-80g",
            written.replace("gb", "g"),
            written.replace("tpuv", "tpu-v"),
        )
        known = self.derived(SPELLINGS, lambda: {plain(machine): machine for machine in self.machines})
        return next((known[spelling] for spelling in spellings if spelling in known), None)

    def machine(self, name: str) -> Machine:
        """The machine called `name`; MissingFact lists the nearest names."""
        known_name = self.chip_name(name)
        if known_name is None:
            own = "; a chip of your own is rows of facts, in a directory for --facts" if _FILE.search(name) else ""
            raise MissingFact(unknown("chip", name, self.machines) + own)
        return self.machines[known_name]

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
        """As `find`, but a missing row raises MissingFact."""
        fact = self.find(name, quantity, starting)
        if fact is None:
            where = f" for {starting!r}" if starting else ""
            raise MissingFact(f"no fact row gives {quantity} of {name}{where}; add one with --facts DIR")
        return fact

    def value(self, name: str, quantity: str, starting: str = "") -> float:
        """The value of a row, in its unit."""
        return self.get(name, quantity, starting).value

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of chips with rows; a chip inherits calibration and energies from its class."""
        return tuple(name for name, quantity in self.rows if quantity == CLASS_ROW)

    def with_rows(self, rows: Iterable[Fact]) -> Facts:
        """A copy in which `rows` replace all rows with the same name and quantity."""
        renewed: dict[tuple[str, str], tuple[Fact, ...]] = {}
        for row in rows:
            renewed[row.name, row.quantity] = (*renewed.get((row.name, row.quantity), ()), row)
        return Facts(rows={**self.rows, **renewed}, machines=self.machines, edits=self.edits)

    def with_machine(self, machine: Machine, rows: Iterable[Fact]) -> Facts:
        """A copy with one machine more, and its rows. What was derived stays: it came from rows that stay."""
        more = self.with_rows(rows)
        copy = Facts(rows=more.rows, machines={**self.machines, machine.name: machine}, edits=self.edits)
        copy._derived.update((key, value) for key, value in self._derived.items() if key != SPELLINGS)
        return copy

    def edited(self, edits: Iterable[str]) -> Facts:
        """A copy with what-if edits, for example h100-sxm.memory_bytes_per_s=5e12 (see facts/edits.py)."""
        texts = list(edits)
        if not texts:
            return self
        rows, made = dict(self.rows), list(self.edits)
        chips = {*self.machines, *self.classes, *(machine.maker_class for machine in self.machines.values())}
        owner_of = {plain(name): name for name in ({name for name, _ in rows} | chips)}
        for text in texts:
            start = text.partition("=")[0].partition(".")[0]
            spelled = self.chip_name(start)
            names = owner_of if spelled is None else {**owner_of, plain(start): spelled}
            changed, news = edited(rows, names, chips, text)
            rows[news[0].name, news[0].quantity] = tuple(changed.values())
            made += news
        return Facts(rows=rows, machines=self.machines, edits=tuple(made))


def is_users_own(facts: Facts, name: str, quantity: str) -> bool:
    """Whether the rows of a quantity differ from the package's: a user's file or what-if edit gave them."""
    return facts.rows.get((name, quantity)) != _package().rows.get((name, quantity))


def user_directory() -> Path:
    """Directory in which `flashstill measure` stores the rows of this machine."""
    return home_directory() / "facts"


def load(directories: Sequence[Path] = (), edits: Iterable[str] = ()) -> Facts:
    """The package's rows, then this machine's, then those of `directories`; then the what-if edits."""
    for directory in directories:
        if not directory.is_dir():
            what = "is no directory" if directory.exists() else "does not exist"
            raise BadInput(f"facts directory {directory} {what}")
        if not any(directory.glob("*.csv")):
            raise BadInput(f"facts directory {directory.absolute()} holds no .csv file of facts")
    own = user_directory()
    searched = [own, *directories] if own.is_dir() else directories
    users_files = [path for directory in searched for path in sorted(directory.glob("*.csv"))]
    if not users_files:
        return _package().edited(edits)
    return _with_files(tuple((path.absolute(), _version(path)) for path in users_files)).edited(edits)


def _version(path: Path) -> tuple[int, int, int, bytes]:
    """What tells a file from the one that was read before. The clock of a disk is coarse: small ones are read."""
    try:
        found = path.stat()
        is_small = stat.S_ISREG(found.st_mode) and found.st_size <= SMALL_FILE
        content = path.read_bytes() if is_small else b""
    except OSError:  # what reads its rows says why
        return 0, 0, 0, b""
    return found.st_mtime_ns, found.st_size, found.st_ino, content


@lru_cache(maxsize=8)
def _with_files(files: tuple[tuple[Path, tuple[int, int, int, bytes]], ...]) -> Facts:
    """The package's rows and those of a user's files, read again when one of them changes; BadInput for a row that
    nothing would read."""
    package, tables = _package(), _tables(path for path, _ in files)
    facts = _gathered(tables, package)
    owners = {owner for owner, _ in package.rows} - set(package.machines)
    taken = next((name for name in facts.machines if name in owners), None)
    if taken is not None:
        raise BadInput(f"a chip cannot be called {taken!r}: other rows of that name are read for all chips")
    rows = ((str(path), row) for path, table in tables for row in table)
    check_owners(rows, facts.machines, {owner for owner, _ in package.rows})
    return facts


@cache
def _package() -> Facts:
    """The package's rows, read once per process."""
    return _gathered(_tables(_package_files()))


def _package_files() -> tuple[Path, ...]:
    return tuple(sorted(_PACKAGE.glob("*.csv")))


def _tables(paths: Iterable[Path]) -> list[tuple[Path, list[Fact]]]:
    """The rows of each file, in order; none of a file of machines."""
    return [(path, [] if path.name == MACHINES_FILE else read_rows(path)) for path in paths]


def _gathered(tables: Iterable[tuple[Path, Sequence[Fact]]], before: Facts | None = None) -> Facts:
    """The rows of `before` and of all tables; a later row replaces an earlier of equal name, quantity, condition."""
    rows = {} if before is None else dict(before.rows)
    machines = {} if before is None else dict(before.machines)
    units = {row.quantity: row.unit for found in rows.values() for row in found}
    more: dict[tuple[str, str], dict[str, Fact]] = {}
    for path, table in tables:
        if path.name == MACHINES_FILE:
            machines.update((machine.name, machine) for machine in read_machines(path))
        for fact in table:
            known = units.setdefault(fact.quantity, fact.unit)
            if fact.unit != known:
                raise BadInput(f"{path}: {fact.quantity} of {fact.name} is in {fact.unit}, expected {known}")
            key = fact.name, fact.quantity
            if key not in more:
                more[key] = {row.condition: row for row in rows.get(key, ())}
            more[key][fact.condition] = fact
    return Facts(rows=rows | {key: tuple(facts.values()) for key, facts in more.items()}, machines=machines)
