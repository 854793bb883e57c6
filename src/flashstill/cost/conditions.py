"""Under which conditions operations run: chip, precisions, placement, calibration and software."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flashstill.arch import Architecture, Stored
from flashstill.errors import BadInput, unknown
from flashstill.hardware import BYTES_PER_VALUE, Chip, Memory, Software
from flashstill.hardware.calibration import Calibration
from flashstill.hardware.software import NO_SOFTWARE
from flashstill.workload import Widths

SCALE_BYTES = {"fp4": 0.03125, "int4": 0.03125, "int2": 0.03125, "fp8-block": 0.000244}
"""scale factors beside the values: one byte a group of 32, 2 bytes a group of 64, 4 bytes a block of 128 x 128"""
CACHE_OF = {"fp8": "fp8", "fp4": "fp8", "fp8-block": "bf16", "int8": "bf16", "int4": "bf16", "int2": "bf16"}
"""the cache beside weights in these formats: NVIDIA's fp8 and NVFP4 checkpoints (ModelOpt) carry scales for an fp8
cache, which the engines then use; checkpoints in blocks (DeepSeek, Qwen) or in integers (AWQ, GPTQ) do not"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Precisions:
    """In which formats values are stored. exact: LM head, router and what else a quantised checkpoint leaves alone."""

    linear: str = "bf16"
    attention: str = "bf16"
    experts: str = "bf16"
    exact: str = "bf16"
    kv: str = "bf16"

    def __post_init__(self) -> None:
        for name in (self.linear, self.attention, self.experts, self.exact, self.kv):
            if name not in BYTES_PER_VALUE:
                raise BadInput(unknown("precision", name, BYTES_PER_VALUE))

    @property
    def widths(self) -> Widths:
        """Bytes of one value of each kind, scale factors included; activations stay in 16 bits (32 for fp32)."""
        return Widths(
            weight=stored_bytes(self.linear),
            attention=stored_bytes(self.attention),
            experts=stored_bytes(self.experts),
            exact=stored_bytes(self.exact),
            kv=stored_bytes(self.kv),
            activation=4.0 if self.linear == "fp32" else 2.0,
        )

    def of(self, role: str) -> str:
        """The format of a role of `Matmul` and `Experts`."""
        return {"linear": self.linear, "attention": self.attention, "experts": self.experts, "exact": self.exact}[role]


def stored_bytes(precision: str) -> float:
    """Bytes of one stored value with its share of the scale factors."""
    return BYTES_PER_VALUE[precision] + SCALE_BYTES.get(precision, 0.0)


def uniform(precision: str, kv: str | None = None) -> Precisions:
    """All in one format, but head and router of a quantised model in 16 bits; the cache as asked, or by `CACHE_OF`."""
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
        kv=kv or "bf16",
    )


def precisions_of(model: Architecture, precision: str | None, kv: str | None = None) -> Precisions:
    """As published where that is `precision` or nothing is asked for, else everything in `precision`."""
    published = as_published(model, kv)
    if precision is None or precision in (published.experts, published.linear, model.formats.scheme):
        return published
    if precision == published.linear.removesuffix("-block"):
        return published
    return uniform(precision, kv)


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What the cost of an operation depends on beside the operation.

    weights, cache: the tiers that hold them.  skew: exponent of the popularity of experts (see `Experts`).
    sampled: whether tokens are drawn (top-k, top-p) or are the likeliest ones.
    """

    chip: Chip
    precisions: Precisions
    weights: Memory
    cache: Memory
    calibration: Calibration
    software: Software
    skew: float = 0.0
    sampled: bool = False

    @property
    def widths(self) -> Widths:
        """Bytes of a value of each kind as stored, and of an activation as the chip's products read it."""
        stored = self.precisions.widths

        def inputs(role: str) -> float:
            return min(float(stored.activation), BYTES_PER_VALUE[self.chip.precision(self.precisions.of(role))])

        return replace(stored, inputs=inputs("linear"), attention_inputs=inputs("attention"))

    @property
    def perfect(self) -> Conditions:
        """The lower bound: no floors, every peak reached, no software."""
        return replace(self, calibration=self.calibration.perfect, software=NO_SOFTWARE)


def make_conditions(
    chip: Chip,
    precisions: Precisions | None = None,
    weights: str | None = None,
    cache: str | None = None,
    software: Software = NO_SOFTWARE,
    skew: float = 0.0,
    sampled: bool = False,
) -> Conditions:
    """The conditions on one chip; weights and cache: names of tiers, None for the main memory."""
    return Conditions(
        chip=chip,
        precisions=precisions or Precisions(),
        weights=chip.tier(weights) if weights else chip.memory,
        cache=chip.tier(cache) if cache else chip.memory,
        calibration=chip.calibration,
        software=software,
        skew=skew,
        sampled=sampled,
    )
