"""Selects the attempts to train on, and builds training rows from them.

    verified   attempts that the verifier accepts
    majority   attempts whose answer is the most frequent one
    score      attempts with a verifier score of at least `least`
    first      the first attempt, right or wrong: distillation without a verifier
    shuffled   as many as `verified`, by verdicts shuffled among all attempts: a negative control

Identical chains of a problem are kept once.  At most `most` chains per problem are kept, since easy problems would
otherwise dominate the set.  Among them the likeliest are preferred, so that a student learns one phrasing rather than
all of them; or the shortest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.distill.data.packing import Packed
from flashstill.distill.reasoning.chains import Chains, Verdicts
from flashstill.errors import BadInput, unknown

RULES = ("verified", "majority", "score", "first", "shuffled")
THINKING = ("keep", "drop")
PREFERENCES = ("likeliest", "shortest")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A rule, and the number of first attempts it applies to (0: all). most: chains kept per problem, 0 for all;
    prefer: order of preference; budget: longest chain in tokens, 0 for any; least: minimum for the rule `score`."""

    rule: str = "verified"
    attempts: int = 0
    most: int = 4
    prefer: str = "likeliest"
    budget: int = 0
    least: float = 1.0

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise BadInput(unknown("rule of choice", self.rule, RULES))
        if self.prefer not in PREFERENCES:
            raise BadInput(unknown("preference among chains", self.prefer, PREFERENCES))
        if min(self.attempts, self.most, self.budget) < 0:
            raise BadInput("attempts, most and budget of a choice must not be negative")


Kept = npt.NDArray[np.int64]
"""[K, 2]: indices of problem and attempt, sorted by problem"""


def chosen(chains: Chains, verdicts: Verdicts, choice: Choice, seed: int = 0) -> Kept:
    """The attempts that a rule keeps."""
    attempts = choice.attempts or chains.attempts
    if attempts > chains.attempts:
        raise BadInput(f"a choice among {attempts} attempts needs as many; {chains.attempts} were made")
    chains, verdicts = chains.first(attempts), verdicts.first(attempts)
    allowed = _allowed(verdicts, choice, seed)
    if choice.budget:
        allowed &= chains.lengths <= choice.budget
    cost = chains.lengths if choice.prefer == "shortest" else -chains.log_p
    kept: list[tuple[int, int]] = []
    for problem in np.flatnonzero(allowed.any(-1)):
        places = np.flatnonzero(allowed[problem])
        places = places[np.argsort(cost[problem, places], kind="stable")]
        distinct: dict[bytes, int] = {}
        for place in places:
            distinct.setdefault(chains.tokens[problem, place].tobytes(), int(place))
        own = list(distinct.values())[: choice.most or None]
        kept += [(int(problem), place) for place in sorted(own)]
    return np.asarray(kept, dtype=np.int64).reshape(-1, 2)


def _allowed(verdicts: Verdicts, choice: Choice, seed: int) -> npt.NDArray[np.bool_]:
    right = verdicts.right
    if choice.rule == "verified":
        return right.copy()
    if choice.rule == "shuffled":
        return np.random.default_rng(seed).permutation(right.ravel()).reshape(right.shape)
    if choice.rule == "score":
        allowed: npt.NDArray[np.bool_] = verdicts.score >= choice.least
        return allowed
    if choice.rule == "first":
        only = np.zeros_like(right)
        only[:, 0] = True
        return only
    return _majority(verdicts.said)


def _majority(answers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each attempt has the most frequent answer of its problem; ties go to the answer that came first."""
    votes = (answers[:, :, None] == answers[:, None, :]).sum(-1) * (answers >= 0)
    winner = answers[np.arange(len(answers)), votes.argmax(-1)]
    in_majority: npt.NDArray[np.bool_] = (answers == winner[:, None]) & (answers >= 0)
    return in_majority


def packed_rows(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], padding: int) -> Packed:
    """One window per row: a prompt and its answer; prompt and padding are masked out of the loss.

    All windows have the length of the longest row.  Raises BadInput if there are no rows.
    """
    if not prompts:
        raise BadInput("no attempt was kept; nothing can be learned (take an easier task or more attempts)")
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    tokens = np.full((len(prompts), max(lengths)), padding, dtype=np.int32)
    mask = np.zeros((len(prompts), max(lengths) - 1), dtype=np.int32)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        tokens[row, : lengths[row]] = [*prompt, *answer]
        mask[row, len(prompt) - 1 : lengths[row] - 1] = 1  # over targets: the first answer token is one
    owner = np.where(mask == 1, np.arange(len(prompts), dtype=np.int32)[:, None], -1)
    return Packed(
        tokens=tokens, target_bytes=np.zeros_like(mask), target_document=owner.astype(np.int32), target_mask=mask
    )


def learned(
    kept: Kept, chains: Chains, prompts: Sequence[Sequence[int]], answers: Sequence[str], tokenizer: Any, thinking: str
) -> Packed:
    """Training rows of the kept attempts. answers: one per attempt; thinking: "keep" the chain, or "drop" it so that
    the answer directly follows the prompt (system 2 to system 1)."""
    if thinking not in THINKING:
        raise BadInput(unknown("thinking", thinking, THINKING))
    padding = tokenizer.eos_token_id
    prompt_rows = [prompts[problem] for problem, _ in kept]
    if thinking == "keep":
        chosen_tokens = [chains.tokens[problem, place] for problem, place in kept]
        return packed_rows(prompt_rows, [row[row >= 0].tolist() for row in chosen_tokens], padding)
    encoded = tokenizer(list(answers), add_special_tokens=False)["input_ids"] if len(kept) else []
    return packed_rows(prompt_rows, [[*ids, padding] for ids in encoded], padding)
