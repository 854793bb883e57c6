"""The views of the page, one module each, and their order."""

from __future__ import annotations

from collections.abc import Iterable

from flashstill.explore.kinds import Kind
from flashstill.explore.view import View
from flashstill.explore.views import byte, chips, front, model, numbers, placement

ENGINE_VIEWS = (model.KIND, chips.KIND, front.KIND, numbers.KIND, placement.KIND, byte.KIND)
"""views that the engine answers from a state alone"""


def kinds_of(views: Iterable[View] = ()) -> tuple[Kind, ...]:
    """The views of a page: first those of the result that it was started with, which no control changes."""
    return (*(fixed(view) for view in views), *ENGINE_VIEWS)


def fixed(view: View) -> Kind:
    """A view that is the same in every state."""
    return Kind(
        name=view.name,
        title=view.title.partition(":")[0],
        controls=(),
        build=lambda engine, facts, state: view,
        command=lambda given, state: view.command,
    )
