"""What the studies of small Llamas from scratch share: a teacher that is trained here, on a longer text.

untrained/          the teacher before training, with a tokenizer learnt from the training text
arms/teacher/       its training; data-teacher/ is its text
data/               the students' text: some windows of the teacher's, drawn by the seed
shapes/NAME.json    the config.json of each student
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flashstill.arch.adapter.edit import Changes, small_llama
from flashstill.files import make_directory, write_text
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.recipes.from_scratch import FromScratch, LlamaRecipe
from flashstill.runs.distillation import run_distillation
from flashstill.runs.workdir import Workdir, packing_file
from flashstill.studies.arms import Quality, evaluate_arms, loads, train_arms, trained

CONTEXT = 512
"""tokens, or a window if that is longer"""


def own_teacher(recipe: FromScratch, seed: int, place: Path, progress: Progress) -> Path:
    """Train the teacher and leave the students' shapes; the directory of the teacher."""
    context = max(CONTEXT, recipe.text.window_tokens)
    make_directory(place / "shapes")
    for shape in recipe.shapes():
        write_text(place / "shapes" / f"{shape.name}.json", json.dumps(_fields(shape, context), indent=1))
    _untrained(recipe, seed, place / "untrained", context)
    workdir = Workdir.arm(place, "teacher", "teacher", "signals-untrained")
    workdir = dataclasses.replace(workdir, data=place / "data-teacher")
    run_distillation(recipe.teacher_arm(seed, str(place / "untrained")), workdir, progress, judged=False)
    _students_text(recipe, seed, workdir.data, place / "data")
    return trained(place, "teacher")


def train_and_evaluate(
    arms: Mapping[str, DistillRecipe], starts: Mapping[str, str], place: Path, progress: Progress
) -> Quality:
    """Train all arms; the quality of each and of the teacher. starts: arm -> name of its start."""
    train_arms(arms, starts, place, progress)
    models = loads({name: trained(place, name) for name in arms}, place)
    return evaluate_arms(models, arms, starts, place, progress)


def _students_text(recipe: FromScratch, seed: int, source: Path, folder: Path) -> None:
    """Write the packings that the students share: of the teacher's training windows, those that the seed draws."""
    from flashstill.distill.data.packing import Packed

    make_directory(folder)
    for name in ("heldout", "out-of-domain", "train"):
        path = packing_file(folder, name)
        if path.exists():
            continue
        packed = Packed.load(packing_file(source, name))
        if name == "train":
            count = max(1, recipe.text.train_tokens // recipe.text.window_tokens)
            rows = np.random.default_rng(seed).permutation(packed.windows)[:count]
            packed = packed.taken(np.sort(rows))
        packed.save(path)


def _untrained(recipe: FromScratch, seed: int, place: Path, context: int) -> None:
    from flashstill.distill.data.splits import divided
    from flashstill.distill.data.vocabulary import learn_tokenizer
    from flashstill.distill.models import save_model
    from flashstill.distill.students import from_config

    if place.is_dir():
        return
    _, training = divided(recipe.data, recipe.text.heldout_tokens, recipe.text.window_tokens, seed)
    tokenizer = learn_tokenizer((document.text for document in training), recipe.vocabulary)
    save_model(from_config(_fields(recipe.teacher, context), len(tokenizer), seed), tokenizer, place)


def _fields(shape: LlamaRecipe, context: int) -> Changes:
    """The config.json of a model, without its vocabulary."""
    return small_llama(width=shape.hidden, depth=shape.layers, context=context)
