"""Mixers with a state of fixed size instead of a cache: linear attention and gated recurrences (state_space.py: Mamba).

Symbols: d model width, H heads, a and b widths of a key and of a value, c taps of the short convolution.

    state    H a b values per layer, plus (c - 1) values per channel of the convolution
    FLOPs    2 x weights + 6 x state values per token: decay, outer product, sum and read-out of the recurrent state;
             exact counts are 7 for the delta rule and 5 for plain linear attention; the convolution's is overestimated

`weights` counts matrices and convolution taps; decays, biases and norms are `other_parameters`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixState:
    """A state of one key_width x value_width matrix per head, which prompts scan in chunks of tokens.

    key_heads: number of keys and queries, shared by groups of heads.
    channel_decay: each channel of a key decays at a rate of its own, instead of the whole matrix at one.
    corrects: the delta rule: an update first subtracts what the state already holds for the key.
    chunk: tokens that a prompt's scan multiplies at once; 64 for delta rules (arXiv 2412.06464, 2510.26692).
    """

    heads: int
    key_heads: int
    key_width: int
    value_width: int
    corrects: bool
    channel_decay: bool = False
    chunk: int = 64

    @property
    def values(self) -> int:
        """Values of all heads' matrices."""
        return self.heads * self.key_width * self.value_width


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearAttention:
    """A recurrent mixer, built by one of the functions below. kind: its name in the literature."""

    kind: str
    heads: int
    weights: int
    other_parameters: int
    state_values: int
    """state values per sequence and layer, including those of the convolution"""
    channels: int = 0
    """independent channels over which a mixer without heads can be split; 0 to split by heads"""
    matrix_state: MatrixState | None = None
    """the state's matrices; None for mixers with another state"""
    output_width: int = 0
    """input width of the output projection; 0 if the projections are not told apart"""
    taps: int = 0
    """taps of the short convolution before the matrix state; 0 without one"""
    convolved: int = 0
    """channels of the short convolution"""
    convolutions: int = 1
    """kernels that compute the convolution: one for all channels, or one each for queries, keys and values"""

    @property
    def shards(self) -> int:
        """Maximum tensor-parallel degree: the number of heads or channels."""
        return self.channels or self.heads

    @property
    def norms(self) -> int:
        """Norms between the projections that are not fused into the recurrence's kernel."""
        return 0

    @property
    def window(self) -> None:
        """None: a recurrent state has no window."""
        return None

    @property
    def kv_values_per_token(self) -> int:
        """0: the state does not grow with the sequence."""
        return 0

    @property
    def flops_per_token(self) -> int:
        """FLOPs per token: 2 per weight and 6 per state value."""
        return 2 * self.weights + 6 * self.state_values

    def matrix_parameters(self, width: int) -> int:
        """Matrix weights; `width` is unused (common interface), as the model width is already included."""
        return self.weights

    def parameters(self, width: int) -> int:
        """All parameters; `width` is unused (common interface)."""
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
        other_parameters=2 * value_heads + value_width,  # step bias and decay per head; output norm
        state_values=value_heads * key_width * value_width + (taps - 1) * channels,
        matrix_state=MatrixState(
            heads=value_heads, key_heads=key_heads, key_width=key_width, value_width=value_width, corrects=True
        ),
        output_width=values,
        taps=taps,
        convolved=channels,
    )


def kimi_delta(
    *, width: int, heads: int, head_width: int, taps: int, low_rank: bool = True, full_gate: bool = False
) -> LinearAttention:
    """Delta rule with per-channel decay; decay and output gate are low-rank (arXiv 2510.26692) or full-rank.

    full_gate: the output gate is full-rank whatever the decay is (Kimi K3).
    """
    inner = heads * head_width
    low, full = width * head_width + head_width * inner, width * inner
    gates = (low if low_rank else full) + (low if low_rank and not full_gate else full)
    widths = {"key_width": head_width, "value_width": head_width}
    state = MatrixState(heads=heads, key_heads=heads, corrects=True, channel_decay=True, **widths)
    return LinearAttention(
        kind="kimi delta attention",
        heads=heads,
        weights=3 * width * inner + 3 * taps * inner + gates + width * heads + inner * width,
        other_parameters=inner + heads + head_width,
        state_values=heads * head_width**2 + (taps - 1) * 3 * inner,
        matrix_state=state,
        output_width=inner,
        taps=taps,
        convolved=3 * inner,
        convolutions=3,
    )


def lightning(*, width: int, heads: int, head_width: int) -> LinearAttention:
    """Linear attention with a fixed decay per head, a norm and an output gate (arXiv 2501.08313)."""
    inner = heads * head_width
    return LinearAttention(
        kind="lightning attention",
        heads=heads,
        weights=width * 3 * inner + inner * width + width * inner,
        other_parameters=inner,
        state_values=heads * head_width**2,
        matrix_state=MatrixState(
            heads=heads, key_heads=heads, key_width=head_width, value_width=head_width, corrects=False
        ),
        output_width=inner,
    )


def short_convolution(*, width: int, taps: int, bias: bool) -> LinearAttention:
    """A gated convolution over the last few tokens, with two gates and one output projection (LFM2)."""
    return LinearAttention(
        kind="short convolution",
        heads=1,
        channels=width,
        weights=4 * width * width + taps * width,
        other_parameters=bias * 5 * width,
        state_values=(taps - 1) * width,
    )


def gated_linear_recurrence(*, width: int, inner: int, heads: int, taps: int) -> LinearAttention:
    """RG-LRU after a convolution, with gates block-diagonal over the heads (Griffin, arXiv 2402.19427)."""
    return LinearAttention(
        kind="gated linear recurrence",
        heads=heads,
        weights=3 * width * inner + taps * inner + 2 * inner * (inner // heads),
        other_parameters=6 * inner + width,  # biases of projections, convolution and gates; the decay
        state_values=taps * inner,
    )


def rwkv4(*, width: int, inner: int) -> LinearAttention:
    """RWKV 4 (arXiv 2305.13048): time mixing, and the receptance that gates the following FFN."""
    return LinearAttention(
        kind="rwkv",
        heads=1,
        channels=inner,
        weights=4 * width * inner + width * width,
        other_parameters=2 * inner + 5 * width,
        state_values=3 * inner + 2 * width,
    )


def matrix_lstm(*, width: int, heads: int, key_width: int, value_width: int) -> LinearAttention:
    """mLSTM of xLSTM 7B (arXiv 2503.13427): one matrix memory per head, with an output gate."""
    keys, values = heads * key_width, heads * value_width
    return LinearAttention(
        kind="mlstm",
        heads=heads,
        weights=width * (2 * keys + 2 * values + 2 * heads) + values * width,
        other_parameters=2 * heads + values,
        state_values=heads * (key_width * value_width + key_width + 1),
        matrix_state=MatrixState(
            heads=heads, key_heads=heads, key_width=key_width, value_width=value_width, corrects=False
        ),
        output_width=values,
    )
