"""How close a class of chips comes to its peaks: the coefficients of cost/kernels.py.

They are read from calibration rows, each of a chip or class, an operation kind and a precision (calibration_rows.py).
What has no row of its own is derived from the five general rows that every class has (matmul_efficiency,
memory_efficiency, operation_floor_s, link_efficiency, hop_s), so that every chip is answered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Collective:
    """Coefficients of one collective among switched chips: ((floor + rank (n-1))^p + (bytes / eff link)^p)^(1/p).

    one_shot_floor_s, one_shot_efficiency: the small-message path in which every chip reads all others, where the
    software has one; its floor grows by one_shot_doubling_s with every doubling of the group.
    measured: whether rows give it, and not the general ones alone.
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
