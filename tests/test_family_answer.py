"""The whole answer about a family: break-even points, generations, finished runs, the document and its text."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashstill as fs
from flashstill.cli import main
from flashstill.cli.family_costs import print_family
from flashstill.errors import BadInput
from flashstill.facts import load
from flashstill.family.answer import FamilyAnswer, StudentAnswer
from flashstill.family.break_even import grid
from flashstill.family.expected import distillation_law
from flashstill.family.ranges import total
from flashstill.family.scratch import discounted_millions
from flashstill.family.taught import ENDLESS
from flashstill.records import CostRecord, ModelRecord, QualityRecord, write_records
from tests.commands import refuse
from tests.marks import examples

FACTS = load()
PLAN: dict[str, Any] = {
    "name": "planned",
    "money": {"cost_of_capital": 0.1, "life_years": 2.0},
    "training": {"chip": "h100-sxm", "chips": 64},
    "serving": {"chips": ["h100-sxm"], "tokens_per_day": 1e10},
    "teacher": {"name": "pro", "parameters": 12e9, "tokens": 5e11, "usd_per_million_tokens": 3.0},
    "students": [
        {"name": "flash", "parameters": 3e9, "tokens": 5e10, "share": 0.75, "usd_per_million_tokens": 0.4},
        {"name": "lite", "parameters": 1e9, "tokens": 5e10, "share": 0.25, "usd_per_million_tokens": 0.1},
    ],
}


def answer(generations: int = 0, draws: int = 1, **changes: Any) -> FamilyAnswer:
    """The answer to PLAN with changes by path, as students__0__share; None takes a key away."""
    tree = copy.deepcopy(PLAN)
    for path, value in changes.items():
        *places, last = path.split("__")
        table: Any = tree
        for place in places:
            table = table[int(place)] if place.isdigit() else table.setdefault(place, {})
        table[last] = value
        if value is None:
            del table[last]
    return fs.family_economics(tree, generations=generations, draws=draws, facts=FACTS)


def flash(**changes: Any) -> StudentAnswer:
    return answer(**changes).students[0]


class TestAgainstTheTeacher:
    def test_at_the_break_even_both_cost_the_same(self) -> None:
        found = answer()
        student, life = found.students[0], found.costs.life
        at = student.against_teacher.tokens_per_day
        assert at is not None
        millions = discounted_millions(at, float(life.discounted_days))
        assert student.costs.own_usd + 0.4 * millions == pytest.approx(3.0 * millions)

    def test_the_band_holds_the_point(self) -> None:
        crossing = flash(draws=500).against_teacher
        assert crossing.band is not None
        low, middle, high = (crossing.band[name] for name in ("p10", "p50", "p90"))
        assert low is not None
        assert middle is not None
        assert high is not None
        assert crossing.tokens_per_day is not None
        assert low < middle < high
        assert low < crossing.tokens_per_day < high

    def test_told_numbers_leave_no_band(self) -> None:
        """Dollars, life and prices told: nothing is drawn."""
        crossing = flash(draws=50, students__0__usd=1e6, students__0__signal="none").against_teacher
        assert crossing.band is not None
        assert crossing.band["p10"] == pytest.approx(crossing.tokens_per_day)
        assert crossing.band["p90"] == pytest.approx(crossing.tokens_per_day)

    def test_a_dearer_student_never_pays(self) -> None:
        crossing = flash(students__0__usd_per_million_tokens=3.5).against_teacher
        assert (crossing.tokens_per_day, crossing.verdict.split(":")[0]) == (None, "never")

    def test_a_teacher_that_cannot_serve(self) -> None:
        tree = copy.deepcopy(PLAN)
        del tree["teacher"]["usd_per_million_tokens"]
        tree["serving"]["max_tpot_s"] = 1e-6
        crossing = fs.family_economics(tree, facts=FACTS, draws=1).students[0].against_teacher
        assert crossing.verdict.startswith("no price of serving pro: as ")
        assert "nothing serves" in crossing.verdict

    @pytest.mark.slow
    @examples(60)
    @given(
        st.sampled_from(
            [("students__0__tokens", 1), ("students__0__other_usd", 1), ("students__0__usd_per_million_tokens", 1),
             ("teacher__usd_per_million_tokens", -1), ("money__life_years", -1), ("money__cost_of_capital", 1),
             ("training__usd_per_chip_hour", 1)]
        ),
        st.floats(1.05, 3.0),
    )  # fmt: skip
    def test_it_moves_the_right_way(self, change: tuple[str, int], times: float) -> None:
        key, sign = change
        start = {
            "students__0__tokens": 5e10, "students__0__other_usd": 1e5, "students__0__usd_per_million_tokens": 0.4,
            "teacher__usd_per_million_tokens": 3.0, "money__life_years": 2.0, "money__cost_of_capital": 0.1,
            "training__usd_per_chip_hour": 2.0,
        }[key]  # fmt: skip
        before, after = (flash(**{key: value}).against_teacher.tokens_per_day for value in (start, start * times))
        assert before is not None
        assert after is not None
        assert (after - before) * sign > 0.0


class TestAgainstScratch:
    def test_a_dearer_prerequisite_never_helps(self) -> None:
        """The student with all of its teacher wins at no traffic at which it would not with a part of it."""
        found = flash().against_scratch
        order = [found[who] for who in ("teacher_exists", "its_part", "all_of_it")]
        points = [each.tokens_per_day or (0.0 if each.verdict.startswith("always") else math.inf) for each in order]
        assert points == sorted(points)

    def test_the_crossing_is_where_the_curves_meet(self) -> None:
        """The teacher paid for by somebody else: below, labels are cheaper; above, the student."""
        told = {"students__0__signal": "cached", "students__1__signal": "cached", "students__0__tokens": 1e11}
        found = flash(teacher__exists=True, **told)
        at = found.against_scratch["teacher_exists"]
        assert at.tokens_per_day is not None
        assert at.verdict == "pays above"
        for row in found.curves:
            usd, traffic = row["usd_per_million_tokens"], row["tokens_per_day"]
            assert (usd["student"] < usd["scratch"]) == (traffic > at.tokens_per_day)

    def test_a_student_on_labels_is_its_own_rival(self) -> None:
        verdicts = {each.verdict for each in flash(students__0__signal="none").against_scratch.values()}
        assert verdicts == {"it is trained on labels itself"}

    def test_curves_fall_to_the_price_of_serving(self) -> None:
        rows = flash().curves
        assert [row["tokens_per_day"] for row in rows] == grid()
        student = [row["usd_per_million_tokens"]["student"] for row in rows]
        assert student == sorted(student, reverse=True)
        assert student[-1] == pytest.approx(0.4, rel=1e-3)
        assert {row["usd_per_million_tokens"]["teacher"] for row in rows} == {3.0}
        assert all(
            row["usd_per_million_tokens"]["student_with_prerequisite"] > row["usd_per_million_tokens"]["student"]
            for row in rows
        )

    def test_scratch_is_never_dearer_than_the_same_size(self) -> None:
        """The least over sizes includes the student's own, where labels reach its loss."""
        found = answer()
        law, loss = found.law, found.expected["students[0]"].loss
        rate = found.costs.students[0].rate
        assert loss is not None
        assert rate is not None
        tokens = float(law.tokens_for(loss, 3e9))
        days = float(found.costs.life.discounted_days)
        for row in found.students[0].curves[::8]:
            same = 0.4 + rate.usd * tokens * 1.001 / discounted_millions(row["tokens_per_day"], days)
            assert row["usd_per_million_tokens"]["scratch"] <= same * 1.05


class TestPrerequisite:
    @pytest.mark.slow
    def test_where_it_is_a_tenth(self) -> None:
        at = answer().prerequisite_small_above
        assert at is not None
        found = answer(serving__tokens_per_day=at)
        assert found.costs.parts["prerequisite"] / sum(found.costs.parts.values()) == pytest.approx(0.1)
        assert answer(teacher__exists=True).prerequisite_small_above is None

    def test_the_waterfall_adds_up(self) -> None:
        *steps, total = answer(teacher__share=0.25, students__0__share=0.5).waterfall
        assert total["is_total"]
        assert sum(step["value"] for step in steps) == pytest.approx(total["value"])
        assert {"serving pro", "serving flash", "training lite", "training pro"} <= {step["name"] for step in steps}


class TestRanges:
    def test_the_band_holds_the_price_and_its_drivers_move_it(self) -> None:
        found = answer(draws=400, money__cost_of_capital=0.1)
        total = sum(found.costs.parts.values())
        low, high = found.band["p10"], found.band["p90"]
        assert low is not None
        assert high is not None
        assert low < total < high
        names = {f"{row['name']}.{row['quantity']}" for row in found.drivers}
        assert {"training.mfu_ratio", "h100-sxm.usd_per_hour"} <= names
        assert "capital.interest_ratio" not in names, "it is told"
        by_name = {row["quantity"]: row for row in found.drivers}
        assert by_name["mfu_ratio"]["at_low"] > total > by_name["mfu_ratio"]["at_high"]
        assert by_name["usd_per_hour"]["at_low"] < total < by_name["usd_per_hour"]["at_high"]

    def test_at_the_values_of_the_rows_it_is_the_price(self) -> None:
        found = answer(teacher__share=0.25, students__0__share=0.5, students__1__signal="text")
        assert float(total(FACTS, FACTS, found.costs)) == pytest.approx(sum(found.costs.parts.values()))


class TestGenerations:
    def test_flash_against_the_pro_before(self) -> None:
        first, second, _ = flash(generations=2).generations
        assert first.reaches is None
        assert second.previous_pro_loss == first.pro_loss
        assert second.pro_loss < first.pro_loss
        assert second.reaches == (second.flash_loss <= first.pro_loss)
        assert second.price_ratio == pytest.approx(
            0.4 / 3.0 / FACTS.value("generation", "flops_per_usd_growth_ratio") ** 2.0
        )

    @pytest.mark.slow
    def test_what_is_needed_is_enough(self) -> None:
        """A student as large as is said reaches the Pro before it, one a tenth smaller does not."""
        needed = flash(generations=1).generations[1].parameters_needed
        assert needed is not None
        for times, reaches in ((1.01, True), (0.9, False)):
            assert flash(generations=1, students__0__parameters=needed * times).generations[1].reaches is reaches

    @pytest.mark.slow
    def test_a_student_that_grows_reaches_sooner(self) -> None:
        tree = copy.deepcopy(PLAN)
        slow, fast = (
            fs.family_economics(tree, generations=2, student_growth=growth, draws=1, facts=FACTS)
            .students[0]
            .generations
            for growth in (1.0, 2.5)
        )
        assert fast[2].flash_loss < slow[2].flash_loss
        assert slow[2].flash_usd_per_million_tokens is not None
        assert fast[2].flash_usd_per_million_tokens == pytest.approx(slow[2].flash_usd_per_million_tokens * 2.5**2)

    def test_too_many(self) -> None:
        with pytest.raises(BadInput, match="generations must lie between 1 and 12"):
            answer(generations=13)
        with pytest.raises(BadInput, match="beyond what any law says"):
            answer(generations=2, money__life_years=20.0)
        with pytest.raises(BadInput, match="need the parameters and the tokens of pro"):
            answer(generations=1, teacher__tokens=None, teacher__exists=True)


class TestWorth:
    def test_the_familys_own_bill_is_asked_about(self) -> None:
        found = flash()
        assert found.worth is not None
        signals, run = found.costs.signals, found.costs.run
        assert signals is not None
        assert found.worth.overhead == pytest.approx((run.usd + signals.usd) / run.usd)
        assert found.worth.question.students == 2
        assert not found.worth.question.teacher_exists
        exists = flash(teacher__exists=True).worth
        assert exists is not None
        assert exists.distil
        assert exists.gain_nats > found.worth.gain_nats

    def test_a_teacher_that_is_served_is_there_anyway(self) -> None:
        found = flash(teacher__share=0.25, students__0__share=0.5)
        assert found.worth is not None
        assert found.worth.question.teacher_exists

    def test_what_cannot_be_asked_says_why(self) -> None:
        found = flash(teacher__tokens=None, teacher__exists=True)
        assert found.worth is None
        assert found.worth_reason.endswith("of pro are told")


def test_the_document_is_plain_json() -> None:
    found = answer(generations=1)
    tree = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert tree["usd_per_million_tokens"]["total"] == pytest.approx(tree["waterfall"][-1]["value"])
    assert tree["teacher"]["usd_per_million_tokens"] is None
    first = tree["students"][0]
    assert set(first["break_even"]["against_scratch"]) == {"teacher_exists", "its_part", "all_of_it"}
    assert len(first["curves"]) == len(grid())
    assert first["should_distil"]["answer"]
    assert len(first["generations"]) == 2
    assert tree["law"]["kind"] == "unverified"
    assert [row["name"] for row in found.as_records()] == ["pro", "flash", "lite"]
    assert "planned" in found._repr_html_()


def test_the_text_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_family(answer(generations=1, draws=20))
    text = capsys.readouterr().out
    for words in ("per million tokens", "as a prerequisite", "against serving pro: pays above", "should I distil:",
                  "reaches Pro(n-1)", "unverified"):  # fmt: skip
        assert words in text


def finished(directory: Path, chip: str = "h100-sxm") -> Path:
    """A directory as `flashstill run` leaves it: a teacher, a student, its control."""

    def model(name: str, role: str, of: str, size: int, tokens: int, seconds: float) -> ModelRecord:
        return ModelRecord(model=name, role=role, of=of, parameters=size, layers=4, training_tokens=tokens,
                           training_s=seconds, path=name)  # fmt: skip

    def quality(name: str, value: float) -> QualityRecord:
        return QualityRecord(model=name, domain="heldout", metric="bits_per_byte", value=value, low=value - 0.01,
                             high=value + 0.01, tokens=1000, documents=10)  # fmt: skip

    def cost(name: str, usd: float, batch: int) -> CostRecord:
        return CostRecord(model=name, chip=chip, chips=1, phase="decode", batch=batch, context=512, precision="bf16",
                          seconds=0.01, tokens_per_s=100.0, joules_per_token={"total": 1.0}, wall_joules_per_token=2.0,
                          usd_per_million_tokens=usd, watts_per_chip=300.0, bound="memory")  # fmt: skip

    directory.mkdir()
    write_records(
        directory / "records.jsonl",
        [
            model("teacher", "teacher", "teacher", 134_000_000, 0, 0.0),
            model("half", "student", "half", 70_000_000, 3_000_000, 60.0),
            model("half-control", "control", "half", 70_000_000, 3_000_000, 40.0),
            quality("teacher", 1.0), quality("half", 1.2), quality("half-control", 1.4),
            cost("teacher", 0.2, 1), cost("teacher", 0.02, 64), cost("half", 0.1, 1), cost("half", 0.011, 64),
        ],
    )  # fmt: skip
    return directory


class TestFinishedRuns:
    def test_a_run_is_a_family(self, tmp_path: Path) -> None:
        found = fs.family_economics(finished(tmp_path / "out"), draws=1, facts=FACTS)
        teacher, student = found.costs.members
        assert (teacher.name, teacher.member.exists) == ("teacher", True)
        assert (student.name, student.member.tokens) == ("half", 3e6)
        assert student.served.usd_per_million_tokens == 0.011  # the cheapest batch
        assert found.students[0].against_teacher.tokens_per_day is not None
        assert any("a guess" in note for note in found.notes)
        assert any("at the MFU of frontier runs" in note for note in found.notes)
        assert any("prompts are not in it" in note for note in found.notes)
        assert found.measured is not None
        half = found.measured["half"]
        assert (half["is_better"], half["overlap"]) == (True, False)
        assert half["times_the_seconds_on_labels"] == 1.5

    def test_its_traffic_can_be_told(self, tmp_path: Path) -> None:
        found = fs.family_economics(finished(tmp_path / "out"), tokens_per_day=5e6, draws=1, facts=FACTS)
        assert found.costs.plan.serving.tokens_per_day == 5e6
        assert not any("a guess: say" in note for note in found.notes)

    def test_the_text_says_what_was_measured(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        print_family(fs.family_economics(finished(tmp_path / "out"), draws=1, facts=FACTS))
        assert "measured bits per byte: 1.2 distilled, 1.4 on labels (better)" in capsys.readouterr().out

    def test_mistakes(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for path, more, sentence in (
            (tmp_path / "empty", {}, "holds no records.jsonl"),
            (finished(tmp_path / "out"), {"chip": "h20"}, "unknown chip of this run's costs 'h20'"),
            (tmp_path / "none.toml", {}, "none.toml"),
        ):
            with pytest.raises(BadInput, match=sentence):
                fs.family_economics(path, facts=FACTS, **more)  # type: ignore[arg-type]
        with pytest.raises(BadInput, match="tokens_per_day is of a finished run"):
            fs.family_economics(PLAN, tokens_per_day=1e9, facts=FACTS)
        with pytest.raises(BadInput, match="not a path"):
            fs.family_economics(7, facts=FACTS)  # type: ignore[arg-type]


class TestFinishedDistillations:
    """What `flashstill distill` leaves: one student and a summary."""

    SUMMARY: ClassVar[dict[str, Any]] = {
        "name": "half", "parameters": {"teacher": 134e6, "student": 70e6, "control": 70e6}, "training_s": 100.0,
        "tokens_per_s": 2000.0, "steps": 10,
        "quality": {
            "student": {"heldout": {"bits_per_byte": [1.2, 1.19, 1.21]}},
            "control": {"heldout": {"bits_per_byte": [1.2, 1.18, 1.22]}},
        },
    }  # fmt: skip

    def made(self, directory: Path, **changes: Any) -> Path:
        student = directory / "student"
        student.mkdir(parents=True)
        config = {
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 1024,
        }  # fmt: skip
        (student / "config.json").write_text(json.dumps(config), encoding="utf-8")
        summary = {**self.SUMMARY, "student": str(student), **changes}
        (directory / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        write_records(directory / "records.jsonl", [])
        return directory

    @pytest.mark.slow
    def test_a_distillation_is_a_family_of_one(self, tmp_path: Path) -> None:
        found = fs.family_economics(self.made(tmp_path / "out"), chip="h100-sxm", draws=1, facts=FACTS)
        (student,) = found.costs.students
        assert student.member.tokens == 2e5
        assert any("training is priced on 1 h100-sxm" in note and "a guess" in note for note in found.notes)
        assert student.served.usd_per_million_tokens is not None
        assert found.measured is not None
        assert found.measured["half"]["overlap"] is True

    def test_mistakes(self, tmp_path: Path) -> None:
        made = self.made(tmp_path / "out")
        with pytest.raises(BadInput, match="name a chip for its student"):
            fs.family_economics(made, facts=FACTS)
        (made / "student" / "config.json").unlink()
        with pytest.raises(BadInput, match=r"holds no config\.json"):
            fs.family_economics(made, chip="h100-sxm", facts=FACTS)
        bare = self.made(tmp_path / "bare", parameters={"student": 7e7})
        with pytest.raises(BadInput, match="no parameters of a teacher"):
            fs.family_economics(bare, chip="h100-sxm", facts=FACTS)


def test_a_toml_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "family.toml"
    path.write_text(
        '[training]\nchip = "h100-sxm"\n[serving]\nchips = ["h100-sxm"]\ntokens_per_day = 1e9\n'
        "[teacher]\nparameters = 7e9\ntokens = 1e12\n"
        "[[students]]\nparameters = 1e9\ntokens = 1e11\nshare = 1.0\nusd_per_million_tokens = 0.1\n",
        encoding="utf-8",
    )
    found = fs.family_economics(path, draws=1, facts=FACTS)
    assert [each.name for each in found.costs.members] == ["teacher", "students[0]"]
    assert float(found.costs.life.interest) == FACTS.value("capital", "interest_ratio")
    assert float(found.costs.life.years) == FACTS.value("model", "life_years")


class TestCommand:
    """`flashstill economics FAMILY_OR_RESULT`."""

    def written(self, tmp_path: Path, text: str = "") -> Path:
        path = tmp_path / "family.toml"
        path.write_text(
            '[training]\nchip = "h100-sxm"\n[serving]\nchips = ["h100-sxm"]\ntokens_per_day = 1e9\n'
            "[teacher]\nparameters = 7e9\ntokens = 1e12\n"
            "[[students]]\nparameters = 1e9\ntokens = 1e11\nusd_per_million_tokens = 0.1\n" + (text or "share = 1.0\n"),
            encoding="utf-8",
        )
        return path

    def test_it_prints_the_document(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        main(["economics", str(self.written(tmp_path)), "--json", "--generations", "1", "--draws", "10"])
        tree = json.loads(capsys.readouterr().out)
        assert tree["schema"] == "flashstill.economics/1"
        assert tree["question"]["generations"] == 1
        assert "isl" not in tree["question"]
        assert len(tree["students"][0]["generations"]) == 2

    @pytest.mark.slow
    def test_it_prints_text_and_a_page(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        page = tmp_path / "page.html"
        main(["economics", str(self.written(tmp_path)), "--draws", "10", "--out", str(page)])
        assert "as a prerequisite" in capsys.readouterr().out
        assert "The money of family" in page.read_text(encoding="utf-8")

    def test_a_finished_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        main(["economics", str(finished(tmp_path / "out")), "--draws", "10", "--tokens-per-day", "5M"])
        assert "5M output tokens a day" in capsys.readouterr().out

    def test_mistakes_exit_with_2(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        family = self.written(tmp_path)
        for arguments, sentence in (
            ((family, "--isl", 5), "--isl is of a single --model"),
            ((family, "--model", "llama-3.1-8b"), "--model is of a single --model"),
            (("--model", "llama-3.1-8b", "--seed", 1), "--seed is of a family"),
            ((family, "--tokens-per-day", 5), "tokens_per_day is of a finished run"),
            ((family, "--generations", 99), "generations must lie between"),
        ):
            assert sentence in refuse(capsys, "economics", *arguments)
        path = self.written(tmp_path, "share = 0.4\n")
        assert "sum to 0.4; they must sum to 1" in refuse(capsys, "economics", path)


def test_the_seed_reaches_every_interval() -> None:
    one, two = (fs.family_economics(PLAN, draws=200, seed=seed, facts=FACTS) for seed in (1, 2))
    assert one.band != two.band
    assert one.students[0].against_teacher.band != two.students[0].against_teacher.band


def test_a_teacher_of_unknown_bill_is_not_taken_to_exist() -> None:
    tree = copy.deepcopy(PLAN)
    tree["teacher"] = {"name": "pro", "parameters": 12e9, "usd": 1e7, "loss": 2.0, "usd_per_million_tokens": 3.0}
    student = fs.family_economics(tree, draws=1, facts=FACTS).students[0]
    assert student.worth is None
    assert "what training pro takes is not told" in student.worth_reason


def test_no_teacher_takes_a_student_below_endless_tokens_on_labels() -> None:
    """In a family as in should_distil: the formula would, far beyond its runs."""
    law = distillation_law()
    told: dict[str, Any] = {"students__0__parameters": 1e8, "students__0__tokens": 1e14, "students__0__usd": 1e6}
    student = answer(teacher__loss=2.331, **told).expected["students[0]"]
    assert float(law.loss(1e8, 1e14, teacher_loss=2.331)) < float(law.loss(1e8, ENDLESS))
    assert student.loss is not None
    assert student.loss >= float(law.loss(student.parameters, ENDLESS))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"seed": -1}, "seed must be at least 0"),
        ({"draws": 10**9}, "draws must be at most"),
        ({"generations": 1.5}, "generations is 1.5, not a whole number"),
        ({"generations": 1, "student_growth": 1e300}, "student_growth, a factor per generation"),
        ({"student_growth": 2.0}, "student_growth is per generation: say how many"),
        (
            {"generations": 1, "set": {"generation.compute_growth_ratio": 0.0}},
            "growth of compute per year must be above",
        ),
        ({"generations": 1, "set": {"generation.flops_per_usd_growth_ratio": 0.0}}, "growth of flops_per_usd per year"),
    ],
)
def test_what_is_asked_must_be_possible(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        fs.family_economics(PLAN, facts=FACTS, **{"draws": 1, **asked})


def served(price: str, **serving: float) -> FamilyAnswer:
    """A small model by name, served on chips of a price basis."""
    tree = copy.deepcopy(PLAN)
    tree["money"] = {"price": price}
    tree["serving"] |= {"isl": 512, "osl": 128, "max_chips": 1, **serving}
    tree["students"] = [{"name": "flash", "model": "gpt2", "tokens": 5e10, "share": 1.0, "chips": 8, "length": 1024,
                         "signal": "none"}]  # fmt: skip
    tree["teacher"]["exists"] = True
    return fs.family_economics(tree, draws=200, facts=FACTS)


def usd_of(found: FamilyAnswer) -> float:
    usd = found.costs.students[0].served.usd_per_million_tokens
    assert usd is not None
    return usd


class TestUtilisation:
    """Hours without work are paid once: by the price of an owned hour, or beside a rent."""

    def test_the_row_told_changes_nothing_of_an_owned_price(self) -> None:
        row = FACTS.value("server", "utilisation_ratio")
        assert usd_of(served("owned", utilisation=row)) == pytest.approx(usd_of(served("owned")), rel=1e-9)

    @pytest.mark.slow
    def test_a_rent_pays_for_the_hours_that_wait(self) -> None:
        assert usd_of(served("rented", utilisation=0.5)) == pytest.approx(2.0 * usd_of(served("rented")))

    @pytest.mark.slow
    def test_an_idle_owned_chip_draws_less(self) -> None:
        half, full = (usd_of(served("owned", utilisation=share)) for share in (0.5, 1.0))
        assert full < half < 2.0 * full

    @pytest.mark.slow
    def test_what_an_owned_hour_is_made_of_is_drawn(self) -> None:
        names = {f"{each['name']}.{each['quantity']}" for each in served("owned").drivers}
        assert {"h100-sxm.usd_purchase", "server.lifetime_years", "server.utilisation_ratio"} <= names

    @pytest.mark.slow
    def test_an_owned_chip_bears_the_interest_that_is_told(self) -> None:
        tree = copy.deepcopy(PLAN)
        tree["money"]["price"] = "owned"
        tree["students"][0]["signal"] = tree["students"][1]["signal"] = "none"
        tree["teacher"]["exists"] = True
        dollars = []
        for interest in (0.0, 0.15):
            tree["money"]["cost_of_capital"] = interest
            dollars.append(fs.family_economics(tree, draws=1, facts=FACTS).costs.students[0].run.usd)
        assert dollars[0] < dollars[1]


def test_a_student_that_serves_nobody_is_paid_by_the_others() -> None:
    spare = {"name": "spare", "parameters": 2e9, "tokens": 5e10, "share": 0.0}
    plain, more = answer(draws=100), answer(draws=100, students=[*PLAN["students"], spare])
    extra = next(each for each in more.costs.students if each.name == "spare")
    paid = sum(more.costs.parts.values()) - sum(plain.costs.parts.values())
    daily, life = more.costs.plan.serving.tokens_per_day, more.costs.life
    shared = sum(each.own_usd for each in more.costs.students) - sum(each.own_usd for each in plain.costs.students)
    assert extra.own_usd > 0.0
    assert shared == pytest.approx(paid * daily * float(life.discounted_days) / 1e6)
    assert float(total(FACTS, FACTS, more.costs)) == pytest.approx(sum(more.costs.parts.values()))
    steps = [step["value"] for step in more.waterfall if not step["is_total"]]
    assert math.fsum(steps) == pytest.approx(sum(more.costs.parts.values()))
    assert any("spare serves nobody" in note for note in more.notes)


def test_staff_is_paid_with_and_without_a_teacher() -> None:
    """So that it cannot decide between a student and the same loss on labels."""
    bare, staffed = (flash(students__0__other_usd=usd).against_scratch["teacher_exists"] for usd in (0.0, 1e7))
    assert bare.verdict == staffed.verdict
    assert (bare.tokens_per_day or 0.0) == pytest.approx(staffed.tokens_per_day or 0.0)


def test_told_dollars_price_the_rival_too() -> None:
    run = flash().costs.run
    told, plain = flash(students__0__usd=10.0 * run.usd), flash()
    assert told.costs.run.usd == pytest.approx(10.0 * plain.costs.run.usd)
    lowest = [row.curves[0]["usd_per_million_tokens"]["scratch"] for row in (told, plain)]
    assert lowest[0] > 5.0 * lowest[1]


def test_a_teacher_of_known_flops_reads_a_third_of_them() -> None:
    tree = copy.deepcopy(PLAN)
    tree["teacher"] = {"name": "pro", "flops": 3.6e22, "tokens": 5e11, "usd_per_million_tokens": 3.0}
    signals = fs.family_economics(tree, draws=1, facts=FACTS).costs.students[0].signals
    assert signals is not None
    assert signals.teacher_flops == pytest.approx(5e10 * 3.6e22 / 5e11 / 3.0)


def test_a_framework_is_checked_where_flops_are_counted_too() -> None:
    with pytest.raises(BadInput, match="unknown training framework 'nemoo'; the nearest known: nemo"):
        answer(training__framework="nemoo")


def test_a_guessed_mfu_is_said() -> None:
    assert any("pro goes by its FLOPs at 0.375 of the peak" in note for note in answer().notes)
    told = answer(teacher__mfu=0.4, students__0__mfu=0.4, students__1__mfu=0.4)
    assert not any("of the peak" in note for note in told.notes)
