"""Accuracy on problems, greedy, best of N and majority of N, with tokens per answer.

Accuracies are computed from stored attempts and verdicts (distill/reasoning/chains.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.distill.reasoning.chains import Chains, Verdicts
from flashstill.evaluate.attempts import accuracy, best_of, majority_of
from flashstill.records import QualityRecord

NORMAL_95 = 1.959964


def powers_of_two(largest: int) -> list[int]:
    """1, 2, 4, ... up to `largest`."""
    return [2**power for power in range(largest.bit_length()) if 2**power <= largest]


def one_pass(chains: Chains, verdicts: Verdicts, hard: npt.NDArray[np.bool_] | None = None) -> dict[str, Any]:
    """Accuracy of the first attempt, its standard error, tokens per answer; hard [P]: problems reported separately."""
    right = verdicts.right[:, 0]
    figures: dict[str, Any] = {**asdict(accuracy(right)), "tokens": float(chains.lengths[:, 0].mean())}
    if hard is not None:
        figures["hard_half"] = asdict(accuracy(right[hard]))
    return figures


def many_attempts(
    chains: Chains, verdicts: Verdicts, seed: int, hard: npt.NDArray[np.bool_] | None = None
) -> dict[str, dict[str, Any]]:
    """ "best_of" and "majority_of": N -> accuracy, its standard error, and the tokens of N attempts."""
    tokens = float(chains.lengths.mean())
    figures: dict[str, dict[str, Any]] = {"best_of": {}, "majority_of": {}}
    for count in powers_of_two(chains.attempts):
        values = {
            "best_of": best_of(verdicts.right, count),
            "majority_of": majority_of(verdicts.said, verdicts.right, count, seed),
        }
        for name, per_problem in values.items():
            entry: dict[str, Any] = {**asdict(accuracy(per_problem)), "tokens": count * tokens}
            if hard is not None:
                entry["hard_half"] = asdict(accuracy(per_problem[hard]))
            figures[name][str(count)] = entry
    return figures


def harder_half(verdicts: Verdicts) -> npt.NDArray[np.bool_]:
    """Mask [P] of the half of the problems with the fewest right attempts; ties go to the first."""
    order = np.argsort(verdicts.right.mean(-1), kind="stable")
    is_hard = np.zeros(len(order), dtype=np.bool_)
    is_hard[order[: len(order) // 2]] = True
    return is_hard


def quality_records(model: str, figures: Mapping[str, Mapping[str, Any]], domain: str) -> list[QualityRecord]:
    """One record per metric, with a normal 95 % interval; figures: metric -> value, se, n, tokens per problem."""
    return [
        QualityRecord(
            model=model, domain=domain, metric=metric, value=figure["value"],
            low=_end(figure, -NORMAL_95), high=_end(figure, NORMAL_95),
            tokens=round(figure["tokens"] * figure["n"]), documents=figure["n"],
        )
        for metric, figure in figures.items()
    ]  # fmt: skip


def _end(figure: Mapping[str, Any], errors: float) -> float | None:
    """The end of an interval, so many standard errors away; None for a single problem."""
    return float(figure["value"] + errors * figure["se"]) if figure["n"] > 1 else None


def answer_texts(chains: Chains, tokenizer: Any) -> Sequence[Sequence[str]]:
    """Every chain as text, [P][N]."""
    flat = [row[row >= 0] for row in chains.tokens.reshape(-1, chains.tokens.shape[-1])]
    texts = tokenizer.batch_decode(flat, skip_special_tokens=True)
    return [texts[first : first + chains.attempts] for first in range(0, len(texts), chains.attempts)]
