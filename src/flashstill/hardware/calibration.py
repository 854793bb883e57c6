"""How close a class of chips comes to its peaks: the coefficients of cost/kernels.py, read from calibration rows.

A row belongs to a chip or, more often, to a class of chips, an operation kind and a precision:

    gpu, matmul.memory_efficiency, ..., condition "bf16"

What has no row of its own is derived from the five general rows that every class has (matmul_efficiency,
memory_efficiency, operation_floor_s, link_efficiency, hop_s), so that every chip is answered; `measured` tells which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from flashstill.facts import Facts
from flashstill.hardware.needs import Needs
from flashstill.hardware.software import ENGINES

SHARPEST = 64.0
"""a blend exponent at which max and blend differ by less than 1.1 %"""
_NEAREST = {
    "fp32": ("fp32", "bf16"),
    "fp16": ("fp16", "bf16"),
    "fp8-block": ("fp8-block", "fp8", "bf16"),
    "int8": ("int8", "fp8", "bf16"),
    "fp8": ("fp8", "bf16"),
    "fp4": ("fp4", "fp8", "bf16"),
    "int4": ("int4", "bf16"),
    "int2": ("int4", "bf16"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """Coefficients of one operation kind in one precision; what a kind does not use keeps its default.

    compute_efficiency, memory_efficiency: share of the peaks in long kernels.
    floor_s: least time.  blend: exponent p of (compute^p + memory^p)^(1/p); large means max.
    tile_penalty: loss of small tiles, eff / (1 + c (1/t_m + 1/t_n)).
    block_s: time of one wave of (sequence, head) blocks.  group_ratio: its growth with query heads per cached head.
    doubling_s: added for every doubling of the context beyond 64.
    passes: how many times the activations cross memory.  expert_s: added for every hundred experts held.
    quantise_floor_s: quantising the activations, where the precision asks for it.
    """

    compute_efficiency: float
    memory_efficiency: float
    floor_s: float
    blend: float = SHARPEST
    tile_penalty: float = 0.0
    block_s: float = 0.0
    group_ratio: float = 0.0
    doubling_s: float = 0.0
    passes: float = 1.0
    expert_s: float = 0.0
    quantise_floor_s: float = 0.0
    measured: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Collective:
    """Coefficients of one collective among switched chips: ((floor + rank (n-1))^p + (bytes / eff link)^p)^(1/p).

    one_shot_floor_s, one_shot_efficiency: the small-message path in which every chip reads all others, where the
    software has one; its floor grows by one_shot_doubling_s with every doubling of the group.
    """

    efficiency: float
    floor_s: float
    rank_s: float = 0.0
    blend: float = 1.0
    one_shot_floor_s: float = 0.0
    one_shot_doubling_s: float = 0.0
    one_shot_efficiency: float = 0.0
    measured: bool = False


KINDS = ("matmul", "decode-attention", "latent-attention", "prompt-attention", "experts")
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Every coefficient of one chip. kernels by (kind, precision), made as asked for by `kernel`."""

    matmul_efficiency: float
    memory_efficiency: float
    operation_floor_s: float
    link_efficiency: float
    hop_s: float
    kernels: dict[tuple[str, str], Kernel]
    collectives: dict[tuple[str, str], Collective]

    @property
    def deals_blocks(self) -> bool:
        """Whether a kernel's time depends on the number of compute units."""
        return any(kernel.block_s for kernel in self.kernels.values())

    def kernel(self, kind: str, precision: str) -> Kernel:
        """The coefficients of a kind in a precision, or in the nearest one that has rows, or the general ones."""
        for near in _NEAREST.get(precision, (precision, "bf16")):
            coefficients = self.kernels.get((kind, near))
            if coefficients is not None:
                return coefficients
        floors = 3.0 if kind == "experts" else 1.0
        return Kernel(
            compute_efficiency=self.matmul_efficiency * (0.7 if "attention" in kind else 1.0),
            memory_efficiency=self.memory_efficiency,
            floor_s=self.operation_floor_s * floors,
            blend=4.0 if self.operation_floor_s else SHARPEST,
        )

    def collective(self, kind: str, engine: str = "") -> Collective:
        """The coefficients of a collective, of the engine's own one if it has one; else the general ones."""
        coefficients = self.collectives.get((kind, engine)) or self.collectives.get((kind, ""))
        return coefficients or Collective(efficiency=self.link_efficiency, floor_s=2.0 * self.hop_s)


PERFECT = Calibration(
    matmul_efficiency=1.0,
    memory_efficiency=1.0,
    operation_floor_s=0.0,
    link_efficiency=1.0,
    hop_s=0.0,
    kernels={
        (kind, precision): Kernel(compute_efficiency=1.0, memory_efficiency=1.0, floor_s=0.0)
        for kind in KINDS
        for precision in ("bf16", "fp8", "fp4")
    },
    collectives={(kind, ""): Collective(efficiency=1.0, floor_s=0.0) for kind in COLLECTIVES},
)
_Coefficients = TypeVar("_Coefficients", Kernel, Collective)


def calibration_of(facts: Facts, owners: Sequence[str], needs: Needs) -> Calibration:
    """The coefficients of a chip; owners: its name, then its class. Missing general rows are noted in `needs`."""
    floor_s, hop_s = needs.number("operation_floor_s"), needs.number("hop_s")
    base = {
        "compute_efficiency": needs.number("matmul_efficiency"),
        "memory_efficiency": needs.number("memory_efficiency"),
        "floor_s": floor_s,
    }
    link = {"efficiency": needs.number("link_efficiency"), "floor_s": 2.0 * hop_s}
    return Calibration(
        matmul_efficiency=base["compute_efficiency"],
        memory_efficiency=base["memory_efficiency"],
        operation_floor_s=floor_s,
        link_efficiency=link["efficiency"],
        hop_s=hop_s,
        kernels={
            (kind, precision): kernel
            for kind in KINDS
            for precision in ("bf16", "fp32", "fp8", "fp8-block", "fp4", "int8", "int4", "int2")
            if (kernel := _coefficients(Kernel, facts, owners, kind, precision, base))
        },
        collectives={
            (kind, engine): shared
            for kind in COLLECTIVES
            for engine in ("", *ENGINES)
            if (shared := _coefficients(Collective, facts, owners, kind, engine, link))
        },
    )


def _coefficients(
    made_of: type[_Coefficients],
    facts: Facts,
    owners: Sequence[str],
    kind: str,
    condition: str,
    base: dict[str, float],
) -> _Coefficients | None:
    """The rows `kind.field` of the first owner that has the kind, over `base`; None where none has."""
    for owner in owners:
        values: dict[str, Any] = {}
        for field in fields(made_of):
            for row in facts.rows.get((owner, f"{kind}.{field.name}"), ()):
                if row.condition == condition:
                    values[field.name] = row.value
        if values:
            return made_of(**{**base, **values}, measured=True)
    return None
