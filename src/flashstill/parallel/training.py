"""How a training step is laid over chips.

Symbols: v pieces of a stage, m microbatches of a step.

    chips = tp x cp x pp x fsdp x dp,  m = batch / (fsdp dp microbatch)
    tp    tensor parallel, with `sequence_parallel` also norms and residuals (Korthikanti et al. 2022, section 4.2.2)
    cp    every sequence split over chips
    pp    stages, each of v = `interleave` pieces: bubble (pp - 1) / (v m) (Narayanan et al. 2021, section 2.2)
    fsdp  parameters, gradients and optimizer split over replicas and gathered layer by layer (ZeRO stage 3)
    dp    whole replicas of that; `zero1` splits the optimizer over them
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
"""what is computed again: nothing, the attention core, all but the query, key and value projections, everything"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    """Degrees of parallelism and batch of a training step; quantities may be arrays.

    batch, microbatch: sequences of a step, and of one pass of one replica.  length: tokens of a sequence.
    slice_chips: chips that fast links join, where they are fewer than those could; 0 for all.
    fused_attention: attention that never writes its scores.  dropout: masks are kept for it.
    frozen: only adapters are trained: weights get no gradients, and there is next to nothing to update.
    parameter_bytes, gradient_bytes, optimizer_bytes: kept for each parameter; Adam in mixed precision keeps 12 bytes
    beside them: the 32-bit parameter and two moments.
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
        """All chips."""
        return self.tp * self.cp * self.pp * self.fsdp * self.dp

    @property
    def joined(self) -> Quantity:
        """Chips of one slice, or all of them."""
        return np.where(np.asarray(self.slice_chips) > 0, np.minimum(self.slice_chips, self.chips), self.chips)

    @property
    def replicas(self) -> Quantity:
        """Groups of chips that work on sequences of their own."""
        return self.fsdp * self.dp

    @property
    def microbatches(self) -> Quantity:
        """Passes of one replica in a step."""
        return self.batch / (self.replicas * self.microbatch)

    @property
    def layout(self) -> Layout:
        """How one pass is split: the tensor-parallel group, and the groups that share experts with it."""
        return Layout(tp=self.tp, ep=self.ep, dp=np.maximum(np.asarray(self.ep) / self.tp, 1.0))

    def again(self, name: str) -> bool:
        """Whether an operation of the blocks is computed a second time."""
        if self.recompute == "projections":
            return name != "query, key, value"
        return self.recompute == "full" or name in RECOMPUTE[self.recompute]


def plan_reason(model: Architecture, plan: TrainingPlan) -> str | None:
    """Why a plan cannot be built, or None. For single plans, not for arrays."""
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
