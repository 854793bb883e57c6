"""Runs go on with models whose directories were moved, and with no other ones: families, studies, single students."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import FamilyRecipe, read_recipe
from flashstill.recipes.distillation import DistillRecipe, ShapeRecipe
from flashstill.recipes.language import KdAgainstLabels, LanguageStudy, Rounding
from flashstill.recipes.resuming import changes_of, has_moved, rule_of
from flashstill.recipes.studies import KINDS
from flashstill.recipes.tables import TextRecipe
from flashstill.recipes.teachers import TeacherRecipe
from flashstill.recipes.thinking import NetTable, TaskRecipe, TeacherTable, ThinkingStudy
from flashstill.recipes.training import TrainTable
from flashstill.runs import STAGES, run_family
from flashstill.runs.distillation import run_distillation
from flashstill.runs.origins import FILE as ORIGINS
from flashstill.runs.origins import check_models
from flashstill.runs.run_lock import CHANGES
from flashstill.studies import STUDIES, Study, run_study
from flashstill.studies.seeds import Bar, Result
from tests.recorded_progress import RecordedProgress
from tests.tiny import family_text


@pytest.fixture
def recipe(tmp_path: Path, tiny_teacher: Path, text_file: Path, other_text: str) -> FamilyRecipe:
    """Of the teacher in `here`, of which `there` is a copy, and `other` another model."""
    for name in ("here", "there", "other"):
        shutil.copytree(tiny_teacher, tmp_path / name)
    path = tmp_path / "other" / "model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    (tmp_path / "other.txt").write_text(other_text)
    path = tmp_path / "family.toml"
    path.write_text(family_text("here", text_file).replace('data = "', 'control = false\ndata = "', 1))
    return read_recipe(path)


def moved(recipe: FamilyRecipe, place: Path, students: tuple[int, ...] = (0, 1)) -> FamilyRecipe:
    """The family's teacher, and that of these students, in another place."""
    there = (TeacherRecipe(model=str(place)),)
    return dataclasses.replace(
        recipe,
        teachers=there,
        students=tuple(
            dataclasses.replace(
                student, teachers=there if number in students and student.teachers else student.teachers
            )
            for number, student in enumerate(recipe.students)
        ),
    )


def run(recipe: FamilyRecipe, out: Path) -> None:
    run_family(recipe, out, Silent())


@pytest.fixture
def begun(tmp_path: Path, recipe: FamilyRecipe, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that has got as far as its first stage, which is all that it ever does."""
    monkeypatch.setattr("flashstill.runs.STAGES", {"teacher": STAGES["teacher"]})
    (tmp_path / "out").mkdir()
    run(recipe, tmp_path / "out")
    return tmp_path / "out"


def test_the_same_model_in_another_place(begun: Path, recipe: FamilyRecipe, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "here")
    run(moved(recipe, tmp_path / "there"), begun)
    (row, *_) = map(json.loads, (begun / CHANGES).read_text().splitlines())
    assert (row["key"], row["now"]) == ("teachers[0].model", str(tmp_path / "there"))
    run(moved(recipe, tmp_path / "there"), begun)  # it is the recipe of this directory now
    assert len((begun / CHANGES).read_text().splitlines()) == 1 + sum(bool(each.teachers) for each in recipe.students)


def test_another_model_there_is_refused_and_nothing_adopted(begun: Path, recipe: FamilyRecipe, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in begun.iterdir() if path.is_file()}
    with pytest.raises(BadInput, match=r"has changed since .* which would mix two models"):
        run(moved(recipe, tmp_path / "other"), begun)
    assert before == {path: path.read_bytes() for path in begun.iterdir() if path.is_file()}
    run(recipe, begun)


def test_a_model_that_changed_in_its_place_is_refused(begun: Path, recipe: FamilyRecipe, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "here" / "model.safetensors")
    with pytest.raises(BadInput, match="has changed since"):
        run(recipe, begun)


def test_a_teacher_that_is_moved_for_some_students_only(begun: Path, recipe: FamilyRecipe, tmp_path: Path) -> None:
    """What students share is named by who uses it, so that others would be looked for."""
    assert all(student.teachers for student in recipe.students), "else this says nothing"
    with pytest.raises(BadInput, match=r"student half would share other files than before; change all of them alike"):
        run(moved(recipe, tmp_path / "there", students=(1,)), begun)


@pytest.mark.slow
def test_in_the_middle_of_a_run(recipe: FamilyRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Students are those of a run whose teacher stayed where it was; a finished family goes on as well."""
    run(recipe, tmp_path / "whole")
    out = tmp_path / "out"
    early = {name: STAGES[name] for name in ("teacher", "text", "signals", "search")}
    with monkeypatch.context() as patch:
        patch.setattr("flashstill.runs.STAGES", early)
        run(recipe, out)
    (tmp_path / "here").rename(tmp_path / "elsewhere")
    run(moved(recipe, tmp_path / "elsewhere"), out)
    for name in ("half", "most"):
        file = f"students/{name}/model.safetensors"
        assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    with pytest.raises(BadInput, match="which would mix two models"):
        run(moved(recipe, tmp_path / "other"), out)
    run(moved(recipe, tmp_path / "there"), out)


class TestStudies:
    """Each seed fingerprints the teacher of its arms; the study itself does so for all, also those not begun."""

    @pytest.fixture
    def begun_with(self, recipe: FamilyRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The teachers that the seeds of a study began with, which do nothing."""
        seen: list[str] = []

        def run(study: LanguageStudy, seed: int, place: Path, progress: object) -> Result:
            seen.append(study.models()["teacher"])
            return Result(measures={"seed": float(seed)})

        monkeypatch.setitem(STUDIES, "kd-against-labels", Study(run=run, bars={}))
        return seen

    def of(self, tmp_path: Path, name: str) -> KdAgainstLabels:
        return KdAgainstLabels(name="s", study="kd-against-labels", teacher=str(tmp_path / name))

    def test_the_same_teacher_in_another_place(self, begun_with: list[str], tmp_path: Path) -> None:
        out = tmp_path / "out"
        run_study(self.of(tmp_path, "here"), [0], out, Silent())
        shutil.rmtree(tmp_path / "here")
        run_study(self.of(tmp_path, "there"), [0, 1], out, Silent())
        assert begun_with == [str(tmp_path / name) for name in ("here", "there")], "a finished seed is not run again"
        (row,) = map(json.loads, (out / CHANGES).read_text().splitlines())
        assert (row["key"], row["now"]) == ("teacher", str(tmp_path / "there"))

    def test_another_model_there(self, begun_with: list[str], tmp_path: Path) -> None:
        out = tmp_path / "out"
        run_study(self.of(tmp_path, "here"), [0], out, Silent())
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        with pytest.raises(BadInput, match=r"teacher .* has changed since .* which would mix two models"):
            run_study(self.of(tmp_path, "other"), [0, 1], out, Silent())
        assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "here" / "model.safetensors")
        with pytest.raises(BadInput, match="has changed since"):
            run_study(self.of(tmp_path, "here"), [0, 1], out, Silent())
        assert run_study(self.of(tmp_path, "here"), [0], out, Silent())["seeds"] == [0], "finished: nothing is mixed"

    def test_seeds_that_follow_until_a_figure_decides(
        self, begun_with: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was asked for is finished, and more seeds would begin with another model."""
        open_ = dataclasses.replace(STUDIES["kd-against-labels"], bars={"seed": Bar(least=100.0)})
        monkeypatch.setitem(STUDIES, "kd-against-labels", open_)
        out = tmp_path / "out"
        run_study(self.of(tmp_path, "here"), [0], out, Silent())
        shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "here" / "model.safetensors")
        with pytest.raises(BadInput, match="has changed since"):
            run_study(self.of(tmp_path, "here"), [0], out, Silent(), most=2)
        assert len(begun_with) == 1

    def test_what_is_converted_first_is_said(
        self, recipe: FamilyRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        progress = RecordedProgress()
        monkeypatch.setattr(
            "flashstill.distill.teachers.resolve_teacher",
            lambda name, progress, role: (progress.say(f"converting {role}"), tmp_path / "here")[1],
        )
        check_models({"teacher": "a.gguf"}, tmp_path, progress)
        assert progress.lines == ["converting teacher"]

    def test_a_study_of_before_has_no_fingerprints(self, begun_with: list[str], tmp_path: Path) -> None:
        out = tmp_path / "out"
        run_study(self.of(tmp_path, "here"), [0], out, Silent())
        (out / ORIGINS).unlink()
        with pytest.raises(BadInput, match="noted no fingerprint of its teacher"):
            run_study(self.of(tmp_path, "there"), [0, 1], out, Silent())
        run_study(self.of(tmp_path, "here"), [0, 1], out, Silent())
        run_study(self.of(tmp_path, "there"), [0, 1, 2], out, Silent())

    def test_every_model_of_every_study_is_on_record(self) -> None:
        thinking = ThinkingStudy(
            name="s", study="deep-think", chip="c", task=TaskRecipe(source="gym:a"), teacher=TeacherTable(model="/t"),
            student=NetTable(model="/s"),
        )  # fmt: skip
        assert thinking.models() == {"teacher.model": "/t", "student.model": "/s"}
        served = dataclasses.replace(thinking, teacher=TeacherTable(model="http://a/v1", name="a", tokenizer="/tok"))
        assert served.models() == {"teacher.tokenizer": "/tok", "student.model": "/s"}
        assert Rounding(name="s", study="rounding", formats=(), teacher="/t").models() == {"teacher": "/t"}
        named = {kind for kind, recipe in KINDS.items() if recipe.models is not KINDS["classifiers"].models}
        assert named == set(KINDS) - {"classifiers", "soft-targets"}, "these train every model themselves"

    def test_a_served_teacher_of_deep_think(self) -> None:
        here, there = (
            ThinkingStudy(
                name="s", study="deep-think", chip="c", task=TaskRecipe(source="gym:a"),
                teacher=TeacherTable(model=f"http://{host}:8000/v1", name="a", tokenizer="/tok", in_flight=flights),
            )
            for host, flights in (("a", 4), ("b", 8))
        )  # fmt: skip
        assert all(rule_of(change, alone=False) for change in changes_of(here, there))

    @pytest.mark.slow
    def test_in_the_middle_of_a_seed(
        self, recipe: FamilyRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first arm is trained and the second is not: figures are those of a study that stayed."""
        study = dataclasses.replace(
            self.of(tmp_path, "here"), keep_layers=3, data=recipe.data, out_of_domain=recipe.out_of_domain,
            text=TextRecipe(window_tokens=32, train_tokens=512, heldout_tokens=128, out_of_domain_tokens=128),
            train=TrainTable(tokens=256, windows_per_step=4, arithmetic="fp32"),
        )  # fmt: skip
        whole = run_study(study, [0], tmp_path / "whole", Silent())
        out, real = tmp_path / "out", run_distillation
        with monkeypatch.context() as patch:
            patch.setattr(
                "flashstill.studies.arms.run_distillation",
                lambda one, *rest, **more: (
                    real(one, *rest, **more) if one.name == "distilled" else (_ for _ in ()).throw(KeyboardInterrupt)
                ),
            )
            with pytest.raises(KeyboardInterrupt):
                run_study(study, [0], out, Silent())
        (tmp_path / "here").rename(tmp_path / "elsewhere")
        moved_study = dataclasses.replace(study, teacher=str(tmp_path / "elsewhere"))
        assert run_study(moved_study, [0], out, Silent())["figures"] == whole["figures"]


class TestStudents:
    """What a single student is made from besides its teachers: student.model, and the configuration of one from
    scratch, also of families."""

    @pytest.mark.parametrize("key", ["model", "config"])
    def test_in_another_place(self, recipe: FamilyRecipe, tmp_path: Path, key: str) -> None:
        shapes = [
            ShapeRecipe(kind="copy", model=str(tmp_path / name)) if key == "model"
            else ShapeRecipe(kind="scratch", config=str(tmp_path / name / "config.json"))
            for name in ("here", "there", "nowhere")
        ]  # fmt: skip
        one, two, three = (
            DistillRecipe(name="a", teachers=(TeacherRecipe(model="/t"),), data="d", student=shape) for shape in shapes
        )
        (change,) = changes_of(one, two)
        assert has_moved(change)
        assert rule_of(change, alone=True) is not None
        (missing,) = changes_of(one, three)
        assert rule_of(missing, alone=True) is None
        plain = dataclasses.replace(one, student=dataclasses.replace(shapes[0], model="", config=""))
        assert not any(map(has_moved, changes_of(plain, two))), "there was none"

    @pytest.mark.slow
    def test_another_model_is_refused(self, recipe: FamilyRecipe, tmp_path: Path) -> None:
        def student(name: str) -> DistillRecipe:
            return DistillRecipe(
                name="a", teachers=recipe.teachers, data=recipe.data, out_of_domain=recipe.out_of_domain,
                student=ShapeRecipe(kind="copy", model=str(tmp_path / name)),
                text=TextRecipe(window_tokens=32, train_tokens=512, heldout_tokens=128, out_of_domain_tokens=128),
                train=TrainTable(tokens=256, windows_per_step=4, arithmetic="fp32"),
            )  # fmt: skip

        out = tmp_path / "out"
        run_distillation(student("here"), out, Silent())
        (out / "summary.json").unlink()
        with pytest.raises(BadInput, match=r"student\.model .* has changed since"):
            run_distillation(student("other"), out, Silent())
        run_distillation(student("there"), out, Silent())
