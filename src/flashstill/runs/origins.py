"""Notices models that change between the beginning of a run and its continuation.

origins.json   fingerprint of every model and tokenizer that the run is made from, by its key in the recipe
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flashstill.checked import json_object
from flashstill.errors import BadInput
from flashstill.files import sha256, write_text
from flashstill.runs.models import Models

if TYPE_CHECKING:
    from flashstill.progress import Progress
    from flashstill.recipes import DistillRecipe

FILE = "origins.json"


def check_origins(
    recipe: DistillRecipe, directories: list[Path], models: Models, out: Path, prefix: str = "", name: str = FILE
) -> None:
    """Record what a run is made from in `out`, or compare it with the record; BadInput names what has changed.

    directories: of the teachers (of a served one its tokenizer's); prefix: put before the keys, for students of a
    family; name: of the record.  A key that is not on record, as in a run of an older version, is added.
    """
    from flashstill.distill.models.loaded_tensors import check_finite

    path = out / name
    current = _origins(recipe, directories, models, prefix)
    recorded = _compared(current, path)
    served = {f"{prefix}teachers[{place}]" for place, teacher in enumerate(recipe.teachers) if teacher.served}
    new = current.keys() - recorded.keys() - served
    for place in sorted({current[key][0] for key in new if key.endswith(("]", "student.model"))}):
        check_finite(place)  # all of it has just been read for its fingerprint
    _noted(current, recorded, path)


def check_models(named: Mapping[str, str], out: Path, progress: Progress, moved: Sequence[str] = ()) -> None:
    """The same for the models of a study, which its recipe names by `named`: key -> model.

    progress: told of models that are converted first; moved: keys of models that have another place now.  Raises
    BadInput for one that is not on record, as it cannot be known then whether it is the same model.
    """
    from flashstill.distill.models import fingerprint, tokenizer_fingerprint
    from flashstill.distill.teachers import resolve_teacher, resolve_tokenizer

    path = out / FILE
    current: dict[str, tuple[Path, str]] = {}
    for key, name in named.items():
        if key.endswith("tokenizer"):
            place = resolve_tokenizer(name, progress)
        else:
            place = resolve_teacher(name, progress, key)
            current[key] = place, fingerprint(place)
        current[f"{key}, tokenizer"] = place, tokenizer_fingerprint(place)
    recorded = _compared(current, path)
    for key in moved:
        if key not in recorded:
            raise BadInput(
                f"{out} was begun by a version that noted no fingerprint of its {key}: whether the one in its new place"
                " is the same cannot be known; put it back where it was, or give another --out"
            )
    _noted(current, recorded, path)


def _compared(current: Mapping[str, tuple[Path, str]], path: Path) -> dict[str, str]:
    """What is on record in a file; BadInput names what has changed since. current: key -> path and fingerprint."""
    recorded: dict[str, str] = json_object(path) if path.is_file() else {}
    for key, (place, fingerprint) in current.items():
        if recorded.get(key, fingerprint) != fingerprint:
            raise BadInput(
                f"{key} ({place}) has changed since {path.parent} was begun, which would mix two models; put it back as"
                " it was, or give another --out"
            )
    return recorded


def _noted(current: Mapping[str, tuple[Path, str]], recorded: Mapping[str, str], path: Path) -> None:
    wanted = {**recorded, **{key: fingerprint for key, (_, fingerprint) in current.items()}}
    if wanted != recorded:
        write_text(path, json.dumps(wanted, indent=1))


def _origins(
    recipe: DistillRecipe, directories: list[Path], models: Models, prefix: str
) -> Mapping[str, tuple[Path, str]]:
    """Key -> path and fingerprint."""
    from flashstill.distill.models import tokenizer_fingerprint
    from flashstill.distill.teachers import resolve_teacher
    from flashstill.progress import Silent

    found: dict[str, tuple[Path, str]] = {}
    for place, (teacher, directory) in enumerate(zip(recipe.teachers, directories, strict=True)):
        found[f"{prefix}teachers[{place}]"] = directory, models.fingerprint(teacher, directory)
        found[f"{prefix}teachers[{place}], tokenizer"] = directory, tokenizer_fingerprint(directory)
    student = recipe.student
    if student.model:
        place_of = resolve_teacher(student.model, Silent(), "student.model", student.base)
        found[f"{prefix}student.model"] = place_of, models.fingerprint_of(place_of)
    if student.config and Path(student.config).is_file():
        found[f"{prefix}student.config"] = Path(student.config), sha256(Path(student.config))
    return found
