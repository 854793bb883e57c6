"""Number formats of a chip's arithmetic and memory: which ones stand in for others, and bytes of a value."""

from __future__ import annotations

WIDER = {
    "fp4": ("bf16", "fp16", "fp8", "fp32", "int8"),
    "mxfp4": ("bf16", "fp16", "fp8", "fp32", "int8"),
    "int4": ("bf16", "fp16", "int8", "fp8", "fp32"),
    "int2": ("bf16", "fp16", "int8", "fp8", "fp32"),
    "fp8": ("bf16", "fp16", "fp32", "int8"),
    "fp8-block": ("fp8", "bf16", "fp16", "fp32", "int8"),
    "int8": ("bf16", "fp16", "fp32", "fp8"),
    "bf16": ("fp16", "fp32", "fp8", "int8"),
    "fp16": ("bf16", "fp32", "fp8", "int8"),
    "fp32": ("bf16", "fp16"),
}
"""in which others a chip multiplies that cannot in a format: it converts such weights to 16 bits when loading them, as
engines do; other formats of the same width come last, as they would round the values again"""
BYTES_PER_VALUE = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "fp8-block": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
    "mxfp4": 0.5,
    "int4": 0.5,
    "int2": 0.25,
}
