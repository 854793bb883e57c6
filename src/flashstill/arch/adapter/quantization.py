"""The number formats of a checkpoint, read from `quantization_config` and `dtype`.

Schemes: fp8, fbgemm_fp8, mxfp4, gptq, awq, bitnet, compressed-tensors, modelopt, bitsandbytes; any other is rejected by
name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from flashstill.arch.adapter.fields import Fields
from flashstill.arch.adapter.modules import KINDS, matches
from flashstill.arch.formats import BITS, Formats, Stored, plain
from flashstill.errors import shown, unknown

_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float": "fp32"}
_SCALE_BITS = 16  # integer schemes store scales in the base (16-bit) format
_LARGEST_BLOCK = 10**6
_BLOCKS = ("linear", "experts", "attention")
_EXPERT_STORES = ("store_dtype", "routed_experts_quant_method")
"""fields of an fp8 scheme that give routed experts a format of their own"""


def read_formats(fields: Fields, depth: int) -> Formats:
    """The format of each kind of weight; bf16 if the config does not state one."""
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
    method = scheme.value("quant_method") or ("bitsandbytes" if "load_in_4bit" in nested else None)
    reader = _METHODS.get(str(method))
    if reader is None:
        raise fields.fail(f" names an {unknown('quant_method', str(method), _METHODS)}")
    return reader(scheme, formats, depth)


def _apply(scheme: Fields, formats: Formats, depth: int, name: str, stored: Stored, kinds: tuple[str, ...]) -> Formats:
    """`formats` with `stored` for the given kinds, except those that the scheme excludes."""
    alone: list[str] = []
    for field in ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "llm_int8_skip_modules"):
        listed = scheme.value(field) or []
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            raise scheme.fail(f": {field} is not a list of names")
        alone += listed
    changed = {kind: stored for kind in kinds if not _matches(scheme, kind, alone, depth)}
    return replace(formats, scheme=name, **changed)


def _matches(scheme: Fields, kind: str, patterns: list[str], depth: int) -> bool:
    try:
        return matches(kind, patterns, depth)
    except ValueError as error:
        raise scheme.fail(f": {error}") from error


def _scaled(name: str, block: int, scale_bits: float) -> Stored:
    """A format with one scale per block of weights; block 0: scales are too few to count."""
    return Stored(name=name, bits=BITS[name] + (scale_bits / block if block > 0 else 0.0))


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


def _fp8(scheme: Fields, formats: Formats, depth: int) -> Formats:
    block = _block_size(scheme, "weight_block_size")
    stored = _scaled("fp8", block, 32)
    changed = _apply(scheme, formats, depth, "fp8-block" if block else "fp8", stored, _BLOCKS)
    kind = scheme.value("expert_dtype")
    if kind not in (None, "fp8", "fp4"):
        raise scheme.fail(f": expert_dtype is {shown(kind)}, not fp8 or fp4")
    for field in _EXPERT_STORES:
        scheme.require(field, "mxfp4")
    # DeepSeek-V4, Ling 3, MiMo-V2.6: experts in fp4 with one 8-bit scale for 32 weights.
    if kind == "fp4" or any(scheme.value(field) for field in _EXPERT_STORES):
        return replace(changed, experts=_scaled("mxfp4", 32, 8), scheme=f"{changed.scheme}+mxfp4")
    return changed


def _mxfp4(scheme: Fields, formats: Formats, depth: int) -> Formats:
    return _apply(scheme, formats, depth, "mxfp4", _scaled("mxfp4", 32, 8), ("experts",))


def _integer_name(scheme: Fields, bits: int) -> str:
    if bits not in (2, 4, 8):
        raise scheme.fail(f": weights of {bits} bits are not supported; 2, 4 and 8 are")
    return f"int{bits}"


def _grouped_integer(scheme: Fields, formats: Formats, depth: int, method: str, zero_points: bool) -> Formats:
    bits = scheme.count("bits", "w_bit")
    name = _integer_name(scheme, bits)
    group = scheme.count("group_size", "q_group_size", default=128, least=-1)
    stored = _scaled(name, group, _SCALE_BITS + (bits if zero_points else 0))
    return _apply(scheme, formats, depth, f"{method}-{name}", stored, _BLOCKS)


def _gptq(scheme: Fields, formats: Formats, depth: int) -> Formats:
    scheme.refuse("dynamic", "modules_in_block_to_quantize")
    quantised = _grouped_integer(scheme, formats, depth, "gptq", zero_points=True)
    return replace(quantised, head=quantised.linear) if scheme.flag("lm_head", False) else quantised


def _awq(scheme: Fields, formats: Formats, depth: int) -> Formats:
    return _grouped_integer(scheme, formats, depth, "awq", zero_points=scheme.flag("zero_point", True))


def _bitnet(scheme: Fields, formats: Formats, depth: int) -> Formats:
    """Ternary weights, packed four in a byte with one scale a matrix; "online": 16 bits, rounded each time."""
    if scheme.value("quantization_mode") not in (None, "offline", "online"):
        raise scheme.fail(f": quantization_mode is {shown(scheme.value('quantization_mode'))}, not offline or online")
    if scheme.value("quantization_mode") == "online":
        return replace(formats, scheme="bitnet-online")
    return _apply(scheme, formats, depth, "bitnet", plain("int2"), _BLOCKS)


def _bitsandbytes(scheme: Fields, formats: Formats, depth: int) -> Formats:
    if scheme.flag("load_in_8bit", False):
        return _apply(scheme, formats, depth, "bitsandbytes-int8", plain("int8"), _BLOCKS)
    kind = str(scheme.value("bnb_4bit_quant_type") or "fp4")
    # Blocks of 64 with a 32-bit scale, which double quantisation turns into 8 bits and a 32-bit scale for 256 of them.
    scale_bits = 8 + 32 / 256 if scheme.flag("bnb_4bit_use_double_quant", False) else 32
    stored = _scaled("fp4" if kind == "fp4" else "int4", 64, scale_bits)
    return _apply(scheme, formats, depth, f"bitsandbytes-{kind}", stored, _BLOCKS)


def _modelopt(scheme: Fields, formats: Formats, depth: int) -> Formats:
    nested = scheme.value("quantization")
    inner = Fields(nested, scheme.name) if isinstance(nested, dict) else scheme
    algorithm = str(inner.value("quant_algo") or "").upper()
    known = {
        "FP8": ("modelopt-fp8", plain("fp8")),
        "NVFP4": ("nvfp4", _scaled("fp4", inner.count("group_size", default=16), 8)),
        "W4A16_AWQ": ("modelopt-int4", _scaled("int4", inner.count("group_size", default=128), _SCALE_BITS)),
    }
    if algorithm not in known:
        raise scheme.fail(f" names an {unknown('quant_algo', algorithm, known)}")
    name, stored = known[algorithm]
    return _apply(inner, formats, depth, name, stored, KINDS)


def _compressed_tensors(scheme: Fields, formats: Formats, depth: int) -> Formats:
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
        kinds = tuple(kind for kind in KINDS if "Linear" in targets or _matches(scheme, kind, targets, depth))
        if not kinds:
            raise scheme.fail(
                f": the targets {shown(', '.join(targets))} of {shown(key)} name no weights that are known here"
            )
        changed = _apply(scheme, changed, depth, name, stored, kinds)
        names.append(name)
    return replace(changed, scheme="+".join(dict.fromkeys(names)) or None)


def _weights_format(weights: Fields) -> tuple[str, Stored]:
    bits, kind = weights.count("num_bits"), str(weights.value("type") or "int")
    strategy = str(weights.value("strategy") or ("group" if weights.value("group_size") else "tensor"))
    group = weights.count("group_size", default=0, least=-1)
    if kind == "float" and bits == 4:
        return ("nvfp4", _scaled("fp4", 16, 8)) if group == 16 else ("mxfp4", _scaled("mxfp4", group or 32, 8))
    if kind == "float" and bits == 8:
        block = _block_size(weights, "block_structure") if strategy == "block" else 0
        return ("fp8-block" if block else "fp8", _scaled("fp8", block, 32))
    if kind != "int":
        raise weights.fail(f": weights of type {shown(kind)} with {bits} bits are not supported")
    name = _integer_name(weights, bits)
    zero_point = 0 if weights.flag("symmetric", True) else bits
    return name, _scaled(name, group if strategy == "group" else 0, _SCALE_BITS + zero_point)


_METHODS: dict[str, Callable[[Fields, Formats, int], Formats]] = {
    "awq": _awq,
    "bitnet": _bitnet,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed_tensors,
    "fbgemm_fp8": _fp8,
    "fp8": _fp8,
    "gptq": _gptq,
    "modelopt": _modelopt,
    "mxfp4": _mxfp4,
}
