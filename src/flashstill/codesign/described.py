"""One design in words and numbers: what it is, what it costs to make, and how each load is served on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flashstill.codesign.design_chips import NAME
from flashstill.codesign.design_columns import Designs, columns_of
from flashstill.codesign.design_rows import rows_of_design
from flashstill.codesign.designs import ON_SRAM
from flashstill.codesign.hunt import Hunt
from flashstill.codesign.nearest_chips import nearest
from flashstill.facts import Facts

_WHOLE = ("chips", "batch", "tp", "pp", "dp", "ep")


def designs_of(hunt: Hunt, design: int) -> Designs:
    """One design with its silicon."""
    return hunt.by_block(np.array([design], dtype=np.intp))[0][1]


def described(hunt: Hunt, design: int) -> dict[str, Any]:
    """A design as a JSON document: its axes, and the numbers of the chip by the names of fact rows."""
    return document_of(hunt, designs_of(hunt, design)) | {"design": design}


def document_of(hunt: Hunt, one: Designs) -> dict[str, Any]:
    """As `described`, of a list of one design that need not be of the space."""
    block, silicon = one.block, one.silicon
    memory, links = hunt.space.memories_of(block)[int(one.memory[0])], hunt.space.links[int(one.links[0])]
    columns = columns_of(hunt.facts, hunt.space, hunt.block_facts_of(one), one)
    linked = float(columns.link_bytes_per_s[0])
    chip = {
        **{f"flops_per_s.{name}": float(rate[0]) for name, rate in columns.flops_per_s.items()},
        "memory_bytes": float(columns.memory_bytes[0] + columns.weights_bytes[0]),
        "memory_bytes_per_s": float(columns.memory_bytes_per_s[0] + columns.weights_bytes_per_s[0]),
        "sram_bytes": float(columns.sram_bytes[0]),
        "sram_bytes_per_s": float(columns.sram_bytes_per_s[0]) if block.on_sram else 0.0,
        "link_bytes_per_s": linked,
        "power_limit_w": float(columns.limit_w[0]),
        "idle_w": float(columns.idle_w[0]),
        "die_mm2": float(columns.package_mm2[0]),
    }
    found = {
        "node_nm": block.node_nm,
        "dies": block.dies,
        "die_mm2": _one(silicon.die_mm2),
        "narrowest": block.narrowest,
        "matrix_edge": block.edge,
        "macs": float(one.macs[0]),
        "memory": memory.label,
        "links": links.label,
        "made_usd": _one(silicon.made_usd),
        "memory_usd": _one(silicon.memory_usd),
        "purchase_usd": _one(silicon.purchase_usd),
        "design_usd": _one(silicon.design_usd),
        "chip": chip,
    }
    return {"words": words_of(found), **found}


def rows_of(hunt: Hunt, design: int) -> list[dict[str, Any]] | None:
    """A design as fact rows (--facts); None for weights in a memory of their own, which rows do not have."""
    one = designs_of(hunt, design)
    memory = hunt.space.memories_of(one.block)[int(one.memory[0])]
    if memory.weights_kind:
        return None
    links, chip = hunt.space.links[int(one.links[0])], document_of(hunt, one)["chip"]
    rows = rows_of_design(hunt.facts, NAME, one.block, memory, links, chip)
    return [
        {"quantity": row.quantity, "value": row.value, "unit": row.unit, "condition": row.condition} for row in rows
    ]


def words_of(document: dict[str, Any]) -> str:
    """A design in one line."""
    chip = document["chip"]
    parts = (
        f"{document['node_nm']} nm",
        f"{document['dies']} x {document['die_mm2']:.0f} mm2",
        f"{document['macs']:,.0f} multipliers, bf16 to {document['narrowest']}, in arrays of {document['matrix_edge']}",
        f"{chip['sram_bytes'] / 2.0**20:.0f} MiB of SRAM",
        document["memory"] if document["memory"] != ON_SRAM else "no other memory",
        document["links"],
        f"{chip['power_limit_w']:.0f} W",
    )
    return ", ".join(parts)


def served(hunt: Hunt, design: int, volume: float, objective: str, loads: Sequence[int]) -> list[dict[str, Any]]:
    """How a design serves each load, on its best deployment by an objective; what it cannot serve is left out."""
    answers = []
    for place in loads:
        load = hunt.loads[place]
        found = hunt.answers(place, np.array([design], dtype=np.intp), ((objective, volume),))[0][1][0]
        if np.isfinite(found[objective][0]):
            figures = {name: int(value[0]) if name in _WHOLE else float(value[0]) for name, value in found.items()}
            answers.append({"load": load.label, "precision": load.share.precision, **figures})
    return answers


def with_nearest(facts: Facts, document: dict[str, Any]) -> dict[str, Any]:
    """The design with the chips that exist nearest to it."""
    return document | {"nearest": [one.as_dict() for one in nearest(facts, document["chip"])]}


def _one(values: Any) -> float:
    return float(np.asarray(values).reshape(-1)[0])
