"""Memory: resident now, the peak during a block of code, and bytes saved by a forward pass for the backward pass."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
from functools import cache
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from flashstill.distill.models import Model, parts
from flashstill.distill.models.devices import current, memory_bytes
from flashstill.distill.models.host_memory import host_bytes

EVERY_S = 0.05


def resident_bytes() -> int:
    """Resident bytes of this process, including mapped files; on a GPU the bytes allocated by torch."""
    if (device := current()).type == "cuda":
        return torch.cuda.memory_allocated(device)
    resident: int = _process().memory_info().rss
    return resident


@cache
def _process() -> Any:
    import psutil

    return psutil.Process()


def machine_bytes() -> float:
    """Bytes of memory, of the GPU or of this machine, that this process may use."""
    return memory_bytes(current()) or host_bytes()


def release() -> None:
    """Return freed memory to the operating system: glibc keeps it, and the next allocations would have less room."""
    gc.collect()
    if current().type == "cuda":
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


class Peak:
    """Peak of `resident_bytes` while a `with` block runs: sampled every 50 ms; on a GPU as torch counts it."""

    def __init__(self) -> None:
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            self.bytes = max(self.bytes, resident_bytes())

    def __enter__(self) -> Peak:
        if (device := current()).type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self.bytes = resident_bytes()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        device = current()
        last = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident_bytes()
        self.bytes = max(self.bytes, last)


def kept_bytes(model: Model, tokens: Tensor) -> int:
    """Bytes that a forward pass over token ids [B, L] saves for the backward pass, without the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an output that refers to its own autograd node would never be freed

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.enable_grad():
        states = parts(model).hidden(tokens)  # keeps the graph alive while it is counted
    del states
    return sum(kept.values())
