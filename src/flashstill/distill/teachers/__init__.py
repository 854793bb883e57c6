"""Teachers: find or convert one, run it during training, average several, or route each text to its own."""

from flashstill.distill.teachers.resolve import PACKAGED, resolve_teacher, resolve_tokenizer
from flashstill.distill.teachers.sources import Ensemble, Online, Router

__all__ = ["PACKAGED", "Ensemble", "Online", "Router", "resolve_teacher", "resolve_tokenizer"]
