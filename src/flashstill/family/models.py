"""A model of a family as money and scaling laws see it: its shape if that is known, else its parameters.

active    parameters that a token meets: 6 active FLOPs per trained token, 2 per token that is read
dense     parameters of the dense model that a mixture of experts is taken for in a dense law: sqrt(active x all),
          a rule of thumb; the parameters themselves for a dense model
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flashstill.arch import Architecture, load_architecture

TRAINED_FLOPS, READ_FLOPS = 6.0, 2.0
"""per active parameter and token"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """architecture: None where only the size is known, which trains by its FLOPs and cannot be served by a plan."""

    name: str
    architecture: Architecture | None
    parameters: float
    active_parameters: float

    @property
    def is_mixture(self) -> bool:
        """Whether a token meets only a part of it."""
        return self.active_parameters < self.parameters

    @property
    def dense_parameters(self) -> float:
        """Parameters for a law of dense models."""
        return math.sqrt(self.active_parameters * self.parameters)

    @property
    def trained_flops(self) -> float:
        """FLOPs per trained token, attention over the context left out."""
        return TRAINED_FLOPS * self.active_parameters

    @property
    def read_flops(self) -> float:
        """FLOPs per token of a forward pass."""
        return READ_FLOPS * self.active_parameters


def model_of(
    architecture: str | Architecture, parameters: float = 0.0, active_parameters: float = 0.0, name: str = ""
) -> Model:
    """A model by name, path or shape; or by its parameters if `architecture` is "".

    Raises BadInput for an unknown name.
    """
    if architecture == "":
        active = active_parameters or parameters
        return Model(name=name, architecture=None, parameters=parameters, active_parameters=active)
    shape = load_architecture(architecture) if isinstance(architecture, str) else architecture
    return Model(
        name=name or shape.name,
        architecture=shape,
        parameters=float(shape.parameters),
        active_parameters=float(shape.active_parameters),
    )
