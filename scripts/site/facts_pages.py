"""Tables of facts for the site, made from the CSV files of the package: value, range, kind and source of every row."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from flashstill.units import show

FACTS = Path(__file__).resolve().parents[2] / "src" / "flashstill" / "facts"
TITLES = {
    "chips": "Chips",
    "energies": "Energies",
    "prices": "Prices",
    "calibration": "Calibration, estimates",
    "calibrated": "Calibration, fitted",
    "training": "Training",
}
"""titles of the tables that a reader is shown first; other files of rows follow under their own names"""
LIST_OF_CHIPS = "machines"


def navigation() -> list[dict[str, str]]:
    """Entries of the navigation."""
    return [{_title(stem): f"facts/{stem}.md"} for stem in _stems()]


def pages() -> dict[str, str]:
    """Markdown of each page by its path."""
    return {f"facts/{stem}.md": _page(stem) for stem in _stems()}


def _stems() -> list[str]:
    found = [path.stem for path in sorted(FACTS.glob("*.csv")) if path.stem != LIST_OF_CHIPS]
    return sorted(found, key=lambda stem: list(TITLES).index(stem) if stem in TITLES else len(TITLES))


def _title(stem: str) -> str:
    return TITLES.get(stem, stem.replace("_", " ").capitalize())


def _rows(stem: str) -> list[dict[str, str]]:
    with (FACTS / f"{stem}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _page(stem: str) -> str:
    rows = _rows(stem)
    by_name = defaultdict(list)
    for row in rows:
        by_name[row["name"]].append(row)
    makers = {row["name"]: row for row in _rows(LIST_OF_CHIPS)}
    lines = [
        f"# {_title(stem)}",
        "",
        f"{len(rows)} rows of `src/flashstill/facts/{stem}.csv`, as this version ships them. "
        "[Facts](../facts.md) tells what the columns mean, and how to add or edit rows.",
    ]
    for name, own in by_name.items():
        lines += ["", f"## {name}", ""]
        if machine := makers.get(name):
            lines += [f"{machine['title']}, {machine['maker']}, {machine['year']}; class `{machine['class']}`.", ""]
        lines += _table(own)
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, str]]) -> list[str]:
    lines = ["| quantity | condition | value | kind | source |", "|---|---|---|---|---|"]
    for row in rows:
        note = f" ({row['note']})" if row["note"] else ""
        source = f"{row['source']}, {row['as_of']}{note}"
        cells = [f"`{row['quantity']}`", row["condition"], _value(row), row["kind"], source]
        lines.append("| " + " | ".join(cell.replace("|", "&#124;").replace("<", "&lt;") for cell in cells) + " |")
    return lines


def _value(row: dict[str, str]) -> str:
    """The value with its range, where it has one."""
    low, high = row["low"] or row["value"], row["high"] or row["value"]
    own = _amount(row["value"], row["unit"])
    return own if low == high else f"{own} ({_amount(low, row['unit'])} to {_amount(high, row['unit'])})"


def _amount(number: str, unit: str) -> str:
    return show(float(number), unit).replace("$", "\\$") if number else ""
