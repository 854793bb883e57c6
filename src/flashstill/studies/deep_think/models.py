"""The models of a deep-think study: a teacher, given or trained from scratch, and students."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flashstill.arch.adapter.edit import new_llama, with_end
from flashstill.errors import BadInput
from flashstill.progress import Progress
from flashstill.recipes.resuming import loop_keys
from flashstill.recipes.thinking import LearnTable, NetTable


def fields(net: NetTable, longest: int, end: int) -> dict[str, Any]:
    """The configuration of a small Llama. longest: positions; end: id of the token that ends a text."""
    if net.hidden % net.heads:
        raise BadInput(f"a width of {net.hidden} is not shared evenly by {net.heads} heads")
    plain = new_llama(
        width=net.hidden, depth=net.layers, heads=net.heads, key_heads=net.heads, feed_forward=net.feed_forward,
        context=longest, tied=True,
    )  # fmt: skip
    return with_end(plain, end)


def new_model(net: NetTable, tokenizer: Any, longest: int, seed: int) -> Any:
    """A model with random float32 weights: small matrices are no faster in bfloat16, and float32 results of a row do
    not depend on the other rows of its batch."""
    import torch

    from flashstill.distill.students import from_config

    return from_config(fields(net, longest, tokenizer.eos_token_id), len(tokenizer), seed, torch.float32)


def first_student(
    net: NetTable,
    teacher: Any,
    tokenizer: Any,
    longest: int,
    seed: int,
    sample: Any,
    progress: Progress,
    dtype: Any,
) -> Any:
    """A student before training: from scratch, from a directory, or the teacher's layers with the most block influence.

    sample: token ids [B, L] to measure block influence on; dtype: of a model from a directory.
    Raises BadInput if a directory has a different vocabulary.
    """
    from flashstill.distill.models import keep_layers, load_model, load_tokenizer
    from flashstill.distill.students import kept_blocks, order_by_influence
    from flashstill.distill.teachers import resolve_teacher

    if net.model:
        place = resolve_teacher(net.model, progress)
        own = load_tokenizer(place)
        if own.get_vocab() != tokenizer.get_vocab():
            sizes = f"{len(own):,} and {len(tokenizer):,}"
            raise BadInput(f"student {net.model} and its teacher have different vocabularies ({sizes} tokens)")
        return load_model(place, dtype)
    if not net.keep_layers:
        return new_model(net, tokenizer, longest, seed)
    order = order_by_influence(teacher, sample)
    return keep_layers(teacher, kept_blocks(len(order), order, net.keep_layers))


def learn(
    model: Any,
    packed: Any,
    table: LearnTable,
    steps: int,
    seed: int,
    folder: Path,
    progress: Progress,
    name: str,
    signals: Any = None,
    share: float = 0.0,
    goes_on: bool = False,
) -> Any:
    """Train with cross-entropy on packed rows for `steps` steps; resumes an interrupted run.

    signals: a teacher's signals on the rows; share: weight of the divergence to them in the loss.  goes_on: the model
    has learned already, and its loss may rise by any factor while the rate warms up again.
    """
    from flashstill.distill import training

    objective: training.Objective = training.hard
    if signals is not None:
        objective = training.distillation(signals, [training.Soft(weight=share)], hard_weight=1.0 - share)

    rows = min(table.rows_per_step, packed.windows)
    recipe = training.TrainRecipe(
        tokens=steps * rows * packed.length, windows_per_step=rows, learning_rate=table.learning_rate,
        warmup_fraction=table.warmup_fraction, weight_decay=table.weight_decay, final_fraction=0.05, seed=seed,
        checkpoint_every_steps=table.checkpoint_every_steps, diverged_at=0.0 if goes_on else 3.0,
        micro_windows=training.equal_passes(rows, table.micro_windows),
    )  # fmt: skip
    source = training.Offline(packed, rows, seed)
    return training.train(
        model, source, objective, recipe, folder, progress, name, {"teacher_share": share}, may_change=loop_keys()
    )
