"""Learning from a verifier on the student's own attempts: policy gradient with a baseline from the same problem.

Symbols: attempts y_1 .. y_G of the current student pi at a problem x; reward r_i of the verifier; T tokens in all.

    leave-one-out   A_i = r_i - mean of the others' r = (r_i - r) G / (G - 1)
    normalised      A_i = (r_i - r) / s,  s: standard deviation of the G rewards, with G - 1

    gradient = -1/T sum_i A_i sum_t grad log pi(y_it | x, y_i<t)  +  kl/T sum_it grad KL(pi || start)(x, y_i<t)

The first is RLOO (Kool et al. 2019; Ahmadian et al. 2024, "Back to Basics", equation 8), the second GRPO (Shao et al.
2024, "DeepSeekMath", 4.1.1).  Every batch is drawn by the weights that it changes and is used once: the ratio of the
two policies is then 1, and GRPO's clipping does nothing.  The mean is over the tokens of a step (Yu et al. 2025,
"DAPO", equation 8), and problems whose attempts all have one reward are left out, as they have no gradient (3.2).
The KL is over the whole vocabulary instead of an estimate from the token drawn (GRPO's k3); neither has the gradient of
where the policy leads.  Sampling is at temperature 1 from the whole distribution: that is the policy of the gradient.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flashstill.distill.generate import Sampling, sample
from flashstill.distill.losses import Term, Workspace, one_hot, reverse_kl
from flashstill.distill.reasoning.chains import memory_for, problems_hash
from flashstill.distill.reasoning.choosing import packed_rows
from flashstill.distill.reasoning.judging import Judges
from flashstill.distill.reasoning.matching import Extract
from flashstill.distill.reasoning.problems import Problem
from flashstill.distill.training.batches import Batch, Student, window_order
from flashstill.distill.training.objectives import Objective, TeacherSource
from flashstill.errors import BadInput, unknown

BASELINES = ("leave-one-out", "normalised")
REWARDS = ("right", "score")
DIGEST_BYTES = 16
_STREAM = 1 << 40  # seeds of these attempts, apart from those of stored ones


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """attempts: G at each problem; baseline: how rewards become advantages; reward: 1 for a "right" attempt and else 0,
    or the verifier's "score"."""

    attempts: int = 8
    baseline: str = "leave-one-out"
    reward: str = "right"

    def __post_init__(self) -> None:
        if self.attempts < 2:
            raise BadInput(f"a baseline needs at least 2 attempts at a problem, not {self.attempts}")
        if self.baseline not in BASELINES:
            raise BadInput(unknown("baseline", self.baseline, BASELINES))
        if self.reward not in REWARDS:
            raise BadInput(unknown("reward", self.reward, REWARDS))


def advantages(rewards: npt.NDArray[np.float64], baseline: str) -> npt.NDArray[np.float64]:
    """Advantages [P, G] of rewards [P, G]; 0 for problems whose attempts all have one reward."""
    above: npt.NDArray[np.float64] = rewards - rewards.mean(-1, keepdims=True)
    if baseline == "leave-one-out":
        attempts = rewards.shape[-1]
        above *= attempts / (attempts - 1)
        return above
    deviation = rewards.std(-1, ddof=1, keepdims=True)
    normalised: npt.NDArray[np.float64] = np.zeros_like(above)
    np.divide(above, deviation, out=normalised, where=_apart(rewards)[:, None])
    return normalised


def _apart(rewards: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """[P]: whether the attempts at a problem have more than one reward."""
    apart: npt.NDArray[np.bool_] = rewards.min(-1) < rewards.max(-1)
    return apart


class Rewarded:
    """A source of batches. Step s attempts `per_step` problems; a batch depends on the seed, the step and the weights
    only, so that a resumed run continues as if it had not stopped.  Rewards of answers that were judged are part of its
    state: after a resumption they are neither judged nor counted again, and those of other stages do not matter."""

    def __init__(
        self,
        problems: Sequence[Problem],
        prompts: Sequence[Sequence[int]],
        per_step: int,
        group: Group,
        new_tokens: int,
        tokenizer: Any,
        extract: Extract,
        judges: Judges,
        seed: int,
        rows_at_a_time: int = 256,
    ) -> None:
        """rows_at_a_time: texts that are sampled at a time; a run may go on with another number."""
        self.prompts, self.per_step, self.group, self.seed = prompts, min(per_step, len(prompts)), group, seed
        self.tokenizer, self.extract, self.judges = tokenizer, extract, judges
        self.sampling = Sampling(
            new_tokens=new_tokens, stop=(tokenizer.eos_token_id,), vocabulary=len(tokenizer), seed=seed + _STREAM,
            batch=rows_at_a_time,
        )  # fmt: skip
        self.key: dict[str, object] = {
            "problems": problems_hash(problems), "task": judges.task.key, "extract": asdict(extract),
            "per_step": self.per_step, "group": asdict(group), "sampling": self.sampling.key,
        }  # fmt: skip
        self._longest = max(map(len, prompts)) + new_tokens - 1
        self._space = Workspace()
        self._known: dict[bytes, float] = {}
        """rewards of the answers judged so far, by the digest of problem and answer"""

    @property
    def window_length(self) -> int:
        return self._longest

    def batch(self, step: int, student: Student) -> Batch:
        begun, attempts = time.perf_counter(), self.group.attempts
        problems = window_order(self.seed, len(self.prompts), step, self.per_step)
        owners = problems.repeat(attempts).tolist()
        ids = np.arange(len(owners)) + step * len(owners)
        asked = [self.prompts[problem] for problem in owners]
        with memory_for(self.sampling):
            drawn = sample(student(), asked, self.sampling, ids.tolist(), space=self._space)
        chains = [row[row >= 0].tolist() for row in drawn.tokens]
        sampled = time.perf_counter()
        rewards, calls = self._judged(owners, chains)
        made = {
            "reward": round(float(rewards.mean()), 4), "tokens_drawn": float(drawn.lengths.sum()),
            "tokens_read": float(sum(map(len, asked))), "verifier_calls": float(calls),
            "sampling_s": round(sampled - begun, 4), "judging_s": round(time.perf_counter() - sampled, 4),
        }  # fmt: skip
        table = rewards.reshape(-1, attempts)
        useful = _apart(table)
        made["useful_share"] = round(float(useful.mean()), 4)
        if not useful.any():
            useful[0] = True  # a step without a gradient
        rows = np.flatnonzero(useful.repeat(attempts))
        factors = advantages(table, self.group.baseline).ravel()[rows]
        packed = packed_rows([asked[row] for row in rows], [chains[row] for row in rows], self.tokenizer.eos_token_id)
        return Batch(
            tokens=torch.from_numpy(packed.tokens.astype(np.int64)), mask=torch.from_numpy(packed.mask), windows=None,
            own=torch.ones(len(rows), dtype=torch.bool), factors=torch.from_numpy(factors).float(), made=made,
        )  # fmt: skip

    def _judged(self, owners: Sequence[int], chains: Sequence[list[int]]) -> tuple[npt.NDArray[np.float64], int]:
        """Rewards [R] of the attempts `chains` at the problems `owners`, and the number of answers that were judged."""
        texts = self.tokenizer.batch_decode(chains, skip_special_tokens=True)
        answers = [(problem, self.extract(text)) for problem, text in zip(owners, texts, strict=True)]
        digests = [_digest(problem, answer) for problem, answer in answers]
        fresh = {
            digest: answer
            for digest, answer in zip(digests, answers, strict=True)
            if answer[1] is not None and digest not in self._known
        }
        for digest, verdict in zip(fresh, self.judges(list(fresh.values())), strict=True):
            is_score = self.group.reward == "score"
            self._known[digest] = verdict.score if is_score else float(verdict.score == 1.0)
        return np.array([self._known.get(digest, 0.0) for digest in digests]), len(fresh)

    def state(self) -> dict[str, Tensor]:
        digests = np.frombuffer(b"".join(self._known), dtype=np.int64).reshape(-1, DIGEST_BYTES // 8)
        rewards = np.fromiter(self._known.values(), np.float64, len(self._known))
        return {"judged": torch.from_numpy(digests.copy()), "rewards": torch.from_numpy(rewards)}

    def restore(self, state: dict[str, Tensor]) -> None:
        if state:  # a checkpoint of an older version has none
            digests = state["judged"].numpy()
            self._known = {
                row.tobytes(): float(reward) for row, reward in zip(digests, state["rewards"].tolist(), strict=True)
            }


def _digest(problem: int, answer: str | None) -> bytes:
    """Of a question to the verifier."""
    asked = f"{problem}\n{answer}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(asked, digest_size=DIGEST_BYTES).digest()


def rewarded(start: TeacherSource | None = None, kl: float = 0.0) -> Objective:
    """The objective of batches with a factor per window: its value is no measure of progress, its gradient is above.

    start: the policy that the student is held to, with the weight `kl`; not run if that is 0.
    """

    def objective(batch: Batch) -> Sequence[Term]:
        assert batch.factors is not None, "of a Rewarded source"
        terms = [Term(teacher=one_hot(batch.targets, batch.factors.repeat_interleave(batch.mask.shape[1])))]
        if start is not None and kl:
            terms.append(Term(teacher=start(batch), divergence=reverse_kl, weight=kl))
        return terms

    return objective
