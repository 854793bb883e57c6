"""Memory of a chip in training: parameters, gradients, optimizer state, and activations kept for the backward pass.

Symbols: s tokens of a sequence, b sequences of a microbatch, d width, a heads, t tensor parallelism, p pipeline stages,
m interleaved pieces, L layers.  Bytes of one layer's activations (Korthikanti et al. 2022, arXiv 2205.05198), for a
dense block with dropout and a hidden layer of 4 d:

    s b d (34 + 5 a s / d)                 equation 1
    s b d (10 + 24 / t + 5 a s / (d t))    equation 2, tensor parallel
    s b d / t (34 + 5 a s / d)             equation 4, tensor and sequence parallel
    s b d (10 + 24 / t), 34 s b d / t      attention core recomputed: no quadratic term (section 5, table 2)
    2 s b d                                everything recomputed
    x L (1 + (p - 1) / (p m))              the first stage of an interleaved pipeline (section 4.2.3)

The 10 stands for two norm inputs, two product inputs and two dropout masks, the 24 for activations inside the products.
For other shapes both are counted from the block; fused attention keeps no scores.
"""

from __future__ import annotations

import numpy as np

from flashstill.arch import Architecture, Layer
from flashstill.arch import Attention as GroupedAttention
from flashstill.parallel.training import TrainingPlan
from flashstill.parallel.training_parameters import split_parameters
from flashstill.workload import Quantity

SCORE_BYTES = 5.0
"""bytes per attention score: outputs of softmax and dropout (2 each), and the dropout mask (1)"""


def state_bytes(model: Architecture, plan: TrainingPlan) -> Quantity:
    """Bytes of parameters, gradients and optimizer state on a chip of the first stage."""
    if plan.frozen:
        return split_parameters(model, plan, plan.fsdp) * plan.parameter_bytes
    kept = plan.parameter_bytes + plan.gradient_bytes
    optimizer = plan.fsdp * plan.dp if plan.zero1 else plan.fsdp
    return split_parameters(model, plan, plan.fsdp) * kept + split_parameters(model, plan, optimizer) * (
        plan.optimizer_bytes
    )


def activation_bytes(model: Architecture, plan: TrainingPlan) -> Quantity:
    """Bytes of activations kept on a chip of the first stage."""
    tokens = plan.microbatch * plan.length / plan.cp
    kept: Quantity = 0.0
    for layer in model.layers:
        kept = kept + layer.count * tokens * layer_bytes(model, layer, plan)
    pieces = np.asarray(plan.pp, dtype=np.float64)
    ahead = np.where(np.asarray(plan.interleave) > 1, 1.0 + (pieces - 1.0) / (pieces * plan.interleave), 1.0)
    # The first stage keeps activations of at most as many microbatches in flight as there are stages.
    in_flight = np.minimum(plan.microbatches, pieces)
    return kept / pieces * np.where(pieces > 1, in_flight * ahead, 1.0)


def layer_bytes(model: Architecture, layer: Layer, plan: TrainingPlan) -> Quantity:
    """Activation bytes kept per token and layer."""
    width, mixer, ffn = float(model.width), layer.attention, layer.ffn
    if plan.recompute in ("full", "projections"):
        whole = 2.0 * width / (plan.tp if plan.sequence_parallel else 1.0)
        projected = 2.0 * (getattr(mixer, "query_width", 0) + getattr(mixer, "kv_width", 0)) / plan.tp
        return whole + (projected if plan.recompute == "projections" else 0.0)
    branches = 1.0 if layer.parallel else 2.0
    stream = width * (2.0 * branches + 2.0 * branches + (branches if plan.dropout else 0.0))
    matrices = float(ffn.matrices)
    if ffn.experts:
        share = plan.tp / np.maximum(plan.ep, plan.tp) * plan.layout.dp
        routed = ffn.experts_per_token * 2.0 * (matrices * ffn.width + width) * share
        inside = routed + 2.0 * matrices * (ffn.shared_width + ffn.dense_width)
    else:
        inside = 2.0 * matrices * (ffn.width + ffn.dense_width)
    if isinstance(mixer, GroupedAttention):
        inside = inside + 2.0 * (mixer.query_width + mixer.kv_width + mixer.output_width)
    else:
        inside = inside + 8.0 * width
    heads = getattr(mixer, "heads", 0)
    scores = 0.0 if plan.fused_attention or plan.recompute == "selective" else SCORE_BYTES * heads * plan.length
    return stream / (plan.tp if plan.sequence_parallel else 1.0) + (inside + scores) / plan.tp
