"""How much of the teacher's work a student's is, before it exists: from its recipe and the teacher's shape.

blocks    weights of its blocks that a token is multiplied by, each of the teacher's
head      width of its hidden states, which a token's logits are made of
weights   all weights of its blocks, which the optimiser and rounding work on

width     blocks = h (A a + F f) / (A + F)    h, a, f: hidden dimensions, key heads and neurons that are kept;
                                              A, F: weights of attention and of the feed-forward layer
upcycle   blocks = (A + F n/N) / (A + F)      n of N neurons: those of the experts that a token meets
depth     blocks = k / L
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flashstill.arch import Architecture
from flashstill.arch.catalogue import read_config
from flashstill.recipes.distillation import ShapeRecipe

SPARSE = 2.0
"""a token's experts take so many times as long here as dense products of the same size: they are small, and gathered
(measured once, glm4_moe of 135M weights on two cores; corrected by what training takes)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Of the teacher's blocks, hidden width and weights; teachers: what asking the student's own teachers takes."""

    blocks: float
    head: float
    weights: float
    teachers: float = 1.0


def share_of(student: ShapeRecipe, origin: Architecture, teacher: Architecture, teachers: float = 1.0) -> Share:
    """A student's share. origin: what it is made of; teachers: those of the student, in times of reading the family's.

    Raises BadInput where the config.json of a student from scratch cannot be read.
    """
    if student.kind == "scratch":
        made = read_config(Path(student.config), "the student")
        return _beside(_active(made), _all(made), made.width, teacher, teachers)
    attention, neurons = _parts(origin)
    whole = attention + neurons
    width, blocks, weights = float(origin.width), 1.0, 1.0
    if student.kind == "depth":
        blocks = weights = (student.keep_layers or origin.depth) / origin.depth
    elif student.kind == "width":
        hidden = (student.hidden or origin.width) / origin.width
        blocks = weights = hidden * (attention * _heads(student, origin) + neurons * _neurons(student, origin)) / whole
        width *= hidden
    elif student.kind == "upcycle":
        met = (student.experts_per_token + student.shared_experts) * student.expert_neurons
        kept = (student.experts + student.shared_experts) * student.expert_neurons
        blocks = SPARSE * (attention + neurons * met / _width(origin)) / whole
        weights = (attention + neurons * kept / _width(origin)) / whole
    elif student.kind == "dense":  # FFN as wide as the experts that are active per token
        weights = _active(origin) / _all(origin)
    return _beside(blocks * _active(origin), weights * _all(origin), width, teacher, teachers)


def reading(model: Architecture, teacher: Architecture) -> float:
    """Seconds in which a model reads a token, in those of the teacher."""
    return _active(model) / _active(teacher)


def _beside(blocks: float, weights: float, width: float, teacher: Architecture, teachers: float) -> Share:
    return Share(
        blocks=blocks / _active(teacher), head=width / teacher.width, weights=weights / _all(teacher), teachers=teachers
    )


def _active(model: Architecture) -> float:
    return float(sum(layer.count * layer.parameters(model.width, active=True) for layer in model.layers))


def _all(model: Architecture) -> float:
    return float(sum(layer.count * layer.parameters(model.width) for layer in model.layers))


def _parts(model: Architecture) -> tuple[float, float]:
    """Weights of attention and of feed-forward layers that a token meets."""
    neurons = sum(layer.count * layer.ffn.parameters(model.width, active=True) for layer in model.layers)
    return _active(model) - neurons, float(neurons)


def _width(model: Architecture) -> float:
    """Neurons of a feed-forward layer, on average."""
    return sum(layer.count * (layer.ffn.width or layer.ffn.dense_width) for layer in model.layers) / model.depth


def _neurons(student: ShapeRecipe, model: Architecture) -> float:
    return student.feed_forward / _width(model) if student.feed_forward else 1.0


def _heads(student: ShapeRecipe, model: Architecture) -> float:
    heads = getattr(model.layers[0].attention, "kv_heads", 0)
    return student.key_heads / heads if student.key_heads and heads else 1.0
