"""What an operation's cost depends on besides its shape: chip, formats, memory tiers, calibration, software."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from flashstill.arch import Architecture, Stored
from flashstill.errors import BadInput, unknown
from flashstill.hardware import BYTES_PER_VALUE, Chip, Memory, Software
from flashstill.hardware.calibration import Calibration
from flashstill.hardware.software import MEMORY_FIELDS, NO_SOFTWARE
from flashstill.parallel import Sharded
from flashstill.workload import Quantity, Widths

SCALE_BYTES = {"fp4": 0.0625, "mxfp4": 0.03125, "int4": 0.03125, "int2": 0.03125, "fp8-block": 0.000244}
"""Bytes of scale factors per value: one byte per group of 16 (NVFP4) or 32 (MXFP4), 2 bytes per group of 64, 4 bytes
per block of 128 x 128."""
MICROSCALED = "mxfp4"
"""the format of weights that chips multiply with activations of several widths"""
MULTIPLIED = {16.0: "bf16", 8.0: "fp8", 4.0: "fp4"}
"""the format in which mxfp4 weights are multiplied with activations of so many bits"""
CACHE_OF = {"fp8": "fp8", "fp4": "fp8"} | dict.fromkeys(("mxfp4", "fp8-block", "int8", "int4", "int2"), "bf16")
"""Default KV-cache format for each weight format. NVIDIA's fp8 and NVFP4 checkpoints (ModelOpt) carry scales for an fp8
cache, which engines then use; block-scaled (DeepSeek, Qwen) and integer (AWQ, GPTQ) checkpoints carry none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Precisions:
    """Storage formats. exact: weights that a quantised checkpoint keeps unquantised (LM head, router)."""

    linear: str = "bf16"
    attention: str = "bf16"
    experts: str = "bf16"
    exact: str = "bf16"
    kv: str = "bf16"
    widths: Widths = field(init=False, repr=False, compare=False)
    """bytes of one value by role, scale factors included; activations take 16 bits (32 for fp32)"""

    def __post_init__(self) -> None:
        for name in (self.linear, self.attention, self.experts, self.exact, self.kv):
            if name not in BYTES_PER_VALUE:
                raise BadInput(unknown("precision", name, BYTES_PER_VALUE))
        widths = Widths(
            weight=stored_bytes(self.linear),
            attention=stored_bytes(self.attention),
            experts=stored_bytes(self.experts),
            exact=stored_bytes(self.exact),
            kv=stored_bytes(self.kv),
            activation=4.0 if self.linear == "fp32" else 2.0,
        )
        object.__setattr__(self, "widths", widths)

    def of(self, role: str) -> str:
        """The format of a weight role: "linear", "attention", "experts" or "exact"."""
        return {"linear": self.linear, "attention": self.attention, "experts": self.experts, "exact": self.exact}[role]


def stored_bytes(precision: str) -> float:
    """Bytes of one stored value, including its share of the scale factors."""
    return BYTES_PER_VALUE[precision] + SCALE_BYTES.get(precision, 0.0)


def uniform(precision: str, kv: str | None = None) -> Precisions:
    """One format for all weights, but 16-bit head and router if quantised; cache as given or by `CACHE_OF`."""
    narrow = BYTES_PER_VALUE.get(precision, 2.0) < 2.0
    return Precisions(
        linear=precision,
        attention=precision,
        experts=precision,
        exact="bf16" if narrow else precision,
        kv=kv or CACHE_OF.get(precision, precision),
    )


def as_published(model: Architecture, kv: str | None = None) -> Precisions:
    """The formats in which the model's checkpoint stores its weights."""
    formats = model.formats
    block = "block" in (formats.scheme or "")

    def name(stored: Stored) -> str:
        return "fp8-block" if stored.name == "fp8" and block else stored.name

    exact = formats.head.name if BYTES_PER_VALUE[formats.head.name] >= 2.0 else formats.base.name
    return Precisions(
        linear=name(formats.linear),
        attention=name(formats.attention),
        experts=name(formats.experts),
        exact=exact,
        kv=kv or formats.cache or "bf16",
    )


def precisions_of(model: Architecture, precision: str | None, kv: str | None = None) -> Precisions:
    """The published formats if `precision` is one of them or not given, else everything in `precision`."""
    published = as_published(model, kv)
    names = (published.experts, published.linear)
    if precision is None or precision in (*names, *map(_of_its_width, names), model.formats.scheme):
        return published
    return uniform(precision, kv)


def in_gguf(formats: Precisions) -> Precisions:
    """The formats in a GGUF file of a quantised model: what a checkpoint leaves in 16 bits has 8 (Q8_0, Q6_K) in it."""

    def narrow(name: str) -> str:
        return "int8" if BYTES_PER_VALUE[name] == BYTES_PER_VALUE["bf16"] else name

    if min(BYTES_PER_VALUE[formats.of(role)] for role in ("linear", "attention", "experts")) >= BYTES_PER_VALUE["bf16"]:
        return formats
    return replace(
        formats,
        linear=narrow(formats.linear),
        attention=narrow(formats.attention),
        experts=narrow(formats.experts),
        exact=narrow(formats.exact),
    )


def _of_its_width(name: str) -> str:
    """The format that a block-scaled one is short for: "fp4" of a checkpoint in mxfp4."""
    return name.removesuffix("-block").removeprefix("mx")


class InParts(Protocol):
    """A way to price the rows of a stack in parts (parts.py)."""

    def work(self, conditions: Conditions, sharded: Sharded) -> Any:
        """The `ChipWork` of all rows."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What the cost of an operation depends on besides the operation itself.

    weights, cache: the memory tiers that hold them.  skew: exponent of the popularity of experts (see `Experts`).
    overlap_units_ratio: with two-batch overlap, the share of a chip's compute units that send and receive while prompts
    are computed; None without overlap.
    sampled: True if tokens are sampled (top-k, top-p), False for greedy decoding.
    input_bytes: bytes of a value in the format in which the chip multiplies one that is stored in another, by the name
    of that; None: as the chip's formats say.
    one_memory: 1 if weights and cache share a memory tier, 0 if not; None: if both are the same object.
    parts: of rows of a stack, how their work is priced in parts; None to price all of it for all rows.
    """

    chip: Chip
    precisions: Precisions
    weights: Memory
    cache: Memory
    calibration: Calibration
    software: Software
    skew: float = 0.0
    sampled: bool = False
    overlap_units_ratio: float | None = None
    input_bytes: Mapping[str, Quantity] | None = None
    one_memory: Quantity | None = None
    parts: InParts | None = field(default=None, repr=False, compare=False)

    @property
    def widths(self) -> Widths:
        """Bytes of a stored value by role, and of an activation in the format in which the chip multiplies it."""
        stored = self.precisions.widths

        def inputs(role: str) -> Quantity:
            name = self.precisions.of(role)
            own = self.input_bytes[name] if self.input_bytes else BYTES_PER_VALUE[self.runs_in(name)]
            activation = float(stored.activation)
            return np.minimum(activation, own) if isinstance(own, np.ndarray) else min(activation, own)

        return replace(
            stored, inputs=inputs("linear"), attention_inputs=inputs("attention"), expert_inputs=inputs("experts")
        )

    def runs_in(self, stored: str) -> str:
        """The format in which the chip multiplies weights stored in another, with its engine's activations.

        A chip that multiplies 4-bit floats also multiplies weights in mxfp4 with activations of 4, 8 or 16 bits, and
        engines choose; any other chip has them converted (Chip.precision).
        """
        rates = self.chip.flops_per_s
        if stored != MICROSCALED or stored in rates or "fp4" not in rates:
            return self.chip.precision(stored)
        return self.chip.precision(MULTIPLIED[self.software.mxfp4_input_bits])

    @property
    def is_one_memory(self) -> Quantity:
        """1 where weights and cache share a memory tier, else 0."""
        return float(self.weights is self.cache) if self.one_memory is None else self.one_memory

    @property
    def perfect(self) -> Conditions:
        """Lower-bound conditions: no launch floors, all peaks reached, no software overhead; memory as it is."""
        kept = {name: getattr(self.software, name) for name in MEMORY_FIELDS}
        return replace(self, calibration=self.calibration.perfect, software=replace(NO_SOFTWARE, **kept))


def make_conditions(
    chip: Chip,
    precisions: Precisions | None = None,
    weights: str | None = None,
    cache: str | None = None,
    software: Software = NO_SOFTWARE,
    skew: float = 0.0,
    sampled: bool = False,
    overlap_units_ratio: float | None = None,
) -> Conditions:
    """Conditions on one chip. weights, cache: names of memory tiers; None for the main memory, or the wiring of weights
    that are in it."""
    return Conditions(
        chip=chip,
        precisions=precisions or Precisions(),
        weights=chip.tier(weights) if weights else chip.weights_memory,
        cache=chip.tier(cache) if cache else chip.memory,
        calibration=chip.calibration,
        software=software,
        skew=skew,
        sampled=sampled,
        overlap_units_ratio=overlap_units_ratio,
    )
