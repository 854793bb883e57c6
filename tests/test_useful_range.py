"""A benchmark warns where it no longer, or not yet, tells models apart: in evaluations and in reports."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from flashstill.distill.data.packing import Packed
from flashstill.distilled import EvaluationResult
from flashstill.evaluate.excerpts import most_frequent_share
from flashstill.records import QualityRecord
from flashstill.report.study import _accuracies, render_study
from flashstill.useful_range import HIGHEST, lowest_useful, range_warnings

EVIDENCE = Path(__file__).parents[1] / "docs" / "evidence"


def score(value: float, metric: str = "accuracy", model: str = "student", domain: str = "quiz") -> QualityRecord:
    return QualityRecord(
        model=model, domain=domain, metric=metric, value=value, low=value - 0.01, high=value + 0.01, tokens=100,
        documents=100,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "chance", "warned"),
    [
        (0.09, 0.0, True), (0.10, 0.0, False), (0.95, 0.0, False), (0.951, 0.0, True),
        (0.30, 0.25, True), (0.33, 0.25, False), (0.10, 0.25, True), (0.96, 0.25, True),
        (0.54, 0.5, True), (0.56, 0.5, False),
    ],
)  # fmt: skip
def test_a_warning_is_below_a_tenth_of_the_way_from_chance_and_above_95_percent(
    value: float, chance: float, warned: bool
) -> None:
    warnings = range_warnings([score(value)], lambda model, domain: chance)
    assert bool(warnings) == warned
    assert warned == (value < lowest_useful(chance) or value > HIGHEST)


def test_every_share_of_right_answers_counts_and_nothing_else() -> None:
    shares = ["accuracy", "agreement", "best_of_16", "majority_of_4", "pass_at_1", "exact_match"]
    others = ["bits_per_byte", "perplexity", "kl_to_teacher", "gap_closed"]
    found = range_warnings([score(0.99, metric) for metric in shares + others])
    assert [warning.metric for warning in found] == shares


def test_a_teacher_agrees_with_itself_without_a_warning() -> None:
    assert not range_warnings([score(1.0, "agreement", "teacher")])
    assert range_warnings([score(1.0, "accuracy", "teacher")])


def test_the_message_says_what_chance_is_and_what_to_do() -> None:
    (low,) = range_warnings([score(0.30)], lambda model, domain: 0.25)
    assert "30.0%" in low.message
    assert "below 32.5%" in low.message
    assert "chance (25.0%)" in low.message
    assert "easier" in low.message
    (none,) = range_warnings([score(0.96)], lambda model, domain: 0.97)
    assert none.message.endswith("and chance is 97.0% of all: no score tells models apart; take another benchmark")
    (high,) = range_warnings([score(0.97)])
    assert "harder" in high.message


def test_the_chance_level_of_a_text_is_its_most_frequent_token() -> None:
    tokens = np.array([[9, 1, 1, 2], [2, 3, 1, 9]], dtype=np.int32)
    document = np.array([[0, 0, 0], [1, 1, -1]], dtype=np.int32)
    packed = Packed(tokens=tokens, target_bytes=np.ones((2, 3), dtype=np.int32), target_document=document)
    assert most_frequent_share(packed) == pytest.approx(3 / 5)


def test_the_result_carries_its_warnings() -> None:
    warnings = range_warnings([score(0.99)])
    result = EvaluationResult(records=(score(0.99),), left_out={}, warnings=warnings)
    assert result.as_dict()["warnings"] == [dataclasses.asdict(warnings[0])]
    assert json.dumps(result.as_dict())
    assert "harder benchmark" in result._repr_html_()


def test_the_report_of_a_study_warns() -> None:
    """The classifiers of the evidence score 83 to 91 %; one that scores more than 95 % gets a line."""
    hinton = json.loads((EVIDENCE / "hinton-2015.json").read_text())
    hinton["figures"]["teacher_accuracy"] |= {"value": 0.97, "low": 0.96}
    page = render_study(hinton, 'name = "mine"\n')
    assert "accuracy of teacher on test is 97.0% (96.0% to 98.0%), above 95%" in page
    assert page.count("take a harder benchmark") == 1


def test_the_points_of_deep_think_are_scores() -> None:
    point = {"who": "teacher", "how": "one greedy pass", "accuracy": 0.04, "se": 0.01}
    (warning,) = range_warnings(_accuracies({}, [point]))
    assert "accuracy of teacher (one greedy pass) on test is 4.0% (2.0% to 6.0%), below 10%" in warning.message
