"""Parallel layout of a training step.

Symbols: v pieces of a stage, m microbatches of a step.

    chips = tp x cp x pp x fsdp x dp,  m = batch / (fsdp dp microbatch)
    tp    tensor parallel, with `sequence_parallel` also norms and residuals (Korthikanti et al. 2022, section 4.2.2)
    cp    context parallel: every sequence split over chips
    pp    pipeline stages, each of v = `interleave` pieces: bubble (pp - 1) / (v m) (Narayanan et al. 2021, section 2.2)
    fsdp  parameters, gradients and optimizer split over replicas and gathered layer by layer (ZeRO stage 3)
    dp    replicas of that whole group; `zero1` splits the optimizer over them
    ep    experts over ep chips of tp x cp x fsdp x dp
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.arch import Architecture
from flashstill.errors import BadInput, unknown
from flashstill.parallel.layout import Layout, layout_reason
from flashstill.workload import Quantity

RECOMPUTE = {
    "none": (),
    "selective": ("attention", "attention scores", "attention softmax", "attention values"),
    "projections": (),
    "full": (),
}
"""Operations recomputed in the backward pass: none, the attention core, all but the query, key and value projections,
all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    """Degrees of parallelism and batch of a training step; quantities may be arrays.

    batch, microbatch: sequences per step, and per pass of one replica.  length: tokens of a sequence.
    slice_chips: chips per slice connected by fast links, if fewer than the hardware allows; 0 for all chips.
    fused_attention: attention that never writes its scores.  dropout: dropout masks are stored.
    frozen: only adapters are trained: no weight gradients, and almost no optimizer work.
    parameter_bytes, gradient_bytes, optimizer_bytes: stored per parameter; Adam in mixed precision needs 12 optimizer
    bytes: the 32-bit parameter and two moments.
    """

    batch: Quantity
    length: Quantity
    microbatch: Quantity = 1.0
    tp: Quantity = 1.0
    cp: Quantity = 1.0
    pp: Quantity = 1.0
    ep: Quantity = 1.0
    fsdp: Quantity = 1.0
    dp: Quantity = 1.0
    interleave: Quantity = 1.0
    slice_chips: Quantity = 0.0
    sequence_parallel: bool = False
    zero1: bool = False
    recompute: str = "none"
    fused_attention: bool = True
    dropout: bool = False
    frozen: bool = False
    parameter_bytes: float = 2.0
    gradient_bytes: float = 2.0
    optimizer_bytes: float = 12.0

    def __post_init__(self) -> None:
        if self.recompute not in RECOMPUTE:
            raise BadInput(unknown("recomputation", self.recompute, RECOMPUTE))

    @property
    def chips(self) -> Quantity:
        """Number of chips."""
        return self.tp * self.cp * self.pp * self.fsdp * self.dp

    @property
    def joined(self) -> Quantity:
        """Chips per slice, or all chips if there is one slice."""
        return np.where(np.asarray(self.slice_chips) > 0, np.minimum(self.slice_chips, self.chips), self.chips)

    @property
    def replicas(self) -> Quantity:
        """Number of replicas, each with sequences of its own."""
        return self.fsdp * self.dp

    @property
    def microbatches(self) -> Quantity:
        """Forward and backward passes of one replica per step."""
        return self.batch / (self.replicas * self.microbatch)

    @property
    def layout(self) -> Layout:
        """The layout of one pass: the tensor-parallel group, and the groups that share experts with it."""
        return Layout(tp=self.tp, ep=self.ep, dp=np.maximum(np.asarray(self.ep) / self.tp, 1.0), balanced=True)

    def again(self, name: str) -> bool:
        """Whether the block operation `name` is recomputed in the backward pass."""
        if self.recompute == "projections":
            return name != "query, key, value"
        return self.recompute == "full" or name in RECOMPUTE[self.recompute]


def plan_reason(model: Architecture, plan: TrainingPlan) -> str | None:
    """Reason why a plan cannot be built, or None. Takes a single plan; no arrays."""
    microbatches = float(plan.microbatches)
    if microbatches < 1 or microbatches != int(microbatches):
        return (
            f"the batch does not fill the replicas: {plan.batch} sequences over {plan.replicas} replicas"
            f" of {plan.microbatch} a pass"
        )
    if float(plan.ep) > float(plan.tp * plan.cp * plan.replicas):
        return f"ep exceeds the chips of a stage: {plan.ep}"
    pieces = int(plan.pp) * int(plan.interleave)
    if pieces > model.depth:
        return f"pp exceeds the layers: {pieces} pieces for {model.depth} layers"
    return layout_reason(model, int(plan.tp), int(plan.pp), int(plan.ep), int(np.asarray(plan.layout.dp)))
