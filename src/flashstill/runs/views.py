"""A packed text as a teacher reads it that sees a system prompt of its own (distill/data/views.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashstill.runs.limits import check_view
from flashstill.runs.texts import system_of, view_path

if TYPE_CHECKING:
    from flashstill.distill.data.views import View
    from flashstill.distill.signals import Kind
    from flashstill.runs.engine import Distillation


def view_for(work: Distillation, index: int, part: str) -> View | None:
    """The view of the packed text `part` by the teacher of this index, None if it has no prompt of its own.

    Raises BadInput if its windows exceed the teacher's context.
    """
    from flashstill.distill.data.views import View

    teacher = work.recipe.teachers[index]
    if not teacher.prompted:
        return None
    path = view_path(work.workdir.data, part, system_of(teacher))
    if not path.exists():  # of another student of a family
        work.text()
    view = View.load(path)
    check_view(view.length, teacher, work.directories[index])
    return view


def label_of(kind: Kind) -> str:
    """Directory suffix that distinguishes kinds of signals on the same text."""
    return "-".join(str(value) for name, value in kind.key.items() if name != "seed")
