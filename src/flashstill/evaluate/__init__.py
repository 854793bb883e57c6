"""Quality of models on text they were not trained on -> QualityRecords."""

from flashstill.evaluate.evaluation import Evaluation, evaluate_models
from flashstill.evaluate.summary import summarise
from flashstill.evaluate.token_scores import METRICS, TokenScores, score_tokens

__all__ = ["METRICS", "Evaluation", "TokenScores", "evaluate_models", "score_tokens", "summarise"]
