"""The number of threads that the user asks for with an environment variable."""

from __future__ import annotations

import os

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def asked_threads() -> int:
    """The number in OMP_NUM_THREADS or MKL_NUM_THREADS; 0 if neither is set to a number."""
    stated = next((value for name in THREAD_VARIABLES if (value := os.environ.get(name))), "")
    first = stated.split(",")[0].strip()  # OpenMP allows a number for each level of nesting
    return int(first) if first.isdecimal() else 0
