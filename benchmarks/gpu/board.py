"""What NVIDIA's library tells of a board while it works: joules, watts, clocks, limits.  Nothing is ever set."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.load_test.meters import Nvml, nvml

LEAD_S, WANTED_S = 0.15, 0.75
"""the counter lags behind the load: the lead is run and not counted"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """Watts over a stretch of steady work. updates: times that the counter moved; meter: what was read."""

    watts: float
    window_s: float
    updates: int
    meter: str
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    celsius: float | None = None
    limited_by: str = ""


class Board:
    """The first GPU by NVML; every reading is None where there is none."""

    def __init__(self) -> None:
        self._counter: Nvml | None = nvml()
        self._library: Any = None
        self._handle: Any = None
        try:
            self._library = importlib.import_module("pynvml")
            self._library.nvmlInit()
            self._handle = self._library.nvmlDeviceGetHandleByIndex(0)
        except Exception:  # no driver, no package, no GPU: whatever the library raises
            self._handle = None

    @property
    def name(self) -> str:
        """The board's name, asked without making a context; "GPU 0" where it is not told."""
        try:
            told = self._library.nvmlDeviceGetName(self._handle)
        except Exception:
            return "GPU 0"
        return told.decode() if isinstance(told, bytes) else str(told)

    @property
    def measures(self) -> bool:
        """Whether joules can be told at all."""
        return self._counter is not None or self._ask("nvmlDeviceGetPowerUsage") is not None

    def millijoules(self) -> int | None:
        """The energy counter of the first GPU; None without one."""
        return None if self._counter is None else self._counter.read()[0]

    def facts(self) -> dict[str, float]:
        """Limits and clocks of the board as it stands, each in the unit of its name."""
        library = self._library
        asked: dict[str, tuple[float, str, Sequence[int]]] = {
            "power_limit_w": (1e-3, "nvmlDeviceGetEnforcedPowerLimit", ()),
            "power_limit_default_w": (1e-3, "nvmlDeviceGetPowerManagementDefaultLimit", ()),
            "power_w": (1e-3, "nvmlDeviceGetPowerUsage", ()),
            "temperature_celsius": (1.0, "nvmlDeviceGetTemperature", (0,)),
            "sm_clock_mhz": (1.0, "nvmlDeviceGetClockInfo", (1,)),
            "memory_clock_mhz": (1.0, "nvmlDeviceGetClockInfo", (2,)),
            "most_sm_clock_mhz": (1.0, "nvmlDeviceGetMaxClockInfo", (1,)),
            "most_memory_clock_mhz": (1.0, "nvmlDeviceGetMaxClockInfo", (2,)),
        }
        found = {name: (scale, self._ask(call, *given)) for name, (scale, call, given) in asked.items()}
        told = {name: value * scale for name, (scale, value) in found.items() if value is not None}
        driver = None
        if self._handle is not None:
            try:
                driver = str(library.nvmlSystemGetDriverVersion())
            except Exception:  # a fact that is missing is left out
                driver = None
        return told | ({"driver": float(driver.split(".")[0])} if driver and driver[0].isdigit() else {})

    def _ask(self, call: str, *given: int) -> float | None:
        if self._handle is None:
            return None
        try:
            return float(getattr(self._library, call)(self._handle, *given))
        except Exception:  # this board or driver does not tell
            return None

    def _limits(self) -> str:
        """Why the clocks are below their highest, as NVML's bit mask in hexadecimal."""
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return "" if reasons is None else hex(int(reasons))

    def watch(self, work: Callable[[], None], seconds: float = LEAD_S + WANTED_S) -> Drawn | None:
        """Calls `work` (some milliseconds each, which may return before the GPU is done) for `seconds`; mean watts
        between the first and last time that the counter moved after the lead.  None without a meter.

        Without a counter the board's own power reading is averaged, which is itself a mean over up to a second.
        """
        began = time.perf_counter()
        moves: list[tuple[float, int]] = []
        powers: list[float] = []
        last, middle = self.millijoules(), False
        clocks: dict[str, float] = {}
        limits = ""
        while (passed := time.perf_counter() - began) < seconds:
            work()
            now, energy = time.perf_counter(), self.millijoules()
            if energy is not None and energy != last:
                if passed > LEAD_S:
                    moves.append((now, energy))
                last = energy
            if energy is None and passed > LEAD_S and (power := self._ask("nvmlDeviceGetPowerUsage")) is not None:
                powers.append(power * 1e-3)
            if not middle and passed > 0.6 * seconds:
                middle, clocks, limits = True, self.facts(), self._limits()
        told: dict[str, Any] = {
            "sm_clock_mhz": clocks.get("sm_clock_mhz"), "memory_clock_mhz": clocks.get("memory_clock_mhz"),
            "celsius": clocks.get("temperature_celsius"), "limited_by": limits,
        }  # fmt: skip
        if len(moves) >= 2:
            window = moves[-1][0] - moves[0][0]
            watts = (moves[-1][1] - moves[0][1]) * 1e-3 / window
            return Drawn(watts=watts, window_s=window, updates=len(moves), meter="NVML energy counter", **told)
        if powers:
            watts = sum(powers) / len(powers)
            return Drawn(watts=watts, window_s=seconds - LEAD_S, updates=len(powers), meter="NVML power", **told)
        return None
