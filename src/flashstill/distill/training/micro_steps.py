"""One optimiser step's forward and backward passes: gradients of several passes are added up, as of one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from flashstill.distill.losses import Head, Term, Workspace, head_loss
from flashstill.distill.losses.soundness import unsound_token
from flashstill.distill.training.batches import Batch
from flashstill.distill.training.mixed_precision import MixedPrecisionAdamW
from flashstill.distill.training.objectives import Objective
from flashstill.distill.training.recipe import TrainRecipe
from flashstill.distill.training.sharded import Sharded, World
from flashstill.errors import BadInput


def micro_steps_of(recipe: TrainRecipe, world: World) -> int:
    """Forward and backward passes per process and optimiser step (gradient accumulation).

    Raises BadInput if the windows cannot be split evenly.
    """
    micro = recipe.micro_windows or math.ceil(recipe.windows_per_step / world.size)
    if recipe.windows_per_step % (micro * world.size):
        raise BadInput(
            f"windows_per_step is {recipe.windows_per_step}, which {world.size} processes with {micro} windows a pass"
            " do not share evenly"
        )
    return recipe.windows_per_step // (micro * world.size)


def run_micro_steps(
    batch: Batch,
    student: nn.Module,
    state: MixedPrecisionAdamW | Sharded,
    objective: Objective,
    micro_steps: int,
    world: World,
    space: Workspace,
    vocabulary: int | None,
) -> float:
    """Forward and backward over this process's share of a step's windows; returns the mean loss over all windows."""
    counted = int(batch.mask.sum())
    if counted == 0:
        raise BadInput("all targets of a step are masked; look at the masks of the data")
    windows = len(batch.tokens)
    share = windows // world.size
    micro, total = -(-share // micro_steps), 0.0  # a batch of attempts may have fewer windows than a step's
    own = range(world.rank * share, (world.rank + 1) * share)
    for first in own[::micro]:
        part = batch.rows(slice(first, min(first + micro, own.stop))).to(world.device)
        terms: Sequence[Term] = objective(part)
        weights = part.mask.flatten().float() / counted  # divide by the tokens of the step, not of the micro-step

        def loss(
            hidden: Tensor,
            head: Head,
            factors: Tensor | None = None,
            terms: Sequence[Term] = terms,
            weights: Tensor = weights,
        ) -> Tensor:
            scaled = weights if factors is None else weights * factors
            return head_loss(hidden, head, terms, scaled, vocabulary, space=space)[0]

        part_loss = student(part, terms, loss)
        (part_loss * world.size).backward()  # FSDP takes the mean over processes
        value = float(part_loss.detach())  # a GPU is waited for here, once a pass, with all of it to do meanwhile
        if not math.isfinite(value):
            _check_teachers(terms, part)
        total += value
        if micro_steps > 1:
            state.collect()
    return world.total(total)


def _check_teachers(terms: Sequence[Term], part: Batch) -> None:
    """BadInput if a loss that is not finite comes from a teacher's outputs and not from the student."""
    for term in terms:
        token = unsound_token(term.teacher)
        if token is not None:
            row = token // part.mask.shape[1]
            where = "made on the way" if part.windows is None else f"{int(part.windows[row])}"
            raise BadInput(
                f"a teacher's outputs are not finite (NaN or infinity) at token {token % part.mask.shape[1]} of window"
                f" {where}; nothing is wrong with the student: make the signals again with a teacher whose outputs are"
            )
