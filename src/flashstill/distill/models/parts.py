"""The body and head of a causal language model of any family: hidden states, and how logits are made of them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from flashstill.distill.losses.logits import Head
from flashstill.distill.models.head import HeadFacts, measured, output_head, replaced_forward
from flashstill.distill.models.loading import Model
from flashstill.errors import UnsupportedArchitecture


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The body and head of a causal language model; logits = head(hidden states)."""

    model: Any
    body: nn.Module | None
    """token ids [B, L] -> object with last_hidden_state [B, L, d]; None where that is not what arrives at the head"""
    head: Head
    """how logits are made of the hidden states"""

    def hidden(self, tokens: Tensor, **inputs: Any) -> Tensor:
        """The hidden states [B, L, d] at the head and on its device, of token ids [B, L]; inputs: masks, positions,
        caches.  Tokens and inputs may lie on any device."""
        first = self.model.device  # where the first weights lie, of a model that is spread over several devices
        inputs = {name: each.to(first) if isinstance(each, Tensor) else each for name, each in inputs.items()}
        tokens, inputs = tokens.to(first), {"use_cache": False, **inputs}
        if self.body is None:
            return _read_at_head(self.model, tokens, inputs).to(self.head.device)
        states: Tensor = self.body(input_ids=tokens, **inputs).last_hidden_state
        return states.to(self.head.device)

    def takes(self, name: str) -> bool:
        """Whether the body (or the model, where its head is read) has an argument of this name."""
        return name in inspect.signature((self.body or self.model).forward).parameters


_KNOWN: WeakKeyDictionary[nn.Module, HeadFacts] = WeakKeyDictionary()


def parts(model: Model) -> Parts:
    """Body and head of a model; UnsupportedArchitecture if its logits are not those of a linear head, scaled or capped.

    What the model does after its body is measured once (models/head.py).
    """
    facts = _KNOWN.get(model)
    if facts is None:
        facts = _KNOWN[model] = measured(model)
    linear: Any = output_head(model)
    head = Head(weight=linear.weight, bias=getattr(linear, "bias", None), scale=facts.scale, cap=facts.cap)
    return Parts(model=model, body=facts.body, head=head.first(facts.rows))


class _AtHead(Exception):
    """Stops a forward pass at the head."""


def _read_at_head(model: Model, tokens: Tensor, inputs: dict[str, Any]) -> Tensor:
    arrived: list[Tensor] = []

    def stop(states: Tensor) -> Tensor:
        arrived.append(states)
        raise _AtHead

    with replaced_forward(output_head(model), stop):
        try:
            model(input_ids=tokens, **inputs)
        except _AtHead:
            return arrived[0]
    raise UnsupportedArchitecture(f"{type(model).__name__} never calls its head")
