"""What a machine is: chips made from fact rows, and how many of them stand together."""

from flashstill.hardware.chip import Chip, Memory, chip_from_facts, known_chips

__all__ = ["Chip", "Memory", "chip_from_facts", "known_chips"]
