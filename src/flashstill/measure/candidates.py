"""The students that a budget chooses from: their sizes, computed from their configurations alone.

    depth    1, 2, .. layers, all but the teacher's own number
    width    7/8, 6/8, .. 1/8 of hidden dimensions, FFN neurons and key heads together, in whole groups

Bytes of a student as it is served, all in 16 bits, or its blocks in b bits and a 16-bit scale a group of g weights:

    bytes = 2 (P - R) + R (b/8 + 2/g)        P parameters, R of them rounded
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flashstill.arch.adapter import from_hf
from flashstill.arch.adapter.edit import depth_changes, width_changes
from flashstill.arch.adapter.sizes import DEPTH, FEED_FORWARD, HEADS, KEY_HEADS, WIDTH, head_width, size
from flashstill.distill.models import Model, decoder_layers, keep_layers
from flashstill.distill.students import Width, compressed, narrow
from flashstill.errors import BadInput

BITS = {**compressed.BITS, "fp8": 8}
EIGHTHS = range(7, 0, -1)
NEURONS = 8  # FFN widths are multiples of this

Config = Mapping[str, Any]
"""the fields of a config.json"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A possible student; sizes of 0 are the teacher's. rounded: number of parameters that quantisation rounds;
    multiplied: active weights per token."""

    keep_layers: int = 0
    hidden: int = 0
    feed_forward: int = 0
    key_heads: int = 0
    parameters: int
    rounded: int
    multiplied: int

    @property
    def name(self) -> str:
        """The sizes that differ from the teacher's."""
        if self.keep_layers:
            return f"{self.keep_layers} layers"
        return f"{self.hidden} wide, FFN {self.feed_forward}, key heads {self.key_heads}"

    def weight_bytes(self, quantise: str, group: int) -> float:
        """Bytes of the weights as served. quantise: a format of `BITS`, or empty for 16 bits."""
        if not quantise:
            return 2.0 * self.parameters
        scales = 0.0 if quantise == "fp8" else 2.0 / group  # fp8 has one scale per row, negligible
        return 2.0 * (self.parameters - self.rounded) + self.rounded * (BITS[quantise] / 8.0 + scales)


def fields_of(model: Model) -> dict[str, Any]:
    """The configuration of a model as plain values."""
    fields: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    return fields


def shallower(config: Config, layers: int = 0) -> list[Candidate]:
    """Candidates of kind depth, the largest first; layers: only this depth, 0 for all."""
    depth = size(config, DEPTH)
    if layers > depth:
        raise BadInput(f"the student keeps {layers} layers, but the teacher has {depth}")
    depths = [layers] if layers else range(depth - 1, 0, -1)
    return [_counted(_with_depth(config, keep), keep_layers=keep) for keep in depths]


def spread(depth: int, keep: int) -> list[int]:
    """Ascending indices of `keep` of `depth` blocks, evenly spaced: the search has not chosen blocks yet."""
    return [index * depth // keep for index in range(keep)]


def _with_depth(config: Config, keep: int) -> Config:
    return {**config, **depth_changes(config, spread(size(config, DEPTH), keep))}


def narrower(config: Config, width: Width | None = None, group: int = 1) -> list[Candidate]:
    """Candidates of kind width, the largest first; width: only this one. group: weights that share a scale."""
    heads, groups = size(config, HEADS), size(config, KEY_HEADS)
    hidden, neurons = size(config, WIDTH), size(config, FEED_FORWARD)
    if width is not None:
        return [_of_width(config, width.hidden or hidden, width.feed_forward or neurons, width.key_heads or groups)]
    distinct: dict[tuple[int, int, int], None] = {}
    for eighths in EIGHTHS:
        key_heads = max(1, round(groups * eighths / 8))
        unit = math.lcm(heads // groups * key_heads, group)
        steps = math.lcm(NEURONS, group)
        wide, fed = hidden * eighths // 8 // unit * unit, neurons * eighths // 8 // steps * steps
        projected = key_heads * (heads // groups) * head_width(config)
        if wide and fed and projected % group == 0:
            distinct[(wide, fed, key_heads)] = None
    if not distinct:
        raise BadInput(
            f"no narrower student has widths that groups of {group} weights divide; choose another student.group"
        )
    return [_of_width(config, *sizes) for sizes in distinct]


def _of_width(config: Config, hidden: int, neurons: int, key_heads: int) -> Candidate:
    changed = {**config, **width_changes(config, hidden=hidden, feed_forward=neurons, key_heads=key_heads)}
    return _counted(changed, hidden=hidden, feed_forward=neurons, key_heads=key_heads)


def _counted(config: Config, **sizes: int) -> Candidate:
    shape = from_hf(config, "the student")
    blocks = sum(layer.count * layer.parameters(shape.width) for layer in shape.layers)
    active = sum(layer.count * layer.parameters(shape.width, active=True) for layer in shape.layers)
    return Candidate(
        **sizes,
        parameters=shape.parameters,
        rounded=blocks - sum(layer.count * layer.norm_parameters for layer in shape.layers),
        multiplied=active + shape.width * shape.vocabulary,
    )


def cut(model: Model, candidate: Candidate) -> Model:
    """A model of the candidate's sizes with some of the teacher's weights, for timing only."""
    if candidate.keep_layers:
        return keep_layers(model, spread(len(decoder_layers(model)), candidate.keep_layers))
    width = Width(hidden=candidate.hidden, feed_forward=candidate.feed_forward, key_heads=candidate.key_heads)
    return narrow(model, width, {})
