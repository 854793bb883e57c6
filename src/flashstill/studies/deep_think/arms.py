"""The arms of a study: the data of each student, its training steps, and its accuracy in one greedy pass.

labels            the right answers of the training problems, as the task gives them
unverified        the teacher's greedy answers
verified-N        those of N attempts that the verifier accepts, for equal steps
verified-N-epochs the same, for as many epochs as the arm with the most attempts
majority-N        attempts with the majority answer, without a verifier
shuffled-N        attempts chosen by verdicts that are shuffled among all attempts: the negative control
round-R           the last `verified` student after R rounds of further training on its own right attempts
policy            the student before it after policy gradient with the verifier's rewards
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flashstill.studies.deep_think.models import first_student, learn
from flashstill.studies.deep_think.work import Attempted, Work

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.reasoning.choosing import Kept


LABELS, POLICY = "labels", "policy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """A student to be trained: its name, training rows and steps."""

    name: str
    rows: Packed
    steps: int


def main_arm(work: Work) -> str:
    """The name of the study's main student."""
    if work.recipe.policy.steps:
        return POLICY
    rounds = work.recipe.think.rounds
    return f"round-{rounds}" if rounds else f"verified-{work.recipe.think.attempts}"


def arms(work: Work, greedy: Attempted | None, sampled: Attempted) -> list[Arm]:
    """The arms of the recipe and the main one, except what comes after it (further.py). greedy, sampled: the teacher's
    attempts at the training problems."""
    think, steps = work.recipe.think, work.recipe.learn.steps
    fewer = [count for count in (1, 4, 16, 64, 256) if count < think.attempts]
    wanted, all_arms = set(think.arms), []
    if LABELS in wanted:
        all_arms.append(Arm(name=LABELS, rows=work.labelled("train"), steps=steps))
    if "unverified" in wanted and greedy is not None:
        packed = rows(work, greedy, kept(work, greedy, "first", 1))
        all_arms.append(Arm(name="unverified", rows=packed, steps=steps))
    whole = rows(work, sampled, kept(work, sampled, "verified", think.attempts))
    for count in fewer if wanted & {"fewer", "epochs"} else []:
        packed = rows(work, sampled, kept(work, sampled, "verified", count))
        if "fewer" in wanted:
            all_arms.append(Arm(name=f"verified-{count}", rows=packed, steps=steps))
        if "epochs" in wanted:
            as_often = max(1, round(steps * packed.windows / whole.windows))
            all_arms.append(Arm(name=f"verified-{count}-epochs", rows=packed, steps=as_often))
    all_arms.append(Arm(name=f"verified-{think.attempts}", rows=whole, steps=steps))
    for rule in ("majority", "shuffled"):
        if rule in wanted:
            packed = rows(work, sampled, kept(work, sampled, rule, think.attempts))
            all_arms.append(Arm(name=f"{rule}-{think.attempts}", rows=packed, steps=steps))
    return all_arms


def kept(work: Work, tried: Attempted, rule: str, attempts: int) -> Kept:
    """The attempts that a rule keeps."""
    from flashstill.distill.reasoning.choosing import Choice, chosen

    think = work.recipe.think
    choice = Choice(rule=rule, attempts=attempts, most=think.most, prefer=think.prefer, budget=think.budget)
    return chosen(tried.chains, tried.verdicts, choice, work.seed)


def rows(work: Work, tried: Attempted, chosen: Kept) -> Packed:
    """The kept attempts as rows to train on."""
    from flashstill.distill.reasoning.choosing import learned

    answers = [work.extract(tried.texts[problem][place]) or "" for problem, place in chosen]
    return learned(chosen, tried.chains, work.prompts("train"), answers, work.tokenizer, work.recipe.think.thinking)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """The student's own attempts in one stage: tokens of prompts and of answers, attempts, answers that were judged.

    solved: problems of a round that the student learns a right answer of; unlearned: how many of these answers are none
    that it was taught before, by its teacher or itself."""

    read: int
    thought: int
    chains: int
    judged: int
    solved: int | None = None
    unlearned: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Taught:
    """A student of the study: its directory, the rows that it learned from, its training tokens, and what its own
    attempts cost, if it made any."""

    directory: Path
    rows: int
    tokens: int
    own: Tried | None = None


def teach(work: Work, arm: Arm, start: Path | None = None) -> Taught:
    """The student of an arm, trained unless it exists. start: directory of its initial weights."""
    per_step = min(work.recipe.learn.rows_per_step, arm.rows.windows) * arm.rows.length
    return Taught(directory=trained(work, arm, start), rows=arm.rows.windows, tokens=arm.steps * per_step)


def trained(work: Work, arm: Arm, start: Path | None = None) -> Path:
    """The directory of an arm's student, trained unless it exists. start: directory of its initial weights."""
    import torch

    from flashstill.distill.models import save_model
    from flashstill.distill.training import checkpoints

    place, folder = work.out / "students" / arm.name, work.out / "training" / arm.name
    if not place.is_dir():
        if start is not None:
            model = work.loaded(start)
        else:
            sample = torch.from_numpy(arm.rows.tokens[:64, :-1].astype(np.int64))
            net = work.recipe.student
            model = first_student(
                net,
                work.teacher,
                work.tokenizer,
                work.positions,
                work.seed + 1,
                sample,
                work.progress,
                work.arithmetic.dtype,
            )
        signals = None if arm.name == LABELS else work.signals(arm.rows)
        share = 0.0 if signals is None else work.recipe.think.teacher_share
        label = f"train {arm.name}"
        learn(
            model, arm.rows, work.recipe.learn, arm.steps, work.seed, folder, work.progress, label, signals, share,
            goes_on=start is not None,
        )  # fmt: skip
        save_model(model, work.tokenizer, place)
    checkpoints.clear(folder)
    return place


def examined(work: Work, place: Path, hard: Any) -> tuple[dict[str, Any], Attempted]:
    """Evaluate a student on the test problems: the figures of one greedy attempt, and these attempts."""
    from flashstill.distill.models import fingerprint
    from flashstill.evaluate.problems import one_pass

    model, known_as = work.loaded(place), fingerprint(place)
    greedy = work.attempted(model, known_as, "test", 1, greedy=True)
    return one_pass(greedy.chains, greedy.verdicts, hard), greedy
