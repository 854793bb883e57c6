"""Hardware model: chips built from fact rows, kernel efficiencies, and the overheads of serving engines."""

from flashstill.hardware.calibration import Calibration, Collective, Kernel
from flashstill.hardware.chip import Chip, chip_from_facts, known_chips
from flashstill.hardware.formats import BYTES_PER_VALUE
from flashstill.hardware.memories import Memory
from flashstill.hardware.software import Software, software_of
from flashstill.hardware.system import System
from flashstill.hardware.topology import Topology

__all__ = [
    "BYTES_PER_VALUE",
    "Calibration",
    "Chip",
    "Collective",
    "Kernel",
    "Memory",
    "Software",
    "System",
    "Topology",
    "chip_from_facts",
    "known_chips",
    "software_of",
]
