"""Parameters per chip in training.

blocks     dense / (tp pp)  +  routed experts / (max(ep, tp) pp)
ends       embedding and LM head, on the first and the last stage of a pipeline, split over tp
replicas   fsdp splits all of it over the replicas; experts over the replicas that hold the same experts
"""

from __future__ import annotations

import numpy as np

from flashstill.arch import Architecture
from flashstill.parallel.training import TrainingPlan
from flashstill.workload import Quantity, routed_parameters


def stage_parameters(model: Architecture, plan: TrainingPlan) -> tuple[Quantity, Quantity]:
    """(dense, routed) parameters of the blocks on one chip, before fsdp or the optimizer splits them over replicas."""
    routed = routed_parameters(model)
    blocks = sum(layer.count * layer.parameters(model.width) for layer in model.layers) - routed
    return blocks / (plan.tp * plan.pp), routed / (np.maximum(plan.ep, plan.tp) * plan.pp)


def end_parameters(model: Architecture, plan: TrainingPlan) -> Quantity:
    """Parameters of embedding and LM head on the chip that holds most of them."""
    both = model.embedding_parameters / plan.tp
    return np.where(np.asarray(plan.pp) > 1, model.width * model.vocabulary / plan.tp, both)


def split_parameters(model: Architecture, plan: TrainingPlan, replicas: Quantity) -> Quantity:
    """Parameters on a chip of the first stage if they are split over `replicas` replicas."""
    dense, routed = stage_parameters(model, plan)
    # Experts are already split over ep chips, so they are split only over the replicas with the same experts.
    left = np.maximum(replicas * plan.tp / np.maximum(plan.ep, plan.tp), 1.0)
    return (dense + end_parameters(model, plan)) / replicas + routed / left
