"""Which device the models of this process run on: one decision for training, signals, search, sampling and evaluation.

    auto   CUDA where there is a GPU, else the CPU.  Of the processes of a machine each takes the GPU of its LOCAL_RANK.
    mps    Apple's GPUs, only when asked for: they have no float64, so that draws there are rounded to float32.

A model is loaded onto `current()`; tensors that meet it take their device from it, never from here.
"""

from __future__ import annotations

import os

import torch

from flashstill.errors import BadInput, unknown

TOKENS_A_PASS = 2**14
"""of a model that is only run, on a GPU: fewer leave it waiting for the next operation"""
AUTO = "auto"
DEVICES = (AUTO, "cpu", "cuda", "mps")
_chosen: list[torch.device] = []  # of this process; empty: as for "auto"


def choose(asked: str = AUTO) -> torch.device:
    """Set the device of this process by name and return it; BadInput if this machine has none of that name."""
    device = _found(asked)
    _chosen[:] = [device]
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def current() -> torch.device:
    """The device of this process: the chosen one, or that of "auto"."""
    return _chosen[0] if _chosen else choose()


def there() -> list[str]:
    """The kinds of device that this machine has."""
    kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [kind for kind, is_there in kinds.items() if is_there]


def _found(asked: str) -> torch.device:
    if asked not in DEVICES:
        raise BadInput(unknown("device", asked, DEVICES))
    kinds = there()
    if asked == AUTO:
        asked = "cuda" if "cuda" in kinds else "cpu"
    if asked not in kinds:
        raise BadInput(f"device {asked!r} is not on this machine; it has {', '.join(kinds)}")
    if asked == "mps" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BadInput("device 'mps' takes one process; start without torchrun, or with device = \"cpu\"")
    if asked != "cuda":
        return torch.device(asked)
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise BadInput(f"process {local} of this machine has no GPU: there are {count}; start torchrun with as many")
    return torch.device("cuda", local)


def name_of(device: torch.device) -> str:
    """What to call a device in a summary: "cpu", "mps", or a GPU's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a GPU multiplies bfloat16 in hardware."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def widest(device: torch.device) -> torch.dtype:
    """The widest floating format of a device, for draws and sums: float64, on MPS float32."""
    return torch.float32 if device.type == "mps" else torch.float64


def wait(device: torch.device) -> None:
    """Until the device has finished what it was asked for; for timing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def windows_a_pass(device: torch.device, length: int, on_cpu: int, tokens: int = TOKENS_A_PASS) -> int:
    """Windows of `length` tokens for one pass without gradients: `on_cpu`, or on a GPU as many as `tokens` fill."""
    return on_cpu if device.type == "cpu" else max(on_cpu, tokens // length)


def memory_bytes(device: torch.device) -> float | None:
    """All memory of a GPU in bytes; None for a device that shares the machine's."""
    return float(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None
