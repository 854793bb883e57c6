"""What readers of load generators' results share: case-file cells, and values of a JSON tree that may be absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashstill.checked import LARGEST

Cells = dict[str, str]
TPOT, TTFT, NOTE, FAILED = "measured_tpot_ms", "measured_ttft_ms", "note", "failed"


def inside(tree: Any, *names: str) -> Mapping[str, Any]:
    """The object below some names; empty where it is missing or is something else."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def number(tree: Mapping[str, Any], name: str) -> float | None:
    """A number above 0 that a float holds, or None."""
    value = tree.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < LARGEST:
        return None
    return float(value)


def whole(value: float | None) -> str:
    """A cell with a whole number, at least 1; empty for None."""
    return "" if value is None else str(max(round(value), 1))


def text(value: float | None) -> str:
    """A cell with all digits of a number; empty for None."""
    return "" if value is None else repr(value)


def failed_of(failed: float | None, of: float | None) -> Cells:
    """The cell that tells how many requests failed, of how many; nothing where none did or the file is silent."""
    return {FAILED: f"{failed:,.0f} of {of:,.0f}"} if failed and of else {}
