"""Find out what a causal language model does between its body and its logits, by running only that part of it.

The body is replaced by one that returns known hidden states, and the head by one that returns known numbers u:

    what arrives at the head        the hidden states themselves, or something made of them (ModernBERT, MiniCPM 3)
    what the model makes of u       z = s u, or z = c tanh(s u / c); anything else is refused

so that a multiplier or a soft cap of the logits is found whatever its field is called, and costs no forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.errors import UnsupportedArchitecture, first_line

TOKENS = 3
SMALL, LARGE = 2.0**-40, 2.0**20
GRID = (SMALL, -SMALL, LARGE, -LARGE, 0.25, -0.25, 1.0, -1.0, 7.0, -7.0, 40.0, -40.0, 0.0)
TOLERANCE = 1e-5  # relative; some models cast their logits to float32


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadFacts:
    """What was measured. body: gives the hidden states that arrive at the head (None: none does); scale, cap: see
    losses/logits.py; rows: of the head that give logits, where the last ones are padding that the model cuts off."""

    body: nn.Module | None
    scale: float
    cap: float | None
    rows: int


class _Faked:
    """A body's output: last_hidden_state, which is also its first item; every other attribute is None."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, item: int | slice) -> Any:
        return (self.last_hidden_state,)[item]

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.last_hidden_state,))

    def __len__(self) -> int:
        return 1


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Context in which one module runs `forward` instead of its own."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        module.__dict__.pop("forward")
        if before is not None:
            module.__dict__["forward"] = before


def output_head(model: Any) -> nn.Module:
    """The linear module that gives the logits; UnsupportedArchitecture if the model has none."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Module) or not isinstance(getattr(head, "weight", None), Tensor):
        raise UnsupportedArchitecture(f"{type(model).__name__} has no linear head (get_output_embeddings)")
    return head


def measured(model: Any) -> HeadFacts:
    """Measure a model's way from its hidden states to its logits; UnsupportedArchitecture if it is none of these."""
    head, reason = output_head(model), "its head is never called"
    for body in _bodies(model, head):
        try:
            hidden, arrived, sent, logits = _fake_run(model, body, head)
        except Exception as error:  # a body that the model does not call, or calls for something else
            reason = first_line(error)
            continue
        scale, cap = _rule(model, sent, logits)
        # ModernBERT's body is followed by a dense layer, MiniCPM 3's is scaled: both are read off at the head instead
        same = arrived.shape == hidden.shape and torch.equal(arrived, hidden)
        return HeadFacts(body=body if same else None, scale=scale, cap=cap, rows=logits.shape[-1])
    raise UnsupportedArchitecture(f"{type(model).__name__} does not show how its logits are made: {reason}")


def _bodies(model: Any, head: nn.Module) -> Iterator[nn.Module]:
    """Modules that may be the body, the likeliest first: not the model, without the head in them."""
    seen: list[Any] = []
    names = (getattr(model, "base_model_prefix", ""), "model", "transformer", "backbone")
    candidates = [getattr(model, name, None) for name in names if name]
    with suppress(AttributeError, NotImplementedError):
        candidates.append(model.get_decoder())
    for each in candidates:
        if not isinstance(each, nn.Module) or each is model or any(part is head for part in each.modules()):
            continue
        if all(each is not other for other in seen):
            seen.append(each)
            yield each


@torch.no_grad()
def _fake_run(model: Any, body: nn.Module, head: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states sent and arrived [1, L, d], numbers sent as the head's output and the logits [1, L, V], both
    without rows of the head that the model cuts off."""
    vocabulary, width = head.weight.shape
    device = torch.device("cpu") if head.weight.device.type == "meta" else head.weight.device
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, TOKENS, width, generator=generator).to(device, head.weight.dtype)
    grid = torch.tensor(GRID, dtype=torch.float64).repeat(TOKENS * vocabulary // len(GRID) + 1)
    sent = grid[: TOKENS * vocabulary].view(1, TOKENS, vocabulary).to(device)
    arrived: list[Tensor] = []

    def give(states: Tensor) -> Tensor:
        arrived.append(states)
        return sent.clone().view(*states.shape[:-1], vocabulary)

    tokens = torch.ones(1, TOKENS, dtype=torch.int64, device=device)
    with replaced_forward(body, lambda *_, **__: _Faked(hidden)), replaced_forward(head, give):
        logits = model(input_ids=tokens, use_cache=False).logits
    is_cut = logits.shape[:-1] == sent.shape[:-1] and len(GRID) <= logits.shape[-1] < vocabulary
    if len(arrived) != 1 or not (logits.shape == sent.shape or is_cut):
        raise UnsupportedArchitecture(f"its head is called {len(arrived)} times for logits {list(logits.shape)}")
    return hidden, arrived[0], sent[..., : logits.shape[-1]], logits.double()


def _rule(model: Any, sent: Tensor, logits: Tensor) -> tuple[float, float | None]:
    """Multiplier and soft cap of the logits, from numbers and what the model made of them; refused if it is another
    function."""
    made = {number: float(logits.flatten()[place]) for place, number in enumerate(GRID)}
    scale, most = made[SMALL] / SMALL, made[LARGE]
    scale = 1.0 if abs(scale - 1.0) < TOLERANCE**2 else scale
    cap = None if abs(most - scale * LARGE) <= TOLERANCE * abs(most) else most
    expected = scale * sent if cap is None else cap * torch.tanh(scale * sent / cap)
    if not torch.allclose(expected, logits, rtol=TOLERANCE, atol=TOLERANCE * SMALL):
        raise UnsupportedArchitecture(
            f"{type(model).__name__} changes its logits in another way than by a multiplier or a soft cap"
        )
    return scale, cap
