"""How close a class of chips comes to its peaks: the coefficients of cost/kernels.py, read from calibration rows.

A row belongs to a chip or to a class of chips, an operation kind and a precision:

    h100-sxm, matmul.memory_efficiency, ..., condition "bf16"

A chip that was timed has rows of its own; one with the same die takes those (an H200 those of the H100), and every
other chip the estimates of its class.

What has no row of its own is derived from the five general rows that every class has (matmul_efficiency,
memory_efficiency, operation_floor_s, link_efficiency, hop_s), so that every chip is answered; `measured` tells which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from flashstill.facts import Facts
from flashstill.hardware.needs import Needs
from flashstill.hardware.software import ENGINES

SHARPEST = 64.0
"""a blend exponent at which max and blend differ by less than 1.1 %"""
GENERAL = "kernel"
"""the owner of rows that hold for the kernels of every class"""
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

    compute_efficiency, memory_efficiency: share of the peaks in long kernels, whose tiles are the largest.
    floor_s: least time.  blend: exponent p of (compute^p + memory^p)^(1/p); large means max.
    tile_penalty: loss of smaller tiles, eff / (1 + c (1/t_m + 1/t_n - that of the largest)).
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
class Tiling:
    """The pieces in which kernels deal their work. tiles: (rows, columns) of a matrix product's output.

    depth: a product's depth is rounded up to it.  prompt_rows, latent_rows: queries of an attention tile.
    array_rows: rows that a systolic array takes at once.
    """

    tiles: tuple[tuple[float, float], ...]
    depth: float
    prompt_rows: float
    latent_rows: float
    array_rows: float

    @property
    def edges_of_the_largest(self) -> float:
        """1/rows + 1/columns of the tile that loses least."""
        return min(1.0 / rows + 1.0 / columns for rows, columns in self.tiles)


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Every coefficient of one chip. kernels by (kind, precision), made as asked for by `kernel`.

    attention_ratio, experts_floor_ratio, blend: what kinds without rows of their own take from the general ones.
    on_chip_share: of the cache that a kernel's activations can count on.
    """

    matmul_efficiency: float
    memory_efficiency: float
    operation_floor_s: float
    link_efficiency: float
    hop_s: float
    attention_ratio: float
    experts_floor_ratio: float
    blend: float
    on_chip_share: float
    tiling: Tiling
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
        return Kernel(
            compute_efficiency=self.matmul_efficiency * (self.attention_ratio if "attention" in kind else 1.0),
            memory_efficiency=self.memory_efficiency,
            floor_s=self.operation_floor_s * (self.experts_floor_ratio if kind == "experts" else 1.0),
            blend=self.blend,
        )

    @property
    def perfect(self) -> Calibration:
        """Every peak reached and no floors; work still comes in whole tiles."""
        return replace(PERFECT, tiling=self.tiling, on_chip_share=self.on_chip_share)

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
    attention_ratio=1.0,
    experts_floor_ratio=1.0,
    blend=SHARPEST,
    on_chip_share=1.0,
    tiling=Tiling(tiles=((1.0, 1.0),), depth=1.0, prompt_rows=1.0, latent_rows=1.0, array_rows=1.0),
    kernels={
        (kind, precision): Kernel(compute_efficiency=1.0, memory_efficiency=1.0, floor_s=0.0)
        for kind in KINDS
        for precision in ("bf16", "fp8", "fp4")
    },
    collectives={(kind, ""): Collective(efficiency=1.0, floor_s=0.0) for kind in COLLECTIVES},
)
_Coefficients = TypeVar("_Coefficients", Kernel, Collective)


def calibration_of(facts: Facts, owners: Sequence[str], needs: Needs) -> Calibration:
    """The coefficients of a chip. owners: its name, chips of the same die, its class.

    Missing general rows are noted in `needs`.
    """
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
        attention_ratio=needs.of(GENERAL, "attention_ratio"),
        experts_floor_ratio=needs.of(GENERAL, "experts_floor_ratio"),
        blend=needs.of(GENERAL, "general.blend"),
        on_chip_share=needs.of(GENERAL, "on_chip_ratio"),
        tiling=_tiling(needs),
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


def _tiling(needs: Needs) -> Tiling:
    """The rows `tile.rows` and `tile.columns` of one condition make a tile."""
    columns = {row.condition: row.value for row in needs.facts.rows.get((GENERAL, "tile.columns"), ())}
    rows = needs.facts.rows.get((GENERAL, "tile.rows"), ())
    tiles = tuple((row.value, columns[row.condition]) for row in rows if row.condition in columns)
    if not tiles:
        needs.missing.append(f"tile.rows and tile.columns of {GENERAL}")
    return Tiling(
        tiles=tiles or PERFECT.tiling.tiles,
        depth=needs.of(GENERAL, "tile.depth"),
        prompt_rows=needs.of(GENERAL, "tile.prompt_rows"),
        latent_rows=needs.of(GENERAL, "tile.latent_rows"),
        array_rows=needs.of(GENERAL, "tile.array_rows"),
    )


def same_die(facts: Facts, name: str) -> tuple[str, ...]:
    """Other chips with kernels of their own and the die of `name`: of one maker, class, area and process."""
    timed = facts.derived("timed chips", lambda: _timed(facts))
    mine = _die(facts, name)
    return tuple(other for other in timed if other != name and mine is not None and _die(facts, other) == mine)


def _timed(facts: Facts) -> tuple[str, ...]:
    floors = {f"{kind}.floor_s" for kind in KINDS}
    return tuple(dict.fromkeys(name for name, quantity in facts.rows if quantity in floors and name in facts.machines))


def _die(facts: Facts, name: str) -> tuple[str, str, float, float] | None:
    area, process, machine = facts.find(name, "die_mm2"), facts.find(name, "process_nm"), facts.machines[name]
    return (machine.maker, machine.chip_class, area.value, process.value) if area and process else None


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
