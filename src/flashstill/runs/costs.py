"""What the parts of a family's run take on this machine, in seconds.

    signals    read_s, of every teacher and text that is kept once; writing, where a teacher writes
    search     per token of its windows: the teacher and, for each drop, its blocks that are left once, and for each
               candidate about half of them and the logits
    training   steps x the seconds of one (measure/rates.py); its teachers where they are run on the way, and what the
               student writes itself
    judging    per token: read_s x share and head_s for every model, head_s for the teacher's probabilities
    measuring  prefills of all batches by all models, and some decode steps

share: runs/shares.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flashstill.recipes import FamilyRecipe, StudentRecipe
from flashstill.runs.shares import Share
from flashstill.runs.sharing import asked_text, search_key, signals_keys, start_key

if TYPE_CHECKING:
    from flashstill.measure.rates import Rates

TEXT_S, MACHINE_S, REPORT_S, SAVE_S = 13.0, 5.0, 3.0, 1.0
"""on a quiet machine: reading and packing the text, this machine's rows, prices and page, and writing one model: what
is not made of products, a few per cent of all"""
COMPENSATE_S = 60.0
"""of a copy whose weights make good each other's rounding, for 135M weights on one core"""
BEHIND = 0.45
"""share of the blocks that stand behind a candidate of the search"""
MEASURE_SHARE = 0.06
CONTEXTS = (128, 64, 32, 16)
DECODE_AS_TOKENS = 24.0
"""tokens read in the time of a decode step at batches of a few"""
DECODE_STEPS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """Seconds of each part of what is still to be done."""

    text: float
    signals: float
    search: float
    training: float
    evaluation: float
    measuring: float
    report: float

    @property
    def total(self) -> float:
        """Of all."""
        return float(sum(dataclasses.astuple(self)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """rates: measured; depth: layers of the teacher; shares: of the students, by name; overhead: of work that is not
    made of products, 1 when quiet."""

    rates: Rates
    depth: int
    shares: Mapping[str, Share]
    overhead: float

    def slowed(self, factor: float, training: float = 1.0) -> Costs:
        """The same where everything takes `factor` times as long, and training `training` times that."""
        return dataclasses.replace(
            self, rates=self.rates.slowed(factor, training), overhead=max(1.0, self.overhead * factor)
        )

    def as_dict(self) -> dict[str, Any]:
        """For the disk."""
        return dataclasses.asdict(self)

    @staticmethod
    def read(record: Mapping[str, Any]) -> Costs:
        """What `as_dict` gave."""
        from flashstill.measure.rates import Rates

        shares = {name: Share(**share) for name, share in record["shares"].items()}
        return Costs(
            rates=Rates(**record["rates"]),
            depth=int(record["depth"]),
            shares=shares,
            overhead=float(record["overhead"]),
        )

    def text_s(self) -> float:
        """Of reading and packing the text."""
        return TEXT_S * self.overhead

    def report_s(self) -> float:
        """Of prices and the page."""
        return REPORT_S * self.overhead

    def signals_s(self, recipe: FamilyRecipe) -> float:
        """Of what teachers write and of what is kept of them, each once."""
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
        return total

    def search_s(self, recipe: FamilyRecipe) -> float:
        """Of all first weights, each once."""
        total, starts, searches = 0.0, set(), set()
        for student in recipe.students:
            if (key := start_key(recipe, student)) in starts:
                continue
            starts.add(key)
            total += SAVE_S * self.overhead
            if student.compensate_windows:
                total += COMPENSATE_S * self.overhead
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
        """Of a token that a model of this share decodes, in a batch of so many rows."""
        return self.rates.read_s * share * max(1.0, DECODE_AS_TOKENS / max(rows, 1.0))

    def step_s(self, recipe: FamilyRecipe, student: StudentRecipe, soft: bool) -> float:
        """Seconds of one training step, of the student or (not soft) of its control."""
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
        """Seconds of all training steps of a student and its control."""
        steps = max(1, recipe.tokens_of(student) // step_tokens(recipe, student))
        kinds = (True, False) if recipe.control_of(student) else (True,)
        return sum(steps * self.step_s(recipe, student, soft) for soft in kinds)

    def training_s(self, recipe: FamilyRecipe, student: StudentRecipe) -> float:
        """Seconds of those steps and of saving the models."""
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
        """Of every model at every batch, once."""
        models = 1.0 + sum(self.shares[student.name].blocks for student in recipe.students)
        batches = recipe.measure.batches
        tokens = float(sum(batches) * context) + DECODE_STEPS * sum(max(each, DECODE_AS_TOKENS) for each in batches)
        return self.rates.read_s * tokens * models

    def measuring_s(self, recipe: FamilyRecipe) -> float:
        """Of this machine's rows and of timing the models."""
        room = self.measure_room_s(recipe)
        once = self.sweep_s(recipe, self.context(recipe, room))
        return MACHINE_S * self.overhead + max(once, min(room, once * (recipe.measure.repeats + 1)))

    def measure_room_s(self, recipe: FamilyRecipe) -> float:
        """What timing the models may take."""
        return MEASURE_SHARE * 60.0 * recipe.minutes

    def context(self, recipe: FamilyRecipe, room_s: float) -> int:
        """The longest context at which every model can be timed once within the time, at most the recipe's."""
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
    """Of one step of a student's training."""
    return student.train.windows_per_step * recipe.text.window_tokens
