"""How much of a family's work fits into some time: amounts as a function of one factor, and their seconds.

    signals    read_s (train + held out + other domain)
    search     per token of its windows: the teacher and, for each drop, its blocks that are left once, and for each
               candidate about half of them and the logits
    training   steps x the seconds of one (measure/rates.py)
    judging    per token: read_s k/n and head_s for every model, head_s for the teacher's probabilities
    measuring  prefills of all batches by all models, and some decode steps

The factor scales training, held-out text and search alike; it is found by bisection on the sum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flashstill.recipes import FamilyRecipe, StudentRecipe

if TYPE_CHECKING:
    from flashstill.measure.rates import Rates

TEXT_S, MACHINE_S, REPORT_S, SAVE_S = 13.0, 5.0, 3.0, 1.0
"""on a quiet machine: reading and packing the text, this machine's rows, prices and page, and writing one model: what
is not made of products, a few per cent of all"""
BEHIND = 0.45
"""share of the blocks that stand behind a candidate of the search"""
LEAST_WINDOWS, LEAST_STEPS, MOST_FACTOR = 4, 2, 50.0
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
    """rates: measured; depth: layers of the teacher; overhead: of work that is not made of products, 1 when quiet."""

    rates: Rates
    depth: int
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
    def read(held: Mapping[str, Any]) -> Costs:
        """What `as_dict` gave."""
        from flashstill.measure.rates import Rates

        return Costs(rates=Rates(**held["rates"]), depth=held["depth"], overhead=held["overhead"])

    def step_s(self, recipe: FamilyRecipe, student: StudentRecipe, soft: bool) -> float:
        """Of one step."""
        return self.rates.step_s(student.keep_layers, self.depth, soft)(float(_step(recipe)))

    def steps_s(self, recipe: FamilyRecipe, student: StudentRecipe) -> float:
        """Of the steps of a student and its control."""
        steps = max(1, recipe.tokens_of(student) // _step(recipe))
        kinds = (True, False) if recipe.distil.control else (True,)
        return sum(steps * self.step_s(recipe, student, soft) for soft in kinds)

    def training_s(self, recipe: FamilyRecipe, student: StudentRecipe) -> float:
        """The same with writing them."""
        return self.steps_s(recipe, student) + (2.0 if recipe.distil.control else 1.0) * SAVE_S * self.overhead

    def judging_s(self, recipe: FamilyRecipe) -> float:
        """Of a token, by all models."""
        copies = 3 if recipe.distil.control else 2  # with the untrained one
        reads = sum(copies * student.keep_layers for student in recipe.students) / self.depth
        heads = 1 + copies * len(recipe.students)
        return self.rates.read_s * reads + self.rates.head_s * heads

    def sweep_s(self, recipe: FamilyRecipe, context: int) -> float:
        """Of every model at every batch, once."""
        models = 1.0 + sum(student.keep_layers for student in recipe.students) / self.depth
        batches = recipe.measure.batches
        tokens = float(sum(batches) * context) + DECODE_STEPS * sum(max(each, DECODE_AS_TOKENS) for each in batches)
        return self.rates.read_s * tokens * models

    def measure_room_s(self, recipe: FamilyRecipe) -> float:
        """What timing the models may take."""
        return MEASURE_SHARE * 60.0 * recipe.minutes

    def context(self, recipe: FamilyRecipe, room_s: float) -> int:
        """The longest context at which every model can be timed once within the time, at most the recipe's."""
        known = [each for each in CONTEXTS if each <= recipe.measure.context] or [recipe.measure.context]
        return next((each for each in known if self.sweep_s(recipe, each) <= room_s), known[-1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Amounts:
    """What a run does, apart from the students' own tokens, which are a factor of the recipe's."""

    factor: float
    train_tokens: int
    heldout_tokens: int
    out_of_domain_tokens: int
    search_windows: int
    search_candidates: int
    search_method: str

    def of(self, recipe: FamilyRecipe) -> FamilyRecipe:
        """The recipe with these amounts."""
        text = dataclasses.replace(
            recipe.text, train_tokens=self.train_tokens, heldout_tokens=self.heldout_tokens,
            out_of_domain_tokens=self.out_of_domain_tokens,
        )  # fmt: skip
        search = dataclasses.replace(
            recipe.search, windows=self.search_windows, candidates=self.search_candidates, method=self.search_method
        )
        students = tuple(
            dataclasses.replace(student, tokens=_scaled_tokens(recipe, student, self.factor))
            for student in recipe.students
        )
        return dataclasses.replace(recipe, text=text, search=search, students=students)


def amounts_at(recipe: FamilyRecipe, factor: float) -> Amounts:
    """Of a factor: at 1 the recipe's own; never more held-out text or search than it asks for."""
    window, small = recipe.text.window_tokens, min(1.0, factor)

    def held(tokens: int) -> int:
        return max(min(tokens, LEAST_WINDOWS * window), round(tokens * small / window) * window)

    windows = max(1, round(recipe.search.windows * small))
    return Amounts(
        factor=round(factor, 4),
        train_tokens=max(LEAST_STEPS * _step(recipe), round(recipe.text.train_tokens * factor)),
        heldout_tokens=held(recipe.text.heldout_tokens),
        out_of_domain_tokens=held(recipe.text.out_of_domain_tokens),
        search_windows=windows,
        search_candidates=max(min(2, recipe.search.candidates), round(recipe.search.candidates * small)),
        search_method=recipe.search.method if factor > 0.05 else "influence",
    )


def least(recipe: FamilyRecipe) -> Amounts:
    """The least that shows anything: two steps a student."""
    return amounts_at(recipe, 0.0)


def chosen(recipe: FamilyRecipe, costs: Costs, left_s: float) -> Amounts:
    """The largest amounts that fit into the seconds that are left, at least `least`."""
    low, high = 0.0, MOST_FACTOR
    for _ in range(40):
        middle = (low + high) / 2.0
        fits = estimate(amounts_at(recipe, middle).of(recipe), costs).total <= left_s
        low, high = (middle, high) if fits else (low, middle)
    return amounts_at(recipe, low)


def estimate(recipe: FamilyRecipe, costs: Costs) -> Spent:
    """Seconds of all parts of a recipe."""
    text, search = recipe.text, recipe.search
    rates = costs.rates
    held = text.heldout_tokens + text.out_of_domain_tokens
    drops = costs.depth - min(student.keep_layers for student in recipe.students)
    left = [1.0 - drop / costs.depth for drop in range(drops)]
    a_token = rates.read_s + 2.0 * rates.head_s
    if search.method == "greedy":
        candidates = search.candidates
        a_token += sum(rates.read_s * (each + candidates * BEHIND * each) + candidates * rates.head_s for each in left)
    room = costs.measure_room_s(recipe)
    once = costs.sweep_s(recipe, costs.context(recipe, room))
    repeats = recipe.measure.repeats + 1
    return Spent(
        text=TEXT_S * costs.overhead,
        signals=rates.read_s * (text.train_tokens + held),
        search=search.windows * text.window_tokens * a_token,
        training=sum(costs.training_s(recipe, student) for student in recipe.students),
        evaluation=costs.judging_s(recipe) * held,
        measuring=MACHINE_S * costs.overhead + max(once, min(room, once * repeats)),
        report=REPORT_S * costs.overhead,
    )


def spread(recipe: FamilyRecipe, costs: Costs, names: Sequence[str], left_s: float) -> int:
    """Training tokens of the first of `names`, when all of them share the time in the proportions of the recipe."""
    parts = estimate(recipe, costs)
    room = left_s - parts.evaluation - parts.measuring - parts.report
    waiting = [student for student in recipe.students if student.name in names]
    first = next(student for student in waiting if student.name == names[0])

    def seconds(factor: float) -> float:
        scaled = [dataclasses.replace(student, tokens=_scaled_tokens(recipe, student, factor)) for student in waiting]
        return sum(costs.training_s(recipe, student) for student in scaled)

    low, high = 0.0, MOST_FACTOR
    for _ in range(40):
        middle = (low + high) / 2.0
        low, high = (middle, high) if seconds(middle) <= room else (low, middle)
    return _scaled_tokens(recipe, first, low)


def _step(recipe: FamilyRecipe) -> int:
    return recipe.distil.windows_per_step * recipe.text.window_tokens


def _scaled_tokens(recipe: FamilyRecipe, student: StudentRecipe, factor: float) -> int:
    """Whole steps, at least a few."""
    step = _step(recipe)
    return step * max(LEAST_STEPS, round(recipe.tokens_of(student) * factor / step))
