"""Formats of checkpoints made with AMD's Quark: one for all modules, others for those that patterns name."""

from __future__ import annotations

from flashstill.arch.adapter.fields import Fields
from flashstill.arch.adapter.modules import KINDS, Modules
from flashstill.arch.adapter.scheme import applied, matches, scaled
from flashstill.arch.formats import Formats, Stored, plain
from flashstill.errors import shown

_TYPES = {"fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "int8": "int8", "int4": "int4", "uint4": "int4", "fp4": "mxfp4"}
_SCALE_BITS = {"fp8": 32, "int8": 16, "int4": 16, "mxfp4": 8}  # of one group


def quark(scheme: Fields, formats: Formats, modules: Modules) -> Formats:
    """The formats of `global_quant_config`, with those of `layer_quant_config` for the modules that it names."""
    scheme.refuse("layer_type_quant_config")
    whole = scheme.value("global_quant_config")
    if not isinstance(whole, dict):
        raise scheme.fail(" has no global_quant_config")
    usual = _weights(scheme, whole, "global_quant_config")
    changed = formats if usual is None else applied(scheme, formats, modules, usual[0], usual[1], KINDS)
    names = [usual[0]] if usual else []
    own = scheme.value("layer_quant_config") or {}
    if not isinstance(own, dict):
        raise scheme.fail(f": layer_quant_config is {shown(own)}, not an object")
    for pattern, how in own.items():
        kinds = [kind for kind in KINDS if matches(scheme, modules, kind, [pattern])]
        stored = _weights(scheme, how, f"layer_quant_config {shown(pattern)}")
        if kinds and stored is not None:
            changed = applied(scheme, changed, modules, stored[0], stored[1], kinds)
            names.append(stored[0])
    return applied(scheme, changed, modules, "+".join(dict.fromkeys(names)) or None, formats.base, ())


def _weights(scheme: Fields, how: object, where: str) -> tuple[str, Stored] | None:
    """(name, format) of the weights; None if only activations are quantised."""
    if not isinstance(how, dict):
        raise scheme.fail(f": {where} is {shown(how)}, not an object")
    weight = how.get("weight")
    if weight is None:
        return None
    if not isinstance(weight, dict):
        raise scheme.fail(f": the weight of {where} is {shown(weight)}, not an object")
    own = Fields(weight, f"{scheme.name} {where}")
    name = _TYPES.get(str(own.value("dtype")))
    if name is None:
        raise own.fail(f": weights of type {shown(own.value('dtype'))} are not supported; {', '.join(_TYPES)} are")
    group = own.count("group_size", least=1) if own.value("qscheme") == "per_group" else 0
    stored = scaled(name, group, _SCALE_BITS[name]) if group else plain(name)
    return f"quark-{name}", stored
