"""Memory footprint of each chip of a layout, and how many sequences fit beside the weights.

    weights per chip    dense / (tp pp)  +  (routed experts + redundant copies) / (tp dp pp)
    cache per sequence  over the layers of a stage, split over the chips that hold different key/value heads
                        (min(tp, g); 1 for MLA, whose latent vector every chip needs; tp where sequences are split)
    usable bytes        engine's memory share x bytes the driver reports  -  the engine's buffers and graphs (main DRAM)
                        -  what it reserves for each replica of attention (dp) where these share experts
    cache               free share x (usable bytes - weights)
    recurrent states    of a share of their own where an engine divides the cache, some for each running request

The engine's share (gpu_memory_utilization and the like, 0.9) applies to the capacity that nvidia-smi or rocm-smi
reports, which differs from the nominal one: 85.5 GB for an "80 GB" H100.  The cache gets what weights, activations,
libraries and CUDA graphs leave of it, or a share of that (TensorRT-LLM's free_gpu_memory_fraction).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture, Attention
from flashstill.cost.conditions import Conditions
from flashstill.cost.speculation import Speculation
from flashstill.hardware import Memory
from flashstill.hardware.present import either
from flashstill.hardware.wiring import WIRING
from flashstill.parallel import Layout
from flashstill.workload import (
    Quantity,
    Widths,
    cache_bytes,
    expert_copy_parameters,
    is_any,
    routed_parameters,
    state_bytes,
)
from flashstill.workload import weight_bytes as all_weight_bytes

MOST_RANKS = 8.0
"""replicas of attention up to which an engine sizes its memory by their number"""


def usable_bytes(conditions: Conditions, tier: Memory) -> Quantity:
    """Bytes of a chip's memory tier available to weights and cache; wiring was made to hold its model."""
    if tier.name == WIRING:
        return inf
    software = conditions.software
    own = either(tier.holds_buffers, lambda: software.buffer_bytes + software.graph_bytes, lambda: 0.0)
    usable: Quantity = tier.visible_bytes * software.usable_ratio - own
    return np.maximum(usable, 0.0) if isinstance(usable, np.ndarray) else max(usable, 0.0)


def reserved_bytes(model: Architecture, conditions: Conditions, layout: Layout) -> Quantity:
    """Bytes of each chip that an engine keeps for replicas of attention that share experts; none beyond MOST_RANKS, of
    which it would leave nothing, so that launch scripts set the share of memory themselves."""
    each = conditions.software.rank_bytes
    if not (model.routed and is_any(np.asarray(each) > 0.0)):
        return 0.0
    reserved: Quantity = np.where((layout.dp > 1.0) & (layout.dp <= MOST_RANKS), layout.dp * each, 0.0)
    return reserved


def chip_weight_bytes(model: Architecture, widths: Widths, layout: Layout) -> Quantity:
    """Bytes of weights on one chip."""
    routed = routed_parameters(model) * widths.of("experts")
    dense = all_weight_bytes(model, widths) - routed
    # Replicas of a dense model each hold the whole model; experts are spread over the replicas.
    copied = layout.redundant * (expert_copy_parameters(model) * widths.of("experts"))
    return dense / (layout.tp * layout.pp) + (routed + copied) / (layout.tp * layout.dp * layout.pp)


def sequence_bytes(model: Architecture, tokens: Quantity, widths: Widths, layout: Layout) -> Quantity:
    """Bytes of cache for one sequence of `tokens` on each chip that serves it."""
    total: Quantity = 0.0
    for layer in model.layers:
        mixer = layer.attention
        window = mixer.window
        kept = tokens if window is None else np.minimum(tokens, float(window))
        values = mixer.kv_values_per_token * widths.kv * kept
        if layout.shard_batch:
            shards: Quantity = layout.tp
        elif isinstance(mixer, Attention):
            shards = np.minimum(layout.tp, float(mixer.kv_heads))
        else:
            shards = 1.0
        state = state_bytes(mixer, widths) / layout.tp
        total = total + layer.count * (values / shards + state)
    return total / layout.pp


def recurrent_bytes(model: Architecture, widths: Widths, layout: Layout) -> Quantity:
    """The bytes of these that are recurrent states, whatever the length."""
    total: Quantity = sum(layer.count * state_bytes(layer.attention, widths) for layer in model.layers)
    return total / (layout.tp * layout.pp)


def room_bytes(
    model: Architecture, conditions: Conditions, layout: Layout, draft: Architecture | None = None
) -> Quantity:
    """Bytes left for cache on one chip; negative if the weights (including a draft model's) do not fit."""
    weights = chip_weight_bytes(model, conditions.precisions.widths, layout)
    if draft is not None:
        weights = weights + chip_weight_bytes(draft, conditions.precisions.widths, layout)
    free = conditions.software.free_ratio
    usable = usable_bytes(conditions, conditions.cache) - reserved_bytes(model, conditions, layout)

    def apart() -> Quantity:
        return np.where(weights <= usable_bytes(conditions, conditions.weights), free * usable, -1.0)

    return either(conditions.is_one_memory, lambda: free * (usable - weights), apart)


def layout_room_bytes(
    model: Architecture, conditions: Conditions, layout: Layout, draft: Architecture | None = None
) -> Quantity:
    """Bytes left for cache on all chips of a layout; 0 if the weights do not fit."""
    return np.maximum(room_bytes(model, conditions, layout, draft), 0.0) * layout.chips


def token_bytes(model: Architecture, widths: Widths) -> float:
    """Cache bytes of one more token of a sequence, without replication and before any window is full."""
    return float(model.kv_values_per_token * widths.kv)


def most_sequences(
    model: Architecture, conditions: Conditions, layout: Layout, tokens: Quantity, draft: Architecture | None = None
) -> Quantity:
    """Number of sequences of `tokens` that fit on the whole layout; below 1 if not even one fits."""
    (most,) = most_of_each(model, conditions, layout, (tokens,), draft)
    return most


def most_of_each(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    lengths: Sequence[Quantity],
    draft: Architecture | None = None,
) -> list[Quantity]:
    """As `most_sequences`, for sequences of each of several lengths beside the same weights."""
    widths, room = conditions.precisions.widths, np.maximum(room_bytes(model, conditions, layout, draft), 0.0)
    software, states = conditions.software, recurrent_bytes(model, widths, layout)
    is_divided = np.asarray(software.state_share) > 0.0  # of each engine of a stack
    most = []
    for tokens in lengths:
        sequence = sequence_bytes(model, tokens, widths, layout)
        if draft is not None:
            sequence = sequence + sequence_bytes(draft, tokens, widths, layout)
        fit = room / np.maximum(sequence, 1e-9)
        if is_any(states) and is_any(is_divided):
            of_states = software.state_share * room / (software.state_slots * states)
            of_others = (1.0 - software.state_share) * room / np.maximum(sequence - states, 1e-9)
            fit = np.where(is_divided, np.minimum(of_states, of_others), fit)
        most.append(fit * layout.dp)
    return most


def held_tokens(conditions: Conditions, tokens: Quantity, longest: Quantity) -> Quantity:
    """Tokens for which an engine holds memory: those cached on average, and those reserved for the rest of an answer.

    tokens, longest: cached tokens of a sequence on average over those that run, and at its own full length.
    """
    return tokens + conditions.software.reserved_ratio * (longest - tokens)


def holds(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    sequences: Quantity,
    tokens: Quantity,
    longest: Quantity,
    speculation: Speculation | None = None,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether `sequences` of mean length `tokens` fit at the same time, and whether one sequence fits; arrays.

    longest: tokens of a sequence at its full length; one such sequence must fit in either case.
    """
    draft = speculation.draft if speculation else None
    lengths = [np.maximum(length, 1.0) for length in (longest, tokens)]
    at_end, mean = most_of_each(model, conditions, layout, lengths, draft)
    one = np.asarray(at_end) >= 1.0
    return one & (np.asarray(mean) >= sequences), one


def total_bytes(model: Architecture, batch: Quantity, tokens: Quantity, widths: Widths) -> Quantity:
    """Bytes of weights and cache without replication."""
    return all_weight_bytes(model, widths) + cache_bytes(model, batch, tokens, widths)
