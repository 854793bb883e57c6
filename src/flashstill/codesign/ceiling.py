"""How fast one user can be served at any cost: memory kinds x synchronisation x context, over all layouts.

    step = sum of max(math, memory, operation floor) over operations + of max(sync, bytes / link) over collectives

of a perfect machine: all peaks reached, no tile half empty, power without limit, every chip linked to every other at
the rate of its links, one sequence, no drafts.  What is left is physics: bytes to read, collectives that wait for each
other, and (if asked) the least time of operations that wait for each other on one chip.  The cost arm prices every
split of the model over stages and chips; the best is the ceiling.  Davies et al. 2025 (LIMINAL, arXiv 2507.14397) ask
the same question.

    memory             bytes and rate of one package
    a stacked one      those of a stack x the stacks of the chip (of a chip without stacks, those that two sides of its
                       silicon have room for), or x the stacks that its silicon carries on top
    sram               the chip's silicon filled with SRAM as far as the area model allows
    infinite           the bytes of the chip's own memory, read in no time
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from flashstill.arch import Architecture
from flashstill.asic.area import rules_of
from flashstill.cost import Conditions, make_conditions, precisions_of
from flashstill.cost.footprint import most_sequences
from flashstill.cost.phases import decode_step, sends
from flashstill.errors import BadInput, InfeasiblePlan, unknown
from flashstill.facts import Facts
from flashstill.hardware import Chip, Memory, chip_from_facts
from flashstill.hardware.calibration import COLLECTIVES, PERFECT, SHARPEST, Calibration, Collective
from flashstill.parallel import Layout
from flashstill.plan.serving_layouts import layouts_of

SRAM, INFINITE = "sram", "infinite"
MOST_CHIPS = 65536
_FOREVER = 1e30
"""bytes a second of a memory that is read in no time, and watts without a limit: finite, so that sums stay numbers"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """The best split for one memory, synchronisation and context. sync_s, operation_s, step_s: seconds.

    bound: what most of the step is (memory, links, compute or overhead).  chips = tp x pp.
    """

    memory: str
    sync_s: float
    operation_s: float
    context: int
    tokens_per_s: float
    chips: int
    tp: int
    pp: int
    bound: str

    @property
    def step_s(self) -> float:
        """Seconds of a token."""
        return 1.0 / self.tokens_per_s

    def as_dict(self) -> dict[str, Any]:
        """The row as a JSON document."""
        return asdict(self)


def memory_names(facts: Facts) -> list[str]:
    """Memories that `ceilings` knows."""
    stacked = [name for name, what in facts.rows if what == "stack_bytes_per_s" and facts.find(name, "pj_per_bit")]
    return [*stacked, SRAM, INFINITE]


def ceilings(
    facts: Facts,
    model: Architecture,
    chip: str,
    memories: Sequence[str],
    syncs_s: Sequence[float],
    contexts: Sequence[int],
    precision: str = "fp8",
    most_chips: int = 1024,
    operation_s: float = 0.0,
) -> tuple[Ceiling, ...]:
    """The ceiling of every memory, synchronisation and context, in that order.

    chip: whose multipliers, links and silicon are used.  operation_s: least seconds of one operation on a chip.
    Raises BadInput for impossible numbers or memories, InfeasiblePlan if the model fits nowhere.
    """
    _check(facts, memories, syncs_s, contexts, most_chips, operation_s)
    if max(contexts) > model.context:
        raise BadInput(
            f"a context of {max(contexts)} is beyond the {model.context} tokens that {model.name} was made for"
        )
    base = chip_from_facts(facts, chip)
    formats = precisions_of(model, precision)
    layouts, _ = layouts_of(model, most_chips)
    alone = [degrees for degrees in layouts if degrees.dp == 1]
    if not alone:
        raise InfeasiblePlan(f"no split of {model.name} over {most_chips} chips", {})
    tp, pp, ep = (np.array([getattr(one, name) for one in alone], dtype=np.float64) for name in ("tp", "pp", "ep"))
    layout = Layout(tp=tp, pp=pp, ep=ep)
    found = []
    for name in memories:
        machine = replace(_unlimited(base, most_chips), tiers=(_tier(facts, base, name),))
        for sync in syncs_s:
            ideal = make_conditions(machine, formats)
            conditions = replace(ideal.perfect, calibration=_synchronised(ideal.perfect.calibration, sync, operation_s))
            found += [_best(model, conditions, layout, name, sync, operation_s, context) for context in contexts]
    return tuple(row for row in found if row is not None)


def _best(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    memory: str,
    sync: float,
    operation: float,
    context: int,
) -> Ceiling | None:
    one = layout.local_batch(1.0)
    step = decode_step(model, conditions, layout, one, float(context))
    between = sends(model, conditions, layout, one)
    seconds = np.asarray(step.seconds + between.seconds)
    fits = np.asarray(most_sequences(model, conditions, layout, float(max(context, 1)))) >= 1.0
    if not fits.any():
        return None
    best = int(np.argmin(np.where(fits, seconds, np.inf)))
    tp, pp = (int(np.asarray(degree)[best]) for degree in (layout.tp, layout.pp))
    shares = {
        name: float(np.broadcast_to(value + between.shares_s[name], seconds.shape)[best])
        for name, value in step.shares_s.items()
    }
    return Ceiling(
        memory=memory,
        sync_s=sync,
        operation_s=operation,
        context=context,
        tokens_per_s=float(1.0 / seconds[best]),
        chips=tp * pp,
        tp=tp,
        pp=pp,
        bound=max(shares, key=lambda name: shares[name]),
    )


def _unlimited(chip: Chip, chips: int) -> Chip:
    """The chip without a limit of power or losses to whole tiles, all linked to all."""
    return replace(
        chip,
        compute_units=0,
        matrix_edge=0,
        power_limit_w=_FOREVER,
        topology=replace(chip.topology, axes=0, peers=0, wrap_edge=1),
        system=replace(chip.system, domain_chips=chips),
    )


def _synchronised(perfect: Calibration, sync_s: float, operation_s: float) -> Calibration:
    """Perfect kernels, with the least time of an operation and of a collective."""
    kernels = {key: replace(kernel, floor_s=operation_s) for key, kernel in perfect.kernels.items()}
    waits = Collective(efficiency=1.0, floor_s=sync_s, blend=SHARPEST, measured=True)
    collectives = {(kind, ""): waits for kind in (*COLLECTIVES, "send")}
    return replace(
        perfect,
        tiling=PERFECT.tiling,
        kernels=kernels,
        operation_floor_s=operation_s,
        collectives=collectives,
        scale_out_hop_s=sync_s,
    )


def _tier(facts: Facts, chip: Chip, name: str) -> Memory:
    """The main memory of a package of the chip with another kind of memory."""
    own, area = chip.memory, facts.value(chip.name, "die_mm2")
    if name == INFINITE:
        return replace(own, bytes_per_s=_FOREVER)
    if name == SRAM:
        node = int(facts.value(chip.name, "process_nm"))
        rules = rules_of(facts, node)
        size = area * (1.0 - rules.other_ratio) / rules.byte_mm2
        ratio, clock = facts.value("sram-macro", "bytes_per_cycle_ratio"), facts.value(f"node-{node}", "clock_hz")
        return replace(own, bytes=size, visible_bytes=size, bytes_per_s=size * ratio * clock)
    beneath = facts.find(name, "beneath_mm2")
    if beneath is not None and beneath.value > 0.0:
        stacks = float(max(1, math.floor(area / beneath.value)))
    else:
        stacks = _stacks_beside(facts, chip, area)
    size = stacks * facts.value(name, "stack_bytes")
    return replace(own, bytes=size, visible_bytes=size, bytes_per_s=stacks * facts.value(name, "stack_bytes_per_s"))


def _stacks_beside(facts: Facts, chip: Chip, area: float) -> float:
    """Stacks of the chip as it is; of a chip without, those that two sides of its silicon have room for."""
    memory = facts.find(chip.name, "memory_bytes")
    rate = facts.find(memory.condition.lower(), "stack_bytes_per_s") if memory is not None else None
    if rate is not None:
        return max(1.0, round(chip.memory.bytes_per_s / rate.value))
    return float(max(1, math.floor(2.0 * math.sqrt(area) / facts.value("hbm", "stack_edge_mm"))))


def _check(
    facts: Facts,
    memories: Sequence[str],
    syncs_s: Sequence[float],
    contexts: Sequence[int],
    most_chips: int,
    operation_s: float,
) -> None:
    known = memory_names(facts)
    for name in memories:
        if name not in known:
            raise BadInput(unknown("memory", name, known))
    if not (memories and syncs_s and contexts):
        raise BadInput("name at least one memory, one synchronisation and one context")
    for seconds in (*syncs_s, operation_s):
        if not (math.isfinite(seconds) and 0.0 <= seconds <= 1.0):
            raise BadInput(f"a synchronisation or an operation takes between 0 and 1 second, not {seconds:g}")
    if min(contexts) < 0:
        raise BadInput(f"a context must be at least 0 tokens, not {min(contexts)}")
    if not 1 <= most_chips <= MOST_CHIPS:
        raise BadInput(f"the most chips must lie between 1 and {MOST_CHIPS:,}, not {most_chips}")
