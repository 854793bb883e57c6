"""Accuracy of a model: in one attempt, best of N attempts (pass@N), majority of N attempts.

With n attempts at a problem, c of them right, and N <= n:

    best of N      1 - C(n-c, N)/C(n, N)              pass@N: the probability that at least one of N attempts, drawn
                                                      without replacement, is right (Chen et al. 2021, "Evaluating Large
                                                      Language Models Trained on Code", equation 1); unbiased
    majority of N  the share of draws of N whose most frequent answer is right; ties go to the answer that came first
    standard error the deviation over problems / sqrt(problems)

Best of N needs a verifier that recognises the right answer; a majority needs none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MAJORITY_DRAWS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """A mean over problems and its standard error. n: number of problems."""

    value: float
    se: float
    n: int


def best_of(right: npt.NDArray[np.bool_], count: int) -> Floats:
    """The probability that one of `count` attempts is right, for each problem: right [P, n] -> [P]."""
    problems, attempts = right.shape
    if not 1 <= count <= attempts:
        raise ValueError(f"the best of {count} needs as many attempts, not {attempts}")
    wrong = attempts - right.sum(-1)
    all_wrong = np.ones(problems)
    for drawn in range(count):  # C(n-c, N)/C(n, N) factor by factor
        all_wrong *= np.maximum(wrong - drawn, 0) / (attempts - drawn)
    return 1.0 - all_wrong


def majority_of(answers: npt.NDArray[np.int64], right: npt.NDArray[np.bool_], count: int, seed: int) -> Floats:
    """The probability that the majority of `count` attempts is right: [P, n] twice -> [P].

    answers: equal numbers mean equal answers to a problem; negative ones mean no answer.
    """
    problems, attempts = right.shape
    if not 1 <= count <= attempts:
        raise ValueError(f"the majority of {count} needs as many attempts, not {attempts}")
    draws = 1 if count == attempts else MAJORITY_DRAWS
    generator = np.random.default_rng([seed, count])
    times_right = np.zeros(problems)
    for problem in range(problems):
        for _ in range(draws):
            chosen = generator.permutation(attempts)[:count] if draws > 1 else np.arange(attempts)
            winner = _winner(answers[problem, chosen])
            times_right[problem] += winner >= 0 and right[problem, chosen[winner]]
    return times_right / draws


def _winner(answers: npt.NDArray[np.int64]) -> int:
    """The index of the first attempt with the most frequent answer; -1 where no attempt has one."""
    distinct, first, votes = np.unique(answers, return_index=True, return_counts=True)
    votes = np.where(distinct < 0, 0, votes)
    if not votes.max():
        return -1
    return int(first[votes == votes.max()].min())


def accuracy(per_problem: Sequence[float] | Floats | npt.NDArray[np.bool_]) -> Accuracy:
    """Mean and standard error over problems."""
    values = np.asarray(per_problem, dtype=np.float64)
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Accuracy(value=float(values.mean()), se=spread / math.sqrt(len(values)), n=len(values))
