"""Losses of different laws are on different scales: other corpora, other tokenisers. They are not compared.

What can be carried over is compute: the FLOPs with which a compute-optimal dense model reaches the loss under one law,
and the loss of the compute-optimal model of these FLOPs under the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flashstill.errors import BadInput
from flashstill.quality.law import Law
from flashstill.quality.optimum import cheapest, compute_optimal
from flashstill.quality.prediction import Prediction


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Converted:
    """`loss` under another law that the same compute buys. note: how it came about."""

    loss: Any
    flops: Any
    note: str


def check_one_scale(*told: Law | Prediction) -> None:
    """BadInput if losses of these laws or predictions may not be compared."""
    first, *others = told
    for other in others:
        if other.scale != first.scale:
            raise BadInput(
                f"losses in {first.scale} and in {other.scale} are not on one scale and cannot be compared; take one"
                " law for both, or convert by equal compute (flashstill.quality.scales.converted)"
            )


def difference(first: Prediction, second: Prediction) -> Any:
    """first - second in nats; BadInput if they are on different scales."""
    check_one_scale(first, second)
    return first.loss - second.loss


def converted(loss: Any, of: Law, to: Law) -> Converted:
    """The loss under `to` that corresponds to `loss` under `of`, by equal training compute of dense models."""
    flops = cheapest(of, loss).cost
    best = compute_optimal(to, flops)
    return Converted(
        loss=to.loss(best.parameters, best.tokens),
        flops=flops,
        note=(
            f"converted from {of.name} to {to.name} by equal compute: both losses are those of compute-optimal dense"
            " models of the same training FLOPs, which assumes that the two corpora reward compute alike"
        ),
    )
