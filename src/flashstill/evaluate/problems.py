"""How well a model solves problems: in one greedy pass, in the best of N attempts, by majority; and what it thought.

Attempts and verdicts are kept on the disk (distill/reasoning/chains.py); what is computed here are figures.
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
    """Accuracy of the first attempt, its standard error, and tokens an answer; hard [P]: reported on its own."""
    right = verdicts.right[:, 0]
    found: dict[str, Any] = {**asdict(accuracy(right)), "tokens": float(chains.lengths[:, 0].mean())}
    if hard is not None:
        found["hard_half"] = asdict(accuracy(right[hard]))
    return found


def many_attempts(
    chains: Chains, verdicts: Verdicts, seed: int, hard: npt.NDArray[np.bool_] | None = None
) -> dict[str, dict[str, Any]]:
    """ "best_of" and "majority_of": N -> accuracy, its standard error, and the tokens of N attempts."""
    tokens = float(chains.lengths.mean())
    found: dict[str, dict[str, Any]] = {"best_of": {}, "majority_of": {}}
    for count in powers_of_two(chains.attempts):
        values = {
            "best_of": best_of(verdicts.right, count),
            "majority_of": majority_of(verdicts.said, verdicts.right, count, seed),
        }
        for name, each in values.items():
            entry: dict[str, Any] = {**asdict(accuracy(each)), "tokens": count * tokens}
            if hard is not None:
                entry["hard_half"] = asdict(accuracy(each[hard]))
            found[name][str(count)] = entry
    return found


def harder_half(verdicts: Verdicts) -> npt.NDArray[np.bool_]:
    """[P]: the half of the problems that the attempts solve least often; ties by place."""
    order = np.argsort(verdicts.right.mean(-1), kind="stable")
    found = np.zeros(len(order), dtype=np.bool_)
    found[order[: len(order) // 2]] = True
    return found


def quality_records(model: str, figures: Mapping[str, Mapping[str, Any]], domain: str) -> list[QualityRecord]:
    """One record a figure, with a normal 95 % interval; figures: metric -> value, se, n, tokens."""
    return [
        QualityRecord(
            model=model, domain=domain, metric=metric, value=found["value"],
            low=found["value"] - NORMAL_95 * found["se"], high=found["value"] + NORMAL_95 * found["se"],
            tokens=round(found["tokens"] * found["n"]), documents=found["n"],
        )
        for metric, found in figures.items()
    ]  # fmt: skip


def answer_texts(chains: Chains, tokenizer: Any) -> Sequence[Sequence[str]]:
    """[P][N]: every chain as text."""
    flat = [row[row >= 0] for row in chains.tokens.reshape(-1, chains.tokens.shape[-1])]
    said = tokenizer.batch_decode(flat, skip_special_tokens=True)
    return [said[first : first + chains.attempts] for first in range(0, len(said), chains.attempts)]
