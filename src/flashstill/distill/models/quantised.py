"""Checkpoints of quantised weights: which are read, and how.

    fp8 (DeepSeek-V3, Qwen3-FP8), compressed-tensors, mxfp4 (gpt-oss)    as plain weights: each value times its scale
    gptq, awq, bitsandbytes and others                                   by their own kernels, if these are installed

A model of plain weights can be cut, trained and saved as any other.  Without the packages that its format needs a
checkpoint is refused before any work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from flashstill.arch.adapter.sizes import QUANTISATION, value
from flashstill.errors import BadInput, first_line, shown

MISREAD = "weight.weight"
"""in a name that transformers does not make plain, as that of its layer ends like that of a weight (Qwen4-Exp); such
weights stay compressed"""
BITSANDBYTES = "bitsandbytes"
"""a name for two formats of transformers"""


def read_as(path: Path, config: Any, stored: Iterable[str]) -> dict[str, Any]:
    """Keyword arguments of from_pretrained for the weights of a directory; none for plain ones. stored: their names.

    Raises BadInput if its format needs a package that is missing.
    """
    from transformers import CompressedTensorsConfig, FineGrainedFP8Config, Mxfp4Config

    method = method_of(config)
    if method and method not in ("fp8", "mxfp4"):
        _check_environment(path, config, method)
    if not is_made_plain(method, stored):
        return {}
    if method == "compressed-tensors":
        return {QUANTISATION: CompressedTensorsConfig(run_compressed=False)}
    return {QUANTISATION: (FineGrainedFP8Config if method == "fp8" else Mxfp4Config)(dequantize=True)}


def is_made_plain(method: str, stored: Iterable[str]) -> bool:
    """Whether the weights of a format are read as plain ones. method: its name; stored: the names of the weights."""
    return method in ("fp8", "mxfp4") or (
        method == "compressed-tensors" and not any(MISREAD in name for name in stored)
    )


def in_dtype(model: Any, dtype: torch.dtype) -> None:
    """Convert the weights of a model that was read as plain ones; what its class keeps in float32 in any 16-bit format
    stays so, as when plain weights are loaded (what it keeps so in float16 alone does not)."""
    kept = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    is_kept = re.compile("|".join(rf"(^|\.){each}($|\.)" for each in kept) or r"(?!)")
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not is_kept.search(name):
            parameter.data = parameter.data.to(dtype)


def check_settings(path: Path, fields: dict[str, Any]) -> None:
    """BadInput unless the settings of a quantised checkpoint in a config.json are an object."""
    settings = fields.get(QUANTISATION)
    if settings is not None and not isinstance(settings, dict):
        raise BadInput(f"{path / 'config.json'}: {QUANTISATION} is {shown(settings)}, not an object")


def method_of(config: Any) -> str:
    """Name of the format; empty for plain weights, and for a name that transformers does not know and ignores."""
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    settings = value(config, QUANTISATION)
    if not settings:
        return ""
    fields = settings if isinstance(settings, dict) else settings.to_dict()
    method = str(getattr(name := fields.get("quant_method", ""), "value", name))
    if not method and (fields.get("load_in_4bit") or fields.get("load_in_8bit")):
        method = BITSANDBYTES
    return method if method in AUTO_QUANTIZER_MAPPING or method == BITSANDBYTES else ""


def _check_environment(path: Path, config: Any, method: str) -> None:
    from transformers.quantizers.auto import AutoHfQuantizer

    try:
        AutoHfQuantizer.from_config(value(config, QUANTISATION), pre_quantized=True).validate_environment(
            device_map=None
        )
    except Exception as error:  # each format has errors of its own
        raise BadInput(
            f"the weights in {path} are quantised ({method}), and cannot be read here: {first_line(error)}; or give the"
            " directory of the model's plain weights"
        ) from error
