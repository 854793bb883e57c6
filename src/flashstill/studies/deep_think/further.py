"""What follows the distillation: the student attempts the problems itself, and the verifier's verdicts teach it.

round-R   expert iteration: in each round the student samples attempts at all training problems, and is trained on with
          the right ones of this and of earlier rounds and the teacher's (Anthony et al. 2017, "Thinking Fast and Slow
          with Deep Learning and Tree Search"; Singh et al. 2024, "Beyond Human Data")
policy    policy gradient with the verifier's rewards (distill/reasoning/rewarded.py)
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flashstill.recipes.resuming import loop_keys
from flashstill.studies.deep_think.arms import POLICY, Arm, Taught, Tried, kept, rows, teach
from flashstill.studies.deep_think.work import Attempted, Work

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed


def rounds(work: Work, verified: Packed, start: Path) -> dict[str, Taught]:
    """Rounds of self-training. verified: the student's training rows so far; start: its directory."""
    from flashstill.distill.data.packing import joined_rows
    from flashstill.distill.models import fingerprint

    think = work.recipe.think
    attempts = think.round_attempts or think.attempts
    students: dict[str, Taught] = {}
    parts = [verified]
    for number in range(1, think.rounds + 1):
        own = work.attempted(work.loaded(start), fingerprint(start), "train", attempts)
        solved = kept(work, own, "verified", attempts)
        known = len(parts)
        if len(solved):
            parts.append(rows(work, own, solved))
        packed = joined_rows(parts, work.tokenizer.eos_token_id)
        fresh = _unlearned(packed, sum(part.windows for part in parts[:known]))
        work.progress.say(
            f"round {number}: the student solves {len(solved):,} of {len(work.problems['train']):,} problems itself,"
            f" {fresh:,} of them with an answer that it has not learned"
        )
        arm = Arm(name=f"round-{number}", rows=packed, steps=work.recipe.learn.steps)
        tried = replace(_tried(work, own), solved=len(solved), unlearned=fresh)
        students[arm.name] = replace(teach(work, arm, start), own=tried)
        start = students[arm.name].directory
    return students


def _unlearned(packed: Packed, known: int) -> int:
    """How many of the rows after the first `known` ones are none of these, token by token."""
    mask = packed.mask
    every = [(tokens.tobytes(), counted.tobytes()) for tokens, counted in zip(packed.tokens, mask, strict=True)]
    before = set(every[:known])
    return sum(row not in before for row in every[known:])


def _tried(work: Work, own: Attempted) -> Tried:
    chains = own.chains
    return Tried(
        read=sum(map(len, work.prompts("train"))) * chains.attempts, thought=int(chains.lengths.sum()),
        chains=chains.lengths.size, judged=sum(own.verdicts.counts.values()),
    )  # fmt: skip


def policy(work: Work, start: Path) -> Taught:
    """The student after policy gradient, trained unless it exists. start: directory of its initial weights."""
    from flashstill.distill import training
    from flashstill.distill.models import fingerprint, save_model
    from flashstill.distill.reasoning.rewarded import Group, Rewarded, rewarded
    from flashstill.distill.teachers import Online

    table = work.recipe.policy
    place, folder = work.out / "students" / POLICY, work.out / "training" / POLICY
    problems = work.problems["train"]
    per_step = min(table.problems_per_step, len(problems))
    if not place.is_dir():
        model = work.loaded(start)
        source = Rewarded(
            problems, work.prompts("train"), per_step,
            Group(attempts=table.attempts, baseline=table.baseline, reward=table.reward), work.recipe.think.new_tokens,
            work.tokenizer, work.extract, work.judges("train"), work.seed, work.recipe.think.rows_at_a_time,
        )  # fmt: skip
        windows = per_step * table.attempts
        recipe = training.TrainRecipe(
            tokens=table.steps * windows * source.window_length, windows_per_step=windows,
            learning_rate=table.learning_rate, schedule="wsd", warmup_fraction=table.warmup_fraction,
            decay_fraction=table.decay_fraction, final_fraction=0.05, weight_decay=0.0, seed=work.seed, diverged_at=0.0,
            checkpoint_every_steps=table.checkpoint_every_steps,
            micro_windows=training.equal_passes(windows, table.micro_windows),
        )  # fmt: skip
        held_to = Online(work.loaded(start)) if table.kl else None
        objective, key = rewarded(held_to, table.kl), {"start": fingerprint(start), "kl": table.kl}
        training.train(
            model, source, objective, recipe, folder, work.progress, "train policy", key, may_change=loop_keys()
        )
        save_model(model, work.tokenizer, place)
    training.checkpoints.clear(folder)
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    read, thought, judged = (
        round(sum(row[name] for row in metrics)) for name in ("tokens_read", "tokens_drawn", "verifier_calls")
    )
    own = Tried(read=read, thought=thought, chains=table.steps * per_step * table.attempts, judged=judged)
    return Taught(directory=place, rows=own.chains, tokens=read + thought, own=own)
