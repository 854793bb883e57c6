"""A study.toml: an experiment on distillation, run with several seeds. Its key `study` says which kind it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flashstill.checked import built
from flashstill.errors import BadInput, shortened, unknown
from flashstill.recipes.classifiers import ClassifierStudy
from flashstill.recipes.from_scratch import KdByPasses, KdBySize
from flashstill.recipes.language import KdAgainstLabels, MoeToDense, Rounding
from flashstill.recipes.reader import read_tree
from flashstill.recipes.soft_targets import SoftTargets
from flashstill.recipes.study import StudyRecipe
from flashstill.recipes.thinking import ThinkingStudy

FOLDER = Path(__file__).parent


KINDS: Mapping[str, type[StudyRecipe]] = {
    "classifiers": ClassifierStudy,
    "deep-think": ThinkingStudy,
    "kd-against-labels": KdAgainstLabels,
    "kd-by-passes": KdByPasses,
    "kd-by-size": KdBySize,
    "moe-to-dense": MoeToDense,
    "rounding": Rounding,
    "soft-targets": SoftTargets,
}
"""the recipe of each kind of study"""


def recipe_file(name: str) -> Path:
    """The file of a built-in recipe, or `name` as a path; BadInput lists the built-in names."""
    path = Path(name)
    # not exists(): a results directory may have the name of a built-in recipe
    if path.suffix == ".toml" or path.is_file():
        return path
    known = sorted(file.stem for file in FOLDER.glob("*.toml"))
    if name not in known:
        raise BadInput(f"there is no recipe at {name}, and {unknown('built-in recipe', name, known)}")
    return FOLDER / f"{name}.toml"


def kind_of(path: Path) -> str:
    """The value of a recipe's key `study`; empty for a family's recipe and for an unreadable file."""
    try:
        return str(read_tree(path).get("study", ""))
    except BadInput:
        return ""


def read_study(path: Path) -> StudyRecipe:
    """Read and check a study.toml. Raises BadInput naming the key that is wrong."""
    tree = read_tree(path)
    kind = str(tree.get("study", ""))
    if kind not in KINDS:
        raise BadInput(f"{path}: {unknown('study', kind, KINDS)}")
    recipe = built(KINDS[kind], tree, shortened(str(path), 200))
    for problem in recipe.problems():
        raise BadInput(f"{path}: {problem}")
    return recipe.located(path)
