"""A family goes on with teachers whose directories were moved, and with no other ones."""

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
from flashstill.recipes.teachers import TeacherRecipe
from flashstill.runs import STAGES, run_family
from flashstill.runs.run_lock import CHANGES
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
