"""The packaged table of published laws (laws.toml), as read: name -> its entries. Read once per process."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).parent / "laws.toml"


@cache
def entries() -> dict[str, dict[str, Any]]:
    """Every published law by name."""
    with _TABLE.open("rb") as stream:
        return tomllib.load(stream)


def coefficients(name: str) -> dict[str, float]:
    """The coefficients of one published law."""
    return dict(entries()[name]["coefficients"])
