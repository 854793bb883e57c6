"""Random draws in training (dropout, jitter of a router, dropped layers) depend on seed, step and process alone.

Models draw from global generators: torch's, one per device, and for a few architectures NumPy's and Python's.  All are
seeded at the beginning of every step, so that a resumed run draws what an uninterrupted one draws, although nothing of
them is stored; processes draw independently.  The caller's states are put back when training ends.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_STREAM = 0x5EED  # a random stream separate from other uses of the seed


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed all global generators for one step (from 0) of one process."""
    torch_seed, numpy_seed = np.random.SeedSequence([_STREAM, seed, step, rank]).generate_state(2, np.uint64)
    torch.manual_seed(int(torch_seed) >> 1)  # also seeds the generators of all GPUs
    np.random.seed(int(numpy_seed) & 0xFFFFFFFF)
    random.seed(int(numpy_seed))


@contextmanager
def own_draws() -> Iterator[None]:
    """Context after which all global generators continue as if nothing had been drawn or seeded in it."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
