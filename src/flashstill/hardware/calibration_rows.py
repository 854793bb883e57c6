"""Read the coefficients of a chip's kernels and collectives (hardware/calibration.py) from fact rows.

A row belongs to a chip or a class of chips, an operation kind and a precision:

    h100-sxm, matmul.memory_efficiency, ..., condition "bf16"
    h100-sxm, matmul.memory_efficiency, ..., condition "bf16 vllm"     the kernels of one engine

A benchmarked chip has its own rows; a chip with the same die uses those (an H200 those of the H100); any other chip
uses the estimates of its maker's class (gpu-amd), and where these have none those of its class (gpu), scaled by the
ratios that the maker's class may have (kernel_ratios.py).  Of the owners
from chip to class the first with a complete set counts, and of that owner the engine's own set before that of all
engines.  A what-if edit of a coefficient overrides all of these.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from flashstill.facts import Fact, Facts
from flashstill.facts.edits import WHAT_IF
from flashstill.hardware.calibration import COLLECTIVES, KINDS, PERFECT, Calibration, Collective, Kernel, Tiling
from flashstill.hardware.kernel_ratios import Ratios
from flashstill.hardware.needs import Needs
from flashstill.hardware.software import ENGINES, LOCAL, has_measured_engines

GENERAL = "kernel"
"""owner of rows that apply to the kernels of every class of chips"""
_Coefficients = TypeVar("_Coefficients", Kernel, Collective)
_NAMES = {kind.__name__: tuple(field.name for field in fields(kind)) for kind in (Kernel, Collective)}
"""fields by class: they are asked for thousands of times"""
SAME_DIE = ("die_mm2", "process_nm")
"""quantities that say which chips have the same die"""
PRECISIONS = ("bf16", "fp32", "fp8", "fp8-block", "fp4", "mxfp4", "int8", "int4", "int2")
"""formats of kernels; one that converts its weights has two, as "mxfp4/bf16" (calibration.kernel_format)"""


def calibration_of(facts: Facts, owners: Sequence[str], needs: Needs) -> Calibration:
    """The coefficients of a chip. owners: its name, chips of the same die, its maker's class, its class.

    Missing general rows are recorded in `needs`.
    """
    ratios = Ratios(facts=facts, maker_class=owners[-2])
    floor_s, hop_s = needs.number("operation_floor_s"), needs.number("hop_s")
    base = {
        "compute_efficiency": needs.number("matmul_efficiency"),
        "memory_efficiency": needs.number("memory_efficiency"),
        "floor_s": floor_s,
    }
    link = {"efficiency": needs.number("link_efficiency"), "floor_s": 2.0 * hop_s, "measured": True}
    own = Calibration(
        matmul_efficiency=base["compute_efficiency"],
        memory_efficiency=base["memory_efficiency"],
        operation_floor_s=floor_s,
        link_efficiency=link["efficiency"],
        hop_s=hop_s,
        scale_out_efficiency=needs.number("scale_out_efficiency"),
        scale_out_hop_s=needs.number("scale_out_hop_s"),
        attention_ratio=needs.of(GENERAL, "attention_ratio"),
        experts_floor_ratio=needs.of(GENERAL, "experts_floor_ratio"),
        blend=needs.of(GENERAL, "general.blend"),
        on_chip_share=needs.of(GENERAL, "on_chip_ratio"),
        tiling=_tiling(needs),
        kernels={
            (kind, condition): kernel
            for kind in KINDS
            for condition in _conditions(facts, owners, kind)
            if (kernel := _coefficients(Kernel, facts, owners, kind, condition, base, ratios))
        },
        collectives={
            (kind, engine): shared
            for kind in COLLECTIVES
            for engine in ("", *ENGINES)
            if (shared := _coefficients(Collective, facts, owners, kind, engine, link, ratios))
        },
    )
    return _edited(own, facts, owners[0])


def _tiling(needs: Needs) -> Tiling:
    """The tile sizes; rows `tile.rows` and `tile.columns` with the same condition form one tile."""
    columns = {row.condition: row.value for row in needs.facts.rows.get((GENERAL, "tile.columns"), ())}
    rows = needs.facts.rows.get((GENERAL, "tile.rows"), ())
    tiles = tuple((row.value, columns[row.condition]) for row in rows if row.condition in columns)
    if not tiles:
        needs.missing.append(f"tile.rows and tile.columns of {GENERAL}")
    return Tiling(
        tiles=tiles or PERFECT.tiling.tiles,
        depth=needs.of(GENERAL, "tile.depth"),
        split_depth=needs.of(GENERAL, "tile.split_depth"),
        prompt_rows=needs.of(GENERAL, "tile.prompt_rows"),
        least_rows=needs.of(GENERAL, "tile.least_rows"),
        latent_rows=needs.of(GENERAL, "tile.latent_rows"),
        array_rows=needs.of(GENERAL, "tile.array_rows"),
        vector_rows=needs.of(GENERAL, "tile.vector_rows"),
    )


def same_die(facts: Facts, name: str) -> tuple[str, ...]:
    """Other benchmarked chips with the same die as `name`: equal maker, class, area and process."""
    timed = facts.derived("timed chips", lambda: _timed(facts))
    mine = _die(facts, name)
    return tuple(other for other in timed if other != name and mine is not None and _die(facts, other) == mine)


def _timed(facts: Facts) -> tuple[str, ...]:
    floors = {f"{kind}.floor_s" for kind in KINDS}
    timed = dict.fromkeys(
        name
        for (name, quantity), rows in facts.rows.items()
        if quantity.partition(".")[0] in KINDS and any(row.kind != WHAT_IF for row in rows)
    )
    with_floors = {name for name, quantity in facts.rows if quantity in floors}
    return tuple(name for name in timed if name in with_floors and name in facts.machines)


def _die(facts: Facts, name: str) -> tuple[str, str, float, float] | None:
    area, process, machine = *(facts.find(name, each) for each in SAME_DIE), facts.machines[name]
    return (machine.maker, machine.chip_class, area.value, process.value) if area and process else None


def _conditions(facts: Facts, owners: Sequence[str], kind: str) -> list[str]:
    """The conditions under which any owner has rows of a kernel kind: "fp8", or "fp8 vllm" for one engine's kernels.

    The kernels that an engine has of its own in the class (FlashAttention 3, CUTLASS) run on the chips of those makers
    on whose chips engines were measured; with others it has those of all engines.  llama.cpp's run on all.
    """
    shared = "" if len(owners) < 2 or has_measured_engines(facts, owners[-2]) else owners[-1]
    found = {
        condition: None
        for owner in owners
        for condition in _by_condition(Kernel, facts, owner, kind)
        if not (owner == shared and condition.partition(" ")[2] not in ("", LOCAL))
    }
    return [condition for condition in found if set(condition.partition(" ")[0].split("/")) <= {*PRECISIONS}]


def _coefficients(
    made_of: type[_Coefficients],
    facts: Facts,
    owners: Sequence[str],
    kind: str,
    condition: str,
    base: dict[str, Any],
    ratios: Ratios,
) -> _Coefficients | None:
    """The rows `kind.field` of the first owner with a complete set for the kind; None if no owner has rows.

    A set with the kind's `floor_s` is complete.  Rows of an incomplete set override those of later owners, so a user's
    file with a single efficiency leaves the other coefficients unchanged.  An engine without a set of its own at an
    owner has the owner's set of all engines.
    """
    corrections: dict[str, float] = {}
    for owner in owners:
        for each in dict.fromkeys((condition, condition.partition(" ")[0])):
            rows = _rows(made_of, facts, owner, kind, each)
            if owner == owners[0] and _are_edits(rows):
                continue
            values = {name: row.value for name, row in rows.items()}
            if "floor_s" in rows:
                complete = {**base, **values}
                return made_of(
                    **{**(ratios.scaled(kind, complete) if owner == owners[-1] else complete), **corrections}
                )
            corrections = {**values, **corrections}
    return made_of(**{**base, **corrections}) if corrections else None


def _rows(made_of: type[_Coefficients], facts: Facts, owner: str, kind: str, condition: str) -> Mapping[str, Fact]:
    """Field name -> row of one owner."""
    return _by_condition(made_of, facts, owner, kind).get(condition, {})


def _by_condition(
    made_of: type[_Coefficients], facts: Facts, owner: str, kind: str
) -> Mapping[str, Mapping[str, Fact]]:
    """Condition -> field name -> row of one owner, gathered once: chips of a class ask for the same ones."""

    def gathered() -> dict[str, dict[str, Fact]]:
        found: dict[str, dict[str, Fact]] = {}
        for name in _NAMES[made_of.__name__]:
            for row in facts.rows.get((owner, f"{kind}.{name}"), ()):
                found.setdefault(row.condition, {})[name] = row
        return found

    return facts.derived(("coefficients", owner, kind), gathered)


def _are_edits(rows: Mapping[str, Fact]) -> bool:
    return all(row.kind == WHAT_IF for row in rows.values())


def _edited(calibration: Calibration, facts: Facts, name: str) -> Calibration:
    """The calibration with what-if edits applied to coefficients for which the chip has no rows.

    An edit of a precision applies to the kernels of every engine in it.
    """

    def edits(made_of: type[_Coefficients], kind: str, condition: str) -> dict[str, Any]:
        rows = _rows(made_of, facts, name, kind, condition)
        return {field: row.value for field, row in rows.items()} if _are_edits(rows) else {}

    kernels, collectives = dict(calibration.kernels), dict(calibration.collectives)
    for kind in KINDS:
        for condition in sorted({*_conditions(facts, (name,), kind), *(each for of, each in kernels if of == kind)}):
            precision, _, engine = condition.partition(" ")
            changes = {**edits(Kernel, kind, precision), **edits(Kernel, kind, condition)}
            if changes:
                kernels[kind, condition] = replace(calibration.kernel(kind, precision, engine), **changes)
    for kind, engine in itertools.product(COLLECTIVES, ("", *ENGINES)):
        if changes := edits(Collective, kind, engine):
            before = calibration.collective(kind, engine)
            measured = before.measured or "floor_s" in changes
            collectives[kind, engine] = replace(before, **changes, measured=measured)
    return replace(calibration, kernels=kernels, collectives=collectives)
