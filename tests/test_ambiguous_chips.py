"""Several rows of a number of which a chip has one: the first was taken silently."""

from __future__ import annotations

from pathlib import Path

import pytest

import flashstill as fs
from flashstill.errors import MissingFact

HEADING = "name,quantity,value,low,high,unit,per,condition,kind,source,as_of,note\n"


@pytest.mark.parametrize(
    ("quantity", "row", "conditions"),
    [
        ("memory_bytes", "h100-sxm,memory_bytes,9.4e10,,,B,chip,HBM3e,estimate,own,2026-11,", "HBM3; HBM3e"),
        ("power_limit_w", "h100-sxm,power_limit_w,350,,,W,chip,capped,estimate,own,2026-11,", "no condition; capped"),
        ("link_bytes_per_s", "h100-sxm,link_bytes_per_s,1e11,,,B/s,chip,receive,estimate,own,2026-11,", "receive"),
    ],
)
def test_two_rows_of_one_number_are_refused(tmp_path: Path, quantity: str, row: str, conditions: str) -> None:
    (tmp_path / "more.csv").write_text(HEADING + row + "\n")
    with pytest.raises(MissingFact, match=f"h100-sxm has 2 rows of {quantity} .*{conditions}"):
        fs.chip("h100-sxm", facts=tmp_path)


def test_a_row_of_the_same_condition_replaces(tmp_path: Path) -> None:
    rows = "h100-sxm,memory_bytes,9.4e10,,,B,chip,HBM3,estimate,own,2026-11,\n"
    (tmp_path / "more.csv").write_text(HEADING + rows)
    assert fs.chip("h100-sxm", facts=tmp_path).memory.bytes == 9.4e10
