"""The sentences of a family's report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flashstill.records import CostRecord
from flashstill.report.findings import findings
from tests.finished_runs import family_records


@pytest.mark.parametrize(("usd", "words"), [(0.25, "75% less than"), (1.0, "0% less than"), (1.5, "50% more than")])
def test_a_student_that_is_dearer_is_not_told_to_cost_less(usd: float, words: str) -> None:
    records = [
        replace(each, usd_per_million_tokens=usd) if isinstance(each, CostRecord) and each.model == "half" else each
        for each in family_records()
    ]
    assert findings(records)[4].endswith(f", {words} the teacher.")
