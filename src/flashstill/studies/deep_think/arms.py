"""The arms of a study: the data of each student, its training steps, and its accuracy in one greedy pass.

labels            the right answers of the training problems, as the task gives them
unverified        the teacher's greedy answers
verified-N        those of N attempts that the verifier accepts, for equal steps
verified-N-epochs the same, for as many epochs as the arm with the most attempts
majority-N        attempts with the majority answer, without a verifier
shuffled-N        attempts chosen by verdicts that are shuffled among all attempts: the negative control
round-R           the last `verified` student after R rounds of further training on its own right attempts
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


LABELS = "labels"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """A student to be trained: its name, training rows and steps."""

    name: str
    rows: Packed
    steps: int


def main_arm(work: Work) -> str:
    """The name of the study's main student."""
    rounds = work.recipe.think.rounds
    return f"round-{rounds}" if rounds else f"verified-{work.recipe.think.attempts}"


def arms(work: Work, greedy: Attempted, sampled: Attempted) -> list[Arm]:
    """All arms except the rounds; greedy and sampled: the teacher's attempts at the training problems."""
    think, steps = work.recipe.think, work.recipe.learn.steps
    counts = [count for count in (1, 4, 16, 64, 256) if count < think.attempts] + [think.attempts]
    all_arms = [
        Arm(name=LABELS, rows=work.labelled("train"), steps=steps),
        Arm(name="unverified", rows=rows(work, greedy, kept(work, greedy, "first", 1)), steps=steps),
    ]
    verified = {count: rows(work, sampled, kept(work, sampled, "verified", count)) for count in counts}
    for count, packed in verified.items():
        all_arms.append(Arm(name=f"verified-{count}", rows=packed, steps=steps))
        if count < think.attempts:
            fewer = max(1, round(steps * packed.windows / verified[think.attempts].windows))
            all_arms.append(Arm(name=f"verified-{count}-epochs", rows=packed, steps=fewer))
    for rule in ("majority", "shuffled"):
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
class Taught:
    """A student of the study: its directory, the rows that it learned from, and its training tokens."""

    directory: Path
    rows: int
    tokens: int


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
        learn(model, arm.rows, work.recipe.learn, arm.steps, work.seed, folder, work.progress, label, signals, share)
        save_model(model, work.tokenizer, place)
    checkpoints.clear(folder)
    return place


def rounds(work: Work, verified: Packed, start: Path) -> dict[str, Taught]:
    """Self-training rounds: the student's attempts, verdicts, and further training on all right attempts so far.

    verified: the student's training rows so far; start: its directory.
    """
    from flashstill.distill.data.packing import joined_rows
    from flashstill.distill.models import fingerprint

    think = work.recipe.think
    students: dict[str, Taught] = {}
    parts = [verified]
    for number in range(1, think.rounds + 1):
        own = work.attempted(work.loaded(start), fingerprint(start), "train", think.attempts)
        solved = kept(work, own, "verified", think.attempts)
        if len(solved):
            parts.append(rows(work, own, solved))
        packed = joined_rows(parts, work.tokenizer.eos_token_id)
        arm = Arm(name=f"round-{number}", rows=packed, steps=work.recipe.learn.steps)
        students[arm.name] = teach(work, arm, start)
        start = students[arm.name].directory
    return students


def examined(work: Work, place: Path, hard: Any, attempts: int = 0) -> tuple[dict[str, Any], Attempted | None]:
    """Evaluate a student on the test problems: one greedy attempt, and `attempts` sampled ones if not 0."""
    from flashstill.distill.models import fingerprint
    from flashstill.evaluate.problems import one_pass

    model, known_as = work.loaded(place), fingerprint(place)
    greedy = work.attempted(model, known_as, "test", 1, greedy=True)
    figures = one_pass(greedy.chains, greedy.verdicts, hard)
    return figures, work.attempted(model, known_as, "test", attempts) if attempts else None
