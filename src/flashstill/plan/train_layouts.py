"""Enumeration of the training layouts over a number of chips that respect the degrees given.

chips = tp x cp x pp x fsdp x dp;  open degrees are tried: tp and pp as powers of two (tp within a fast-link
domain), fsdp as the powers of two that divide the rest and as the whole rest, experts as powers of two
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flashstill.arch import Architecture
from flashstill.errors import BadInput, check_counts
from flashstill.hardware import Chip
from flashstill.parallel.training import RECOMPUTE, TrainingPlan, plan_reason

MOST_TENSOR = 64
MOST_CHIPS = 2**20
NOT_DIVIDED, NO_LINKS = "tp x cp x pp do not divide the chips", "the chip has no links"
NO_NETWORK = "the chips have no network beyond their fast links"


class TrainingDegrees(NamedTuple):
    """Chips along each axis of parallelism. interleave: pieces per pipeline stage."""

    tp: int
    cp: int
    pp: int
    ep: int
    fsdp: int
    dp: int
    interleave: int

    @property
    def chips(self) -> int:
        """Number of chips; ep adds none, as experts share the chips of the other axes."""
        return self.tp * self.cp * self.pp * self.fsdp * self.dp


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingDeployment:
    """Chips and layout of a training step. None: all choices are tried, and the fastest one that fits is taken.

    chips: number of chips; None if the degrees give it: tp x cp x pp x fsdp x dp, each 1 if not given.
    precision: of the products, bf16 or fp8.  framework: whose overheads are added, nemo, maxtext or another.
    recompute: what is recomputed in the backward pass (`RECOMPUTE` of parallel/training.py).
    sequence_parallel: norms and residuals split among a tensor-parallel group.  zero1: the optimizer split over dp.
    """

    chip: str
    chips: int | None = None
    tp: int | None = None
    cp: int = 1
    pp: int | None = None
    ep: int | None = None
    fsdp: int | None = None
    dp: int | None = None
    interleave: int = 1
    recompute: str | None = None
    precision: str = "bf16"
    framework: str | None = None
    sequence_parallel: bool = True
    zero1: bool = True


def count_of_chips(asked: TrainingDeployment) -> int:
    """Number of chips; BadInput if neither it nor any degree is given, or a number is below 1."""
    degrees = ("chips", "tp", "cp", "pp", "ep", "fsdp", "dp", "interleave")
    check_counts({name: getattr(asked, name) for name in degrees})
    product = (asked.tp or 1) * asked.cp * (asked.pp or 1) * (asked.fsdp or 1) * (asked.dp or 1)
    if asked.chips is None and product == 1 and None in (asked.tp, asked.pp, asked.fsdp, asked.dp):
        raise BadInput("training needs --chips, or the degrees whose product they are (--tp, --pp, --fsdp, --dp)")
    chips = product if asked.chips is None else asked.chips
    if chips > MOST_CHIPS:
        raise BadInput(f"{chips:,} chips are more than any network connects; train on at most {MOST_CHIPS:,}")
    return chips


def training_layouts(
    model: Architecture, chip: Chip, asked: TrainingDeployment, batch: int, length: int, microbatch: int
) -> tuple[list[TrainingDegrees], Counter[str]]:
    """The layouts that can be built, and the number that cannot, by reason."""
    chips = count_of_chips(asked)
    layouts: list[TrainingDegrees] = []
    refused = Counter[str]()
    for degrees in _combinations(model, chip, asked, chips, refused):
        plan = plan_of(degrees, asked, batch, length, microbatch, RECOMPUTE_NONE)
        reason = _link_reason(chip, chips) or plan_reason(model, plan)
        if reason is None:
            layouts.append(degrees)
        else:
            refused[reason.split(":")[0]] += 1
    return layouts, refused


RECOMPUTE_NONE = next(iter(RECOMPUTE))


def plan_of(
    degrees: TrainingDegrees | Sequence[TrainingDegrees],
    asked: TrainingDeployment,
    batch: int,
    length: int,
    microbatch: int,
    recompute: str,
) -> TrainingPlan:
    """One layout, or many as arrays, as a `TrainingPlan` for the cost model."""
    tp, cp, pp, ep, fsdp, dp, interleave = np.array(degrees, dtype=np.float64).T
    return TrainingPlan(
        batch=float(batch),
        length=float(length),
        microbatch=float(microbatch),
        tp=tp,
        cp=cp,
        pp=pp,
        ep=ep,
        fsdp=fsdp,
        dp=dp,
        interleave=interleave,
        recompute=recompute,
        sequence_parallel=asked.sequence_parallel,
        zero1=asked.zero1,
    )


def _link_reason(chip: Chip, chips: int) -> str | None:
    if chips > 1 and not chip.topology.link_bytes_per_s:
        return NO_LINKS
    if chips > chip.system.domain_chips and not chip.system.scale_out_bytes_per_s:
        return NO_NETWORK
    return None


def _combinations(
    model: Architecture, chip: Chip, asked: TrainingDeployment, chips: int, refused: Counter[str]
) -> Iterator[TrainingDegrees]:
    tensor = [asked.tp] if asked.tp else _powers(min(chips, chip.system.domain_chips, MOST_TENSOR))
    stages = [asked.pp] if asked.pp else _powers(min(chips, model.depth // asked.interleave))
    for tp in tensor:
        for pp in stages:
            rest, odd = divmod(chips, tp * asked.cp * pp)
            replicas = [] if odd or not rest else list(_replicas(asked, rest))
            if not replicas:
                refused[NOT_DIVIDED] += 1
            for fsdp, dp in replicas:
                for ep in _expert_degrees(model, asked, tp * asked.cp * fsdp * dp):
                    yield TrainingDegrees(
                        tp=tp, cp=asked.cp, pp=pp, ep=ep, fsdp=fsdp, dp=dp, interleave=asked.interleave
                    )


def _replicas(asked: TrainingDeployment, rest: int) -> Iterator[tuple[int, int]]:
    """Candidate pairs (fsdp, dp) whose product is `rest`."""
    if asked.fsdp:
        split = [asked.fsdp]
    elif asked.dp:
        split = [rest // asked.dp]
    else:
        split = sorted({power for power in _powers(rest) if rest % power == 0} | {rest})
    for fsdp in split:
        dp = rest // fsdp if fsdp else 0
        if fsdp * dp == rest and asked.dp in (None, dp):
            yield fsdp, dp


def _expert_degrees(model: Architecture, asked: TrainingDeployment, stage_chips: int) -> list[int]:
    if asked.ep:
        return [asked.ep]
    most = max(layer.ffn.experts for layer in model.layers) if model.routed else 1
    return _powers(min(most, stage_chips))


def _powers(most: int) -> list[int]:
    return [2**power for power in range(most.bit_length()) if 2**power <= most]
