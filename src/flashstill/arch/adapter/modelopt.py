"""Formats of checkpoints made with NVIDIA's Model Optimizer: one algorithm, or one for each module.

Its settings stand in config.json as `quantization_config`, or in a file `hf_quant_config.json` beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flashstill.arch.adapter.fields import Fields
from flashstill.arch.adapter.modules import KINDS, Modules
from flashstill.arch.adapter.scheme import applied, excluded, matches, scaled
from flashstill.arch.formats import Formats, Stored, plain
from flashstill.errors import shown, unknown

_SCALE_BITS = 16  # of integers, in the base format
_BLOCK = 128 * 128
_FLOATS: dict[str, tuple[str, Stored]] = {
    "FP8": ("modelopt-fp8", plain("fp8")),
    "FP8_PER_CHANNEL_PER_TOKEN": ("modelopt-fp8", plain("fp8")),
    "FP8_PB_WO": ("fp8-block", scaled("fp8", _BLOCK, 32)),
    "MXFP4": ("mxfp4", scaled("mxfp4", 32, 8)),
    "MXFP8": ("mxfp8", scaled("fp8", 32, 8)),
    "W4A8_MXFP4_FP8": ("mxfp4", scaled("mxfp4", 32, 8)),
    "W8A8_SQ_PER_CHANNEL": ("modelopt-int8", plain("int8")),
}
"""algorithms without a choice of group; of W4A16 and the like, how weights are stored"""
_NVFP4 = ("NVFP4", "NVFP4_AWQ", "W4A8_NVFP4_FP8", "W4A16_NVFP4")
_INT4 = ("W4A16_AWQ", "W4A8_AWQ")
MIXED = "MIXED_PRECISION"
_MOST_FORMATS = 16


def modelopt(scheme: Fields, formats: Formats, modules: Modules) -> Formats:
    """The formats of `quant_algo`, or of `quantized_layers` where modules differ."""
    nested = scheme.value("quantization")
    inner = Fields(nested, scheme.name) if isinstance(nested, dict) else scheme
    if "quant_algo" not in inner.config:
        raise inner.fail(" has no quant_algo")
    algorithm = _algorithm(inner)
    if not algorithm:  # of the cache alone
        return formats
    if algorithm == MIXED:
        return _mixed(inner, formats, modules)
    name, stored = _stored(inner, algorithm)
    return applied(inner, formats, modules, name, stored, KINDS)


def experts_apart(scheme: Fields, formats: Formats) -> Formats:
    """`formats` with experts of their own algorithm, as `moe_quant_algo` says beside another scheme."""
    algorithm = scheme.value("moe_quant_algo")
    if algorithm is None:
        return formats
    name, stored = _stored(scheme, str(algorithm).upper())
    return replace(formats, experts=stored, scheme=f"{formats.scheme}+{name}")


def _algorithm(settings: Fields) -> str:
    return str(settings.value("quant_algo") or "").upper()


def _stored(settings: Fields, algorithm: str) -> tuple[str, Stored]:
    grouped: dict[str, Callable[[], tuple[str, Stored]]] = {
        **dict.fromkeys(_NVFP4, lambda: ("nvfp4", scaled("fp4", settings.count("group_size", default=16), 8))),
        **dict.fromkeys(
            _INT4,
            lambda: ("modelopt-int4", scaled("int4", settings.count("group_size", default=128), _SCALE_BITS)),
        ),
    }
    if algorithm in grouped:
        return grouped[algorithm]()
    if algorithm not in _FLOATS:
        raise settings.fail(f" names an {unknown('quant_algo', algorithm, (*_FLOATS, *grouped, MIXED))}")
    return _FLOATS[algorithm]


def _mixed(settings: Fields, formats: Formats, modules: Modules) -> Formats:
    """Each kind of weight in the format of the modules of its kind; those that are not listed stay as they are."""
    layers = settings.value("quantized_layers")
    if not isinstance(layers, dict) or not layers:
        raise settings.fail(f" has no quantized_layers, which {MIXED} needs")
    groups: dict[tuple[str, Stored], list[str]] = {}
    for module, how in layers.items():
        if not isinstance(how, dict):
            raise settings.fail(f": quantized_layers has {shown(how)} for {shown(module)}, not an object")
        own = Fields(how, f"{settings.name} {shown(module)}")
        groups.setdefault(_stored(own, _algorithm(own)), []).append(module)
    if len(groups) > _MOST_FORMATS:
        raise settings.fail(f": quantized_layers has {len(groups)} formats; at most {_MOST_FORMATS} are read")
    changed: dict[str, Any] = {}
    names = []
    for (name, stored), listed in groups.items():
        kinds = [kind for kind in KINDS if kind not in changed and matches(settings, modules, kind, listed)]
        changed.update({kind: stored for kind in kinds if not excluded(settings, modules, kind)})
        names.append(name)
    if not changed:
        raise settings.fail(": quantized_layers names no weights that are known here")
    return replace(formats, scheme="+".join(dict.fromkeys(names)), **changed)
