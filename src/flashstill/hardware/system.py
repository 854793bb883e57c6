"""The system around a chip: size of the scale-up domain, the scale-out network, and the server's power.

domain    chips connected by the fast links (8 of an HGX node, 72 of an NVL72 rack, a whole pod of TPUs)
network   between domains: each chip's share of its node's NIC bandwidth
server    power of chip, host, fans and power supplies divided by that of the chip
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.hardware.topology.torus import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """The node or rack of a chip, and the network between nodes or racks.

    domain_chips: chips connected by the fast links; 1 for a chip without links.
    scale_out_bytes_per_s: bandwidth of one chip to other domains, one direction; 0 without a network.
    server_power_ratio: power of the server divided by that of its chips.
    """

    domain_chips: int
    scale_out_bytes_per_s: float
    scale_out_joules_per_byte: float
    server_power_ratio: float

    def joined(self, slice_chips: Quantity = 0.0) -> Quantity:
        """Chips connected by fast links: the domain, or `slice_chips` if smaller; 0 means the whole domain."""
        return np.minimum(
            np.where(np.asarray(slice_chips) > 0, slice_chips, np.inf),
            self.domain_chips * 1.0,
        )

    def near(self, group: Quantity, stride: Quantity = 1.0, slice_chips: Quantity = 0.0) -> Quantity:
        """Members of a group, with ranks `stride` apart, in one domain; the group spans group/near domains."""
        inside: Quantity = np.minimum(np.maximum(np.floor(self.joined(slice_chips) / stride), 1.0), group)
        return inside
