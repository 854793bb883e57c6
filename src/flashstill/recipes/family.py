"""A family.toml as frozen dataclasses: every key typed, every unknown key named with the nearest known one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from flashstill.checked import between, one_of, sized
from flashstill.errors import BadInput
from flashstill.recipes.arithmetic import ARITHMETIC
from flashstill.recipes.ranges import (
    Batches,
    Context,
    Count,
    Decay,
    Given,
    Layers,
    Name,
    Positive,
    Rate,
    Rows,
    Seed,
    Share,
    Source,
    Temperature,
    Tokens,
    TokensOrNone,
    Window,
)
from flashstill.recipes.reader import located, read_toml

SEARCH_METHODS = ("greedy", "influence")
PRICES = ("rented", "owned", "list")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRecipe:
    """How much text, in windows of how many tokens. Held-out and out-of-domain tokens are never trained on."""

    window_tokens: Window = 256
    train_tokens: Tokens = 102_400
    heldout_tokens: Tokens = 8_192
    out_of_domain_tokens: Tokens = 8_192


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRecipe:
    """How the blocks to drop are found, on how many windows of training text."""

    method: Annotated[str, one_of(SEARCH_METHODS)] = "greedy"
    windows: Rows = 4
    candidates: Layers = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentRecipe:
    """One student: the teacher with `keep_layers` of its blocks. tokens: 0 takes the family's."""

    name: Name
    keep_layers: Layers
    tokens: TokensOrNone = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class DistilRecipe:
    """How students learn; a control learns the same way from the text itself. arithmetic: in which all models of the
    run are multiplied: auto (the faster on this machine), bf16 or fp32."""

    tokens: Tokens = 102_400
    windows_per_step: Rows = 2
    learning_rate: Rate = 3e-4
    warmup_fraction: Share = 0.1
    final_fraction: Share = 0.1
    weight_decay: Decay = 0.0
    clip_norm: Positive = 1.0
    temperature: Temperature = 1.0
    control: bool = True
    checkpoint_every_steps: Count = 40
    arithmetic: Annotated[str, one_of(ARITHMETIC)] = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureRecipe:
    """What is timed on this machine."""

    batches: Batches = (1, 4, 16)
    context: Context = 128
    repeats: Annotated[int, between(1, 1000)] = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRecipe:
    """What is predicted on which chips. precision: a format, or "published"; price: rented, owned or list."""

    chips: Annotated[tuple[Given, ...], sized(1, 64)] = (
        "h100-sxm",
        "tpu-v5e",
        "tpu-v6e",
        "tpu-v7",
        "b200",
        "mi300x",
        "groq-lpu",
    )
    batches: Batches = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    context: Context = 1024
    precision: Given = "published"
    price: Annotated[str, one_of(PRICES)] = "rented"


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyRecipe:
    """A teacher and its students. out_of_domain: a source like `data`; empty takes the built-in partner. minutes: about
    how long the run may take where it is begun; its amounts are then scaled to that, 0 leaves them as they are."""

    name: Name
    teacher: Given
    students: Annotated[tuple[StudentRecipe, ...], sized(1, 64)]
    data: Given = "cpython-docs"
    out_of_domain: Source = ""
    seed: Seed = 0
    minutes: Annotated[float, between(0.0, 1e6)] = 0.0
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


def built_in(name: str) -> FamilyRecipe:
    """A recipe of this folder."""
    return read_recipe(Path(__file__).parent / f"{name}.toml")


def read_recipe(path: Path) -> FamilyRecipe:
    """Read and check a family.toml. Paths in it are taken from the directory of the file.

    Raises BadInput naming the key that is wrong.
    """
    recipe = read_toml(path, FamilyRecipe)
    for problem in _problems(recipe):
        raise BadInput(f"{path}: {problem}")
    found: dict[str, Any] = {
        key: located(getattr(recipe, key), path.parent, path, key) for key in ("teacher", "data", "out_of_domain")
    }
    return dataclasses.replace(recipe, **found)


def _problems(recipe: FamilyRecipe) -> Iterator[str]:
    """What cannot be of values that are in their ranges each."""
    names = [student.name for student in recipe.students]
    yield from (f"two students have the same name, {name!r}" for name in sorted(set(names)) if names.count(name) > 1)
    taken = {"teacher"} | {f"{name}-{kind}" for name in names for kind in ("control", "untrained")}
    for name in names:
        if name in taken:
            yield f"a student is called {name!r}, as the teacher or another's control or start is; give another name"
