"""Quality of a model on held-out text -> QualityRecords."""

from flashstill.evaluate.summary import summarise
from flashstill.evaluate.token_scores import METRICS, TokenScores, score_tokens

__all__ = ["METRICS", "TokenScores", "score_tokens", "summarise"]
