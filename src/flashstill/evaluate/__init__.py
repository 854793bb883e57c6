"""Quality of a model on held-out text -> QualityRecords."""

from flashstill.evaluate.quality import METRICS, TokenScores, score_tokens
from flashstill.evaluate.summary import summarise

__all__ = ["METRICS", "TokenScores", "score_tokens", "summarise"]
