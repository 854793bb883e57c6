"""Estimated seconds of each part of a family's run on this machine.

    signals    read_s per token, for every stored pair of teacher and text; generation, if a teacher writes text
    search     per token of its windows: one pass of the teacher; for each drop, one pass of the remaining blocks,
               and for each candidate about half of the blocks and the logits; compensated rounding: passes of both
               models and products of layers' inputs per token, and the columns of all weights, one after another
    training   steps x seconds per step (measure/rates.py); the teachers if they run online, and on-policy sampling;
               validation by its share of the time (recipes/validation.py)
    judging    per token: read_s x share and head_s for every model, head_s for the teacher's probabilities
    measuring  prefills of all batches by all models, and some decode steps

share: runs/shares.py
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flashstill.recipes import FamilyRecipe, StudentRecipe
from flashstill.recipes.validation import share_of_training
from flashstill.runs.shares import Share
from flashstill.runs.sharing import asked_text, search_key, signals_keys, start_key

if TYPE_CHECKING:
    from flashstill.measure.rates import Rates

TEXT_S, MACHINE_S, REPORT_S, SAVE_S = 13.0, 5.0, 3.0, 1.0
"""seconds on an idle machine of packing the text, measuring the machine, prices and report, and saving one model:
work other than matrix products, a few per cent of the total"""
COMPENSATE_READS, COMPENSATE_ROUNDINGS = 3.4, 170.0
"""of compensated rounding: passes of the teacher that a token takes, and roundings of all weights that their columns
take (of 135M weights on one core, 16 ms a token beside passes of 4.7 ms, and 50 s beside roundings of 0.3 s)"""
BEHIND = 0.45
"""mean share of the blocks that come after a candidate of the search"""
MEASURE_SHARE = 0.06
CONTEXTS = (128, 64, 32, 16)
DECODE_AS_TOKENS = 24.0
"""tokens of prefill that take as long as one decode step at small batches"""
DECODE_STEPS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """Estimated seconds of each remaining part of a run."""

    text: float
    signals: float
    search: float
    training: float
    evaluation: float
    measuring: float
    report: float

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return float(sum(dataclasses.astuple(self)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """rates: measured; depth: layers of the teacher; shares: of the students, by name; overhead: slowdown of work other
    than matrix products, 1 on an idle machine."""

    rates: Rates
    depth: int
    shares: Mapping[str, Share]
    overhead: float

    def slowed(self, factor: float, training: float = 1.0) -> Costs:
        """Costs with all times multiplied by `factor`, and training times also by `training`."""
        return dataclasses.replace(
            self, rates=self.rates.slowed(factor, training), overhead=max(1.0, self.overhead * factor)
        )

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return dataclasses.asdict(self)

    @staticmethod
    def read(record: Mapping[str, Any]) -> Costs:
        """Inverse of `as_dict`."""
        from flashstill.measure.rates import Rates

        shares = {name: Share(**share) for name, share in record["shares"].items()}
        return Costs(
            rates=Rates(**record["rates"]),
            depth=int(record["depth"]),
            shares=shares,
            overhead=float(record["overhead"]),
        )

    def text_s(self) -> float:
        """Seconds of reading and packing the text."""
        return TEXT_S * self.overhead

    def report_s(self) -> float:
        """Seconds of prices and report."""
        return REPORT_S * self.overhead

    def signals_s(self, recipe: FamilyRecipe) -> float:
        """Seconds of the teachers' generated text and stored signals; shared ones count once."""
        text, rates = recipe.text, self.rates
        total, done = rates.read_s * (text.heldout_tokens + text.out_of_domain_tokens), set()
        for student in recipe.students:
            windows, regime = text.train_tokens / text.window_tokens, student.regime
            a_teacher = self.shares[student.name].teachers / len(student.teachers or recipe.teachers)
            if regime.kind == "sequence":
                if (key := asked_text(recipe, student)) not in done:
                    drawn = windows * regime.samples * regime.new_tokens_in(text.window_tokens)
                    total += drawn * self._decoded_s(a_teacher, regime.batch)
                    done.add(key)
                windows *= regime.samples
            for key in signals_keys(recipe, student) - done:
                heads = 0.0 if student.signals.kind == "hidden" else 2.0
                a_token = rates.read_s * a_teacher + heads * rates.head_s
                total += a_token * windows * text.window_tokens
                done.add(key)
        taught = {teacher for student in recipe.students for teacher in student.teachers or recipe.teachers}
        return total + rates.read_s * text.validation_tokens * len(taught)

    def search_s(self, recipe: FamilyRecipe) -> float:
        """Seconds of all initial weights; shared ones count once."""
        total, starts, searches = 0.0, set(), set()
        for student in recipe.students:
            if (key := start_key(recipe, student)) in starts:
                continue
            starts.add(key)
            total += SAVE_S * self.overhead
            if student.compensate_windows:
                share, window = self.shares[student.name], recipe.text.window_tokens
                tokens = min(student.compensate_windows * window, recipe.text.train_tokens)
                total += COMPENSATE_READS * self.rates.read_s * share.blocks * tokens
                total += COMPENSATE_ROUNDINGS * self.rates.rounding_s * share.weights
            if student.kind == "depth" and search_key(recipe, student) not in searches:
                searches.add(search_key(recipe, student))
                total += self._drops_s(recipe, student)
            elif student.kind in ("width", "upcycle"):
                total += 2.0 * self.rates.read_s * student.search.windows * recipe.text.window_tokens
        return total

    def _drops_s(self, recipe: FamilyRecipe, student: StudentRecipe) -> float:
        key, search, rates = search_key(recipe, student), student.search, self.rates
        same = [each.keep_layers for each in recipe.students if search_key(recipe, each) == key]
        left = [1.0 - drop / self.depth for drop in range(self.depth - min(same))]
        a_token = rates.read_s + 2.0 * rates.head_s
        if search.method == "greedy":
            tried = search.candidates
            a_token += sum(rates.read_s * (each + tried * BEHIND * each) + tried * rates.head_s for each in left)
        return search.windows * recipe.text.window_tokens * a_token

    def _decoded_s(self, share: float, rows: float) -> float:
        """Seconds per decoded token of a model with this share of the teacher's blocks, in batches of `rows`."""
        return self.rates.read_s * share * max(1.0, DECODE_AS_TOKENS / max(rows, 1.0))

    def step_s(self, recipe: FamilyRecipe, student: StudentRecipe, soft: bool) -> float:
        """Seconds of one training step: of the student if `soft`, else of its control."""
        share, tokens = self.shares[student.name], float(step_tokens(recipe, student))
        line = self.rates.step_s(share.blocks, share.head, share.weights, soft, rounded=bool(student.quantise))
        total = line(tokens)
        if soft and student.signals.kind == "none" and student.losses:
            total += self.rates.read_s * share.teachers * tokens * self.rates.training
        if soft and student.regime.kind == "on-policy":
            regime, window = student.regime, recipe.text.window_tokens
            fresh = regime.mix * (1.0 - regime.replay)
            rows = min(fresh * student.train.windows_per_step * regime.every, regime.batch)
            drawn = fresh * tokens * min(1.0, regime.new_tokens_in(window) / window)
            total += drawn * self._decoded_s(share.blocks, rows) * self.rates.training
        return total

    def steps_s(self, recipe: FamilyRecipe, student: StudentRecipe) -> float:
        """Seconds of all training steps of a student and its control, and of validation."""
        steps = max(1, recipe.tokens_of(student) // step_tokens(recipe, student))
        kinds = (True, False) if recipe.control_of(student) else (True,)
        validated = 1.0 - share_of_training(recipe.distillation(student))
        return sum(steps * self.step_s(recipe, student, soft) for soft in kinds) / validated

    def training_s(self, recipe: FamilyRecipe, student: StudentRecipe) -> float:
        """Seconds of all training steps of a student and its control, and of saving both models."""
        written = (2.0 if recipe.control_of(student) else 1.0) * (2.0 if student.quantise else 1.0)
        return self.steps_s(recipe, student) + written * SAVE_S * self.overhead

    def judging_s(self, recipe: FamilyRecipe) -> float:
        """Seconds per token to evaluate all models; the teacher's LM head is run again for each student."""
        reads, heads = 0.0, 1.0
        for student in recipe.students:
            # the student, its untrained copy, and the control if there is one
            copies, share = 3 if recipe.control_of(student) else 2, self.shares[student.name]
            reads, heads = reads + copies * share.blocks, heads + 1.0 + copies * share.head
        return self.rates.read_s * reads + self.rates.head_s * heads

    def sweep_s(self, recipe: FamilyRecipe, context: int) -> float:
        """Seconds of timing every model at every batch size once."""
        models = 1.0 + sum(self.shares[student.name].blocks for student in recipe.students)
        batches = recipe.measure.batches
        tokens = float(sum(batches) * context) + DECODE_STEPS * sum(max(each, DECODE_AS_TOKENS) for each in batches)
        return self.rates.read_s * tokens * models

    def measuring_s(self, recipe: FamilyRecipe) -> float:
        """Seconds of measuring this machine and of timing the models."""
        room = self.measure_room_s(recipe)
        once = self.sweep_s(recipe, self.context(recipe, room))
        return MACHINE_S * self.overhead + max(once, min(room, once * (recipe.measure.repeats + 1)))

    def measure_room_s(self, recipe: FamilyRecipe) -> float:
        """Seconds reserved for timing the models."""
        return MEASURE_SHARE * 60.0 * recipe.minutes

    def context(self, recipe: FamilyRecipe, room_s: float) -> int:
        """The longest context, up to the recipe's, at which every model can be timed once within room_s seconds."""
        known = [each for each in CONTEXTS if each <= recipe.measure.context] or [recipe.measure.context]
        return next((each for each in known if self.sweep_s(recipe, each) <= room_s), known[-1])

    def estimate(self, recipe: FamilyRecipe) -> Spent:
        """Seconds of all parts of a recipe."""
        return Spent(
            text=self.text_s(),
            signals=self.signals_s(recipe),
            search=self.search_s(recipe),
            training=sum(self.training_s(recipe, student) for student in recipe.students),
            evaluation=self.judging_s(recipe) * (recipe.text.heldout_tokens + recipe.text.out_of_domain_tokens),
            measuring=self.measuring_s(recipe),
            report=self.report_s(),
        )


def step_tokens(recipe: FamilyRecipe, student: StudentRecipe) -> int:
    """Tokens per training step of a student."""
    return student.train.windows_per_step * recipe.text.window_tokens


def overhead_now() -> float:
    """Wall time / CPU time of a short busy loop: 1 on an idle machine."""
    wall, own, total = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall < 0.05:
        total += sum(range(1000))
    spent = time.process_time() - own
    return max(1.0, (time.perf_counter() - wall) / spent) if spent > 0 else 1.0
