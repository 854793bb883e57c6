"""The cheapest model of a given quality: size, experts, format, training tokens, chips and layout searched together.

question.py      what is asked          target.py    a loss, or "as MODEL on TOKENS"
candidates.py    sizes x experts x formats, and the tokens with which a law lets each reach the loss
costs.py         dollars of training, of the teacher's reading, of serving
search.py        all of them priced     doubt.py     what the law's interval does to the choice     answer.py
"""

from flashstill.targets.answer import Student, TargetPlan
from flashstill.targets.question import TargetQuestion
from flashstill.targets.search import plan_target
from flashstill.targets.target import TrainedModel, parse_target, parse_trained

__all__ = [
    "Student", "TargetPlan", "TargetQuestion", "TrainedModel", "parse_target", "parse_trained",
    "plan_target",
]  # fmt: skip
