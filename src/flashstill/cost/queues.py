"""Mean wait before servers whose work does not vary: half of that in an M/M/k queue (Sakasegawa 1977, equation 3).

W = T r^(sqrt(2(k+1)) - 1) / (2 k (1 - r))        k servers, busy for a share r of the time with work of T seconds
"""

from __future__ import annotations

import numpy as np

from flashstill.workload import Quantity


def wait_seconds(work_s: Quantity, servers: Quantity, busy: Quantity) -> Quantity:
    """Seconds for which work of `work_s` waits before one of `servers`, each `busy` for a share below 1."""
    power = np.sqrt(2.0 * (np.asarray(servers, dtype=np.float64) + 1.0)) - 1.0
    wait: Quantity = work_s / (2.0 * servers) * busy**power / (1.0 - busy)
    return wait
