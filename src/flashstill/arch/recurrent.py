"""Mixers with a state of fixed size instead of a cache: linear attention and state-space layers.

Symbols: d model width, H heads, a and b widths of a key and of a value, c taps of the short convolution.

    state    H a b values a layer, and (c - 1) values for each channel that the convolution sees
    FLOPs    2 x weights + 6 x state values a token: decay, outer product, sum and read-out of the recurrent state;
             the delta rule needs 7, plain linear attention 5, the convolution's part is too large by its share

`weights` are the matrices and convolution taps that a token meets; decays, biases and norms are `other_parameters`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearAttention:
    """A recurrent mixer, made by one of the functions below. kind: its name in the literature."""

    kind: str
    heads: int
    weights: int
    other_parameters: int
    state_values: int
    """numbers of state a sequence and layer, the convolution's included"""

    @property
    def norms(self) -> int:
        """How many norms stand between the projections that are not part of the recurrence's kernel."""
        return 0

    @property
    def window(self) -> None:
        """The state holds what it holds; nothing is cut off."""
        return None

    @property
    def kv_values_per_token(self) -> int:
        """The state does not grow."""
        return 0

    @property
    def flops_per_token(self) -> int:
        """2 for each weight and 6 for each value of the state."""
        return 2 * self.weights + 6 * self.state_values

    def matrix_parameters(self, width: int) -> int:
        """The same for every `width`: the matrices were counted when the model width was known."""
        return self.weights

    def parameters(self, width: int) -> int:
        """Weights and all small parameters; `width` is there for the common interface."""
        return self.weights + self.other_parameters


def gated_delta_net(
    *, width: int, key_heads: int, key_width: int, value_heads: int, value_width: int, taps: int
) -> LinearAttention:
    """Gated delta rule with an output gate and a convolution on queries, keys and values (arXiv 2412.06464)."""
    keys, values = key_heads * key_width, value_heads * value_width
    channels = 2 * keys + values
    return LinearAttention(
        kind="gated delta net",
        heads=value_heads,
        weights=width * (channels + values + 2 * value_heads) + taps * channels + values * width,
        other_parameters=2 * value_heads + value_width,  # step bias and decay a head; the norm of the output
        state_values=value_heads * key_width * value_width + (taps - 1) * channels,
    )


def kimi_delta(*, width: int, heads: int, head_width: int, taps: int) -> LinearAttention:
    """Delta rule with a decay for every channel; decay and output gate are of low rank (arXiv 2510.26692)."""
    inner = heads * head_width
    low_rank = 2 * (width * head_width + head_width * inner)
    return LinearAttention(
        kind="kimi delta attention",
        heads=heads,
        weights=3 * width * inner + 3 * taps * inner + low_rank + width * heads + inner * width,
        other_parameters=inner + heads + head_width,
        state_values=heads * head_width**2 + (taps - 1) * 3 * inner,
    )


def lightning(*, width: int, heads: int, head_width: int) -> LinearAttention:
    """Linear attention with a fixed decay a head, a norm and an output gate (arXiv 2501.08313)."""
    inner = heads * head_width
    return LinearAttention(
        kind="lightning attention",
        heads=heads,
        weights=width * 3 * inner + inner * width + width * inner,
        other_parameters=inner,
        state_values=heads * head_width**2,
    )


def mamba2(
    *,
    width: int,
    heads: int,
    head_width: int,
    groups: int,
    state_width: int,
    taps: int,
    conv_bias: bool,
    bias: bool,
) -> LinearAttention:
    """State-space duality: scalar decay a head, one input and output map for each group (arXiv 2405.21060)."""
    inner = heads * head_width
    channels = inner + 2 * groups * state_width
    projected = inner + channels + heads
    return LinearAttention(
        kind="mamba2",
        heads=heads,
        weights=width * projected + taps * channels + inner * width,
        other_parameters=conv_bias * channels + 3 * heads + inner + bias * (projected + width),
        state_values=inner * state_width + (taps - 1) * channels,
    )


def mamba1(
    *, width: int, inner: int, state_width: int, step_rank: int, taps: int, conv_bias: bool, bias: bool
) -> LinearAttention:
    """Selective state space with norms on step, input and output maps, as Jamba has them (arXiv 2403.19887)."""
    maps = step_rank + 2 * state_width
    return LinearAttention(
        kind="mamba",
        heads=1,
        weights=2 * width * inner + taps * inner + inner * maps + step_rank * inner + inner * width,
        other_parameters=inner * state_width + 2 * inner + conv_bias * inner + maps + bias * (2 * inner + width),
        state_values=inner * state_width + (taps - 1) * inner,
    )
