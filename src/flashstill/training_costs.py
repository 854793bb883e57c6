"""The Python face of training: the cost of an optimizer step, and of a run of many."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from flashstill.asking import Edits, FactsLike, facts_of
from flashstill.calls import refuses_other_keywords
from flashstill.errors import BadInput, unknown
from flashstill.plan.train import predict_training
from flashstill.plan.train_layouts import TrainingDeployment
from flashstill.plan.training_answer import TrainingAnswer, TrainingScenario

if TYPE_CHECKING:
    from flashstill.arch import Architecture

__all__ = ["train_cost"]
_DEPLOYMENT = tuple(field.name for field in fields(TrainingDeployment) if field.name != "chip")


@refuses_other_keywords
def train_cost(
    *,
    model: str | Architecture,
    chip: str,
    length: int,
    batch: int,
    microbatch: int = 1,
    tokens: int | None = None,
    price: str = "rented",
    facts: FactsLike = (),
    set: Edits | None = None,
    **more: Any,
) -> TrainingAnswer:
    """Time, memory, energy and price of an optimizer step, and of a run of `tokens` tokens.

    length: tokens of a sequence.  batch: sequences of a step (`--global-batch` on the command line).  microbatch:
    sequences that one replica processes per pass.
    more: chips or the degrees of the layout (tp, cp, pp, ep, fsdp, dp, interleave), recompute, precision (bf16 or fp8),
    framework, sequence_parallel, zero1.  Degrees left out are tried, and the fastest layout that fits is taken.
    price, facts and set work as in `predict`.
    Raises BadInput for invalid values, MissingFact for unknown names, and InfeasiblePlan, with counted reasons, if no
    layout can be built or fits in memory.
    """
    for name in more:
        if name not in _DEPLOYMENT:
            raise BadInput(unknown("keyword of train_cost", name, _DEPLOYMENT))
    scenario = TrainingScenario(model=model, length=length, batch=batch, microbatch=microbatch, tokens=tokens)
    return predict_training(facts_of(facts, set, chip), scenario, TrainingDeployment(chip=chip, **more), price)
