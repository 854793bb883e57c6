"""The ends of a record's interval, where it has one."""

from __future__ import annotations

from flashstill.records import QualityRecord


def ends_of(record: QualityRecord) -> tuple[float, float]:
    """low and high."""
    assert record.low is not None, "no interval"
    assert record.high is not None, "half an interval"
    return record.low, record.high
