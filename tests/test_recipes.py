"""Recipes are checked once and whole: every value of every kind, the file itself, and what is kept of it."""

from __future__ import annotations

import copy
import math
import os
import re
import socket
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import (
    DistillRecipe,
    FamilyRecipe,
    SearchRecipe,
    TextRecipe,
    read_distillation,
    read_recipe,
    to_toml,
)
from flashstill.recipes.distillation import (
    DIVERGENCES,
    DIVERGENCES_WITH_SHARE,
    MEANS,
    QUANTISED,
    ShapeRecipe,
)
from flashstill.recipes.family import PRICES
from flashstill.recipes.studies import FOLDER, KINDS, kind_of, read_study
from flashstill.recipes.teachers import TeacherRecipe
from flashstill.recipes.thinking import MATCHERS, PARTS, PREFERENCES, THINKING
from flashstill.recipes.training import SCHEDULES
from flashstill.runs.limits import check_limits
from tests.commands import SHARED
from tests.tiny import family_text

CASES = SHARED / "cases"
BAD: dict[str, Any] = {
    "-5": -5, "0": 0, "nan": math.nan, "inf": math.inf, "1e308": 1e308, "empty": "", "x": "x", "[]": [], "true": True,
    "2**70": 2**70, "../../x": "../../x",
}  # fmt: skip
NEVER = {"-5", "nan", "inf", "1e308", "2**70"}
"""what no field of any recipe takes"""
FREE = {"options"}
"""keys that belong to another package"""
DISTILLATION = """
name = "one"
[[teachers]]
model = "somewhere"
[student]
keep_layers = 3
[budget]
minutes = 1.0
"""


def read(path: Path) -> Any:
    """Any recipe, by its own reader."""
    if path.name == "distill.toml":
        return read_distillation(path)
    return read_study(path) if kind_of(path) else read_recipe(path)


def trees() -> Iterator[tuple[str, dict[str, Any]]]:
    """One recipe of every kind with all its defaults written out."""
    for name in (
        "demo", "deep-think", "hinton-2015", "kd-against-labels", "kd-by-passes", "kd-by-size", "moe-to-dense",
        "rounding",
    ):  # fmt: skip
        yield f"{name}.toml", tomllib.loads(to_toml(read(FOLDER / f"{name}.toml")))
    teacher = TeacherRecipe(model="somewhere")
    yield "distill.toml", tomllib.loads(to_toml(DistillRecipe(name="one", teachers=(teacher,)))) | {
        "student": {"keep_layers": 3}, "regime": {"kind": "offline"}
    }  # fmt: skip


def places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The path of every value and table of a tree, and itself."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in entries:
        if key in FREE:
            continue
        yield (*place, key), value
        if isinstance(value, (dict, list)):
            yield from places(value, (*place, key))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tree"),
    [
        pytest.param(name, tree, id=name, marks=() if name == "distill.toml" else pytest.mark.slow)
        for name, tree in trees()
    ],
)
def test_any_value_in_any_place(tmp_path: Path, name: str, tree: dict[str, Any]) -> None:
    path, tried = tmp_path / name, set()
    reader = read_distillation if name == "distill.toml" else read_study if kind_of(FOLDER / name) else read_recipe
    for place, held in places(tree):
        if (place[-1], repr(held)) in tried:  # tables of one kind
            continue
        tried.add((place[-1], repr(held)))
        for label, value in BAD.items():
            changed = copy.deepcopy(tree)
            inside: Any = changed
            for key in place[:-1]:
                inside = inside[key]
            inside[place[-1]] = value
            path.write_text(tomli_w.dumps(changed), encoding="utf-8")
            named = next(str(key) for key in reversed(place) if isinstance(key, str))
            recipe, said = attempt(reader, path)
            if recipe is None:
                assert named in said, (place, label, said)
                assert said.startswith((f"recipe {path}", str(path))), said
                assert "\n" not in said
                assert len(said) < 600
            else:
                assert label not in NEVER, (place, label)
                path.write_text(to_toml(recipe), encoding="utf-8")
                assert reader(path) == recipe


def attempt(reader: Callable[[Path], Any], path: Path) -> tuple[Any, str]:
    """The recipe, or what its reader says against it; any other error is the test's."""
    try:
        return reader(path), ""
    except BadInput as error:
        return None, str(error)


def test_choices_are_those_of_the_code_that_reads_them() -> None:
    from flashstill.distill.losses import dense, teacher
    from flashstill.distill.reasoning import choosing, matching
    from flashstill.distill.students import quantise
    from flashstill.distill.training import recipe as training
    from flashstill.economics import prices

    assert (MEANS, SCHEDULES, QUANTISED[1:]) == (teacher.MEANS, training.SCHEDULES, quantise.FORMATS)
    assert set(DIVERGENCES) == set(dense.PLAIN)
    assert set(DIVERGENCES_WITH_SHARE) == set(dense.WITH_SHARE)
    assert (MATCHERS, PARTS) == (matching.MATCHERS, matching.PARTS)
    assert (PREFERENCES, THINKING) == (choosing.PREFERENCES, choosing.THINKING)
    assert prices.BASES == PRICES


FAMILY_EDITS: list[tuple[str, str, str]] = [
    ("learning_rate = 1e-3", "final_fraction = -5", "train.final_fraction is -5; it must lie between 0 and 1"),
    ("learning_rate = 1e-3", "clip_norm = nan", "'train.clip_norm' is nan, not a finite number"),
    ("train_tokens = 2048", "train_tokens = -5", "text.train_tokens is -5; it must be at least 1"),
    ("[train]", "[search]\nwindows = 0\n[train]", "search.windows is 0; it must be at least 1"),
    ("[train]", "[search]\ncandidates = 0\n[train]", "search.candidates is 0; it must be at least 1"),
    ("[train]", '[search]\nmethod = "greed"\n[train]', "unknown search.method 'greed'; the nearest known: greedy"),
    ('name = "tiny"', 'name = "../../x"', "name is '../../x'; it must be a name of up to 64 letters, digits"),
    ('name = "tiny"', 'name = ".x"', "name is '.x'; it must be a name"),
    ('name = "tiny"', f'name = "{"x" * 65}"', "it must be a name of up to 64"),
    ('name = "half"', 'name = "most-control"', "as the teacher or another's control or start is"),
    ("seed = 3", "seed = true", "'seed' is True, not a whole number"),
    ("seed = 3", "seed = 3.0", "'seed' is 3.0, not a whole number"),
    ("seed = 3", "seed = 2026-11-28", "'seed' is 2026-11-28, a date or time"),
    ("seed = 3", f"seed = {2**70}", "'seed' is a number beyond 64 bits"),
    ("seed = 3", f"seed = {'9' * 5000}", "is not TOML"),
    ("batches = [1, 2]", "batches = []", "measure.batches is []; it must have at least one entry"),
    ("batches = [1, 2]", 'batches = [1, "2"]', "'measure.batches[1]' is '2', not a whole number"),
    ("[train]", "[cost]\nprise = 1\n[train]", "is not TOML"),
    ('precision = "bf16"', 'prise = "owned"', "unknown key 'cost.prise'; the nearest known: price"),
    ('data = "text.txt"', 'data = "a\\u0000b"', "data is 'a\\x00b'; it must be one line of text that can be printed"),
    ('data = "text.txt"', 'data = "/dev/zero"', "data is '/dev/zero', which is neither a regular file nor a directory"),
]


@pytest.mark.parametrize(("old", "new", "said"), FAMILY_EDITS)
def test_what_a_family_may_not_say(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = family_text("somewhere", "text.txt").replace("[cost]", '[cost]\nprecision = "bf16"')
    assert old in text
    path = tmp_path / "family.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BadInput) as refused:
        read_recipe(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("keep_layers = 3", "keep_layers = 3\n[train]\nfinal_fraction = -5", "train.final_fraction is -5; it must lie"),
        ("keep_layers = 3", "keep_layers = 3\n[train]\nclip_norm = nan", "'train.clip_norm' is nan"),
        ("keep_layers = 3", "keep_layers = 3\n[train]\nmicro_windows = 3", "train.micro_windows is 3, which does not"),
        (
            "keep_layers = 3",
            'keep_layers = 3\n[train]\nschedule = "wsd"\nwarmup_fraction = 0.6\ndecay_fraction = 0.6',
            "train.warmup_fraction and train.decay_fraction are more than 1 together",
        ),
        ('name = "one"', 'name = "one"\nmean = "harmonic"', "unknown mean 'harmonic'; the nearest known: "),
        (
            'name = "one"',
            'name = "one"\n[[losses]]\ndivergence = "jsd"',
            "losses[0].divergence is 'jsd'; it must be one",
        ),
        ('name = "one"', 'name = "one"\n[[losses]]\ndivergence = "jsd:1.5"', "losses[0].divergence is 'jsd:1.5'"),
        ('"somewhere"', '"somewhere"\nweight = -1', "teachers[0].weight is -1; it must be positive"),
        ("minutes = 1.0", "minutes = inf", "'budget.minutes' is inf, not a finite number"),
    ],
)
def test_what_a_distillation_may_not_say(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "distill.toml"
    path.write_text(DISTILLATION.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BadInput) as refused:
        read_distillation(path)
    assert said in str(refused.value)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def large(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(2**30)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "there is no recipe at"),
    "directory": (Path.mkdir, "is not a regular file"),
    "fifo": (fifo, "is not a regular file"),
    "socket": (listening, "is not a regular file"),
    "a gigabyte": (large, "is larger than 1 MiB"),
    "no UTF-8": (lambda path: path.write_bytes(b'name = "\xff\xfe"'), "is no UTF-8 text at byte 8"),
    "binary": (lambda path: path.write_bytes(bytes(range(1, 128))), "is not TOML"),
    "deep": (lambda path: path.write_text("y = " + "[" * 10_000 + "]" * 10_000), "nest too deep"),
    "deep tables": (lambda path: path.write_text("[" + ".".join("a" * 400) + "]\n"), "nests deeper than 16"),
    "empty": (lambda path: path.write_text(""), "is missing"),
    "another program's": (lambda path: path.write_text("[project]\nname = 'x'\n"), "unknown key 'project'"),
}


@pytest.mark.parametrize("reader", [read_recipe, read_distillation])
@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_no_recipes(
    tmp_path: Path, kind: str, reader: Callable[[Path], FamilyRecipe | DistillRecipe]
) -> None:
    make, said = FILES[kind]
    path = tmp_path / "x.toml"
    make(path)
    assert kind_of(path) == ""
    with pytest.raises(BadInput) as refused:
        reader(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are kept beside the repository")
def test_the_nested_case() -> None:
    with pytest.raises(BadInput, match=r"deep\.toml is not a recipe: its lists or tables nest too deep"):
        read_recipe(CASES / "deep.toml")


def test_a_name_that_no_path_can_have(tmp_path: Path) -> None:
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(BadInput, match="recipe"):
            read_recipe(tmp_path / f"{name}.toml")


def test_built_in_recipes_mean_what_they_meant() -> None:
    """Spot values of every one, as the files gave them before bounds were checked."""
    found = {path.stem: read(path) for path in sorted(FOLDER.glob("*.toml"))}
    assert set(KINDS) | {"family"} == {getattr(recipe, "study", "family") for recipe in found.values()}
    for path in FOLDER.glob("*.toml"):
        written, whole = tomllib.loads(path.read_text()), tomllib.loads(to_toml(found[path.stem]))
        if isinstance(found[path.stem], FamilyRecipe):
            written["teachers"] = [{"model": written.pop("teacher")}]
        assert_within(written, whole)


def assert_within(written: Any, whole: Any) -> None:
    """Every value of a file is in the recipe as it stood there."""
    if isinstance(written, dict):
        for key, value in written.items():
            assert_within(value, whole[key])
    elif isinstance(written, list):
        assert len(written) == len(whole)
        for one, other in zip(written, whole, strict=True):
            assert_within(one, other)
    else:
        assert whole == written
        assert type(whole) is type(written) or isinstance(whole, float)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": TextRecipe(window_tokens=257)}, "text.window_tokens is 257, but the teacher tiny-teacher"),
        ({"student": ShapeRecipe(keep_layers=7)}, "student.keep_layers is 7, but the teacher tiny-teacher"),
        ({"search": SearchRecipe(candidates=7)}, "search.candidates is 7, but the teacher has 6 layers to choose from"),
        ({}, ""),
    ],
)
def test_what_a_model_has_not(tiny_teacher: Path, changes: dict[str, Any], said: str) -> None:
    recipe = DistillRecipe(
        name="one", teachers=(TeacherRecipe(model=str(tiny_teacher)),),
        **{"student": ShapeRecipe(keep_layers=3), **changes},
    )  # fmt: skip
    if not said:
        check_limits(recipe, [tiny_teacher], Silent())
        return
    with pytest.raises(BadInput) as refused:
        check_limits(recipe, [tiny_teacher], Silent())
    assert said.replace("tiny-teacher", tiny_teacher.name) in str(refused.value)


def test_a_recipe_given_to_the_other_command_names_the_right_one(tmp_path: Path) -> None:
    one, family, study = (tmp_path / f"{name}.toml" for name in ("one", "family", "study"))
    one.write_text('name = "a"\ndata = "x"\n[student]\nkind = "copy"\n')
    family.write_text('name = "a"\ndata = "x"\n[[students]]\nname = "b"\nkind = "copy"\n')
    study.write_text('name = "a"\nstudy = "rounding"\n')
    with pytest.raises(
        BadInput, match=r"the recipe of one student \(it has \[student\]\): flashstill distill .*one.toml"
    ):
        read_recipe(one)
    with pytest.raises(
        BadInput, match=r"the recipe of a family of students \(it has students\): flashstill run .*toml"
    ):
        read_distillation(family)
    with pytest.raises(BadInput, match=r"the recipe of a study \(it has study\): flashstill run .*study.toml runs it"):
        read_distillation(study)


@pytest.mark.parametrize(
    ("line", "tables"),
    [
        ('arithmetic = "fp32"', "[train] or [students.train]"),
        ("keep_layers = 3", "[[students]]"),
        ("window_tokens = 64", "[text]"),
    ],
)
def test_a_key_in_the_wrong_table_is_told_its_own(tmp_path: Path, line: str, tables: str) -> None:
    path = tmp_path / "family.toml"
    lines = ('name = "one"', line, 'teacher = "t"', 'data = "d"', "[[students]]", 'name = "half"', "keep_layers = 3")
    path.write_text("\n".join(lines))
    with pytest.raises(BadInput, match=re.escape(f"it is a key of {tables}") + "$"):
        read_recipe(path)
