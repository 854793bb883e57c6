"""Operations of mixers with a state of fixed size: projections, short convolution, and the recurrence itself.

Symbols: H heads with a state of a x b values each, G heads of keys and queries, C tokens of a chunk, c channels and k
taps of the convolution, q new tokens per sequence.  FLOPs per token:

    update (decode)   H a b x 5: decay, outer product, sum and read-out; 7 with the delta rule, which reads the state
                      for the key before it writes (Yang et al. 2024, arXiv 2412.06464, equation 10)
    scan (prompt)     H (4 a b + 2 C b) + 2 C G a: products with the state, scores within a chunk of C tokens and what
                      they weigh (Dao and Gu 2024, arXiv 2405.21060, section 6)
                      delta rule: H (2 a b + 2 C (a + b) + 2 C^2 / 3) + 2 C G a more, for the values that the chunk
                      corrects, through the inverse of a triangular C x C matrix (arXiv 2412.06464, section 3.3)
    convolution       2 k c

    bytes             the state is read once and written once per sequence; a decode step that verifies several drafted
                      tokens writes it after each of them, as a draft may be rejected
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.arch import LinearAttention, MatrixState
from flashstill.workload.operations import Operation, Quantity, Widths, matmul
from flashstill.workload.seen import NewTokens

UPDATE, SCAN, CHANNEL_SCAN = "state-update", "state-scan", "channel-scan"
CONVOLUTION, CONVOLUTION_UPDATE = "convolution", "convolution-update"


@dataclass(frozen=True, kw_only=True, slots=True)
class State(Operation):
    """A kernel that reads and writes a fixed-size state per sequence. kernel: the kind of its coefficients.

    blocks: chains per sequence that run in parallel, one a head or a channel.
    chunks: steps of a chain, one after another: chunks of a scan, else tokens.
    writes: times the state is written.
    """

    sequences: Quantity
    state_values: Quantity
    state_value_bytes: Quantity
    state_flops: Quantity
    kernel: str = UPDATE
    blocks: Quantity = 0.0
    chunks: Quantity = 0.0
    writes: Quantity = 1.0
    weight_values: Quantity = 0.0
    weight_value_bytes: Quantity = 2.0

    @property
    def flops(self) -> Quantity:
        """FLOPs of the state update; the projections are separate Matmuls."""
        return self.state_flops

    @property
    def weight_bytes(self) -> Quantity:
        """Bytes of the taps of a convolution."""
        return self.weight_values * self.weight_value_bytes

    @property
    def kv_bytes(self) -> Quantity:
        """Bytes of the state, read once and written `writes` times."""
        return (1.0 + self.writes) * self.sequences * self.state_values * self.state_value_bytes


def recurrent(width: int, mixer: LinearAttention, new: NewTokens, widths: Widths) -> list[Operation]:
    """Operations of one recurrent mixer on new tokens."""
    tokens = new.tokens
    if mixer.matrix_state is None:
        return [
            State(
                name="recurrent state",
                sequences=new.sequences,
                state_values=mixer.state_values,
                state_value_bytes=widths.activation,
                state_flops=np.maximum(mixer.flops_per_token - 2.0 * mixer.weights, 0.0) * tokens,
                activation_bytes=2.0 * width * widths.activation * tokens,
                kernel=SCAN if new.prompt else UPDATE,
                writes=1.0 if new.prompt else new.queries,
            ),
            matmul("recurrent projections", tokens, mixer.weights / width, width, widths, "attention"),
        ]
    columns = (mixer.weights - mixer.taps * mixer.convolved) / width - mixer.output_width
    operations: list[Operation] = [matmul("recurrent projections", tokens, columns, width, widths, "attention")]
    if mixer.convolved:
        operations.append(convolution(mixer, new, widths))
    operations += [
        matrix_recurrence(mixer.matrix_state, new, widths),
        matmul("recurrent output", tokens, width, mixer.output_width, widths, "attention", "rows"),
    ]
    return operations


def convolution(mixer: LinearAttention, new: NewTokens, widths: Widths) -> State:
    """The causal convolution over the last `taps` tokens of every channel; its state holds all but the newest."""
    channels, tokens = mixer.convolved / mixer.convolutions, new.tokens
    return State(
        name="short convolution",
        count=mixer.convolutions,
        sequences=new.sequences,
        state_values=(mixer.taps - 1.0) * channels,
        state_value_bytes=widths.activation,
        state_flops=2.0 * mixer.taps * channels * tokens,
        activation_bytes=2.0 * channels * tokens * widths.activation,
        kernel=CONVOLUTION if new.prompt else CONVOLUTION_UPDATE,
        writes=1.0 if new.prompt else new.queries,
        blocks=channels,
        chunks=new.queries,
        weight_values=mixer.taps * channels,
        weight_value_bytes=widths.of("attention"),
    )


def matrix_recurrence(state: MatrixState, new: NewTokens, widths: Widths) -> State:
    """The recurrence of one matrix per head: an update per token, or a scan of a prompt in chunks."""
    tokens = new.tokens
    streamed = 2.0 * (state.key_heads * state.key_width + state.heads * state.value_width)
    return State(
        name="recurrent state",
        sequences=new.sequences,
        state_values=state.values,
        state_value_bytes=widths.state,
        state_flops=(scan_flops(state) if new.prompt else update_flops(state)) * tokens,
        activation_bytes=streamed * widths.activation * tokens,
        kernel=UPDATE if not new.prompt else CHANNEL_SCAN if state.channel_decay else SCAN,
        blocks=state.heads,
        chunks=np.ceil(new.queries / state.chunk) if new.prompt else new.queries,
        writes=1.0 if new.prompt else new.queries,
    )


def update_flops(state: MatrixState) -> float:
    """FLOPs to update the state by one token and read it out."""
    return (7.0 if state.corrects else 5.0) * state.values


def scan_flops(state: MatrixState) -> float:
    """FLOPs per token of a scan in whole chunks."""
    key, value, chunk = state.key_width, state.value_width, float(state.chunk)
    scores = 2.0 * chunk * state.key_heads * key
    flops = state.heads * (4.0 * key * value + 2.0 * chunk * value) + scores
    if state.corrects:
        flops += state.heads * (2.0 * key * value + 2.0 * chunk * (key + value) + 2.0 * chunk**2 / 3.0) + scores
    return flops
