"""A task as plain JSON: a verifier's process builds the judge anew from it (judging.py), so that a judge that hangs or
breaks takes nothing with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

GYM_PREFIX = "gym:"
"""of a source that is a family of reasoning-gym"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """A task. options: of the gym's family; prompt: a format of the problem's fields, lists joined by spaces, where the
    gym's own wording is not wanted; matcher: of a file's answers."""

    source: str
    data: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    matcher: str = "exact"
    seed: int = 0

    @property
    def key(self) -> dict[str, Any]:
        """What saved problems and verdicts belong to."""
        return asdict(self)

    @property
    def anywhere(self) -> Spec:
        """The same task for a process that works in another directory."""
        if self.source.startswith(GYM_PREFIX):
            return self
        data = str(Path(self.data).absolute()) if self.data else ""
        return replace(self, source=str(Path(self.source).absolute()), data=data)
