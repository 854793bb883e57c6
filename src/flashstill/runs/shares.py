"""A student's compute relative to the teacher's, from its recipe and the teacher's architecture.

blocks    active weights per token in its blocks / those of the teacher
head      width of its hidden states / the teacher's: compute of the logits
weights   all weights of its blocks / the teacher's: work of the optimiser and of rounding

width     blocks = h (A a + F f) / (A + F)    h, a, f: kept shares of hidden dimensions, key heads and neurons;
                                              A, F: weights of attention and of the feed-forward layer
upcycle   blocks = (A + F n/N) / (A + F)      n: neurons of the experts active per token; N: neurons of the dense FFN
depth     blocks = k / L                      k of L blocks kept
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flashstill.arch import Architecture
from flashstill.arch.catalogue import read_config
from flashstill.recipes.distillation import ShapeRecipe

SPARSE = 2.0
"""slowdown of experts against a dense FFN with the same FLOPs: small matrices and gathered tokens (measured once with
glm4_moe of 135M weights on two cores; corrected by actual training times)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Ratios to the teacher's blocks, hidden width and weights; teachers: cost of running its own teachers."""

    blocks: float
    head: float
    weights: float
    teachers: float = 1.0


def share_of(student: ShapeRecipe, origin: Architecture, teacher: Architecture, teachers: float = 1.0) -> Share:
    """A student's share. origin: the model it is made from; teachers: cost of its teachers / that of the family's.

    Raises BadInput if the config.json of a student from scratch cannot be read.
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
        heads, active = attention * _heads(student, origin), neurons * _neurons(student, origin)
        blocks = hidden * (heads + active) / whole
        weights = hidden * (heads + active * _experts(student, origin)) / whole
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
    """A model's prefill time per token / the teacher's."""
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
    """Active weights per token: of attention, and of feed-forward layers."""
    neurons = sum(layer.count * layer.ffn.parameters(model.width, active=True) for layer in model.layers)
    return _active(model) - neurons, float(neurons)


def _width(model: Architecture) -> float:
    """Mean number of neurons per feed-forward layer."""
    return sum(layer.count * (layer.ffn.width or layer.ffn.dense_width) for layer in model.layers) / model.depth


def _neurons(student: ShapeRecipe, model: Architecture) -> float:
    asked = student.feed_forward or student.expert_neurons
    return asked / _width(model) if asked else 1.0


def _experts(student: ShapeRecipe, model: Architecture) -> float:
    experts = max(layer.ffn.experts for layer in model.layers)
    return student.experts / experts if student.experts and experts else 1.0


def _heads(student: ShapeRecipe, model: Architecture) -> float:
    heads = getattr(model.layers[0].attention, "kv_heads", 0)
    return student.key_heads / heads if student.key_heads and heads else 1.0
