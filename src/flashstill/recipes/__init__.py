"""Family recipes: the typed form of a family.toml, and the built-in ones beside this file."""

from flashstill.recipes.schema import (
    CostRecipe,
    DistilRecipe,
    FamilyRecipe,
    MeasureRecipe,
    SearchRecipe,
    StudentRecipe,
    TextRecipe,
    built_in,
    read_recipe,
    to_toml,
)

__all__ = [
    "CostRecipe",
    "DistilRecipe",
    "FamilyRecipe",
    "MeasureRecipe",
    "SearchRecipe",
    "StudentRecipe",
    "TextRecipe",
    "built_in",
    "read_recipe",
    "to_toml",
]
