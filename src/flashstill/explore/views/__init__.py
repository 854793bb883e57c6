"""The views of the page, one module each, and their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashstill.explore.kinds import Kind
from flashstill.explore.views import byte, chips, front, model, placement

ENGINE_VIEWS = (model.KIND, chips.KIND, front.KIND, placement.KIND, byte.KIND)
"""views that the engine answers from a state alone"""


def kinds_of(result: Mapping[str, Any] | None) -> tuple[Kind, ...]:
    """The views of a page: those of the engine, and those of the result that it was started with."""
    return ENGINE_VIEWS
