"""A run that ends within so many minutes: amounts that fit, decisions that stay, and the machine that is measured."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.errors import BadInput
from flashstill.measure import rates as measured
from flashstill.measure.rates import Rates, step_line
from flashstill.measure.sweep import measure_models
from flashstill.progress import Silent
from flashstill.recipes import FamilyRecipe, built_in, read_recipe
from flashstill.records import ModelRecord, read_records
from flashstill.runs import pace, run_family
from flashstill.runs.amounts import amounts_at, chosen, least, spread
from flashstill.runs.costs import Costs
from flashstill.runs.family import Family
from flashstill.runs.pace import FILE, Pace
from flashstill.runs.shares import Share
from tests.marks import slow
from tests.recorded_progress import RecordedProgress
from tests.tiny import family_text

DEMO = built_in("demo")
LAYERS = {"flash-19": 19, "flash-15": 15, "flash-int4": 30, "half": 15, "most": 25}


def costs_at(read_s: float, overhead: float = 1.0) -> Costs:
    """Of a machine that reads a token of the demo's teacher in `read_s`."""
    rates = Rates(read_s=read_s, head_s=read_s / 2.0, at_zero_s=0.5 * 30 / 19, rounding_s=0.5)
    cut = {name: Share(blocks=layers / 30, head=1.0, weights=layers / 30) for name, layers in LAYERS.items()}
    return Costs(rates=rates, depth=30, shares=cut, overhead=overhead)


class TestAmounts:
    @pytest.mark.slow
    @given(st.floats(1e-5, 0.1), st.floats(30.0, 36_000.0))
    def test_all_of_it_fits(self, read_s: float, left_s: float) -> None:
        costs = costs_at(read_s)
        amounts = chosen(DEMO, costs, left_s)
        total = costs.estimate(amounts.of(DEMO)).total
        assert total <= left_s or amounts == least(DEMO)
        assert amounts.heldout_tokens <= DEMO.text.heldout_tokens
        for student, asked in zip(amounts.of(DEMO).students, DEMO.students, strict=True):
            assert student.search.candidates <= asked.search.candidates

    @pytest.mark.slow
    @given(st.floats(1e-4, 0.01), st.floats(200.0, 3_000.0))
    def test_most_of_the_time_is_used(self, read_s: float, left_s: float) -> None:
        costs = costs_at(read_s)
        amounts = chosen(DEMO, costs, left_s)
        if least(DEMO) != amounts:
            assert costs.estimate(amounts.of(DEMO)).total > 0.8 * left_s

    @pytest.mark.slow
    def test_a_slow_machine_trains_less(self) -> None:
        tokens = [chosen(DEMO, costs_at(read_s), 600.0).train_tokens for read_s in (2e-4, 2e-3, 1e-2, 4e-2)]
        assert tokens == sorted(tokens, reverse=True)
        assert tokens[0] > DEMO.text.train_tokens, "and a fast one more than the recipe says"
        assert tokens[-1] < DEMO.text.train_tokens / 20

    def test_at_one_the_recipe_is_as_it_is(self) -> None:
        assert dataclasses.replace(amounts_at(DEMO, 1.0).of(DEMO)) == dataclasses.replace(
            DEMO,
            students=tuple(dataclasses.replace(student, tokens=DEMO.tokens_of(student)) for student in DEMO.students),
        )

    def test_the_least(self) -> None:
        found = least(DEMO).of(DEMO)
        assert [found.tokens_of(student) for student in found.students] == [1024, 1024, 1024], "two steps"
        assert found.text.heldout_tokens == found.text.out_of_domain_tokens == 1024
        assert {student.search.method for student in found.students} == {"influence"}

    def test_students_share_what_is_left(self) -> None:
        costs, names = costs_at(2e-3), [student.name for student in DEMO.students]
        all_three, two = spread(DEMO, costs, names, 600.0), spread(DEMO, costs, names[1:], 600.0)
        assert all_three < DEMO.tokens_of(DEMO.students[0])
        assert two > all_three * DEMO.tokens_of(DEMO.students[1]) / DEMO.tokens_of(DEMO.students[0])
        last = spread(DEMO, costs, names[2:], 600.0)
        assert last > 2 * two * DEMO.tokens_of(DEMO.students[2]) / DEMO.tokens_of(DEMO.students[1]), (
            "what is left for itself"
        )
        assert spread(DEMO, costs, names, -5.0) == 1024

    def test_a_step_worked(self) -> None:
        """Three passes of half of the layers, and two heads: 3 x 2 ms / 2 + 2 x 1 ms."""
        assert step_line(2e-3, 1e-3, 0.5).per_unit == pytest.approx(5e-3)
        rates = Rates(read_s=2e-3, head_s=1e-3, at_zero_s=0.6, rounding_s=0.2)
        assert rates.step_s(0.5, 1.0, 0.25, soft=True)(512.0) == pytest.approx(0.15 + 512 * 5e-3)
        assert rates.step_s(0.5, 1.0, 0.25, soft=False)(512.0) < rates.step_s(0.5, 1.0, 0.25, soft=True)(512.0)
        narrow = rates.step_s(0.5, 0.5, 0.25, soft=True, rounded=True)
        assert narrow(512.0) == pytest.approx(0.15 + 0.05 + 512 * 4e-3)
        slower = rates.slowed(2.0, training=1.5).step_s(0.5, 1.0, 0.25, soft=True)
        assert slower(512.0) == pytest.approx(3.0 * (0.15 + 512 * 5e-3))

    def test_each_of_two_teachers_is_read_once(self) -> None:
        """Two of the family's own size: their signals take twice those of one, and no more."""
        one = DEMO.teachers[0]
        two = dataclasses.replace(DEMO.students[0], teachers=(one, dataclasses.replace(one, name="other")))
        alone = dataclasses.replace(DEMO, students=(DEMO.students[0],))
        both = dataclasses.replace(DEMO, students=(two,))
        costs = costs_at(1e-3)
        share = {two.name: dataclasses.replace(costs.shares[two.name], teachers=2.0)}
        held_out = 1e-3 * (DEMO.text.heldout_tokens + DEMO.text.out_of_domain_tokens)
        of_two = dataclasses.replace(costs, shares=share).signals_s(both) - held_out
        assert of_two == pytest.approx(2.0 * (costs.signals_s(alone) - held_out))

    def test_costs_survive_the_disk(self) -> None:
        costs = costs_at(1e-3, 1.5)
        assert Costs.read(json.loads(json.dumps(costs.as_dict()))) == costs

    def test_the_context_of_the_measurements(self) -> None:
        assert costs_at(1e-4).context(DEMO, 36.0) == 128
        assert costs_at(3e-2).context(DEMO, 36.0) == 16


@pytest.fixture
def family(tmp_path: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("A text that is only looked for.\n")
    text = family_text(tiny_teacher, corpus, corpus)
    (tmp_path / "family.toml").write_text(text.replace("seed = 3", "minutes = 2"))
    recipe = read_recipe(tmp_path / "family.toml")
    monkeypatch.setattr(measured, "rates", lambda model, layers: costs_at(1e-3).rates)
    monkeypatch.setattr(pace, "overhead_now", lambda: 1.0)
    return Family(recipe, tmp_path / "out", RecordedProgress(), "")


class TestDecisions:
    def test_what_was_decided_stays(self, family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where the machine, or the load, is another when the run goes on."""
        asked = family.recipe
        (family.out).mkdir()
        first = Pace(family)
        first.begin()
        student = first.student(asked.students[0])
        decided = family.recipe
        assert decided.text.train_tokens != asked.text.train_tokens
        monkeypatch.setattr(measured, "rates", lambda model, layers: pytest.fail("it has been measured"))
        again = Family(asked, family.out, RecordedProgress(), "")
        second = Pace(again)
        second.begin()
        assert again.recipe == decided
        assert second.student(asked.students[0]) == student
        before = json.loads((family.out / FILE).read_text())["spent_s"]
        assert before > 0
        assert second.spent_s >= before, "what was spent before the interruption counts"

    @pytest.mark.parametrize("name", ["begin", *slow("evaluate", "measure")])
    @pytest.mark.slow
    def test_a_student_may_be_called_as_a_moment_is(self, family: Family, name: str) -> None:
        recipe = family.recipe
        students = (dataclasses.replace(recipe.students[0], name=name), *recipe.students[1:])
        family = Family(dataclasses.replace(recipe, students=students), family.out, RecordedProgress(), "")
        family.out.mkdir()
        held = Pace(family)
        held.begin()
        tokens = held.student(family.recipe.students[0]).tokens
        held.evaluation()
        assert 1 <= held.windows(10) <= 10
        assert held.measuring() > 0
        again = Family(family.asked, family.out, RecordedProgress(), "")
        assert Pace(again).student(again.recipe.students[0]).tokens == tokens
        assert family.recipe == again.recipe

    def test_it_says_what_it_will_do_before_it_does_it(self, family: Family) -> None:
        family.out.mkdir()
        Pace(family).begin()
        assert isinstance(family.progress, RecordedProgress)
        said = "\n".join(family.progress.lines)
        for words in ("measuring this machine for a run of 2 minutes", "training tokens: half ", "in all about"):
            assert words in said
        assert json.loads((family.out / FILE).read_text())["decisions"]["begin"]["estimate_s"]["total"] > 0
        assert "tasks (" not in said

    @pytest.mark.slow
    @pytest.mark.parametrize(("items", "words"), [(0, "all items"), (50, "up to 50 items")])
    def test_tasks_are_not_in_the_estimate_and_it_says_so(self, family: Family, items: int, words: str) -> None:
        asked = dataclasses.replace(family.asked.evaluate, tasks=("gym:basic_arithmetic",), items=items)
        family = Family(dataclasses.replace(family.asked, evaluate=asked), family.out, RecordedProgress(), "")
        family.out.mkdir()
        Pace(family).begin()
        assert isinstance(family.progress, RecordedProgress)
        said = "\n".join(family.progress.lines)
        assert f"tasks ({words} of each) come on top, whatever the minutes are: evaluate.items bounds them" in said

    @pytest.mark.slow
    def test_a_run_that_is_behind_does_less(self, family: Family) -> None:
        family.out.mkdir()
        held = Pace(family)
        held.begin()
        tokens = family.recipe.tokens_of(family.recipe.students[0])
        held._before += 90.0  # signals took a minute and a half longer
        assert held.student(family.recipe.students[0]).tokens < tokens
        held._before += 60.0
        held.evaluation()
        assert held.windows(100) == 2
        assert held.measuring() == 2.0

    @pytest.mark.slow
    def test_too_few_minutes_are_said_to_be(self, family: Family) -> None:
        family = Family(dataclasses.replace(family.asked, minutes=0.01), family.out, RecordedProgress(), "")
        family.out.mkdir()
        Pace(family).begin()
        assert isinstance(family.progress, RecordedProgress)
        assert "this is the least that shows anything; 0.01 minutes are too few here" in family.progress.lines[-1]

    @pytest.mark.parametrize(
        "damage",
        [
            "", "[]", "{}", '{"spent_s": "x"}',
            *(
                f'{{"spent_s": 1.0, "stages": {{}}, "decisions": {decisions}}}'
                for decisions in ("[]", '{"begin": {}}', '{"begin": {"amounts": {"factor": 1}}}', '{"evaluate": {}}',
                                  '{"measure": {"context": 16}}', '{"half": {"tokens": "many"}}', '{"half": 3}')
            ),
        ],
    )  # fmt: skip
    def test_a_damaged_file(self, family: Family, damage: str) -> None:
        family.out.mkdir()
        (family.out / FILE).write_text(damage)
        with pytest.raises(BadInput, match="does not say what was decided"):
            Pace(family)

    def test_minutes_that_cannot_be(self, tmp_path: Path, tiny_teacher: Path) -> None:
        text = family_text(tiny_teacher, "corpus.txt")
        for value in ("-1", "nan", "inf"):
            (tmp_path / "family.toml").write_text(text.replace("seed = 3", f"minutes = {value}"))
            with pytest.raises(BadInput, match="minutes"):
                read_recipe(tmp_path / "family.toml")


class TestMeasuring:
    def test_bound_by_time(self, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every batch is timed, by the warm-up alone where there is no time for more."""
        import torch

        from flashstill.distill.models import load_model
        from flashstill.measure import sweep

        calls: list[int] = []

        def time_model(model: Any, batch: int, context: int) -> tuple[float, list[float]]:
            calls.append(batch)
            return 1.0, [0.5]

        monkeypatch.setattr(sweep, "time_model", time_model)
        models = {"a": load_model(tiny_teacher, torch.bfloat16)}
        found = measure_models(models, [1, 4], 8, 3, Silent(), seconds=0.0)
        assert calls == [1, 4]
        assert [record.repeats for record in found] == [1, 1, 1, 1]
        calls.clear()
        found = measure_models(models, [1, 4], 8, 3, Silent(), seconds=math.inf)
        assert calls == [1] * 4 + [4] * 4
        assert {record.repeats for record in found} == {3}, "the warm-up is not counted"

    @pytest.mark.slow
    def test_rates_of_a_tiny_teacher(self, tiny_teacher: Path) -> None:
        import torch

        from flashstill.distill.models import load_model

        found = measured.rates(load_model(tiny_teacher, torch.float32), 3)
        assert found.read_s > 0
        assert found.head_s > 0
        assert found.at_zero_s >= 0
        assert found.rounding_s > 0


@pytest.mark.slow
def test_a_paced_run_that_is_cut_reaches_what_it_decided(
    tmp_path: Path, tiny_teacher: Path, sample_text: str, other_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flashstill.runs import stages

    (tmp_path / "corpus.txt").write_text(sample_text)
    (tmp_path / "other.txt").write_text(other_text)
    text = family_text(tiny_teacher, "corpus.txt").replace("seed = 3", "minutes = 0.6")
    (tmp_path / "family.toml").write_text(text)
    recipe: FamilyRecipe = read_recipe(tmp_path / "family.toml")

    class Cut(Exception):
        pass

    def cut(family: Family) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setitem(stages.STAGES, "evaluate", cut)
        with pytest.raises(Cut):
            run_family(recipe, tmp_path / "out", Silent())
    decided = json.loads((tmp_path / "out" / FILE).read_text())["decisions"]
    monkeypatch.setattr(pace, "overhead_now", lambda: pytest.fail("it has been measured"))
    said = RecordedProgress()
    run_family(recipe, tmp_path / "out", said)
    after = json.loads((tmp_path / "out" / FILE).read_text())
    assert {name: after["decisions"][name] for name in decided} == decided
    assert after["took_s"] > 0
    models = [record for record in read_records(tmp_path / "out" / "records.jsonl") if isinstance(record, ModelRecord)]
    for record in models:
        if record.role in ("student", "control"):
            assert record.training_tokens == decided[record.of]["tokens"]
            assert record.training_steps > 0
            assert "fp32" in record.arithmetic
    page = (tmp_path / "out" / "report.html").read_text()
    assert "All models ran in fp32 arithmetic" in page
    assert "ends within about 0.6 minutes" in page
    before = len(said.lines)
    run_family(recipe, tmp_path / "out", said)
    assert not [line for line in said.lines[before:] if "took" in line or "measuring" in line]
