"""A quality target: a loss on a law's scale, or the loss of a known model: "as llama-3.1-8b on 15T".

A model that is named without tokens counts as trained compute-optimally under the law: on the D at which the
elasticities of the loss in N and D are equal.  The answer says that this was assumed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture, load_architecture
from flashstill.arch.scaling import counted, expansion
from flashstill.errors import BadInput, shortened
from flashstill.quality import Law
from flashstill.quality.optimum import elasticities
from flashstill.units import parse_count, short_count

Values = npt.NDArray[np.float64]
_ON = re.compile(r"(?P<model>.+?)\s+on\s+(?P<tokens>\S+)(\s+tokens)?", re.IGNORECASE)
_LEAST, _MOST, _HALVINGS = 1e3, 1e24, 60
DENSE = 1.01
"""expansion up to which a model counts as dense"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedModel:
    """A model, and the tokens that it was trained on; None for compute-optimal under the law."""

    model: Architecture
    tokens: float | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    def tokens_under(self, law: Law) -> float:
        """The tokens, or the compute-optimal ones for its size."""
        return self.tokens if self.tokens is not None else optimal_tokens(law, self.model)

    def loss(self, law: Law, tokens: float | None = None) -> Values:
        """Its loss without a teacher, under the law; an array if the law's coefficients are draws.

        tokens: its training tokens, if they are known already.
        """
        trained_on = self.tokens_under(law) if tokens is None else tokens
        return law.extrapolating().loss(size_of(law, self.model), trained_on, **mixture(self.model))

    def notes(self, law: Law) -> tuple[str, ...]:
        """What was assumed about it, and how far from the law's runs it lies."""
        tokens, size = self.tokens_under(law), size_of(law, self.model)
        said = law.remarks(size, tokens, **mixture(self.model))
        beyond = tuple(f"{self.name}: {remark}" for remark in said if " lie " in remark)
        if self.tokens is not None:
            return beyond
        return (
            f"{self.name} is taken as trained compute-optimally under {law.name}, on {short_count(tokens)} tokens; say"
            f' "{self.name} on 15T" if it was another number',
            *beyond,
        )


def counts_embeddings(law: Law) -> bool:
    """Whether the N of a law includes embedding and head."""
    return "without embeddings" not in law.counted


def size_of(law: Law, model: Architecture) -> float:
    """The N of a model as the law counts it: parameters that a token uses."""
    return float(counted(model, counts_embeddings(law)))


def mixture(model: Architecture) -> Mapping[str, float]:
    """The condition `experts` of a law: FFN weights over those of one token; none for a dense model."""
    times = expansion(model)
    return {"experts": times} if times > DENSE else {}


def optimal_tokens(law: Law, model: Architecture) -> float:
    """Tokens at which the model's size is compute-optimal: where the loss is as elastic in N as in D."""
    free, size, conditions = law.extrapolating(), size_of(law, model), mixture(model)
    low, high = math.log(_LEAST), math.log(_MOST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        in_size, in_tokens = elasticities(free, size, math.exp(middle), **conditions)
        low, high = (middle, high) if in_tokens > in_size else (low, middle)
    return math.exp(high)


def parse_target(text: str) -> float | TrainedModel:
    """A loss, or "as MODEL", or "as MODEL on TOKENS"; BadInput for anything else."""
    words = text.strip()
    if words.lower().startswith("as "):
        return parse_trained(words[3:].strip())
    number = _number(words)
    if number is None:
        raise BadInput(
            f"quality target is {shortened(text)!r}, not a loss in nats per token such as 2.1, nor a model as in"
            ' "as llama-3.1-8b" or "as llama-3.1-8b on 15T"'
        )
    if not math.isfinite(number) or number <= 0:
        raise BadInput(f"quality target is {number:g}, not a positive number")
    return number


def parse_trained(text: str) -> TrainedModel:
    """A model, or "MODEL on TOKENS"."""
    found = _ON.fullmatch(text.strip())
    if found is None:
        return TrainedModel(model=load_architecture(text.strip()))
    tokens = parse_count(found["tokens"])
    if tokens is None or tokens < 1:
        raise BadInput(f"{shortened(found['tokens'])!r} is no number of training tokens, as 15T or 3e12")
    return TrainedModel(model=load_architecture(found["model"]), tokens=float(tokens))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
