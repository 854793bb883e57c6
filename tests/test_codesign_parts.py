"""Rows priced in parts: the same answers as with every part of every row priced."""

from __future__ import annotations

from typing import Any

import pytest

import flashstill as fs
from flashstill.codesign import rows
from flashstill.cost.parts import Parts
from tests.marks import slow


def _whole(*_: Any) -> Parts:
    return Parts(operations=None, experts=None, exchanges=None, kept=[])


def _numbers(document: Any, place: str = "") -> dict[str, float]:
    if isinstance(document, dict | list):
        items = document.items() if isinstance(document, dict) else enumerate(document)
        return {name: value for key, one in items for name, value in _numbers(one, f"{place}/{key}").items()}
    return {place: document} if isinstance(document, float) else {}


@pytest.mark.parametrize(
    ("model", "chips", "asked"),
    [
        ("qwen3-0.6b", ("tpu-v5e", "l40s"), {}),
        *slow(("qwen3-30b-a3b", ("tpu-v6e", "h100-sxm"), {"overlaps": ("none", "two-batch"), "batches": (1, 8, 64)})),
    ],
)
def test_parts_change_no_answer(
    monkeypatch: pytest.MonkeyPatch, model: str, chips: tuple[str, ...], asked: dict[str, Any]
) -> None:
    def numbers() -> dict[str, float]:
        return _numbers(fs.codesign(model=model, chip=chips, max_chips=8, doubling=False, **asked).as_dict()["pairs"])

    in_parts = numbers()
    monkeypatch.setattr(rows, "parts_of", _whole)
    whole = numbers()
    assert len(whole) > 100
    assert in_parts == pytest.approx(whole, rel=1e-9, abs=1e-11)
