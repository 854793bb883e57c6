"""A student in both of its directories: plain and packed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flashstill.distill.models import load_tokenizer, save_model
from flashstill.distill.students import (
    Format,
    quantise_aware,
    rounded_weights,
    settle,
    unrounded_layers,
    write_compressed,
)
from flashstill.distill.students.compressed import Rounded


def both(model: Any, format_: Format, teacher: Path, folder: Path) -> tuple[Path, Path, Rounded]:
    """The plain and the packed directory of a model that rounds to `format_`."""
    weights = rounded_weights(quantise_aware(model, format_), format_)
    unrounded = unrounded_layers(model)
    plain, packed = folder / "student", folder / "packed"
    save_model(settle(model), load_tokenizer(teacher), plain)
    write_compressed(plain, packed, weights, format_, unrounded)
    return plain, packed, weights
