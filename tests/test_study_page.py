"""The page of a study, rendered from the evidence that the documents show."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flashstill.report.study import render_study

EVIDENCE = Path(__file__).parents[1] / "docs" / "evidence"
RECIPE = 'name = "<b>mine</b>"\n'


def test_the_frontier_is_what_no_other_beats_in_tokens_and_accuracy() -> None:
    summary = _summary("deep-think")
    rows = [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", row)]
        for row in render_study(summary, RECIPE).split("<tr>")
        if row.count("<td") == 8
    ]
    assert len(rows) > 20
    points = [(float(row[5].replace(",", "")), float(row[2]), "tokens" in row[7]) for row in rows]
    assert {on_front for *_, on_front in points} == {True, False}
    for tokens, accuracy, on_front in points:
        beaten = any(other[0] < tokens and other[1] > accuracy for other in points)
        assert not (beaten and on_front)
    best = max(points, key=lambda point: point[1])
    assert best[2]


def test_a_count_does_not_squeeze_the_shares() -> None:
    drawn = _figures(render_study(_summary("deep-think"), RECIPE))
    assert drawn["others"]["data"][0]["y"] == ["standard errors over unverified"]
    assert "standard errors over unverified" not in drawn["figures"]["data"][0]["y"]
    assert "others" not in _figures(render_study(_summary("hinton-2015"), RECIPE))


def test_accuracies_have_an_axis_of_their_own() -> None:
    """A point between two students is a tenth of an inch on an axis from 0 to 1."""
    drawn = _figures(render_study(_summary("hinton-2015"), RECIPE))
    assert drawn["figures"]["layout"]["xaxis"]["rangemode"] == "tozero"
    assert drawn["accuracies"]["layout"]["xaxis"]["rangemode"] == "normal"
    names = {part: drawn[part]["data"][0]["y"] for part in ("figures", "accuracies")}
    assert all("accuracy" in name for name in names["accuracies"])
    assert "small gap closed" in names["figures"]
    assert not any("accuracy" in name for name in names["figures"])


def test_a_name_is_escaped() -> None:
    page = render_study(_summary("hinton-2015"), RECIPE)
    assert "<b>mine" not in page


@pytest.mark.parametrize("path", sorted(EVIDENCE.glob("*.json")), ids=lambda path: path.stem)
def test_every_evidence_has_a_page(path: Path) -> None:
    summary = json.loads(path.read_text())
    page = render_study(summary, RECIPE)
    for name in summary["figures"]:
        assert name.replace("_", " ") in page


def _summary(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EVIDENCE / f"{name}.json").read_text())
    return found


def _figures(page: str) -> dict[str, Any]:
    """The figures as the page hands them to its script."""
    found = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found
    figures: dict[str, Any] = json.loads(found[1])
    return figures
