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
ROLES = {"teacher": "star", "student": "circle", "control": "diamond-open", "untrained": "triangle-up-open"}


def kind_words(record: ModelRecord) -> str:
    """ "copy, int4", "fewer layers, on-policy"; empty for a teacher, and in records that are older."""
    parts = [WORDS.get(record.kind, record.kind), record.number_format]
    return ", ".join(part for part in (*parts, "" if record.regime == "offline" else record.regime) if part)


def marker(record: ModelRecord) -> str:
    """A teacher, controls and starts by their role, a student by its kind, with a dot where its weights are rounded."""
    if record.role != "student":
        return ROLES[record.role]
    return MARKERS.get(record.kind, ROLES["student"]) + ("-dot" if record.number_format else "")


def legend(records: list[ModelRecord]) -> str:
    """A sentence that names the marker of each kind of student."""
    shapes = {"circle": "circle", "square": "square", "pentagon": "pentagon", "hexagon2": "hexagon",
              "hexagon": "hexagon", "triangle-down": "triangle pointing down"}  # fmt: skip
    told = dict.fromkeys((record.kind, bool(record.number_format)) for record in records if record.role == "student")
    return ", ".join(
        f"a {shapes[MARKERS.get(kind, ROLES['student'])]}{' with a dot' if rounded else ''} a student"
        + (f" ({WORDS.get(kind, kind)}{', rounded' if rounded else ''})" if kind else "")
        for kind, rounded in told
    )
