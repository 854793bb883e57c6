"""The training loop: a student, an objective, a fixed order of windows; resumed, it reaches the same weights.

Weights and gradients are bfloat16; AdamW keeps float32 masters and moments (Micikevicius et al. 2018, section 3.1).
Everything a step depends on is either in the checkpoint or a function of (seed, step), so that a resumed run and an
uninterrupted one take the same steps bit for bit (same machine, same number of threads).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.checkpoints import Snapshot, latest, write
from flashstill.distill.losses import DenseTeacher, Term, Workspace, head_cross_entropy, head_loss
from flashstill.distill.models import Model, parts
from flashstill.distill.packing import Packed
from flashstill.distill.signals import HiddenSignals, hidden_states
from flashstill.errors import BadInput
from flashstill.files import make_directory, write_text
from flashstill.progress import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRecipe:
    """How a student is trained."""

    tokens: int
    windows_per_step: int
    learning_rate: float
    warmup_fraction: float = 0.1
    final_fraction: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    temperature: float = 1.0
    checkpoint_every_steps: int = 25
    seed: int = 0

    def steps(self, window_length: int) -> int:
        """Whole steps that come closest to `tokens` from below; at least one."""
        return max(1, self.tokens // (self.windows_per_step * window_length))


Objective = Callable[[Tensor, Tensor, np.ndarray], tuple[Tensor, Tensor]]
"""(student hidden [N, d], student head [V, d], window indices [N/L]) -> (mean loss, per-token loss [N])"""


def soft_objective(signals: HiddenSignals, teacher_head: Tensor, temperature: float) -> Objective:
    """Forward KL to the teacher on every token, from its cached final hidden states."""

    space = Workspace()

    def objective(hidden: Tensor, head: Tensor, windows: np.ndarray) -> tuple[Tensor, Tensor]:
        teacher = signals.rows(windows).flatten(0, 1)
        weights = torch.full((hidden.shape[0],), 1.0 / hidden.shape[0])
        term = Term(teacher=DenseTeacher(hidden=(teacher,), heads=(teacher_head,)), temperature=temperature)
        return head_loss(hidden, head, [term], weights, space=space)

    return objective


def hard_objective(packed: Packed) -> Objective:
    """Cross-entropy on the text itself: what the control student learns from."""

    def objective(hidden: Tensor, head: Tensor, windows: np.ndarray) -> tuple[Tensor, Tensor]:
        targets = torch.from_numpy(packed.tokens[windows, 1:].astype(np.int64)).flatten()
        weights = torch.full((hidden.shape[0],), 1.0 / hidden.shape[0])
        return head_cross_entropy(hidden, head, targets, weights)

    return objective


def window_order(seed: int, windows: int, step: int, per_step: int) -> np.ndarray:
    """The windows of step `step`: epochs are independent permutations, a function of the seed alone."""
    first = step * per_step
    epochs = range(first // windows, (first + per_step - 1) // windows + 1)
    order = np.concatenate([np.random.default_rng([seed, epoch]).permutation(windows) for epoch in epochs])
    start = first - epochs.start * windows
    return order[start : start + per_step]


def learning_rate_at(recipe: TrainRecipe, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to `final_fraction` of the peak."""
    warmup = max(1, round(recipe.warmup_fraction * steps))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    low = recipe.final_fraction
    return recipe.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


def train(
    model: Model,
    objective: Objective,
    packed: Packed,
    recipe: TrainRecipe,
    directory: Path,
    progress: Progress,
    name: str,
) -> Model:
    """Train `model` in place and return it; `directory` holds the checkpoints and metrics.jsonl.

    Raises BadInput when the loss stops being finite, naming the step and its windows.
    """
    make_directory(directory)
    steps = recipe.steps(packed.length)
    tokens_per_step = recipe.windows_per_step * packed.length
    state = _State(model, recipe)
    key = {"recipe": asdict(recipe), "packing": packed.hash, "threads": torch.get_num_threads()}
    snapshot = latest(directory, key)
    if snapshot is not None:
        state.restore(snapshot)
    history = list(snapshot.metrics) if snapshot is not None else []
    model.train()
    with progress.task(name, steps * tokens_per_step, "tokens", state.step * tokens_per_step) as advance:
        while state.step < steps:
            windows = window_order(recipe.seed, packed.windows, state.step, recipe.windows_per_step)
            started = time.perf_counter()
            rate = learning_rate_at(recipe, state.step, steps)
            loss = state.take_step(objective, packed, windows, rate)
            if not math.isfinite(loss):
                raise BadInput(
                    f"{name}: the loss is {loss} at step {state.step} (windows {windows.tolist()}); lower the learning"
                    f" rate {recipe.learning_rate:g} and run again: it goes on from the last checkpoint in {directory}"
                )
            elapsed = time.perf_counter() - started
            history.append({"step": state.step, "loss": round(loss, 6), "rate": rate, "step_s": round(elapsed, 4)})
            if state.step % recipe.checkpoint_every_steps == 0 or state.step == steps:
                write(directory, state.snapshot(history), key)
            advance(tokens_per_step, f"loss {loss:.3f}")
    write_text(directory / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
    return model.eval()


class _State:
    """Model, float32 masters and AdamW, and the step they have reached."""

    def __init__(self, model: Model, recipe: TrainRecipe) -> None:
        self.model, self.recipe, self.step = model, recipe, 0
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        self.weights = dict(model.named_parameters())  # a tied head appears once
        self.masters = {name: weight.detach().float().clone() for name, weight in self.weights.items()}
        for master in self.masters.values():
            master.grad = torch.zeros_like(master)
        self.optimizer = torch.optim.AdamW(
            list(self.masters.values()),
            lr=recipe.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=recipe.weight_decay,
            fused=True,
        )

    def take_step(self, objective: Objective, packed: Packed, windows: np.ndarray, rate: float) -> float:
        """One optimiser step; returns the mean loss before it."""
        tokens = torch.from_numpy(packed.tokens[windows, :-1].astype(np.int64))
        hidden = hidden_states(self.model, tokens).flatten(0, 1)
        loss, _ = objective(hidden, parts(self.model).head, windows)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = []
        for name, weight in self.weights.items():
            master = self.masters[name]
            assert master.grad is not None
            if weight.grad is None:
                master.grad.zero_()
            else:
                master.grad.copy_(weight.grad)
            weight.grad = None
            gradients.append(master)
        torch.nn.utils.clip_grad_norm_(gradients, self.recipe.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.masters[name])
        self.step += 1
        return float(loss.detach())

    def snapshot(self, metrics: list[dict[str, float]]) -> Snapshot:
        """Everything that the next step depends on."""
        tensors: dict[str, Tensor] = {}
        for name, master in self.masters.items():
            moments = self.optimizer.state[master]
            tensors[f"master/{name}"] = master
            tensors[f"exp_avg/{name}"] = moments["exp_avg"]
            tensors[f"exp_avg_sq/{name}"] = moments["exp_avg_sq"]
        return Snapshot(step=self.step, tensors=tensors, metrics=metrics)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from `snapshot`."""
        self.step = snapshot.step
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(snapshot.tensors[f"master/{name}"])
                self.weights[name].copy_(master)
                self.optimizer.state[master] = {
                    "step": torch.tensor(float(snapshot.step)),
                    "exp_avg": snapshot.tensors[f"exp_avg/{name}"].clone(),
                    "exp_avg_sq": snapshot.tensors[f"exp_avg_sq/{name}"].clone(),
                }
