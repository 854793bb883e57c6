"""Owners that rows can have: a row of any other name would never be read, so it is refused with the nearest names.

a machine of machines.csv, or its maker's class (gpu-amd)      a class of chips (gpu)
an engine (engine-NAME)      a process node (node-5)
a type of memory that some memory_bytes or host_bytes names, or with a row stack_bytes
the other owners of the package's rows: kernel, mac, wire, band, routing, facility, ...
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from flashstill.errors import BadInput, unknown
from flashstill.facts.row import Fact, Machine

_FAMILIES = ("engine-", "node-", "grid-", "api-")
"""beginnings of names of which a user may add more"""
_NAMES_A_MEMORY = ("memory_bytes", "host_bytes")
_DESCRIBES_A_MEMORY = ("stack_bytes", "stack_bytes_per_s", "usd_per_byte", "pj_per_bit")
"""rows that a kind of memory to come has together (codesign --search)"""
_STACKED = "stack_bytes"
"""a name with this quantity is a kind of memory, whether or not a chip has it yet"""


def check_owners(
    rows: Iterable[tuple[str, Fact]], machines: Mapping[str, Machine], package_owners: Collection[str]
) -> None:
    """BadInput for the first row whose name owns nothing that is read.

    rows: pairs (place, row) of a user's files.  machines: all machines, the user's included.
    """
    pairs = list(rows)
    memories = {row.condition.lower() for _, row in pairs if row.quantity in _NAMES_A_MEMORY}
    given = {(row.name, row.quantity) for _, row in pairs}
    memories |= {name for name, _ in given if all((name, quantity) in given for quantity in _DESCRIBES_A_MEMORY)}
    memories |= {row.name for _, row in pairs if row.quantity == _STACKED}
    makers = {owner for machine in machines.values() for owner in (machine.maker_class, machine.chip_class)}
    known = {*package_owners, *machines, *makers, *memories}
    for place, row in pairs:
        if row.name not in known and not row.name.startswith(_FAMILIES):
            raise BadInput(f"{place}: {unknown('name of a chip or other owner of rows', row.name, known)}")
