"""Teachers: found or converted on this disk, run on the way, several together, or each for its own text."""

from flashstill.distill.teachers.resolve import PACKAGED, resolve_teacher, resolve_tokenizer
from flashstill.distill.teachers.sources import Ensemble, Online, Router

__all__ = ["PACKAGED", "Ensemble", "Online", "Router", "resolve_teacher", "resolve_tokenizer"]
