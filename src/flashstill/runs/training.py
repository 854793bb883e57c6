"""One student or control of a family: trained unless it is there, and its record."""

from __future__ import annotations

from pathlib import Path

from flashstill.recipes import StudentRecipe
from flashstill.records import ModelRecord
from flashstill.runs import kept
from flashstill.runs.workdir import Workspace


def model_record(
    work: Workspace, name: str, role: str, of: str, tokens: int, seconds: float, directory: Path | None, steps: int = 0
) -> ModelRecord:
    """What a model of the family is; directory: None for one that is not kept, like the untrained."""
    shape = work.architecture(of)
    relative = directory.relative_to(work.out).as_posix() if directory and directory.is_relative_to(work.out) else ""
    return ModelRecord(
        model=name,
        role=role,
        of=of,
        parameters=shape.parameters,
        layers=shape.depth,
        training_tokens=tokens,
        training_s=seconds,
        path=relative,
        training_steps=steps,
        arithmetic=str(work.arithmetic),
    )


def train_student(work: Workspace, student: StudentRecipe, soft: bool) -> tuple[int, float, int]:
    """Train one student or control unless it is there; returns its training tokens, seconds and steps."""
    from flashstill.distill import training
    from flashstill.distill.models import keep_layers, load_tokenizer, save_model
    from flashstill.distill.training import checkpoints

    name = student.name if soft else f"{student.name}-control"
    folder = work.out / "training" / name
    packed, wanted = work.packed("train"), work.recipe.distil
    recipe = training.TrainRecipe(
        tokens=work.recipe.tokens_of(student),
        windows_per_step=wanted.windows_per_step,
        learning_rate=wanted.learning_rate,
        warmup_fraction=wanted.warmup_fraction,
        final_fraction=wanted.final_fraction,
        weight_decay=wanted.weight_decay,
        clip_norm=wanted.clip_norm,
        checkpoint_every_steps=wanted.checkpoint_every_steps,
        seed=work.recipe.seed,
    )
    if not work.student_directory(name).is_dir():
        model = keep_layers(work.model, work.kept(student))
        objective: training.Objective = training.hard
        key = {"objective": "text"}
        if soft:
            wish = training.Soft(temperature=wanted.temperature)
            objective = training.distillation(work.signals_of("train"), [wish])
            key = {"objective": f"forward KL at temperature {wanted.temperature:g}"}
        source = training.Offline(packed, recipe.windows_per_step, recipe.seed)
        label = f"distil {name}" if soft else f"train {name}"
        training.train(model, source, objective, recipe, folder, work.progress, label, key)
        save_model(model, load_tokenizer(work.directory), work.student_directory(name))
    checkpoints.clear(folder)
    metrics = kept.steps(folder)
    tokens = recipe.steps(packed.length) * recipe.windows_per_step * packed.length
    return tokens, sum(row["step_s"] for row in metrics), recipe.steps(packed.length)
