"""The kind of a model in words and as a marker in plots, from its record."""

from __future__ import annotations

from flashstill.records import ModelRecord

WORDS = {
    "depth": "fewer layers", "width": "narrower", "copy": "copy", "upcycle": "experts", "dense": "dense",
    "scratch": "from scratch",
}  # fmt: skip
MARKERS = {
    "depth": "circle", "width": "square", "copy": "pentagon", "upcycle": "hexagon2", "dense": "hexagon",
    "scratch": "triangle-down",
}  # fmt: skip
ROLES = {"teacher": "star", "student": "circle", "control": "diamond-open", "untrained": "triangle-open"}

_MARKER_WORDS = {
    "hexagon2": "hexagon with a flat top", "triangle-down": "triangle upside down", "diamond-open": "open diamond",
    "triangle-open": "open triangle",
}  # fmt: skip
"""of markers that are no words themselves"""


def kind_words(record: ModelRecord) -> str:
    """ "copy, int4", "fewer layers, on-policy"; empty for a teacher, and in records that are older."""
    parts = [WORDS.get(record.kind, record.kind), record.number_format]
    return ", ".join(part for part in (*parts, "" if record.regime == "offline" else record.regime) if part)


def marker(record: ModelRecord) -> str:
    """A teacher, controls and starts by their role, a student by its kind, with a dot where its weights are rounded."""
    if record.role != "student":
        return ROLES[record.role]
    return MARKERS.get(record.kind, ROLES["student"]) + ("-dot" if record.number_format else "")


def marker_words(name: str) -> str:
    """A marker as a reader sees it: "open diamond", "circle with a dot"."""
    shape = name.removesuffix("-dot")
    return f"{_MARKER_WORDS.get(shape, shape)}{' with a dot' if shape != name else ''}"


def shapes(records: list[ModelRecord]) -> list[tuple[str, str]]:
    """Each marker of a plot of these models, with what it stands for."""
    others = {
        "teacher": "teacher",
        "control": "hard-label control of a student",
        "untrained": "student before training",
    }
    found: dict[str, str] = {}
    for record in records:
        kind = WORDS.get(record.kind, record.kind)
        words = f"student{f', {kind}' if kind else ''}{', rounded' if record.number_format else ''}"
        found.setdefault(marker(record), others.get(record.role, words))
    return list(found.items())
