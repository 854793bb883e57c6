"""Check that a new model fits in this machine's memory, before allocating it.

It needs 4 bytes per parameter, because weights are initialised in float32 before they are converted to bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashstill.arch import from_hf
from flashstill.arch.adapter.bounds import most_of
from flashstill.distill.models.configuration import numbers
from flashstill.distill.models.rebuild import without_memory
from flashstill.errors import BadInput, UnsupportedArchitecture
from flashstill.units import show

CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")
BYTES_PER_PARAMETER = 4
MOST_PARTS = 100_000
"""limit on layers x experts of a model that transformers must build on the meta device to count its parameters"""


def host_bytes() -> float:
    """Bytes of memory that this process may use: the machine's RAM, or the control-group limit if that is lower."""
    import psutil

    try:
        allowed = float(CONTROL_GROUP.read_text())
    except (OSError, ValueError):  # no control group, or one without a limit ("max")
        allowed = float("inf")
    return min(float(psutil.virtual_memory().total), allowed)


def check_memory(fields: Mapping[str, Any], what: str) -> None:
    """BadInput if a model with these config.json fields (including model_type) does not fit in this machine's memory.

    what: what to call the model in the message.
    """
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
    """Number of parameters, from the architecture adapter, or from transformers if the adapter lacks this family."""
    try:
        return from_hf(dict(fields), what).parameters
    except UnsupportedArchitecture:
        return _counted(fields, what)


def _counted(fields: Mapping[str, Any], what: str) -> int:
    from transformers import AutoConfig, AutoModelForCausalLM

    numbers_by_name = list(numbers(dict(fields)))
    layers = max((value for name, value in numbers_by_name if "layers" in name), default=1)
    experts = max((value for name, value in numbers_by_name if "experts" in name and "per_tok" not in name), default=1)
    if layers * experts > MOST_PARTS:
        raise BadInput(f"{what} would have {layers:,} layers of {experts:,} experts; the most is {MOST_PARTS:,} in all")
    config = AutoConfig.for_model(**fields)
    with without_memory():
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())
