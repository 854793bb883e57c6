"""The number formats of a checkpoint, read from `quantization_config` and `dtype`.

Schemes: fp8, fbgemm_fp8, mxfp4, gptq, awq, auto-round, bitnet, compressed-tensors, bitsandbytes, and those of
modelopt.py and quark.py; any other is rejected by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from flashstill.arch.adapter.fields import DEPTH, Config, Fields
from flashstill.arch.adapter.modelopt import experts_apart, modelopt
from flashstill.arch.adapter.modules import KINDS, Modules
from flashstill.arch.adapter.quark import quark
from flashstill.arch.adapter.scheme import BLOCKS, applied, matches, scaled
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.formats import Formats, Stored, plain
from flashstill.arch.model import Architecture
from flashstill.errors import shown, unknown

_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float": "fp32"}
_SCALE_BITS = 16  # integer schemes store scales in the base (16-bit) format
_LARGEST_BLOCK = 10**6
_EXPERT_STORES = ("store_dtype", "routed_experts_quant_method")
"""fields of an fp8 scheme that give routed experts a format of their own"""
_CACHE = "FP8"
"""the one format of a cache that is taken from a checkpoint"""


def read_formats(fields: Fields, shape: Architecture) -> Formats:
    """The format of each kind of weight of a model of this shape; bf16 if the config does not state one."""
    written = str(fields.value("dtype", "torch_dtype") or "bfloat16").removeprefix("torch.")
    if written not in _DTYPES:
        raise fields.fail(f" names an {unknown('dtype', written, _DTYPES)}")
    base = plain(_DTYPES[written])
    formats = Formats(base=base, linear=base, experts=base, attention=base, head=base)
    nested = fields.value("quantization_config", "compression_config")
    if not nested:
        return formats
    if not isinstance(nested, dict):
        raise fields.fail(": quantization_config is not an object")
    outer = fields.value("expert_dtype")  # beside the quantization_config in the first files of DeepSeek-V4
    nested = {"expert_dtype": outer, **nested} if outer is not None else nested
    scheme = Fields(nested, f"{fields.name} (quantization_config)")
    method = scheme.value("quant_method") or _unnamed(nested)
    if method is None:
        raise scheme.fail(f" has no quant_method; known are {', '.join(_METHODS)}")
    reader = _METHODS.get(str(method))
    if reader is None:
        raise fields.fail(f" names an {unknown('quant_method', str(method), _METHODS)}")
    return replace(reader(scheme, formats, _modules(fields, shape)), cache=_cache(scheme))


def _unnamed(nested: Config) -> str | None:
    """The method of a scheme that does not name it: bitsandbytes' and Model Optimizer's by fields of theirs."""
    producer = nested.get("producer")
    made = producer.get("name") if isinstance(producer, dict) else None
    if "load_in_4bit" in nested:
        return "bitsandbytes"
    return "modelopt" if "quant_algo" in nested or made == "modelopt" else None


def _stated_cache(scheme: Fields) -> str:
    """How the scheme keeps the cache, in capitals, as compressed-tensors and Model Optimizer say it; "" if it does not
    say."""
    inner = scheme.value("quantization")
    named = (inner if isinstance(inner, dict) else {}).get("kv_cache_quant_algo") or scheme.value("kv_cache_quant_algo")
    how = scheme.value("kv_cache_scheme")
    if isinstance(how, dict):
        bits, kind = how.get("num_bits"), how.get("type")
        named = _CACHE if bits == 8 and kind == "float" else f"{kind}{bits}"
    elif isinstance(how, str):
        named = how
    return str(named or "").upper()


def _cache(scheme: Fields) -> str | None:
    return "fp8" if _stated_cache(scheme) == _CACHE else None


def cache_note(fields: Fields) -> str:
    """Text on a cache in a format that engines do not take from a checkpoint, or ""."""
    nested = fields.value("quantization_config", "compression_config")
    stated = _stated_cache(Fields(nested, fields.name)) if isinstance(nested, dict) else ""
    if stated in ("", _CACHE, "AUTO", "NONE"):
        return ""
    return f"the checkpoint's cache in {shown(stated)} is taken to have 16 bits unless kv_precision says otherwise"


def _modules(fields: Fields, shape: Architecture) -> Modules:
    """The numbers of blocks in the checkpoint, which can be more than the blocks here, and who has which weights."""
    stated = fields.config.get(fields.spelled(*DEPTH))
    return Modules(
        numbers=max(shape.depth, stated) if type(stated) is int else shape.depth,
        present={
            "attention": shape.depth,
            "experts": sum(layer.count for layer in shape.layers if layer.ffn.experts),
            "linear": sum(layer.count for layer in shape.layers if _is_dense(layer.ffn)),
        },
        family=str(fields.config.get("model_type")),
    )


def _is_dense(ffn: FeedForward) -> bool:
    return bool(ffn.shared_width or ffn.dense_width or (ffn.width and not ffn.experts))


def _block_size(scheme: Fields, field: str) -> int:
    """Weights per scale of a two-dimensional block; 0 if the scheme has no blocks."""
    sizes = scheme.value(field)
    if sizes is None:
        return 0
    if not isinstance(sizes, list) or not 1 <= len(sizes) <= 3 or not all(type(size) is int for size in sizes):
        raise scheme.fail(f": {field} is {shown(sizes)}, not a list of one to three positive whole numbers")
    if not all(0 < size <= _LARGEST_BLOCK for size in sizes):
        raise scheme.fail(f": {field} is {shown(sizes)}, not sizes from 1 to {_LARGEST_BLOCK}")
    return math.prod(sizes)


def _fp8(scheme: Fields, formats: Formats, modules: Modules) -> Formats:
    block = _block_size(scheme, "weight_block_size")
    stored = scaled("fp8", block, 32)
    changed = applied(scheme, formats, modules, "fp8-block" if block else "fp8", stored, BLOCKS)
    if scheme.value("moe_quant_algo") is not None:
        # The lists of such a file name what is not in the experts' format.
        plain_fp8 = scheme.changed(dict.fromkeys(("ignore", "exclude_modules"), None))
        return experts_apart(scheme, applied(plain_fp8, formats, modules, changed.scheme, stored, BLOCKS))
    kind = scheme.value("expert_dtype")
    if kind not in (None, "fp8", "fp4"):
        raise scheme.fail(f": expert_dtype is {shown(kind)}, not fp8 or fp4")
    for field in _EXPERT_STORES:
        scheme.require(field, "mxfp4")
    # DeepSeek-V4, Ling 3, MiMo-V2.6: experts in fp4 with one 8-bit scale for 32 weights.
    if kind == "fp4" or any(scheme.value(field) for field in _EXPERT_STORES):
        return replace(changed, experts=scaled("mxfp4", 32, 8), scheme=f"{changed.scheme}+mxfp4")
    return changed


def _mxfp4(scheme: Fields, formats: Formats, modules: Modules) -> Formats:
    return applied(scheme, formats, modules, "mxfp4", scaled("mxfp4", 32, 8), ("experts",))


def _integer_name(scheme: Fields, bits: int) -> str:
    if bits not in (2, 4, 8):
        raise scheme.fail(f": weights of {bits} bits are not supported; 2, 4 and 8 are")
    return f"int{bits}"


def _grouped_integer(scheme: Fields, formats: Formats, modules: Modules, method: str, zero_points: bool) -> Formats:
    bits = scheme.count("bits", "w_bit")
    name = _integer_name(scheme, bits)
    group = scheme.count("group_size", "q_group_size", default=128, least=-1)
    stored = scaled(name, group, _SCALE_BITS + (bits if zero_points else 0))
    return applied(scheme, formats, modules, f"{method}-{name}", stored, BLOCKS)


def _gptq(scheme: Fields, formats: Formats, modules: Modules) -> Formats:
    scheme.refuse("dynamic", "modules_in_block_to_quantize")
    quantised = _grouped_integer(scheme, formats, modules, "gptq", zero_points=True)
    return replace(quantised, head=quantised.linear) if scheme.flag("lm_head", False) else quantised


def _awq(scheme: Fields, formats: Formats, modules: Modules) -> Formats:
    return _grouped_integer(scheme, formats, modules, "awq", zero_points=scheme.flag("zero_point", True))


def _bitnet(scheme: Fields, formats: Formats, modules: Modules) -> Formats:
    """Ternary weights, packed four in a byte with one scale a matrix; "online": 16 bits, rounded each time."""
    if scheme.value("quantization_mode") not in (None, "offline", "online"):
        raise scheme.fail(f": quantization_mode is {shown(scheme.value('quantization_mode'))}, not offline or online")
    if scheme.value("quantization_mode") == "online":
        return replace(formats, scheme="bitnet-online")
    return applied(scheme, formats, modules, "bitnet", plain("int2"), BLOCKS)


def _bitsandbytes(scheme: Fields, formats: Formats, modules: Modules) -> Formats:
    if scheme.flag("load_in_8bit", False):
        return applied(scheme, formats, modules, "bitsandbytes-int8", plain("int8"), BLOCKS)
    kind = str(scheme.value("bnb_4bit_quant_type") or "fp4")
    # Blocks of 64 with a 32-bit scale, which double quantisation turns into 8 bits and a 32-bit scale for 256 of them.
    scale_bits = 8 + 32 / 256 if scheme.flag("bnb_4bit_use_double_quant", False) else 32
    stored = scaled("fp4" if kind == "fp4" else "int4", 64, scale_bits)
    return applied(scheme, formats, modules, f"bitsandbytes-{kind}", stored, BLOCKS)


def _compressed_tensors(scheme: Fields, formats: Formats, modules: Modules) -> Formats:
    """compressed-tensors: groups of modules with one format each; targets are all linear layers or module names."""
    groups = scheme.value("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise scheme.fail(" has no config_groups")
    changed, names = formats, []
    for key, group in groups.items():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            continue  # only activations are quantised
        name, stored = _weights_format(Fields(weights, f"{scheme.name} {key}"))
        targets = group.get("targets") or ["Linear"]
        if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            raise scheme.fail(f": the targets of {shown(key)} are not a list of names")
        kinds = tuple(kind for kind in KINDS if "Linear" in targets or matches(scheme, modules, kind, targets))
        if not kinds:
            raise scheme.fail(
                f": the targets {shown(', '.join(targets))} of {shown(key)} name no weights that are known here"
            )
        changed = applied(scheme, changed, modules, name, stored, kinds)
        names.append(name)
    return replace(changed, scheme="+".join(dict.fromkeys(names)) or None)


def _weights_format(weights: Fields) -> tuple[str, Stored]:
    bits, kind = weights.count("num_bits"), str(weights.value("type") or "int")
    strategy = str(weights.value("strategy") or ("group" if weights.value("group_size") else "tensor"))
    group = weights.count("group_size", default=0, least=-1)
    if kind == "float" and bits == 4:
        return ("nvfp4", scaled("fp4", 16, 8)) if group == 16 else ("mxfp4", scaled("mxfp4", group or 32, 8))
    if kind == "float" and bits == 8:
        block = _block_size(weights, "block_structure") if strategy == "block" else 0
        return ("fp8-block" if block else "fp8", scaled("fp8", block, 32))
    if kind != "int":
        raise weights.fail(f": weights of type {shown(kind)} with {bits} bits are not supported")
    name = _integer_name(weights, bits)
    zero_point = 0 if weights.flag("symmetric", True) else bits
    return name, scaled(name, group if strategy == "group" else 0, _SCALE_BITS + zero_point)


_METHODS: dict[str, Callable[[Fields, Formats, Modules], Formats]] = {
    "awq": _awq,
    "bitnet": _bitnet,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed_tensors,
    "fbgemm_fp8": _fp8,
    "fp8": _fp8,
    "gptq": _gptq,
    "modelopt": modelopt,
    "modelopt_fp4": modelopt,
    "modelopt_mixed": modelopt,
    "modelopt_mxfp8": modelopt,
    "mxfp4": _mxfp4,
    "quark": quark,
}
