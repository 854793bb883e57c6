"""The number formats in which a checkpoint stores its weights, scales included.

Bits per weight of a format with one s-bit scale per block of n weights: bits + s / n; for instance
mxfp4 4 + 8/32, nvfp4 4 + 8/16, fp8 in blocks of 128 x 128 with 32-bit scales 8 + 32/16384.

Embedding, norms, biases and router keep the base format, as published schemes do not quantise them.
"""

from __future__ import annotations

from dataclasses import dataclass

BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "fp4": 4, "mxfp4": 4, "int4": 4, "int2": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A format: its name (a key of BITS), and bits per weight including scales."""

    name: str
    bits: float


def plain(name: str) -> Stored:
    """A format without scales."""
    return Stored(name=name, bits=float(BITS[name]))


_BF16 = plain("bf16")


@dataclass(frozen=True, kw_only=True, slots=True)
class Formats:
    """The stored format of each kind of weight."""

    base: Stored = _BF16
    """embedding, norms, biases, router"""
    linear: Stored = _BF16
    """dense FFNs and shared experts"""
    experts: Stored = _BF16
    """routed experts"""
    attention: Stored = _BF16
    """projections of attention and recurrent mixers"""
    head: Stored = _BF16
    """the LM head if untied; a tied head has the embedding's format"""
    scheme: str | None = None
    """name of the quantisation scheme; None if the weights are not quantised"""
    cache: str | None = None
    """format of the cache that the checkpoint asks of engines, as it carries its scales; None if it states none"""
