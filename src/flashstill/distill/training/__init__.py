"""Training a student: recipe, batches, objectives, the training loop, in one or several processes."""

from flashstill.distill.training import checkpoints, loop
from flashstill.distill.training.batches import Batch, Offline, Source, take, window_order
from flashstill.distill.training.loop import train
from flashstill.distill.training.objectives import Objective, Soft, TeacherSource, distillation, hard
from flashstill.distill.training.on_policy import Mixing, OnPolicy
from flashstill.distill.training.recipe import TrainRecipe, equal_passes, learning_rate_at
from flashstill.distill.training.sharded import World, join_world
from flashstill.distill.training.validation import Course, Validation

__all__ = [
    "Batch",
    "Course",
    "Mixing",
    "Objective",
    "Offline",
    "OnPolicy",
    "Soft",
    "Source",
    "TeacherSource",
    "TrainRecipe",
    "Validation",
    "World",
    "checkpoints",
    "distillation",
    "equal_passes",
    "hard",
    "join_world",
    "learning_rate_at",
    "loop",
    "take",
    "train",
    "window_order",
]
