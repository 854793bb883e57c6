"""What a package that serves costs: its bill of materials, who makes it, its board and its share of a host.

    purchase   bill of materials x price over cost + dollars per watt of board and cooling x watts + share of the host

With the server in its price it is an owned chip as any other: network, building, power and interest come from
economics/tco.py.
"""

from __future__ import annotations

from flashstill.asic.design import ChipDesign
from flashstill.asic.drawn_area import area_ratio
from flashstill.asic.rows import CLASS_OF
from flashstill.economics.bill_of_materials import BillOfMaterials, Rows, bill_of_materials
from flashstill.economics.tco import OwnedChip
from flashstill.facts import Facts
from flashstill.workload import Quantity


def package_parts(facts: Facts, design: ChipDesign, rows: Rows) -> tuple[BillOfMaterials, Quantity]:
    """The bill of materials of one package, and the dollars it is bought for."""
    bill = bill_of_materials(facts, design.package, rows, area_ratio(facts, design, rows))
    return bill, bill.usd * rows.value("asic", "unit_price_ratio")


def owned_package(facts: Facts, design: ChipDesign, rows: Rows) -> OwnedChip:
    """One package with its board and host. rows: the facts, or draws of them."""
    _, bought = package_parts(facts, design, rows)
    board = rows.value("board", "usd_per_w") * design.power_limit_w + rows.value("board", "usd_host")
    return OwnedChip(
        purchase_usd=bought + board,
        limit_w=design.power_limit_w,
        idle_w=design.idle_w,
        server_power_ratio=rows.value(CLASS_OF[design.variant], "server_power_ratio"),
        price_holds_server=True,
    )
