"""Kernel efficiencies and overheads of a chip: the coefficients of cost/kernels.py and its neighbours.

They are read from calibration rows by chip or class, operation kind, precision and, where engines have kernels of their
own, engine (calibration_rows.py).
Coefficients without a row are derived from the five general rows that every class has (matmul_efficiency,
memory_efficiency, operation_floor_s, link_efficiency, hop_s).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

SHARPEST = 64.0
"""blend exponent p at which (a^p + b^p)^(1/p) exceeds max(a, b) by less than 1.1 %"""
_NEAREST = {
    "fp32": ("fp32", "bf16"),
    "fp16": ("fp16", "bf16"),
    "fp8-block": ("fp8-block", "fp8", "bf16"),
    "int8": ("int8", "fp8", "bf16"),
    "fp8": ("fp8", "bf16"),
    "fp4": ("fp4", "fp8", "bf16"),
    "mxfp4": ("mxfp4", "fp4", "fp8", "bf16"),
    "int4": ("int4", "bf16"),
    "int2": ("int4", "bf16"),
}


def kernel_format(stored: str, runs_in: str) -> str:
    """The name of kernels that multiply weights stored in one format in another: "fp8", or "mxfp4/bf16".

    A kernel that converts the weights (weight-only formats, w4a16) is another one than that of the format in which it
    multiplies: it reads fewer bytes and spends instructions on the conversion.
    """
    return stored if runs_in in stored else f"{stored}/{runs_in}"


@functools.cache
def _nearest(precision: str) -> tuple[str, ...]:
    """The formats whose coefficients apply to a precision, its own first."""
    multiplied = precision.rpartition("/")[2]
    near = _NEAREST.get(multiplied, (multiplied, "bf16"))
    return near if multiplied == precision else (precision, *near)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """Coefficients of one operation kind in one precision; a kind leaves those it does not use at their defaults.

    compute_efficiency, memory_efficiency: fraction of the peak rates that the whole chip sustains in long kernels.
    floor_s: minimum time of a kernel.  blend: exponent p of (compute^p + memory^p)^(1/p); a large p gives the max.
    unit_efficiency: fraction of its peak that one compute unit reaches; chips run at higher clocks in short kernels and
    where units idle than the power limit lets the whole chip sustain.
    unit_bytes_per_s: rate at which one compute unit loads the operands of its tile; 0 for no limit.
    split_s: added where the depth of a matmul is split over idle compute units; 0 if kernels never split it.
    tile_penalty: rows of padding for every expert that has tokens; c in the time of a prompt's tiles of r queries,
    relative to the largest: 1 + c (1/r - 1/largest).
    block_s: time of one wave of (sequence, head) blocks (of one block where they run one after another), or of rows to
    quantise.
    softmax_ratio: time of the softmax of a prompt relative to that of its products, at heads of 128.
    group_ratio: growth of block_s with query heads per KV head.
    doubling_s: added for every doubling of the context above 64 tokens.
    chunk_s: time of one step of a recurrence, after all before it.
    padding: share of the slots without a selected token that are computed nevertheless.
    passes: times the activations are moved to or from memory.  remote_passes: the same for rows of remote experts.
    expert_s: added per hundred experts on the chip.  spread_s: added where a chip holds some of the experts only, whose
    kernels look up which pairs are theirs.
    quantise_floor_s: minimum time to quantise the activations, for precisions that need it.
    """

    compute_efficiency: float
    memory_efficiency: float
    floor_s: float
    blend: float = SHARPEST
    unit_efficiency: float = 1.0
    unit_bytes_per_s: float = 0.0
    split_s: float = 0.0
    tile_penalty: float = 0.0
    block_s: float = 0.0
    group_ratio: float = 0.0
    softmax_ratio: float = 0.0
    doubling_s: float = 0.0
    padding: float = 0.0
    chunk_s: float = 0.0
    passes: float = 1.0
    remote_passes: float = 0.0
    expert_s: float = 0.0
    spread_s: float = 0.0
    quantise_floor_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Collective:
    """Coefficients of a collective among n chips on a switch: ((floor + rank (n-1))^p + (bytes / eff link)^p)^(1/p).

    one_shot_floor_s, one_shot_efficiency: one-shot algorithm for small messages (each chip reads from all others), if
    the software has it; its floor grows by one_shot_doubling_s with every doubling of the group size.
    measured: whether the collective has rows of its own.
    """

    efficiency: float
    floor_s: float
    rank_s: float = 0.0
    blend: float = 1.0
    one_shot_floor_s: float = 0.0
    one_shot_doubling_s: float = 0.0
    one_shot_efficiency: float = 0.0
    measured: bool = False


RECURRENT = ("state-update", "state-scan", "channel-scan", "convolution", "convolution-update")
SPARSE = ("selected", "selected-prompt", "blocks", "blocks-prompt")
INDEXERS = ("index-scores", "index-scores-prompt", "block-scores", "block-scores-prompt")
SMALL = ("small-kernels", "small-kernels-prompt", "selecting-kernels", "selecting-kernels-prompt")
MODULES = (*SPARSE, *INDEXERS, *SMALL)
"""kinds that are timed within whole mixers only"""
ATTENTION = ("decode-attention", "latent-attention", "prompt-attention", "expanded-attention")
KINDS = ("matmul", *ATTENTION, "experts", *RECURRENT, *MODULES)
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiling:
    """Tile sizes of kernels. tiles: (rows, columns) of output tiles of a matmul.

    depth: the inner dimension of a matmul is rounded up to a multiple of it.
    split_depth: least depth of a part if the depth is split over compute units.
    least_rows, prompt_rows: queries of the smallest and the largest tile of prefill attention; those between double.
    latent_rows: queries per tile of latent attention.
    array_rows: rows that a systolic array processes at once.
    vector_rows: most rows of a product that vector units take, one at a time, instead of tiles.
    """

    tiles: tuple[tuple[float, float], ...]
    depth: float
    split_depth: float
    prompt_rows: float
    least_rows: float
    latent_rows: float
    array_rows: float
    vector_rows: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """All coefficients of one chip. kernels: by (kind, condition), collectives: by (kind, engine or "").

    The condition of a kernel is a precision ("fp8"), or a precision and the engine that has kernels of its own for it
    ("fp8 vllm").
    attention_ratio, experts_floor_ratio, blend: derive the coefficients of kinds without rows from the general ones.
    scale_out_efficiency, scale_out_hop_s: fraction of the scale-out bandwidth that long collectives reach between
    domains, and latency of one of their steps from domain to domain, through NICs and switches.
    on_chip_share: fraction of the on-chip cache available to a kernel's activations.
    """

    matmul_efficiency: float
    memory_efficiency: float
    operation_floor_s: float
    link_efficiency: float
    hop_s: float
    scale_out_efficiency: float
    scale_out_hop_s: float
    attention_ratio: float
    experts_floor_ratio: float
    blend: float
    on_chip_share: float
    tiling: Tiling
    kernels: Mapping[tuple[str, str], Kernel]
    collectives: Mapping[tuple[str, str], Collective]

    @property
    def deals_blocks(self) -> bool:
        """Whether any kernel's time depends on the number of compute units (SMs)."""
        return any(kernel.block_s for kernel in self.kernels.values())

    def kernel(self, kind: str, precision: str, engine: str = "") -> Kernel:
        """Coefficients of a kind in a precision: the engine's own, else those of all engines.

        precision: as `kernel_format` names it.  Without rows in the precision those of the nearest one apply (for a
        kernel that converts its weights, of the format that it multiplies in), else the general rows.
        """
        for near in _nearest(precision):
            coefficients = self.kernels.get((kind, f"{near} {engine}")) or self.kernels.get((kind, near))
            if coefficients is not None:
                return coefficients
        attends = "attention" in kind or "scan" in kind or kind in SPARSE
        return Kernel(
            compute_efficiency=self.matmul_efficiency * (self.attention_ratio if attends else 1.0),
            memory_efficiency=self.memory_efficiency,
            floor_s=self.operation_floor_s * (self.experts_floor_ratio if kind == "experts" else 1.0),
            blend=self.blend,
        )

    def kernels_of(self, kind: str, precision: str, engines: Sequence[str]) -> tuple[Kernel, ...]:
        """The distinct coefficients that `engines` have for a kind in a precision."""
        found = [self.kernel(kind, precision, engine) for engine in engines]
        try:
            return tuple(dict.fromkeys(found))
        except TypeError:  # the arrays of a stack of chips cannot be compared
            return tuple({id(kernel): kernel for kernel in found}.values())

    @property
    def perfect(self) -> Calibration:
        """All efficiencies 1 and no minimum times; work is still rounded up to whole tiles."""
        return replace(PERFECT, tiling=self.tiling, on_chip_share=self.on_chip_share)

    def collective(self, kind: str, engine: str = "") -> Collective:
        """Coefficients of a collective: the engine's own implementation if it has rows, else the general one."""
        coefficients = self.collectives.get((kind, engine)) or self.collectives.get((kind, ""))
        return coefficients or Collective(efficiency=self.link_efficiency, floor_s=2.0 * self.hop_s)


PERFECT = Calibration(
    matmul_efficiency=1.0,
    memory_efficiency=1.0,
    operation_floor_s=0.0,
    link_efficiency=1.0,
    hop_s=0.0,
    scale_out_efficiency=1.0,
    scale_out_hop_s=0.0,
    attention_ratio=1.0,
    experts_floor_ratio=1.0,
    blend=SHARPEST,
    on_chip_share=1.0,
    tiling=Tiling(
        tiles=((1.0, 1.0),),
        depth=1.0,
        split_depth=1.0,
        prompt_rows=1.0,
        least_rows=1.0,
        latent_rows=1.0,
        array_rows=1.0,
    ),
    kernels={
        (kind, precision): Kernel(
            compute_efficiency=1.0, memory_efficiency=1.0, floor_s=0.0, passes=0.0 if kind in SPARSE else 1.0
        )
        for kind in KINDS
        for precision in ("bf16", "fp8", "fp4")
    },
    collectives={(kind, ""): Collective(efficiency=1.0, floor_s=0.0) for kind in COLLECTIVES},
)
