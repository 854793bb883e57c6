"""A family.toml as frozen dataclasses: every key typed, every unknown key named with the nearest known one."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput
from flashstill.recipes.arithmetic import arithmetic_problems
from flashstill.recipes.reader import read_toml

SEARCH_METHODS = ("greedy", "influence")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRecipe:
    """How much text, in windows of how many tokens. Held-out and out-of-domain tokens are never trained on."""

    window_tokens: int = 256
    train_tokens: int = 102_400
    heldout_tokens: int = 8_192
    out_of_domain_tokens: int = 8_192


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRecipe:
    """How the blocks to drop are found, on how many windows of training text."""

    method: str = "greedy"
    windows: int = 4
    candidates: int = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentRecipe:
    """One student: the teacher with `keep_layers` of its blocks. tokens: 0 takes the family's."""

    name: str
    keep_layers: int
    tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class DistilRecipe:
    """How students learn; a control learns the same way from the text itself. arithmetic: in which all models of the
    run are multiplied: auto (the faster on this machine), bf16 or fp32."""

    tokens: int = 102_400
    windows_per_step: int = 2
    learning_rate: float = 3e-4
    warmup_fraction: float = 0.1
    final_fraction: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    temperature: float = 1.0
    control: bool = True
    checkpoint_every_steps: int = 40
    arithmetic: str = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureRecipe:
    """What is timed on this machine."""

    batches: tuple[int, ...] = (1, 4, 16)
    context: int = 128
    repeats: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRecipe:
    """What is predicted on which chips. precision: a format, or "published"; price: rented, owned or list."""

    chips: tuple[str, ...] = ("h100-sxm", "tpu-v5e", "tpu-v6e", "tpu-v7", "b200", "mi300x", "groq-lpu")
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    context: int = 1024
    precision: str = "published"
    price: str = "rented"


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyRecipe:
    """A teacher and its students. out_of_domain: a source like `data`; empty takes the built-in partner."""

    name: str
    teacher: str
    students: tuple[StudentRecipe, ...]
    data: str = "cpython-docs"
    out_of_domain: str = ""
    seed: int = 0
    text: TextRecipe = field(default_factory=TextRecipe)
    search: SearchRecipe = field(default_factory=SearchRecipe)
    distil: DistilRecipe = field(default_factory=DistilRecipe)
    measure: MeasureRecipe = field(default_factory=MeasureRecipe)
    cost: CostRecipe = field(default_factory=CostRecipe)

    @property
    def out_of_domain_source(self) -> str:
        """The built-in corpus that `data` is not, unless the recipe names one."""
        return self.out_of_domain or ("cpython-code" if self.data == "cpython-docs" else "cpython-docs")

    def tokens_of(self, student: StudentRecipe) -> int:
        """Training tokens of one student."""
        return student.tokens or self.distil.tokens

    def scaled(self, factor: float) -> FamilyRecipe:
        """The same family with `factor` times the training tokens, never fewer than one step."""
        least = self.distil.windows_per_step * self.text.window_tokens
        students = tuple(
            dataclasses.replace(student, tokens=max(least, round(self.tokens_of(student) * factor)))
            for student in self.students
        )
        text = dataclasses.replace(self.text, train_tokens=max(least, round(self.text.train_tokens * factor)))
        return dataclasses.replace(self, students=students, text=text)


def built_in(name: str) -> FamilyRecipe:
    """A recipe of this folder."""
    return read_recipe(Path(__file__).parent / f"{name}.toml")


def read_recipe(path: Path) -> FamilyRecipe:
    """Read and check a family.toml. Paths in it are taken from the directory of the file.

    Raises BadInput naming the key that is wrong.
    """
    recipe = read_toml(path, FamilyRecipe)
    _check(recipe, str(path))
    return _with_paths(recipe, path.parent)


def _with_paths(recipe: FamilyRecipe, base: Path) -> FamilyRecipe:
    """Relative paths that exist beside the recipe become absolute, so that the run can be resumed from anywhere."""
    changes: dict[str, Any] = {}
    for key in ("teacher", "data", "out_of_domain"):
        value = getattr(recipe, key)
        if value and (base / value).exists():
            changes[key] = str((base / value).resolve())
    return dataclasses.replace(recipe, **changes)


def _check(recipe: FamilyRecipe, where: str) -> None:
    def demand(good: bool, sentence: str) -> None:
        if not good:
            raise BadInput(f"{where}: {sentence}")

    names = [recipe.name, *(student.name for student in recipe.students)]
    for name in names:
        demand(bool(_NAME.fullmatch(name)), f"the name {name!r} must be letters, digits, '.', '_' or '-'")
    taken = {f"{student.name}-control" for student in recipe.students} | {"teacher"}
    demand(len(set(names[1:])) == len(names) - 1, "two students have the same name")
    demand(not taken.intersection(names[1:]), "a student's name ends like another's control, or is 'teacher'")
    demand(recipe.seed >= 0, "seed must not be negative")
    demand(0 < recipe.distil.learning_rate < 1, "distil.learning_rate must lie between 0 and 1")
    demand(recipe.distil.temperature > 0, "distil.temperature must be positive")
    demand(recipe.distil.clip_norm > 0, "distil.clip_norm must be positive")
    demand(recipe.distil.weight_decay >= 0, "distil.weight_decay must not be negative")
    for key in ("warmup_fraction", "final_fraction"):
        demand(0 <= getattr(recipe.distil, key) <= 1, f"distil.{key} must lie between 0 and 1")
    demand(recipe.text.window_tokens >= 2, "text.window_tokens must be at least 2")
    sections: list[Any] = [recipe.text, recipe.search, recipe.distil, recipe.measure, recipe.cost, *recipe.students]
    for section in sections:
        for entry in dataclasses.fields(section):
            value = getattr(section, entry.name)
            numbers = value if isinstance(value, tuple) else (value,)
            whole = [number for number in numbers if isinstance(number, int) and not isinstance(number, bool)]
            least = 0 if isinstance(section, StudentRecipe) and entry.name == "tokens" else 1
            demand(all(number >= least for number in whole), f"{entry.name} must be at least {least}")
    for problem in arithmetic_problems(recipe.distil.arithmetic, "distil.arithmetic"):
        raise BadInput(f"{where}: {problem}")
    if recipe.search.method not in SEARCH_METHODS:
        raise BadInput(f"{where}: search.method is {recipe.search.method!r}, not one of {', '.join(SEARCH_METHODS)}")
