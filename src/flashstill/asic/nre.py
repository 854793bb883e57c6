"""What a chip costs before the first one serves: design, software, licences, masks, respins, bring-up.

headline   dollars that a design of a node is said to cost, of which a share s is software
hardware   headline x (1 - s) x ratio of the variant        few blocks, repeated, cost less than the headline's
software   headline x s x ratio of the variant
licences   memory interface, links and host, of those that the chip has
masks      a set
respins    expected number x (share of the masks + share of the hardware's design)
rewiring   hard-wired, for each model, the first included: the masks that hold the weights of each of the different
           dies of a machine, and its mapping
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from flashstill.asic.design import HARDWIRED, ChipDesign
from flashstill.economics.bill_of_materials import Rows
from flashstill.workload import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Nre:
    """Dollars spent once, by part; arrays over draws."""

    hardware_usd: Quantity
    software_usd: Quantity
    licences_usd: Quantity
    masks_usd: Quantity
    respins_usd: Quantity
    bring_up_usd: Quantity

    @property
    def usd(self) -> Quantity:
        """All of it."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, Quantity]:
        """Dollars by part: hardware, software, licences, masks, respins, bring_up."""
        return {name.removesuffix("_usd"): value for name, value in asdict(self).items()}


def owner_of(design: ChipDesign) -> str:
    """Owner of the fact rows of a variant."""
    return f"asic-{design.variant}"


def nre_of(design: ChipDesign, rows: Rows) -> Nre:
    """The cost of a design up to its first chips; MissingFact for an unknown node."""
    return nre_for(rows, design.node_nm, owner_of(design), bool(design.memory), bool(design.link_bytes_per_s))


def nre_for(rows: Rows, node_nm: int, kind: str, has_memory: bool, has_links: bool) -> Nre:
    """As `nre_of`, of any chip. kind: owner of the rows of its variant (asic-hbm)."""
    node = f"node-{node_nm}"
    headline, software_share = rows.value(node, "usd_design"), rows.value("asic", "software_share_ratio")
    hardware = headline * (1.0 - software_share) * rows.value(kind, "design_ratio")
    mask_set = rows.value(node, "usd_mask_set")
    licences = rows.value("asic", "usd_ip_host")
    if has_memory:
        licences = licences + rows.value("asic", "usd_ip_memory")
    if has_links:
        licences = licences + rows.value("asic", "usd_ip_links")
    again = rows.value("asic", "respin_mask_ratio") * mask_set + rows.value("asic", "respin_design_ratio") * hardware
    return Nre(
        hardware_usd=hardware,
        software_usd=headline * software_share * rows.value(kind, "software_ratio"),
        licences_usd=licences,
        masks_usd=mask_set,
        respins_usd=rows.value("asic", "respins") * again,
        bring_up_usd=rows.value("asic", "usd_bring_up"),
    )


def rewiring_usd(design: ChipDesign, rows: Rows) -> Quantity:
    """Dollars to put a model into the wiring of all dies; 0 for chips that load any model."""
    if design.variant != HARDWIRED:
        return 0.0
    kind, mask_set = owner_of(design), rows.value(f"node-{design.node_nm}", "usd_mask_set")
    masks: Quantity = design.dies * rows.value("wired", "masks_ratio") * mask_set
    dollars: Quantity = rows.value(kind, "usd_rewire") + masks
    return dollars
