"""A family's run with a time limit: measures speeds, then decides the amounts of work that fit.

pace.json   the limit in minutes, seconds spent so far, measured rates, and every decision

Each decision is written to disk before it is acted on, so that a resumed run does the same, even on another machine.
Earlier stages calibrate the estimates of later ones: training is decided after signals and search were timed, each
student after the previous one, evaluation and measurements after all students.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.arch import Architecture
from flashstill.arch.catalogue import read_config
from flashstill.checked import json_object
from flashstill.errors import BadInput
from flashstill.files import write_text
from flashstill.recipes import StudentRecipe
from flashstill.runs import kept
from flashstill.runs.amounts import Amounts, chosen, least, spread
from flashstill.runs.announced import lines_of
from flashstill.runs.costs import Costs, overhead_now
from flashstill.runs.shares import Share, reading, share_of

if TYPE_CHECKING:
    from flashstill.runs.family import Family

FILE = "pace.json"
BEGIN, MEASURE, EVALUATE = "begin", "measure", "evaluate"


class Pace:
    """The clock and the decisions of a run. family: decisions replace its recipe."""

    def __init__(self, family: Family) -> None:
        self.family, self.asked, self.path = family, family.asked, family.out / FILE
        self._record: dict[str, Any] = {"minutes": family.asked.minutes, "spent_s": 0.0, "decisions": {}, "stages": {}}
        if self.path.is_file():
            try:
                self._record = json_object(self.path)
                self._check()
            except (BadInput, ValueError, KeyError, TypeError, AttributeError) as error:
                raise BadInput(f"{self.path} does not say what was decided; give another --out") from error
        self._before, self._started = float(self._record["spent_s"]), time.monotonic()
        self._apply()

    def _check(self) -> None:
        """Read every field of the record once, so that a damaged one raises an error now."""
        _ = float(self._record["spent_s"]), dict(self._record["decisions"]), dict(self._record["stages"])
        self._apply()
        if BEGIN in self.decisions:
            _ = self.costs, float(self.decisions[BEGIN]["estimate_s"]["total"]), self._signals_ratio()
        for moment, key in ((MEASURE, "seconds"), (EVALUATE, "share")):
            if moment in self.decisions:
                float(self.decisions[moment][key])

    @property
    def spent_s(self) -> float:
        """Seconds of this run so far, including those before interruptions."""
        return self._before + time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        """Seconds until the time limit."""
        return float(self.asked.minutes * 60.0 - self.spent_s)

    @property
    def decisions(self) -> dict[str, Any]:
        """Decisions, by the stage they were made at."""
        made: dict[str, Any] = self._record["decisions"]
        return made

    def _keep(self) -> None:
        self._record["spent_s"] = round(self.spent_s, 2)
        write_text(self.path, json.dumps(self._record, indent=1))

    def _decide(self, moment: str, decision: Mapping[str, Any]) -> None:
        self.decisions[moment] = dict(decision)
        self._keep()
        self._apply()

    def _apply(self) -> None:
        """Apply all decisions so far to the family's recipe."""
        recipe = self.asked
        if BEGIN in self.decisions:
            recipe = Amounts(**self.decisions[BEGIN]["amounts"]).of(recipe)
        tokens = {moment: int(each["tokens"]) for moment, each in self.decisions.items() if "tokens" in each}
        students = tuple(
            dataclasses.replace(student, tokens=tokens.get(_moment_of(student.name), student.tokens))
            for student in recipe.students
        )
        recipe = dataclasses.replace(recipe, students=students)
        if MEASURE in self.decisions:
            table = dataclasses.replace(recipe.measure, context=int(self.decisions[MEASURE]["context"]))
            recipe = dataclasses.replace(recipe, measure=table)
        self.family.recipe = recipe

    # ---- called by the stages of a run ----

    def done(self, stage: str, began: float) -> None:
        """Record the duration of a finished stage, unless it was finished before. began: of time.monotonic()."""
        self._record["stages"].setdefault(stage, round(time.monotonic() - began, 2))
        self._keep()

    def begin(self) -> None:
        """Before the stage `text`: measure, choose all amounts, and print them with their estimated times."""
        if BEGIN in self.decisions:
            return
        from flashstill.measure.rates import rates

        recipe, family = self.asked, self.family
        depth = family.architecture(None).depth
        largest = max((student.keep_layers for student in recipe.students if student.kind == "depth"), default=depth)
        family.progress.say(f"measuring this machine for a run of {recipe.minutes:g} minutes")
        started = time.monotonic()
        measured = rates(family.model, min(largest, depth))
        # work other than matrix products, such as saving, slows down with the load of the machine
        costs = Costs(rates=measured, depth=depth, shares=self._shares(), overhead=overhead_now())
        amounts = chosen(recipe, costs, self.left_s)
        parts = costs.estimate(amounts.of(recipe))
        total = self.spent_s + sum(dataclasses.astuple(parts))
        self._decide(
            BEGIN,
            {
                "amounts": dataclasses.asdict(amounts), "costs": costs.as_dict(),
                "estimate_s": {**dataclasses.asdict(parts), "before": round(self.spent_s, 1), "total": round(total, 1)},
                "measured_s": round(time.monotonic() - started, 1),
            },
        )  # fmt: skip
        is_least, read_s = amounts == least(recipe), self.costs.rates.read_s
        for line in lines_of(family.recipe, family.arithmetic, read_s, parts, total, is_least):
            family.progress.say(line)

    def _shares(self) -> dict[str, Share]:
        """Each student's share of the teacher's compute."""
        from flashstill.distill.teachers import resolve_teacher

        shares, teacher = {}, self.family.architecture(None)
        for student in self.asked.students:
            directories = self.family.located(student)[0]
            asked = student.teachers or self.asked.teachers
            shapes = [
                teacher if each.served else _shape(directory)  # the shape of a served teacher is unknown
                for each, directory in zip(asked, directories, strict=True)
            ]
            origin = (
                _shape(resolve_teacher(student.model, self.family.progress, base=student.base))
                if student.model
                else shapes[0]
            )
            shares[student.name] = share_of(
                student.shape, origin, teacher, sum(reading(shape, teacher) for shape in shapes)
            )
        return shares

    @property
    def costs(self) -> Costs:
        """Costs from the measured rates, corrected by the actual times of signals and training."""
        costs = Costs.read(self.decisions[BEGIN]["costs"])
        for each in self.decisions.values():
            costs = costs.slowed(float(each.get("slowed", 1.0)), float(each.get("training_slowed", 1.0)))
        return costs

    def student(self, student: StudentRecipe) -> StudentRecipe:
        """Before a student is trained: decide its tokens from the time left and the speed of the run so far."""
        if (moment := _moment_of(student.name)) not in self.decisions:
            names = [each.name for each in self.asked.students]
            place = names.index(student.name)
            slowed = {"slowed": self._signals_ratio()} if place == 0 else {}
            if place:
                slowed = {"training_slowed": self._training_ratio(names[place - 1])}
            costs = self.costs.slowed(slowed.get("slowed", 1.0), slowed.get("training_slowed", 1.0))
            tokens = spread(self.family.recipe, costs, names[place:], self.left_s)
            self._decide(moment, {"tokens": tokens, "left_s": round(self.left_s, 1), **slowed})
            left = f"{self.left_s / 60.0:.1f} minutes left" if self.left_s > 0 else "the minutes are over"
            self.family.progress.say(f"{student.name}: {tokens:,} training tokens, {left}")
        return next(each for each in self.family.recipe.students if each.name == student.name)

    def evaluation(self) -> None:
        """Before evaluation: decide the number of windows that fit into the time left."""
        if EVALUATE in self.decisions:
            return
        recipe, costs = self.family.recipe, self.costs
        parts = costs.estimate(recipe)
        room = self.left_s - parts.measuring - parts.report
        share = max(0.0, min(1.0, room / max(parts.evaluation, 1e-9)))
        self._decide(EVALUATE, {"share": round(share, 3), "left_s": round(self.left_s, 1)})

    def measuring(self) -> float:
        """Before models are timed: decide the context length; returns the seconds available."""
        if MEASURE not in self.decisions:
            recipe, costs = self.family.recipe, self.costs
            room = min(costs.measure_room_s(recipe), max(2.0, self.left_s - costs.estimate(recipe).report))
            context = costs.context(recipe, room)
            self._decide(MEASURE, {"context": context, "seconds": round(room, 1), "left_s": round(self.left_s, 1)})
        return float(self.decisions[MEASURE]["seconds"])

    def windows(self, whole: int) -> int:
        """Number of windows of a domain's text used in evaluation; whole: all there are."""
        return max(min(whole, 2), round(whole * float(self.decisions[EVALUATE]["share"])))

    def _signals_ratio(self) -> float:
        """Actual / estimated seconds of signals and search; 1 if unknown."""
        expected, took = self.decisions[BEGIN]["estimate_s"], self._record["stages"]
        expected_s = sum(float(expected[name]) for name in ("signals", "search"))
        spent_s = sum(float(took.get(name, 0.0)) for name in ("signals", "search"))
        return round(min(4.0, max(0.25, spent_s / expected_s)), 3) if spent_s and expected_s else 1.0

    def _training_ratio(self, name: str) -> float:
        """Actual / estimated seconds of training a student and its control."""
        spent_s = 0.0
        for each in (name, f"{name}-control"):
            folder = self.family.out / "training" / each
            if (folder / "metrics.jsonl").is_file():
                spent_s += kept.seconds(kept.steps(folder))
        student = next(each for each in self.family.recipe.students if each.name == name)
        expected_s = self.costs.steps_s(self.family.recipe, student)
        return round(min(4.0, max(0.25, spent_s / expected_s)), 3) if spent_s else 1.0

    def finish(self) -> None:
        """At the end: record actual and estimated times."""
        if "took_s" not in self._record:
            self._record["took_s"] = round(self.spent_s, 1)
            self._keep()
            expected = float(self.decisions[BEGIN]["estimate_s"]["total"])
            self.family.progress.say(
                f"took {self._record['took_s'] / 60.0:.1f} minutes; expected {expected / 60.0:.1f} at the start"
            )


def _moment_of(student: str) -> str:
    """What the decision on a student's tokens is called; a student may be called as another moment is."""
    return f"student {student}" if student in (BEGIN, MEASURE, EVALUATE) else student


def _shape(directory: Path) -> Architecture:
    return read_config(directory / "config.json", directory.name)
