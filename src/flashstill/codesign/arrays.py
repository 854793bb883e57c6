"""Time and energy of matrix products on systolic arrays of an edge, weights staying in place.

    tile        e x e weights: a product of m rows, depth k, n columns has folds = ceil(k / e) ceil(n / e)
    cycles      a tile after another:  2 e + e + m - 2  (load weights, fill, m rows, drain; SCALE-Sim, Samajdar et al.
                2020, equation 1);  overlapped:  max(m, e)  a tile, and 3 e - 2 once (weights load meanwhile)
    time        ceil(folds of equal products / arrays) x cycles of a tile / clock
    multiply    m k n x pJ per MAC
    operands    bytes read and written at the edges of the arrays x pJ per byte of SRAM:
                rows of the left matrix ceil(n / e) times, weights once, sums of 4 bytes written ceil(k / e) times and
                read back one time less
    leakage     watts per mm2 x silicon of all multipliers x time

A small array wastes less of its time on filling and on padding; a large one reads its operands less often.  Which edge
is best by energy x delay follows from the format: the cheaper a multiplication, the more operands matter.  No constant
is fitted to a simulator; all are fact rows.  SCALE-Sim v3 (Raj et al. 2025, arXiv 2504.15377) finds 64 best of 32, 64
and 128 for ViT-base.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flashstill.arch import Architecture
from flashstill.asic.area import rules_of
from flashstill.economics.draws import triangular
from flashstill.errors import BadInput, UnsupportedArchitecture, unknown
from flashstill.facts import Facts
from flashstill.hardware import BYTES_PER_VALUE
from flashstill.units import PICO
from flashstill.workload import Attention, Matmul, prefill

SUM_BYTES = 4.0
"""of a partial sum: 32 bits for every format"""
MOST_MACS = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """`count` products of (rows x depth) (depth x columns), independent of each other."""

    name: str
    rows: int
    depth: int
    columns: int
    count: int = 1

    @property
    def macs(self) -> float:
        """Multiplications of all of them."""
        return float(self.count) * self.rows * self.depth * self.columns


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayCost:
    """What arrays of one edge need for a list of products. joules by part; utilisation: of all multipliers' cycles."""

    edge: int
    arrays: int
    seconds: float
    utilisation: float
    joules: dict[str, float]

    @property
    def total_joules(self) -> float:
        """All of it."""
        return sum(self.joules.values())

    @property
    def energy_delay(self) -> float:
        """Joules x seconds."""
        return self.total_joules * self.seconds

    def as_dict(self) -> dict[str, Any]:
        """The row as a JSON document."""
        return {**asdict(self), "total_joules": self.total_joules, "energy_delay_js": self.energy_delay}


def products_of(model: Architecture, tokens: int) -> tuple[Product, ...]:
    """The matrix products of the blocks of a model over `tokens` tokens, as an encoder runs them, without its ends.

    Attention is whole rectangles, one for each head: arrays compute what a causal mask discards.  Raises
    UnsupportedArchitecture for blocks that are no plain products (experts, recurrence, latent attention).
    """
    found: list[Product] = []
    for operation in prefill(model, 1, tokens):
        if isinstance(operation, Matmul):
            if operation.name == "LM head":
                continue
            sizes = {name: round(float(getattr(operation, name))) for name in ("rows", "depth", "columns")}
            found.append(Product(name=operation.name, count=round(float(operation.count)), **sizes))
        elif isinstance(operation, Attention) and not operation.latent:
            heads = round(float(operation.count * operation.heads * operation.sequences))
            keys, values = int(operation.key_width), int(operation.value_width)
            found.append(Product(name="scores", rows=tokens, depth=keys, columns=tokens, count=heads))
            found.append(Product(name="weighted sum", rows=tokens, depth=tokens, columns=values, count=heads))
        elif float(operation.flops) > 0.0:
            raise UnsupportedArchitecture(
                f"{model.name} has {operation.name}, which is no product of two matrices of fixed size; arrays are"
                " priced for dense models with plain attention"
            )
    return tuple(found)


def array_costs(
    facts: Facts,
    products: Sequence[Product],
    edges: Sequence[int],
    precision: str,
    node_nm: int,
    macs: float | None = None,
    overlapped: bool = False,
) -> tuple[ArrayCost, ...]:
    """Time and energy of each edge. macs: multipliers of each candidate, cut into arrays of its edge; None: one array.

    precision: of both operands.  overlapped: weights of the next tile load while products run.  Raises BadInput for
    impossible numbers, MissingFact for a node without rows.
    """
    _check(facts, edges, precision, macs, products)
    return tuple(_cost(facts, products, edge, precision, node_nm, macs, overlapped) for edge in edges)


def best_shares(
    facts: Facts, costs: Sequence[ArrayCost], precision: str, draws: int = 10_000, seed: int = 0
) -> dict[int, float]:
    """Edge -> share of draws in which it has the least joules x seconds, energies and areas drawn from their ranges.

    A draw takes one value of each row for all edges: joules by part scale with the rows that they are made of.
    """
    numbers = np.random.default_rng(seed)
    rows = {
        "multiply": (facts.get("mac", "pj_per_mac", precision),),
        "operands": (facts.get("sram-far", "pj_per_byte"),),
        "leakage": (facts.get("silicon", "idle_w_per_mm2"), facts.get("mac", "area_um2", precision)),
    }
    times = {
        part: math.prod(triangular(row, *numbers.random((2, draws))) / row.value for row in of_part)
        for part, of_part in rows.items()
    }
    products = np.array([sum(cost.joules[part] * times[part] for part in times) * cost.seconds for cost in costs])
    least = products.argmin(axis=0)
    return {cost.edge: float((least == place).mean()) for place, cost in enumerate(costs)}


def _cost(
    facts: Facts,
    products: Sequence[Product],
    edge: int,
    precision: str,
    node_nm: int,
    macs: float | None,
    overlapped: bool,
) -> ArrayCost:
    node = f"node-{node_nm}"
    arrays = 1 if macs is None else int(macs // edge**2)
    cycles = sum(_cycles(product, edge, arrays, overlapped) for product in products)
    seconds = cycles / facts.value(node, "clock_hz")
    ratio = facts.value(node, "logic_energy_ratio") * PICO
    every = sum(product.macs for product in products)
    moved = sum(_moved_bytes(product, edge, BYTES_PER_VALUE[precision]) for product in products)
    silicon = arrays * edge**2 * rules_of(facts, node_nm).multiplier_mm2[precision]
    return ArrayCost(
        edge=edge,
        arrays=arrays,
        seconds=seconds,
        utilisation=every / (cycles * arrays * edge**2),
        joules={
            "multiply": every * facts.get("mac", "pj_per_mac", precision).value * ratio,
            "operands": moved * facts.value("sram-far", "pj_per_byte") * ratio,
            "leakage": silicon * facts.value("silicon", "idle_w_per_mm2") * seconds,
        },
    )


def _folds(product: Product, edge: int) -> tuple[int, int]:
    """Tiles of weights along the depth and along the columns."""
    return math.ceil(product.depth / edge), math.ceil(product.columns / edge)


def _cycles(product: Product, edge: int, arrays: int, overlapped: bool) -> float:
    deep, wide = _folds(product, edge)
    turns = math.ceil(product.count * deep * wide / arrays)
    if overlapped:
        return turns * max(product.rows, edge) + 3.0 * edge - 2.0
    return turns * (3.0 * edge + product.rows - 2.0)


def _moved_bytes(product: Product, edge: int, value_bytes: float) -> float:
    """Bytes between the SRAM and the edges of the arrays."""
    deep, wide = _folds(product, edge)
    read = product.rows * product.depth * wide * value_bytes + product.depth * product.columns * value_bytes
    sums = product.rows * product.columns * SUM_BYTES * (2.0 * deep - 1.0)
    return product.count * (read + sums)


def _check(facts: Facts, edges: Sequence[int], precision: str, macs: float | None, products: Sequence[Product]) -> None:
    known = [row.condition.partition(",")[0] for row in facts.rows["mac", "area_um2"]]
    usable = [name for name in known if name in BYTES_PER_VALUE and facts.find("mac", "pj_per_mac", name)]
    if precision not in usable:
        raise BadInput(unknown("precision of an array", precision, usable))
    if not edges or not all(1 <= edge <= 65536 for edge in edges):
        raise BadInput("name edges of arrays between 1 and 65536, as 32,64,128")
    if not products:
        raise BadInput("there is no product to price")
    if macs is not None and not (max(edges) ** 2 <= macs <= MOST_MACS):
        raise BadInput(
            f"the multipliers must be at least the {max(edges) ** 2:,} of the largest array and at most {MOST_MACS:g},"
            f" not {macs:g}"
        )
