"""Where a model that is only run, a teacher, is put: on the device of this process, or spread over all GPUs.

Decided from the bytes that its weights take here, before any are read.  A spread model runs its blocks one GPU after
another (accelerate's device_map): no faster than one GPU, but it fits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from flashstill.distill.models.devices import current
from flashstill.distill.models.directories import read_json, shapes, weight_files
from flashstill.distill.models.host_memory import parameters_of
from flashstill.distill.models.quantised import is_made_plain, method_of
from flashstill.errors import BadInput
from flashstill.units import show

SHARE = 0.85
"""of a GPU's free memory that weights may take; activations and logits need the rest"""


def weight_bytes(path: Path, dtype: torch.dtype) -> float:
    """Bytes that a directory's weights take in memory: from the headers of its files, of packed ones that are read as
    plain weights from its config.json, and of those that stay packed from the sizes of its files."""
    fields = read_json(path / "config.json")
    method = method_of(fields)
    if method and not is_made_plain(method, shapes(path)):
        return float(sum(file.stat().st_size for file in weight_files(path)))
    if method:
        return float(parameters_of(fields, path.name) * dtype.itemsize)
    return float(sum(math.prod(shape) for shape in shapes(path).values()) * dtype.itemsize)


def placement(path: Path, dtype: torch.dtype, may_spread: bool) -> dict[str, Any]:
    """Arguments for transformers' from_pretrained that put a model on its GPU, with no copy of it in the machine's
    memory, or spread it over all GPUs if it may be; empty without a GPU.

    Raises BadInput if nothing here holds a model that may be spread.
    """
    device = current()
    if device.type != "cuda":
        return {}
    if not may_spread:
        return {"device_map": {"": device}}
    free = [float(torch.cuda.mem_get_info(index)[0]) for index in range(torch.cuda.device_count())]
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    room = spread(path.name, weight_bytes(path, dtype), free, device.index or 0, processes)
    return {"device_map": "auto", "max_memory": room} if room else {"device_map": {"": device}}


def spread(name: str, needed: float, free: Sequence[float], own: int, processes: int) -> dict[int, int]:
    """The bytes that a model may take of each GPU; empty if the GPU `own` holds it alone.

    needed: bytes of its weights; free: bytes of each GPU.  Raises BadInput if they do not hold it, or if there are
    several processes, each of which would load it.
    """
    rooms = {index: int(SHARE * each) for index, each in enumerate(free)}
    if needed <= rooms[own]:
        return {}
    size, served = show(needed, "B"), "ask it from a server (an address as teachers.model)"
    if processes > 1 and needed <= sum(rooms.values()):
        raise BadInput(
            f"{name} takes {size}, more than the {show(free[own], 'B')} free on the GPU of each process; one process"
            f" spreads it over all {len(free)} GPUs: make the signals without torchrun, or {served}"
        )
    if needed > sum(rooms.values()):
        enough = math.ceil(needed / max(rooms.values())) if max(rooms.values()) else 0
        alike = f"{enough} GPUs of this size would hold it" if enough else "they are full"
        raise BadInput(
            f"{name} takes {size}, more than the {show(sum(free), 'B')} free on the {len(free)} GPUs here: {alike}; or"
            f" {served}"
        )
    return rooms
