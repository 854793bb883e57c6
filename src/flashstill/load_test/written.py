"""Measure a server, and write all that was found into its directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from flashstill.errors import BadInput, InfeasiblePlan, unknown
from flashstill.files import write_text
from flashstill.load_test.answer import Measurement, document
from flashstill.load_test.exports import write_exports
from flashstill.load_test.failures import KINDS
from flashstill.load_test.kept import SUMMARY
from flashstill.load_test.measurement import measured
from flashstill.load_test.question import LoadTest
from flashstill.plan.case import CASE_FIELDS
from flashstill.progress import Progress

TOLD = ("isl", "osl", "concurrency", "burst_share")
"""columns of a case that the measurement gives"""


def measure_server(
    asked: LoadTest, progress: Progress, out: Path | None = None, case: Mapping[str, str] | None = None
) -> Measurement:
    """Measure all levels, and write the summary and its exports to `out`.

    out: keeps every request as it ends; the same question goes on where it was.  case: columns of a case that a server
    does not tell (chip, tp, precision), for the measured rows.
    BadInput if the server cannot be asked; InfeasiblePlan, with the failures counted, if no request ended well.
    """
    case = case or {}
    for name in case:
        if name not in CASE_FIELDS:
            raise BadInput(unknown("column of a case", name, CASE_FIELDS))
        if name in TOLD:
            raise BadInput(f"{name} of a case is what was measured; leave it out")
    if case and out is None:
        raise BadInput("columns of a case go into the files of --out, which is not given")
    found = measured(asked, progress, out)
    if out is not None:
        write_text(out / SUMMARY, json.dumps(document(found), indent=1, allow_nan=False) + "\n")
        write_exports(found, out, case)
    if not found.ok:
        reasons: dict[str, int] = {}
        for level in found.levels:
            for kind, count in level.failures.items():
                reasons[KINDS[kind]] = reasons.get(KINDS[kind], 0) + count
        raise InfeasiblePlan(f"no request to {asked.address} ended well", reasons)
    return found
