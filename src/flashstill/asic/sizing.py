"""One chip from the numbers that a design leaves open: its size, watts and rates, or why it cannot be built.

weights     bytes of one chip of the layout that `plan` gives so many chips (cost/footprint.py)
cache       `concurrency` sequences of isl + osl tokens; key/value heads that chips share are held by each
memory      (weights + cache / free share) / usable share of the engine, and the engine's own buffers in DRAM
SRAM        sram: all of that.  hardwired: the cache.  hbm: activations of the step at which multipliers and memory
            take as long as each other, of which kernels may count on a part (`on_chip_ratio`)
rate        sram, hardwired: bytes a cycle x clock;  hbm: stacks x rate of one
multipliers intensity x rate: FLOP of the widest format a byte; a narrower format has 2, 4 or 8 times as many, the
            most that fit the same array.  hardwired: weights x clock / cycles between two uses of a weight, and
            multipliers for the attention beside them
spares      slices of SRAM and multipliers beyond those that must work; wiring has none
watts       heat that is removed from the dies, at most that of a package; less if the chip never needs them, or a share
            (choosing.py)
"""

from __future__ import annotations

import math

from flashstill.asic.area import CARRIER, POWER, RETICLE, WAFER, Content, area_of, sides_of
from flashstill.asic.design import HARDWIRED, HBM, ChipDesign
from flashstill.asic.givens import Choice, Givens
from flashstill.cost.footprint import chip_weight_bytes, sequence_bytes
from flashstill.economics.bill_of_materials import Die, Package
from flashstill.economics.wafers import fits_wafer
from flashstill.hardware import BYTES_PER_VALUE
from flashstill.plan.layouts import Degrees, split
from flashstill.units import BITS_PER_BYTE, FLOPS_PER_MAC
from flashstill.workload import weight_bytes

NO_SPLIT = "the model cannot be split over so many chips"
_LEAST_SRAM, _BANK_BYTES = 2.0**20, 2.0**16
"""of any chip, and of a bank, of which a chip has a whole number"""
_ROUNDING = 1.0 + 1e-9


def held_bytes(givens: Givens, chips: int, stages: int) -> tuple[float, float] | None:
    """Bytes of weights and of cache on one of `chips` chips; None if the model cannot be split so."""
    wanted = givens.wanted
    laid = split(wanted.model, chips, stages)
    if laid is None:
        return None
    layout, widths = Degrees(laid[0], laid[1], 1, 1).layout, wanted.precisions.widths
    weights = float(chip_weight_bytes(wanted.model, widths, layout))
    cache = float(sequence_bytes(wanted.model, float(wanted.tokens), widths, layout)) * wanted.concurrency
    return weights, cache


def pipelines(givens: Givens, chips: int) -> dict[int, tuple[float, float]]:
    """Numbers of stages worth trying, with the bytes of weights and of cache of a chip; empty if there are none.

    The fewest stages that the heads allow, and those with which a chip holds least: caches that the chips of a stage
    hold in common (few key/value heads, MLA) are split by stages only.
    """
    possible = {2**power: held_bytes(givens, chips, 2**power) for power in range(chips.bit_length())}
    found = {stages: held for stages, held in possible.items() if held is not None}
    if not found:
        return {}
    least = min(found, key=lambda stages: (sum(found[stages]), stages))
    return {stages: found[stages] for stages in sorted({min(found), least})}


def size(givens: Givens, choice: Choice) -> ChipDesign | str:
    """The chip of a choice, or the reason why it cannot be built."""
    held = held_bytes(givens, choice.chips, choice.stages)
    return NO_SPLIT if held is None else size_holding(givens, choice, *held)


def _sram_bytes(givens: Givens, choice: Choice, weights: float, cached: float) -> float:
    """SRAM of a package in whole banks: for activations, and without HBM for all that it holds."""
    wanted = givens.wanted
    rows, held = float(wanted.concurrency), 0.0
    if wanted.variant == HBM:
        rows = max(choice.intensity * BYTES_PER_VALUE[givens.widest] / FLOPS_PER_MAC, rows)
    else:
        held = (cached + (0.0 if wanted.variant == HARDWIRED else weights)) / givens.software.usable_ratio
    needed = max(held, givens.activation_bytes * rows / givens.value("kernel", "on_chip_ratio"))
    return max(math.ceil(needed * _ROUNDING / _BANK_BYTES) * _BANK_BYTES, _LEAST_SRAM)


def _stacks(givens: Givens, choice: Choice, weights: float, cached: float) -> int:
    """Stacks of HBM of a package, as many on each die: for weights, cache and what the engine keeps for itself."""
    if givens.wanted.variant != HBM:
        return 0
    software, stack = givens.software, givens.value(givens.wanted.memory, "stack_bytes")
    own = software.buffer_bytes + software.graph_bytes
    fewest = math.ceil(((weights + cached + own) / software.usable_ratio) / stack)
    return choice.more * math.ceil(fewest / choice.dies) * choice.dies


def _content(givens: Givens, choice: Choice, sram: float, widest: float, stacks: int) -> Content:
    """What one die holds, spares included. sram: bytes of the package; widest: its FLOP/s in the widest format."""
    wanted, bits = givens.wanted, 0.0
    if wanted.variant == HARDWIRED:
        bits = float(weight_bytes(wanted.model, wanted.precisions.widths)) * BITS_PER_BYTE / choice.chips
    needed, spare = givens.value("spares", "needed_units"), givens.value("spares", "spare_units")
    each = (needed + spare) / needed / choice.dies
    return Content(
        sram_bytes=sram * each,
        multipliers={
            name: widest * rate / FLOPS_PER_MAC / givens.clock_hz * each for name, rate in givens.rates.items()
        },
        wired_bits=bits / choice.dies,
        stacks=stacks / choice.dies,
        lanes=math.ceil(choice.lanes / choice.dies),
        modules=givens.modules if choice.dies > 1 else 0,
    )


def _flops_per_s(givens: Givens, choice: Choice, widest: float) -> dict[str, float]:
    """Peak rates by format. widest: of the widest one; the weights' own is that of their wiring, if they are wired."""
    wanted, flops = givens.wanted, {name: widest * rate for name, rate in givens.rates.items()}
    if wanted.variant == HARDWIRED:
        used_hz = givens.clock_hz / givens.value("wired", "cycles_per_weight")
        flops[wanted.precisions.linear] = FLOPS_PER_MAC * wanted.model.parameters / choice.chips * used_hz
    return flops


def size_holding(givens: Givens, choice: Choice, weights: float, cache: float) -> ChipDesign | str:
    """As `size`, of a chip that holds so many bytes."""
    wanted, cached = givens.wanted, cache / givens.software.free_ratio
    stacks = _stacks(givens, choice, weights, cached)
    memory_bytes = stacks * givens.value(wanted.memory, "stack_bytes") if stacks else 0.0
    memory_rate = stacks * givens.value(wanted.memory, "stack_bytes_per_s") if stacks else 0.0
    sram = _sram_bytes(givens, choice, weights, cached)
    sram_rate = sram * givens.value("sram-macro", "bytes_per_cycle_ratio") * givens.clock_hz
    widest = choice.intensity * (memory_rate or sram_rate)
    area = area_of(givens.rules, _content(givens, choice, sram, widest, stacks))
    sides = sides_of(givens.rules, area.mm2)
    if sides is None:
        return RETICLE
    if not fits_wafer(*sides, givens.wafer):
        return WAFER
    silicon = choice.dies * area.mm2
    carrier = "cowos" if stacks else "organic"
    stands = stacks * givens.memory_value("stack_mm2") if stacks else 0.0
    if silicon + stands > givens.value(carrier, "carrier_mm2"):
        return CARRIER
    idle = silicon * givens.value("silicon", "idle_w_per_mm2")
    watts = min(silicon * givens.value("cooling", "w_per_mm2"), givens.value("cooling", "package_w"))
    if idle >= watts:
        return POWER
    needed, spare = givens.value("spares", "needed_units"), givens.value("spares", "spare_units")
    die = Die(
        node_nm=wanted.node_nm,
        width_mm=sides[0],
        height_mm=sides[1],
        count=choice.dies,
        units=int(needed + spare),
        needed=int(needed),
        units_ratio=(area.sram + area.multipliers) / area.mm2,
    )
    cycles = givens.value("wired", "cycles_per_weight") + givens.value("wired", "pipeline_cycles")
    return ChipDesign(
        name=wanted.name,
        variant=wanted.variant,
        node_nm=wanted.node_nm,
        model=wanted.model.name,
        parameters=float(wanted.model.parameters),
        precision=wanted.precision,
        kv_precision=wanted.precisions.kv,
        area=area,
        width_mm=sides[0],
        height_mm=sides[1],
        package=Package(dies=(die,), memory=wanted.memory if stacks else "", memory_bytes=memory_bytes, stacks=stacks),
        chips=choice.chips,
        tp=choice.chips // choice.stages,
        pp=choice.stages,
        flops_per_s=_flops_per_s(givens, choice, widest),
        sram_bytes=sram,
        sram_bytes_per_s=sram_rate,
        memory=wanted.memory if stacks else "",
        memory_bytes=memory_bytes,
        memory_bytes_per_s=memory_rate,
        link_bytes_per_s=choice.lanes * givens.lane_bytes_per_s,
        power_limit_w=watts,
        idle_w=idle,
        operation_floor_s=cycles / givens.clock_hz if wanted.variant == HARDWIRED else None,
        concurrency=wanted.concurrency,
        context=wanted.tokens,
    )
