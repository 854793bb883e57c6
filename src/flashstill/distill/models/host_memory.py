"""Whether a model that a configuration describes can be made on this machine, worked out before memory is taken.

bytes = 4 parameters, as weights are drawn in float32 before they are brought to the disk's format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashstill.arch import from_hf
from flashstill.arch.adapter.bounds import most_of
from flashstill.distill.models.directories import numbers
from flashstill.errors import BadInput, UnsupportedArchitecture
from flashstill.units import show

CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")
BYTES_PER_PARAMETER = 4
MOST_PARTS = 100_000
"""layers times experts of a model that only transformers knows, whose parts are made to be counted"""


def host_bytes() -> float:
    """Memory of this machine, as far as this process may use it."""
    import psutil

    try:
        allowed = float(CONTROL_GROUP.read_text())
    except (OSError, ValueError):  # no control group, or one without a limit ("max")
        allowed = float("inf")
    return min(float(psutil.virtual_memory().total), allowed)


def check_memory(fields: Mapping[str, Any], what: str) -> None:
    """BadInput where a model of these fields of a config.json, model_type among them, is more than fits here."""
    for name, value in numbers(dict(fields)):
        if value > most_of(name):
            raise BadInput(f"{name} of {what} is {value:.3g}, more than any model has; the most is {most_of(name):,}")
    count = parameters_of(fields, what)
    needed, there = float(BYTES_PER_PARAMETER * count), host_bytes()
    if needed > there:
        raise BadInput(
            f"{what} would have {count:,} parameters, for which {show(needed, 'B')} are needed while it is made;"
            f" this machine has {show(there, 'B')}"
        )


def parameters_of(fields: Mapping[str, Any], what: str) -> int:
    """Parameters, counted by the adapter, or by transformers on the meta device where it cannot read the model."""
    try:
        return from_hf(dict(fields), what).parameters
    except UnsupportedArchitecture:
        return _counted(fields, what)


def _counted(fields: Mapping[str, Any], what: str) -> int:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    numbers_by_name = list(numbers(dict(fields)))
    layers = max((value for name, value in numbers_by_name if "layers" in name), default=1)
    experts = max((value for name, value in numbers_by_name if "experts" in name and "per_tok" not in name), default=1)
    if layers * experts > MOST_PARTS:
        raise BadInput(f"{what} would have {layers:,} layers of {experts:,} experts; the most is {MOST_PARTS:,} in all")
    config = AutoConfig.for_model(**fields)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())
