"""Which attempts are worth learning from, and the text that a student reads.

    verified   the verifier says it is right
    majority   its answer is the most frequent one among the attempts
    score      the verifier gives it at least so much
    first      the first attempt, whatever it is worth: what a teacher's plain text teaches
    shuffled   as many as `verified` has, by verdicts dealt anew among all attempts: the control, which must not help

Equal chains of a problem are kept once.  At most `most` a problem are kept: problems that are solved at nearly every
attempt would otherwise fill the set (balance by difficulty).  The likeliest come first, so that a student learns one
way of putting things rather than all of them; or the shortest.
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
    """A rule, among so many first attempts (0: all). most: kept a problem, 0 for all; prefer: which of them first;
    budget: longest chain in tokens, 0 for any; least: score that the rule `score` asks for."""

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
"""[K, 2]: problem and attempt, problem by problem"""


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
    """Attempts whose answer is the most frequent one at their problem; ties go to the one that came first."""
    votes = (answers[:, :, None] == answers[:, None, :]).sum(-1) * (answers >= 0)
    winner = answers[np.arange(len(answers)), votes.argmax(-1)]
    in_majority: npt.NDArray[np.bool_] = (answers == winner[:, None]) & (answers >= 0)
    return in_majority


def packed_rows(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], padding: int) -> Packed:
    """One window a row: a prompt, and behind it what is learned; nothing behind its end or in the prompt counts.

    All windows have the length of the longest row.  Raises BadInput where there is none.
    """
    if not prompts:
        raise BadInput("no attempt was kept; nothing can be learned (take an easier task or more attempts)")
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    tokens = np.full((len(prompts), max(lengths)), padding, dtype=np.int32)
    mask = np.zeros((len(prompts), max(lengths) - 1), dtype=np.int32)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        tokens[row, : lengths[row]] = [*prompt, *answer]
        mask[row, len(prompt) - 1 : lengths[row] - 1] = 1  # masks lie on targets: the first answer token is one
    owner = np.where(mask == 1, np.arange(len(prompts), dtype=np.int32)[:, None], -1)
    return Packed(
        tokens=tokens, target_bytes=np.zeros_like(mask), target_document=owner.astype(np.int32), target_mask=mask
    )


def learned(
    kept: Kept, chains: Chains, prompts: Sequence[Sequence[int]], answers: Sequence[str], tokenizer: Any, thinking: str
) -> Packed:
    """The rows of the attempts kept. answers: of each of them; thinking: "keep" the chain, or "drop" it so that the
    answer follows the prompt at once (system 2 to system 1)."""
    if thinking not in THINKING:
        raise BadInput(unknown("thinking", thinking, THINKING))
    padding = tokenizer.eos_token_id
    prompt_rows = [prompts[problem] for problem, _ in kept]
    if thinking == "keep":
        chosen_tokens = [chains.tokens[problem, place] for problem, place in kept]
        return packed_rows(prompt_rows, [row[row >= 0].tolist() for row in chosen_tokens], padding)
    encoded = tokenizer(list(answers), add_special_tokens=False)["input_ids"] if len(kept) else []
    return packed_rows(prompt_rows, [[*ids, padding] for ids in encoded], padding)
