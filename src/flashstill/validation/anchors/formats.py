"""Conditions under which timed kernels of a format are priced alone."""

from __future__ import annotations

from dataclasses import replace

from flashstill.cost import Conditions, make_conditions, uniform
from flashstill.hardware import BYTES_PER_VALUE, Chip
from flashstill.hardware.software import NO_SOFTWARE


def kernels_alone(chip: Chip, kernels: str, cache: str = "") -> Conditions:
    """Conditions of kernels without an engine around them. kernels: as `calibration.kernel_format` names them."""
    stored, _, multiplied = kernels.partition("/")
    software = replace(NO_SOFTWARE, mxfp4_input_bits=8.0 * BYTES_PER_VALUE[multiplied or stored])
    return make_conditions(chip, uniform(stored, cache or stored), software=software)
