"""Reference figures in golden.csv, each with its source, for use without the anchor files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flashstill.facts import Facts
from flashstill.plan.predict import Case, predict
from flashstill.validation.anchors.tables import read_rows
from flashstill.validation.comparison import NOT_FITTED, Comparison

PROMPT_TOKENS = 200
"""prompt length, which the source does not state; short relative to the answers"""


def golden_comparisons(facts: Facts) -> list[Comparison]:
    """Comparison with published inter-token latencies of served models."""
    rows = read_rows(Path(__file__).with_name("golden.csv"))
    cases = [
        Case.of(
            model=row["model"],
            chip=row["chip"],
            tp=int(row["tp"]),
            isl=PROMPT_TOKENS,
            osl=int(row["osl"]),
            concurrency=int(row["concurrency"]),
        )
        for row in rows
    ]
    answers = predict(facts, cases)
    return [
        Comparison(
            anchor="golden figures",
            quantity="inter-token latency",
            fitted=NOT_FITTED,
            measured=np.array([float(row["seconds"]) for row in rows]),
            predicted=np.array([answer.tpot_s or np.nan for answer in answers]),
            low=np.array([answer.tpot_low_s or np.nan for answer in answers]),
            high=np.array([answer.tpot_high_s or np.nan for answer in answers]),
            chip=tuple(row["chip"] for row in rows),
            engine=tuple(str(case.deployment.engine) for case in cases),
        )
    ]
