"""Recipes: the dataclasses of family.toml, distill.toml and study.toml, and the built-in recipes."""

from flashstill.recipes.distillation import DistillRecipe, read_distillation
from flashstill.recipes.family import (
    CostRecipe,
    FamilyRecipe,
    MeasureRecipe,
    StudentRecipe,
)
from flashstill.recipes.family_file import built_in, read_recipe
from flashstill.recipes.reader import to_toml
from flashstill.recipes.tables import SearchRecipe, TextRecipe

__all__ = [
    "CostRecipe",
    "DistillRecipe",
    "FamilyRecipe",
    "MeasureRecipe",
    "SearchRecipe",
    "StudentRecipe",
    "TextRecipe",
    "built_in",
    "read_distillation",
    "read_recipe",
    "to_toml",
]
