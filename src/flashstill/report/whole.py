"""Checks that a family's records are complete for its page and findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flashstill.checked import LARGEST
from flashstill.errors import BadInput
from flashstill.records import CostRecord, MeasuredRecord, ModelRecord, QualityRecord, amounts
from flashstill.report.figures import LEVEL_GROUPS
from flashstill.report.findings import View
from flashstill.report.kinds import ROLES

Judged = ModelRecord | QualityRecord | MeasuredRecord | CostRecord
"""the records of a family"""
QUALITY = (
    ("heldout", "bits_per_byte"), ("heldout", "perplexity"), ("heldout", "kl_to_teacher"), ("heldout", "agreement"),
    ("out-of-domain", "perplexity"), ("out-of-domain", "kl_to_teacher"), ("out-of-domain", "agreement"),
)  # fmt: skip
LEVELS = (*(level for levels in LEVEL_GROUPS.values() for level in levels), "total")


def check_whole(view: View, path: Path) -> None:
    """Raises BadInput naming the first record that is missing from `path` or contradicts another."""
    for problem in problems(view):
        raise BadInput(f"{path} {problem}; it is damaged or of an unfinished run: run its command again")


def problems(view: View) -> Iterator[str]:
    """What is missing, as sentences that start with a verb."""
    if "teacher" not in view.models or view.models["teacher"].role != "teacher":
        yield "holds no record of the teacher"
        return
    if not view.students:
        yield "holds no record of a student"
    parts: tuple[Mapping[Any, Judged], ...] = (view.models, view.quality, view.measured, view.cost)
    for record in (record for part in parts for record in part.values()):
        for key, value in amounts(record):
            if abs(value) > LARGEST:
                yield f"gives {record.model!r} a {key} of {value:g}, more than anything can be"
    yield from _models(view)
    yield from _costs(view)
    yield from _measured(view)


def _models(view: View) -> Iterator[str]:
    for name, record in view.models.items():
        if record.role not in ROLES:
            yield f"gives {name!r} the role {record.role!r}, not one of {', '.join(ROLES)}"
        if record.of not in view.models:
            yield f"tells that {name!r} is of {record.of!r}, and holds no record of that"
        for domain, metric in QUALITY:
            if (name, domain, metric) not in view.quality:
                yield f"holds no {metric} of {name!r} on {domain} text"
    for student in view.students:
        if f"{student}-untrained" not in view.models:
            yield f"holds no record of {student}-untrained, which {student!r} began as"


def _costs(view: View) -> Iterator[str]:
    if not view.chips:
        yield "holds no cost on a chip"
    for chip in view.chips:
        batches = {key[3] for key in view.cost if key[1:3] == (chip, "decode")}
        if not batches:
            yield f"holds no cost of a decode step on {chip}"
        for name in ("teacher", *view.students):
            for batch in sorted(batches):
                if (name, chip, "decode", batch) not in view.cost:
                    yield f"holds no cost of {name!r} on {chip} at batch {batch}"
    for record in view.cost.values():
        for level in LEVELS:
            if level not in record.joules_per_token:
                yield f"holds no joules_per_token.{level} of {record.model!r} on {record.chip} at batch {record.batch}"
        if not record.joules_per_token.get("arithmetic", 1.0):
            yield f"tells that {record.model!r} needs no energy for arithmetic on {record.chip}"
        if record.usd_per_million_tokens == 0:
            yield f"tells that {record.model!r} costs nothing on {record.chip}"


def _measured(view: View) -> Iterator[str]:
    if not view.measured:
        yield "holds no measurement of this machine"
        return
    least = min(key[2] for key in view.measured)
    for name in ("teacher", *view.students):
        if (name, "decode", least) not in view.measured:
            yield f"holds no measured decode step of {name!r} at batch {least}"
    for (name, phase, batch), record in view.measured.items():
        if (name, record.machine, phase, batch) not in view.cost:
            yield f"holds no predicted cost of {name!r} on {record.machine}, {phase} at batch {batch}"
