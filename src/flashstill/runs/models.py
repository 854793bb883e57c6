"""A cache of loaded models and of fingerprints of directories, per process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.recipes.teachers import TeacherRecipe

if TYPE_CHECKING:
    import torch


class Models:
    """Models and fingerprints that the distillations of a run share in memory."""

    def __init__(self) -> None:
        self._models: dict[tuple[Path, str], Any] = {}
        self._fingerprints: dict[Path, str] = {}

    def load(self, directory: Path, dtype: torch.dtype, say: Callable[[str], None] | None = None) -> Any:
        """The model of a directory in a dtype; callers must not change its weights. say: told what is left out."""
        from flashstill.distill.models import left_out, load_model

        key = (directory, str(dtype))
        if key not in self._models:
            self._models[key] = load_model(directory, dtype, may_spread=True)
            if say is not None:
                for note in left_out(self._models[key], directory.name):
                    say(note)
        return self._models[key]

    def fingerprint(self, teacher: TeacherRecipe, directory: Path) -> str:
        """The key of a teacher's signals: a hash of its weights, or its name if it is served."""
        from flashstill.distill.teachers.served import known_model

        return known_model(teacher.name) if teacher.served else self.fingerprint_of(directory)

    def fingerprint_of(self, directory: Path) -> str:
        """A hash of the weights in a directory; cached, as all of them are read."""
        from flashstill.distill.models import fingerprint

        if directory not in self._fingerprints:
            self._fingerprints[directory] = fingerprint(directory)
        return self._fingerprints[directory]

    def forget(self, model: Any) -> None:
        """Load a model again when it is next asked for, as its weights have been changed."""
        self._models = {key: each for key, each in self._models.items() if each is not model}
