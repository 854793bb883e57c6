"""How often a model is right: at one attempt, at the best of N, by the majority of N.

With n attempts at a problem, c of them right, and N <= n:

    best of N      1 - C(n-c, N)/C(n, N)              the chance that N of them drawn without replacement hold a right
                                                      one (Chen et al. 2021, "Evaluating Large Language Models Trained
                                                      on Code", equation 1); unbiased
    majority of N  the share of draws of N whose most frequent answer is right; ties go to the answer that came first
    standard error the deviation over problems / sqrt(problems)

A best of N needs a verifier that knows the right answer when it sees it; a majority needs none.
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
    """A mean over problems. n: problems."""

    value: float
    se: float
    n: int


def best_of(right: npt.NDArray[np.bool_], count: int) -> Floats:
    """The chance that `count` attempts hold a right one, problem by problem: right [P, n] -> [P]."""
    problems, attempts = right.shape
    if not 1 <= count <= attempts:
        raise ValueError(f"the best of {count} needs as many attempts, not {attempts}")
    wrong = attempts - right.sum(-1)
    chance = np.ones(problems)
    for taken in range(count):  # C(w, N)/C(n, N) factor by factor
        chance *= np.maximum(wrong - taken, 0) / (attempts - taken)
    return 1.0 - chance


def majority_of(answers: npt.NDArray[np.int64], right: npt.NDArray[np.bool_], count: int, seed: int) -> Floats:
    """The chance that the majority of `count` attempts is right: [P, n] twice -> [P].

    answers: which attempts at a problem say the same; a negative one says nothing and has no vote.
    """
    problems, attempts = right.shape
    if not 1 <= count <= attempts:
        raise ValueError(f"the majority of {count} needs as many attempts, not {attempts}")
    draws = 1 if count == attempts else MAJORITY_DRAWS
    generator = np.random.default_rng([seed, count])
    found = np.zeros(problems)
    for problem in range(problems):
        for _ in range(draws):
            chosen = generator.permutation(attempts)[:count] if draws > 1 else np.arange(attempts)
            winner = _winner(answers[problem, chosen])
            found[problem] += winner >= 0 and right[problem, chosen[winner]]
    return found / draws


def _winner(answers: npt.NDArray[np.int64]) -> int:
    """The place of the first attempt with the most frequent answer; -1 where nothing was said."""
    said, first, votes = np.unique(answers, return_index=True, return_counts=True)
    votes = np.where(said < 0, 0, votes)
    if not votes.max():
        return -1
    return int(first[votes == votes.max()].min())


def accuracy(per_problem: Sequence[float] | Floats | npt.NDArray[np.bool_]) -> Accuracy:
    """Mean and standard error over problems."""
    values = np.asarray(per_problem, dtype=np.float64)
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Accuracy(value=float(values.mean()), se=spread / math.sqrt(len(values)), n=len(values))
