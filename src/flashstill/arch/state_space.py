"""State-space layers, Mamba 2 and Mamba: symbols, FLOPs and what is counted as in recurrent.py."""

from __future__ import annotations

from flashstill.arch.recurrent import LinearAttention, MatrixState

SSD_CHUNK = 256
"""tokens of a chunk of Mamba 2 (chunk_size of its published configurations; arXiv 2405.21060, section 6)"""


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
    output_bias: bool | None = None,
    norm: bool = True,
) -> LinearAttention:
    """State-space duality: scalar decay per head, one input and output map (B, C) per group (arXiv 2405.21060)."""
    inner = heads * head_width
    channels = inner + 2 * groups * state_width
    projected = inner + channels + heads
    biases = bias * projected + (bias if output_bias is None else output_bias) * width
    return LinearAttention(
        kind="mamba2",
        heads=heads,
        weights=width * projected + taps * channels + inner * width,
        other_parameters=conv_bias * channels + 3 * heads + norm * inner + biases,
        state_values=inner * state_width + (taps - 1) * channels,
        matrix_state=MatrixState(
            heads=heads,
            key_heads=groups,
            key_width=state_width,
            value_width=head_width,
            corrects=False,
            chunk=SSD_CHUNK,
        ),
        output_width=inner,
        taps=taps,
        convolved=channels,
    )


def mamba1(
    *,
    width: int,
    inner: int,
    state_width: int,
    step_rank: int,
    taps: int,
    conv_bias: bool,
    bias: bool,
    norms: bool = True,
) -> LinearAttention:
    """Selective state space (arXiv 2312.00752); `norms`: on step, input and output maps as in Jamba (2403.19887)."""
    maps = step_rank + 2 * state_width
    return LinearAttention(
        kind="mamba",
        heads=1,
        channels=inner,
        weights=2 * width * inner + taps * inner + inner * maps + step_rank * inner + inner * width,
        other_parameters=inner * state_width
        + 2 * inner
        + conv_bias * inner
        + norms * maps
        + bias * (2 * inner + width),
        state_values=inner * state_width + (taps - 1) * inner,
    )
