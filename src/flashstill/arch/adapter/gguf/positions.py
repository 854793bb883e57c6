"""Rotary embeddings, attention windows and context of a configuration, as llama.cpp reads them.

Linear and YaRN scaling are metadata; Llama 3's is a tensor of divisors of the frequencies, as computed here.  Windows
that an architecture of llama.cpp lacks make no difference within one window, so the context is limited to that.
"""

from __future__ import annotations

import math

from flashstill.arch.adapter.fields import CONTEXT, Fields
from flashstill.arch.adapter.gguf.layout import Entry

Metadata = dict[str, Entry]
SLIDING = "sliding_attention"


def rotary(rope: Fields, context: int, head: int, metadata: Metadata) -> tuple[float, ...]:
    """Add rotary embeddings of heads of width `head` to the metadata; returns the frequency divisors, if any.

    rope: the rope_parameters of a configuration; context: its longest text.
    """
    kind = rope.value("rope_type") or "default"
    dimensions = int(head * float(rope.value("partial_rotary_factor") or 1.0))
    metadata["rope.dimension_count"] = dimensions
    metadata["rope.freq_base"] = float(rope.value("rope_theta"))
    factors: tuple[float, ...] = ()
    if kind in ("linear", "yarn"):
        metadata["rope.scaling.type"] = kind
        metadata["rope.scaling.factor"] = float(rope.value("factor"))
    if kind == "yarn":
        _yarn(rope, context, metadata)
    elif kind == "llama3":
        factors = _llama3(rope, dimensions)
    elif kind not in ("default", "linear"):
        raise rope.fail(f": rotary embeddings of kind {kind!r} cannot be said in GGUF; default, linear, yarn and"
                          " llama3 can")  # fmt: skip
    for name, value in rope.unread():
        raise rope.fail(f": {name} is {value}, which llama.cpp does not read")
    return factors


def _yarn(rope: Fields, context: int, metadata: Metadata) -> None:
    factor = float(rope.value("factor"))
    metadata["rope.scaling.original_context_length"] = rope.count(
        "original_max_position_embeddings", default=max(1, int(context / factor))
    )
    for name, usual in (("beta_fast", 32.0), ("beta_slow", 1.0), ("attention_factor", 0.1 * math.log(factor) + 1.0)):
        value = rope.value(name)
        if value is not None and not math.isclose(float(value), usual, rel_tol=1e-6):
            raise rope.fail(f": {name} is {value}; YaRN is written with {usual:g} only")
    if rope.value("truncate") is False:
        raise rope.fail(": truncate is false; llama.cpp truncates the range of dimensions")


def _llama3(rope: Fields, dimensions: int) -> tuple[float, ...]:
    """What each frequency is divided by (Llama 3.1, `rope_type` llama3 of transformers)."""
    base, factor = float(rope.value("rope_theta")), float(rope.value("factor"))
    low, high = float(rope.value("low_freq_factor")), float(rope.value("high_freq_factor"))
    context = rope.count("original_max_position_embeddings")
    factors = []
    for place in range(0, dimensions, 2):
        wavelength = 2 * math.pi * base ** (place / dimensions)
        if wavelength < context / high:
            factors.append(1.0)
        elif wavelength > context / low:
            factors.append(factor)
        else:
            share = (context / wavelength - low) / (high - low)
            factors.append(1 / ((1 - share) / factor + share))
    return tuple(factors)


def context_without_windows(fields: Fields, metadata: Metadata, notes: list[str]) -> None:
    """The context length; no longer than the attention window where layers have one, as the file cannot say it."""
    context, window = fields.count(*CONTEXT), _window(fields)
    if window and window < context:
        notes.append(
            f"the context is limited to the attention window of {window:,} tokens (of {context:,}): llama.cpp has no"
            " windows in this architecture"
        )
        context = window
    metadata["context_length"] = context


def _window(fields: Fields) -> int:
    """The attention window, 0 if no layer uses one."""
    window, kinds = fields.value("sliding_window"), fields.value("layer_types")
    uses = fields.value("use_sliding_window")
    fields.ignore("max_window_layers")
    if kinds is not None:
        return int(window or 0) if SLIDING in kinds else 0
    return 0 if uses is False else int(window or 0)


def windows(fields: Fields, period: int, metadata: Metadata, notes: list[str]) -> None:
    """Attention windows, in all layers but each `period`-th unless the configuration lists other ones."""
    kinds = [kind == SLIDING for kind in fields.value("layer_types")]
    metadata["context_length"] = fields.count(*CONTEXT)
    metadata["attention.sliding_window"] = fields.count("sliding_window")
    if kinds != [(place + 1) % period != 0 for place in range(len(kinds))]:
        metadata["attention.sliding_window_pattern"] = tuple(kinds)
        notes.append(
            "which layers have windows is written as a list, since it is not all but each"
            f" {'second' if period == 2 else 'sixth'}; an older llama.cpp may not read it"
        )
