"""Accuracy at one attempt, at the best of N and by majority: unbiased, and right where it can be counted by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.evaluate.attempts import accuracy, best_of, majority_of


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 8))
def test_best_of_counts_every_subset(right: list[bool], count: int) -> None:
    count = min(count, len(right))
    subsets = list(itertools.combinations(right, count))
    by_hand = sum(any(subset) for subset in subsets) / len(subsets)
    assert best_of(np.array([right]), count)[0] == pytest.approx(by_hand)


def test_best_of_never_falls_with_more_attempts() -> None:
    right = np.random.default_rng(0).random((50, 16)) < 0.2
    values = [best_of(right, count).mean() for count in range(1, 17)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(right.mean())
    assert values[-1] == right.any(-1).mean()


def test_majorities_by_hand() -> None:
    answers = np.array([[7, 7, 3, -1], [3, 7, 7, 3], [-1, -1, -1, -1], [-1, -1, 5, -1]])
    right = np.array([[True, True, False, False], [True, False, False, True], [False] * 4, [False, False, True, False]])
    assert majority_of(answers, right, 4, 0).tolist() == [1.0, 1.0, 0.0, 1.0], "ties go to what came first"


@pytest.mark.slow
def test_the_majority_of_one_is_one_attempt() -> None:
    generator = np.random.default_rng(1)
    answers = generator.integers(0, 4, (300, 8))
    right = answers == 2
    one = majority_of(answers, right, 1, 0).mean()
    assert one == pytest.approx(right.mean(), abs=0.02)
    biased = np.where(generator.random((300, 8)) < 0.4, 2, answers)
    assert majority_of(biased, biased == 2, 8, 0).mean() > (biased == 2).mean() + 0.2, "the likeliest answer wins"


@pytest.mark.parametrize("count", [0, 5])
def test_more_than_there_are(count: int) -> None:
    nothing = np.zeros((2, 4), dtype=np.bool_)
    with pytest.raises(ValueError, match="as many attempts, not 4"):
        best_of(nothing, count)
    with pytest.raises(ValueError, match="as many attempts, not 4"):
        majority_of(nothing.astype(np.int64), nothing, count, 0)


def test_the_standard_error_of_a_share() -> None:
    found = accuracy([1.0] * 30 + [0.0] * 70)
    assert found.value == 0.3
    assert found.se == pytest.approx((0.3 * 0.7 / 99) ** 0.5)
    assert accuracy([1.0]).se == 0.0
