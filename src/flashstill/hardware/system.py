"""What stands around a chip: how many chips the fast links join, the network beyond them, and the host's power.

domain    chips that the fast links join (8 of an HGX node, 72 of an NVL72 rack, a whole pod of TPUs)
network   beyond the domain: a chip's share of its node's NICs
server    watts of chip, host, fans and power supplies over those of the chip
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.hardware.topology.torus import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """The node or rack that a chip is part of, and the network between such.

    domain_chips: chips that the fast links join; 1 for a chip that stands alone.
    scale_out_bytes_per_s: of one chip to other domains, one direction; 0 without a network.
    server_power_ratio: power of the server over that of its chips.
    """

    domain_chips: int
    scale_out_bytes_per_s: float
    scale_out_joules_per_byte: float
    server_power_ratio: float

    def joined(self, slice_chips: Quantity = 0.0) -> Quantity:
        """Chips that fast links join: a domain, or a smaller slice of it; 0 for a domain."""
        return np.minimum(
            np.where(np.asarray(slice_chips) > 0, slice_chips, np.inf),
            float(self.domain_chips),
        )

    def near(self, group: Quantity, stride: Quantity = 1.0, slice_chips: Quantity = 0.0) -> Quantity:
        """How many chips of a group, `stride` apart, are of one domain; the group has group/near such parts."""
        inside: Quantity = np.clip(np.floor(self.joined(slice_chips) / stride), 1.0, group)
        return inside
