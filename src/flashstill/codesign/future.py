"""What a chip is chosen for: mixes of models and traffic, futures of them, and what technology gives in a year.

    Share      one model with its traffic, and its part of all output tokens
    Mix        shares that sum to one: what a fleet serves in one year
    Future     one mix for each year in which the chip serves, how many tokens, and how probable all that is
    Roadmap    what a chip that is designed for a year can be made of: one `Spread` for each driver

A Spread is a P10, a median and a P90, or the range of a fact row: both are read as triangular (economics/draws.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flashstill.arch import Architecture
from flashstill.errors import BadInput, check_counts

DENSE, SPARSE, LONG_CONTEXT, THINKING = "dense", "sparse", "long context", "thinking"
KINDS = (DENSE, SPARSE, LONG_CONTEXT, THINKING)
"""kinds of future that a plan may ask for without naming models"""
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A number that is not known exactly. unit: as in fact rows.  basis: where it comes from, in a sentence."""

    value: float
    low: float
    high: float
    unit: str
    basis: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.value <= self.high):
            raise BadInput(f"a spread needs low <= value <= high, not {self.low:g}, {self.value:g}, {self.high:g}")

    def as_dict(self) -> dict[str, Any]:
        """The spread as a JSON document."""
        return {"value": self.value, "low": self.low, "high": self.high, "unit": self.unit, "basis": self.basis}


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """One model with its traffic. weight: its part of all output tokens of the mix.

    isl, osl: tokens of a prompt and of its answer.  max_ttft_s, max_tpot_s: bounds in seconds, None without one.
    precision: of weights, None for that of the published checkpoint.
    """

    model: Architecture
    weight: float
    isl: int
    osl: int
    max_ttft_s: float | None = None
    max_tpot_s: float | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        check_counts({"isl": self.isl, "osl": self.osl})
        if not (math.isfinite(self.weight) and self.weight > 0.0):
            raise BadInput(f"the weight of {self.model.name} in a mix must be above 0, not {self.weight:g}")
        for name in ("max_ttft_s", "max_tpot_s"):
            bound = getattr(self, name)
            if bound is not None and not bound > 0.0:
                raise BadInput(f"the bound {name} of {self.model.name} must be above 0, not {bound}")

    def as_dict(self) -> dict[str, Any]:
        """The share as a JSON document; the model by its name and counts."""
        return {
            "model": self.model.name,
            "parameters": float(self.model.parameters),
            "active_parameters": float(self.model.active_parameters),
            "weight": self.weight,
            "isl": self.isl,
            "osl": self.osl,
            "max_ttft_s": self.max_ttft_s,
            "max_tpot_s": self.max_tpot_s,
            "precision": self.precision,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """Models that share a fleet. Weights must sum to one (`mix_of` scales any)."""

    name: str
    shares: tuple[Share, ...]

    def __post_init__(self) -> None:
        if not self.shares:
            raise BadInput(f"the mix {self.name!r} has no models")
        total = sum(share.weight for share in self.shares)
        if abs(total - 1.0) > _ROUNDING * len(self.shares):
            raise BadInput(f"the weights of the mix {self.name!r} sum to {total:g}, not to 1")

    def as_dict(self) -> dict[str, Any]:
        """The mix as a JSON document."""
        return {"name": self.name, "shares": [share.as_dict() for share in self.shares]}


def mix_of(name: str, shares: tuple[Share, ...]) -> Mix:
    """A mix of shares whose weights need not sum to one."""
    from dataclasses import replace

    total = sum(share.weight for share in shares)
    return Mix(name=name, shares=tuple(replace(share, weight=share.weight / total) for share in shares))


@dataclass(frozen=True, kw_only=True, slots=True)
class Future:
    """One way the years may go. kind: one of KINDS, or "own" for a user's.

    mixes: what is served in each year of the chip's life, from the year it lands; the last goes on.
    demand: output tokens of a year over those of the year of the decision; of each year as `mixes`.
    probability: of this future among those compared; they sum to one.
    """

    name: str
    kind: str
    mixes: tuple[Mix, ...]
    demand: tuple[float, ...]
    probability: float
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.mixes or not self.demand:
            raise BadInput(f"the future {self.name!r} needs a mix and a demand for its first year")
        if not all(math.isfinite(times) and times > 0.0 for times in self.demand):
            raise BadInput(f"the demand of the future {self.name!r} must be above 0 in every year")
        if not 0.0 <= self.probability <= 1.0:
            raise BadInput(f"the probability of {self.name!r} must lie between 0 and 1, not {self.probability:g}")

    def mix(self, year: int) -> Mix:
        """What is served in a year of the chip's life, 0 for the first."""
        return self.mixes[min(year, len(self.mixes) - 1)]

    def tokens(self, year: int) -> float:
        """Output tokens of a year of the chip's life, over those of the year of the decision."""
        return self.demand[min(year, len(self.demand) - 1)]

    def as_dict(self) -> dict[str, Any]:
        """The future as a JSON document."""
        return {
            "name": self.name,
            "kind": self.kind,
            "probability": self.probability,
            "demand": list(self.demand),
            "mixes": [mix.as_dict() for mix in self.mixes],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryKind:
    """A kind of memory that can be had in a year. name: as fact rows have it (hbm4).

    stack_bytes, stack_bytes_per_s: of one stack or channel package.  pj_per_bit: of its cells.  usd_per_byte: price.
    since: year of its first volume.  stacked: on the logic die itself, so that it needs no edge of it.
    """

    name: str
    stack_bytes: Spread
    stack_bytes_per_s: Spread
    pj_per_bit: Spread
    usd_per_byte: Spread
    since: Spread
    stacked: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The memory as a JSON document."""
        names = ("stack_bytes", "stack_bytes_per_s", "pj_per_bit", "usd_per_byte", "since")
        return {**{name: getattr(self, name).as_dict() for name in names}, "stacked": self.stacked}


@dataclass(frozen=True, kw_only=True, slots=True)
class Roadmap:
    """What a chip designed for `year` can be made of, by what was known at the end of `as_of`.

    flops_per_s_per_mm2: of dies, by precision (dense).  node_nm: the newest process in volume by then; its rows are
    node-N of the facts.  usd_per_wafer: of that process.  memories: by name, those in volume by then.
    stacks: on one package.  link_bytes_per_s: of one chip, one direction, all links.  package_w: that cooling removes
    from one package.  die_mm2, package_mm2: most silicon of a die (the reticle) and of all dies of a package.
    mac_energy_ratio: energy of logic over that at 7 nm.
    others: further drivers by name (fitted trends of chips as a whole), for reports.
    """

    year: int
    as_of: int
    node_nm: float
    flops_per_s_per_mm2: Mapping[str, Spread]
    mac_energy_ratio: Spread
    usd_per_wafer: Spread
    memories: Mapping[str, MemoryKind]
    stacks: Spread
    link_bytes_per_s: Spread
    package_w: Spread
    die_mm2: Spread
    package_mm2: Spread
    others: Mapping[str, Spread] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The roadmap as a JSON document."""
        names = (
            "mac_energy_ratio", "usd_per_wafer", "stacks", "link_bytes_per_s", "package_w", "die_mm2", "package_mm2",
        )  # fmt: skip
        return {
            "year": self.year,
            "as_of": self.as_of,
            "node_nm": self.node_nm,
            **{name: getattr(self, name).as_dict() for name in names},
            "flops_per_s_per_mm2": {name: spread.as_dict() for name, spread in self.flops_per_s_per_mm2.items()},
            "memories": {name: kind.as_dict() for name, kind in self.memories.items()},
            "chips": {name: spread.as_dict() for name, spread in self.others.items()},
            "notes": list(self.notes),
        }
