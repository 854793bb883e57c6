"""The tokenizers of the teachers of one student, which must be alike (distill/models/alike.py), also on its text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from flashstill.arch.adapter.sizes import VOCABULARY, stated_size
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import DistillRecipe

WINDOWS_COMPARED = 64
"""windows of the text that all tokenizers of an ensemble must cut in the same way"""


def tokenizers_differ(directory: Path, other: Path, texts: Iterable[str] = ()) -> str:
    """What the tokenizers of two directories differ in, empty if nothing that matters (distill/models/alike.py).

    texts: more texts that both must cut in the same way.
    """
    from flashstill.distill.models import load_tokenizer, tokenizer_fingerprint
    from flashstill.distill.models.alike import first_difference

    if tokenizer_fingerprint(directory) == tokenizer_fingerprint(other):
        return ""
    return first_difference(load_tokenizer(directory), load_tokenizer(other), texts)


def known_ids(recipe: DistillRecipe, directories: Sequence[Path]) -> tuple[int, str] | None:
    """The least number of ids of the models that read the packed text, and which model that is; None if none says.

    directories: of the teachers.
    """
    from flashstill.distill.models.directories import check_directory
    from flashstill.distill.teachers import resolve_teacher

    named: list[tuple[str, Path]] = []
    if recipe.align != "spans":  # else teachers read the text in their own tokens
        named += [
            (f"the teacher {Path(teacher.model).name}", directory)
            for teacher, directory in zip(recipe.teachers, directories, strict=True)
            if not teacher.served
        ]
    student = recipe.student
    if student.model:
        named.append(
            (
                f"student.model, {Path(student.model).name},",
                resolve_teacher(student.model, Silent(), "student.model", student.base),
            )
        )
    stated = [(stated_size(check_directory(place), VOCABULARY, name), name) for name, place in named]
    return min(((rows, name) for rows, name in stated if rows is not None), default=None)


def check_cut(directories: Sequence[Path], packing: Path) -> None:
    """Raises BadInput if a teacher's tokenizer cuts the packed text otherwise than the first one, with which it was
    packed.  directories: of the teachers; those with the same tokenizer file as the first are not asked."""
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.models import load_tokenizer, tokenizer_fingerprint

    own = tokenizer_fingerprint(directories[0])
    others = [path for path in directories[1:] if tokenizer_fingerprint(path) != own]
    if not others:
        return
    tokenizer, packed = load_tokenizer(directories[0]), Packed.load(packing)
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in packed.tokens[:WINDOWS_COMPARED]]
    for other in others:
        difference = tokenizers_differ(directories[0], other, texts)
        if difference:
            raise BadInput(f"the tokenizers of {directories[0].name} and {other.name} differ on the text: {difference}")
