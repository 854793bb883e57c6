"""How often a target accepts a draft's tokens: by position, on its own continuations of a text."""

from flashstill.evaluate.drafts.command import FILE, measure_acceptance
from flashstill.evaluate.drafts.measuring import Draft, Measuring, Prompts, measured

__all__ = ["FILE", "Draft", "Measuring", "Prompts", "measure_acceptance", "measured"]
