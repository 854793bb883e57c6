"""Energy meters of this machine: NVIDIA's library (all GPUs) and Linux' RAPL (processor packages), where they are.

    NVML   nvmlDeviceGetTotalEnergyConsumption, millijoules since the driver was loaded (Volta and later)
    RAPL   /sys/class/powercap/*-rapl:N/energy_uj, microjoules that wrap around at max_energy_range_uj

What they count is the whole chip or package, whoever uses it; where there is no meter, that is said.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")
_NVML = ("libnvidia-ml.so.1", "nvml.dll")


class Meter(Protocol):
    """A counter of energy."""

    @property
    def name(self) -> str:
        """What it counts."""
        ...

    def read(self) -> list[int]:
        """The counters, in units of `to_joules`."""
        ...

    def joules(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Energy between two readings."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Rapl:
    """Processor packages by RAPL. zones: their directories; ranges: where each counter wraps around."""

    zones: tuple[Path, ...]
    ranges: tuple[int, ...]
    name: str = "RAPL (processor packages)"

    def read(self) -> list[int]:
        """Microjoules of every package."""
        return [int((zone / "energy_uj").read_text()) for zone in self.zones]

    def joules(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Energy between two readings, of which each counter wrapped around at most once."""
        each = zip(before, after, self.ranges, strict=True)
        return sum(late - early if late >= early else late - early + most for early, late, most in each) * 1e-6


class Nvml:
    """All GPUs of this machine by NVIDIA's management library."""

    def __init__(self, library: ctypes.CDLL, devices: Sequence[ctypes.c_void_p]) -> None:
        self._library, self._devices = library, devices
        self.name = f"NVML ({len(devices)} GPUs)"

    def read(self) -> list[int]:
        """Millijoules of every GPU; OSError if one cannot be read."""
        found = []
        for device in self._devices:
            value = ctypes.c_ulonglong()
            if self._library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(value)):
                raise OSError("a GPU has no energy counter")
            found.append(value.value)
        return found

    def joules(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Energy between two readings."""
        return sum(late - early for early, late in zip(before, after, strict=True)) * 1e-3


def rapl(root: Path = POWERCAP) -> Rapl | None:
    """The packages' counters, None where there are none or they may not be read."""
    zones = sorted(zone for zone in root.glob("*rapl:*") if zone.name.count(":") == 1)
    try:
        packages = [zone for zone in zones if (zone / "name").read_text().startswith("package")]
        meter = Rapl(
            zones=tuple(packages),
            ranges=tuple(int((zone / "max_energy_range_uj").read_text()) for zone in packages),
        )
        meter.read()
    except (OSError, ValueError):
        return None
    return meter if packages else None


def nvml() -> Nvml | None:
    """The GPUs' counters, None without a driver, a GPU or a counter."""
    for name in _NVML:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if library.nvmlInit_v2():
            return None
        count = ctypes.c_uint()
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        devices = [ctypes.c_void_p() for _ in range(count.value)]
        if not devices or any(
            library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device)) for number, device in enumerate(devices)
        ):
            return None
        meter = Nvml(library, devices)
        try:
            meter.read()
        except OSError:
            return None
        return meter
    return None


class Energy:
    """All meters of this machine, read before and after a run."""

    def __init__(self, meters: Sequence[Meter] | None = None) -> None:
        found: Sequence[Meter | None] = (nvml(), rapl()) if meters is None else meters
        self._meters: list[Meter] = [meter for meter in found if meter is not None]
        self._before: list[list[int]] = []

    @property
    def told(self) -> str:
        """Which meters there are, or that there is none."""
        if not self._meters:
            return "no meter: neither NVML nor RAPL can be read here"
        return " and ".join(meter.name for meter in self._meters) + ", of this machine, whoever uses it"

    def start(self) -> None:
        """Read the counters; one that cannot be read any more gives no energy."""
        try:
            self._before = [meter.read() for meter in self._meters]
        except (OSError, ValueError):
            self._before = []

    def joules(self) -> float | None:
        """Energy since `start`; None without a meter, or if one can no longer be read."""
        try:
            readings = zip(self._meters, self._before, strict=True)  # ValueError if they could not be read before
            found = [meter.joules(before, meter.read()) for meter, before in readings]
            return sum(found) if found else None
        except (OSError, ValueError):
            return None
