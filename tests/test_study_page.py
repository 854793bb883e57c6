"""The page of a study, rendered from the evidence that the documents show."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from flashstill.recipes.studies import KINDS
from flashstill.report.claims import CLAIMS, judged
from flashstill.report.study import render_study

EVIDENCE = Path(__file__).parents[1] / "docs" / "evidence"
RECIPES = Path(__file__).parents[1] / "src" / "flashstill" / "recipes"
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
    drawn = _charts(render_study(_summary("deep-think"), RECIPE))
    assert _names(drawn["Other measures"]) == ["standard errors over unverified"]
    assert "standard errors over unverified" not in _names(drawn["Shares"])
    assert "Other measures" not in _charts(render_study(_summary("hinton-2015"), RECIPE))


def test_each_measure_of_several_models_has_its_own_axis_and_unit() -> None:
    """Losses and KL are in nats and no shares, however small; the models' names are whole beside their points."""
    drawn = _charts(render_study(_summary("rounding"), RECIPE))
    assert list(drawn) == ["Shares", "Loss, held out", "Loss, other domain", "KL to the teacher, held out"]
    names = _names(drawn["KL to the teacher, held out"])
    assert len(names) == 7
    assert names[:2] == ["int4, distilled", "int4, labels"]
    assert set(_names(drawn["Shares"])) == {"int4", "ternary"}  # int4: loss won back and the like
    assert "int4, start: 3.662 nats (3.531 to 3.793 nats)" in drawn["Loss, held out"]
    assert not any("…" in name for title, chart in drawn.items() if title != "Shares" for name in _names(chart))


def test_accuracies_have_an_axis_of_their_own() -> None:
    """A point between two students is a tenth of an inch on an axis from 0 to 1."""
    drawn = _charts(render_study(_summary("hinton-2015"), RECIPE))
    assert _ticks(drawn["Shares"])[0] == 0.0
    assert _ticks(drawn["Accuracies"])[0] > 0.5
    names = {part: _names(drawn[part]) for part in ("Shares", "Accuracies")}
    assert all("accuracy" in name for name in names["Accuracies"])
    assert "small gap closed" in names["Shares"]
    assert not any("accuracy" in name for name in names["Shares"])


def test_quality_is_drawn_over_tokens_and_over_dollars() -> None:
    drawn = _charts(render_study(_summary("deep-think"), RECIPE))
    summary = _summary("deep-think")
    details = next(iter(summary["details"].values()))
    for chart in (drawn["Tokens an answer"], drawn["Dollars per million answers"]):
        names = _names(chart)
        assert "teacher, one greedy pass" in names
        assert {f"arm, {name}" for name in details["student_greedy"]} - set(names) == {f"arm, {details['student']}"}
        assert chart.count('class="broad') == 1, "the frontier"


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("deep-think", "It holds in part over 3 seeds: not shown is gain over teacher greedy"),
     ("hinton-2015", "It holds in part over 5 seeds: missed is ensemble gain"),
     ("kd-against-labels", "It holds over 3 seeds"), ("moe-to-dense", "It is not shown over 3 seeds"),
     ("rounding", "It holds in part over 3 seeds: missed is int4: KL won back")],
)  # fmt: skip
def test_a_page_says_what_the_study_claims_and_whether_it_holds(name: str, verdict: str) -> None:
    summary = _summary(name)
    page = render_study(summary, f'{RECIPE}study = "{_kind(name)}"\n')
    (claim,) = re.findall(r'<p class="claim[^"]*">([^<]*)</p>', page)
    assert claim.startswith("The study claims: ")
    assert verdict in claim


def test_a_claim_is_judged_by_its_interval() -> None:
    name = "KL to the teacher, held out: distilled less labels"
    figures = _summary("kd-against-labels")["figures"]
    words, holds = judged("kd-against-labels", {**figures, name: {**figures[name], "high": 0.01}}, 3)
    assert holds is False
    assert f"not shown is {name}" in words
    assert judged("kd-against-labels", {}, 3)[1] is None
    alone = {"share": {"value": 0.5, "low": None, "high": None, "bar": 0.6}}
    words = "The study set itself minimums. It is not shown over 1 seed: not shown is share 0.500 (at least 0.6)."
    assert judged("a new kind", alone, 1) == (words, False)
    missed = {"share": {"value": 0.5, "low": 0.4, "high": 0.55, "bar": 0.6}}
    words = "The study set itself minimums. It does not hold over 3 seeds: share 0.500, 0.400 to 0.550 (at least 0.6)."
    assert judged("a new kind", missed, 3) == (words, False)


def test_every_kind_of_study_has_a_claim() -> None:
    assert set(CLAIMS) == set(KINDS)


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


def _kind(name: str) -> str:
    return str(tomllib.loads((RECIPES / f"{name}.toml").read_text())["study"])


def _charts(page: str) -> dict[str, str]:
    """title -> SVG."""
    return dict(re.findall(r"<h3>([^<]*)</h3>(<svg .*?</svg>)", page, re.DOTALL))


def _names(chart: str) -> list[str]:
    """What each mark is the value of."""
    return [words.split(":")[0] for words in re.findall(r"<title>([^<]*)</title>", chart)]


def _ticks(chart: str) -> list[float]:
    """Numbers below the plot."""
    return [float(words) for words in re.findall(r'text-anchor="middle">([\d.]+)</text>', chart)]
