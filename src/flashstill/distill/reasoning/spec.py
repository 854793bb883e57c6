"""A task as plain JSON, from which each judge process builds its judge (judging.py): a judge that hangs or crashes
cannot affect the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

GYM_PREFIX = "gym:"
"""prefix of a source that names a family of reasoning-gym"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """A task. options: of the gym's family; prompt: a format string of the problem's fields, with lists joined by
    spaces, that replaces the gym's wording; matcher: how answers of a JSONL file are compared."""

    source: str
    data: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    matcher: str = "exact"
    seed: int = 0

    @property
    def key(self) -> dict[str, Any]:
        """The part of the key of saved problems and verdicts that identifies the task."""
        return asdict(self)

    @property
    def anywhere(self) -> Spec:
        """The task with absolute paths, for a process with a different working directory."""
        if self.source.startswith(GYM_PREFIX):
            return self
        data = str(Path(self.data).absolute()) if self.data else ""
        return replace(self, source=str(Path(self.source).absolute()), data=data)
