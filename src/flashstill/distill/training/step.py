"""One optimiser step of a training: a batch, its loss and gradient, the change of the weights, and the metrics.

A step that fails says why, and what to do: memory that ran out, a loss or gradient that is not finite.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from flashstill.distill.losses import Workspace
from flashstill.distill.models import Model
from flashstill.distill.training.batches import Batch, Source
from flashstill.distill.training.batches import Student as WholeStudent
from flashstill.distill.training.micro_steps import run_micro_steps
from flashstill.distill.training.mixed_precision import MixedPrecisionAdamW
from flashstill.distill.training.objectives import Objective
from flashstill.distill.training.randomness import seed_step
from flashstill.distill.training.recipe import TrainRecipe
from flashstill.distill.training.sharded import Sharded, World
from flashstill.errors import BadInput, ran_out_of_memory

AfterStep = Callable[[Model, int], dict[str, float]]
"""(student, number of finished steps) -> additional metrics of the step"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSteps:
    """The steps of one training.

    name, directory: of the training, for messages; its checkpoints are there.  model: the student; student: its pass
    over part of a batch (passes.Student); state: what holds and updates the trained parameters; whole: returns the
    student with all its weights.  micro_steps: passes of each process (micro_steps_of).  vocabulary: number of logits
    used (None: all).  space: memory that losses use again.
    """

    name: str
    directory: Path
    model: Model
    student: nn.Module
    state: MixedPrecisionAdamW | Sharded
    whole: WholeStudent
    source: Source
    objective: Objective
    recipe: TrainRecipe
    world: World
    micro_steps: int
    vocabulary: int | None
    after_step: AfterStep | None
    space: Workspace = field(default_factory=Workspace)

    @property
    def windows_per_pass(self) -> int:
        """Windows of one process's pass."""
        return self.recipe.windows_per_step // (self.micro_steps * self.world.size)

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.recipe.windows_per_step * self.source.window_length

    @property
    def of_a_pass(self) -> str:
        """The key of a loss that is not summed over the passes of a step; empty if there is none."""
        return str(getattr(self.after_step, "of_a_pass", ""))

    def run(self, step: int, rate: float) -> tuple[dict[str, float], Batch]:
        """Make the step that follows `step` finished ones, at a learning rate: its metrics and its batch.

        Raises BadInput if the loss or the gradient is not finite, and if memory runs out.
        """
        started = time.perf_counter()
        batch = self.source.batch(step, self.whole)
        seed_step(self.recipe.seed, step, self.world.rank)
        try:
            loss = run_micro_steps(
                batch, self.student, self.state, self.objective, self.micro_steps, self.world, self.space,
                self.vocabulary,
            )  # fmt: skip
            norm = self.state.apply(rate) if math.isfinite(loss) else math.nan
        except (RuntimeError, MemoryError) as error:
            raise self._explained(error) from error
        if not math.isfinite(norm):
            what = "loss" if not math.isfinite(loss) else "gradient"  # of the student: teachers were checked
            raise self.stopped(f"the {what} is not finite", step + 1, batch)
        more = {**batch.made, **(self.after_step(self.model, step + 1) if self.after_step is not None else {})}
        elapsed = time.perf_counter() - started
        speed = {"step_s": round(elapsed, 4), "tokens_per_s": round(self.tokens / elapsed, 1)}
        row = {"step": step + 1, "loss": round(loss, 6), "rate": rate, "grad_norm": round(norm, 6), **speed, **more}
        return row, batch

    def stopped(self, why: str, step: int, batch: Batch) -> BadInput:
        """The mistake to raise if training cannot go on after a step."""
        where = "made on the way" if batch.windows is None else str(batch.windows.tolist())
        return BadInput(
            f"{self.name}: {why} at step {step} (windows {where}) because of the student, as its teachers' outputs are"
            f" finite; lower the learning rate {self.recipe.learning_rate:g} and run again in a new place, or look at"
            f" these windows: the last good checkpoint stays in {self.directory}"
        )

    def _explained(self, error: BaseException) -> BaseException:
        """Converts an out-of-memory error to BadInput that says what to lower; returns other errors unchanged."""
        if not ran_out_of_memory(error):
            return error
        same = "the result stays the same: a step adds up its passes"
        same += f", but {self.of_a_pass} is that of each pass and changes" if self.of_a_pass else ""
        return BadInput(
            f"{self.name}: out of memory with {self.windows_per_pass} windows of {self.source.window_length} tokens a"
            f" pass; lower micro_windows ({same}), or the window's length"
        )
