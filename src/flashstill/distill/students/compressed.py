"""Quantised students written in `compressed-tensors` format, which inference engines read.

    int4     eight integers a 32-bit word, one bfloat16 scale a group            "pack-quantized", 4 bits
    ternary  sixteen a word                                                      "pack-quantized", 2 bits
    fp8      e4m3 values, one scale an output                                    "float-quantized"

The compressed-tensors library packs the bits; this module assigns scales to weights.  A weight read back equals that
of the unpacked directory bit for bit: both are integer times scale, rounded once to bfloat16.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from flashstill.arch.adapter.edit import with_quantization
from flashstill.distill.models import STORED, Model
from flashstill.distill.models.checksums import FILE as CHECKSUMS
from flashstill.distill.models.checksums import write_checksums
from flashstill.distill.models.saved_names import as_saved
from flashstill.distill.students.balance import routers
from flashstill.distill.students.quantise import Format, rounded, weights_to_round
from flashstill.errors import UnsupportedArchitecture
from flashstill.files import replacing_directory

BITS = {"int4": 4, "ternary": 2}
MOST_LEFT_OUT = 0.25
"""share of the weights, without embedding, head and routers, that may stay as they are"""
_OTHERS = (nn.Embedding, nn.Conv1d)
"""modules whose weights are no matrices that tokens are multiplied with"""
Rounded = dict[str, tuple[Tensor, Tensor]]
"""checkpoint name of a weight -> integers or e4m3 values [out, in], scales [out, groups]"""


def rounded_weights(model: Model, format_: Format) -> Rounded:
    """The rounded weights and scales of a model, quantisation-aware or not (or without memory), by checkpoint name."""
    all_values, all_scales = {}, {}
    for path, module, name in weights_to_round(model):
        parametrizations = getattr(module, "parametrizations", None)
        fine = (
            parametrizations[name].original
            if parametrizations is not None and name in parametrizations
            else getattr(module, name)
        )
        values, scale = rounded(fine.detach().to(STORED), format_)
        all_values[f"{path}.{name}"], all_scales[f"{path}.{name}"] = values.flatten(-2), scale.squeeze(-1).to(STORED)
    saved, saved_scales = as_saved(model, all_values), as_saved(model, all_scales)
    return {name: (values, saved_scales[name]) for name, values in saved.items()}


def check_packing(model: Model, format_: Format) -> None:
    """BadInput if a model, which needs no memory for its weights, cannot be quantised and packed.

    Its experts may be stored otherwise than as linear layers, too many weights be in layers that are not rounded, or
    groups may not fill the rows.
    """
    name, left = type(model).__name__, dict(_left_out(model))
    stored = rounded_weights(model, format_)
    plain = sum(weight.numel() for weight in left.values())
    share = plain / max(1, plain + sum(values.numel() for values, _ in stored.values()))
    if share > MOST_LEFT_OUT or any(_is_stack(weight) for weight in left.values()):
        raise UnsupportedArchitecture(
            f"{name} keeps {share:.0%} of its weights in layers that are not quantised"
            f" ({max(left, key=lambda each: (_is_stack(left[each]), left[each].numel()))}); leave student.quantise out"
        )
    rounded_ones = [getattr(module, part) for _, module, part in weights_to_round(model)]
    if len({id(weight) for weight in rounded_ones}) < len(rounded_ones):
        raise UnsupportedArchitecture(
            f"blocks of {name} share weights and cannot be packed; leave student.quantise out"
        )
    if other := [each for each, (values, _) in stored.items() if not each.endswith(".weight") or values.dim() != 2]:
        raise UnsupportedArchitecture(
            f"the checkpoint of a {name} holds no linear layers of its own for {min(other)}, and cannot be packed;"
            " leave student.quantise out"
        )


def _is_stack(weight: Tensor) -> bool:
    return sum(size > 1 for size in weight.shape) > 2


def _left_out(model: Model) -> Iterator[tuple[str, Tensor]]:
    """The matrices, and stacks of them, that are not rounded, by name: no embedding, head, router or convolution."""
    known = {id(getattr(module, name)) for _, module, name in weights_to_round(model)}
    known |= {id(weight) for router in routers(model).values() for weight in router.parameters()}
    for path, module in model.named_modules():
        if isinstance(module, _OTHERS) or module is model.get_output_embeddings():
            continue
        for name, weight in module.named_parameters(recurse=False):
            if weight.dim() > 1 and id(weight) not in known:
                yield f"{path}.{name}", weight


def unrounded_layers(model: Model) -> list[str]:
    """Names of the linear layers that stay as they are."""
    known = {id(module) for _, module, _ in weights_to_round(model)}
    return [path for path, each in model.named_modules() if isinstance(each, nn.Linear) and id(each) not in known]


def write_compressed(student: Path, target: Path, weights: Rounded, format_: Format, plain: Sequence[str]) -> None:
    """Copy the model directory `student` to `target` with `weights` packed; the copy is atomic.

    plain: names of the linear layers that are not packed.  Raises UnsupportedArchitecture if the weight names in the
    directory differ from those in `weights`.
    """
    left = set(weights)
    with replacing_directory(target) as temporary:
        for file in student.iterdir():
            if file.suffix == ".safetensors":
                tensors, known = _packed_file(file, weights, format_)
                save_file(tensors, temporary / file.name, metadata={"format": "pt"})
                left -= known
            elif file.name not in ("config.json", "model.safetensors.index.json", CHECKSUMS):
                shutil.copy(file, temporary / file.name)
        if left:
            raise UnsupportedArchitecture(
                f"the checkpoint in {student} has no {min(left)}; this model is not packed yet"
            )
        config = json.loads((student / "config.json").read_text(encoding="utf-8"))
        config = with_quantization(config, packing_scheme(format_, plain))
        (temporary / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        _write_index(student, temporary)
        write_checksums(temporary)


def _packed_file(file: Path, weights: Rounded, format_: Format) -> tuple[dict[str, Tensor], set[str]]:
    """The tensors of one file, and the names of those that were packed."""
    from compressed_tensors.compressors import pack_to_int32

    tensors: dict[str, Tensor] = {}
    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 - not a dictionary
            if name not in weights:
                tensors[name] = opened.get_tensor(name)
                continue
            (values, scale), layer = weights[name], name.removesuffix("weight")
            tensors[f"{layer}weight_scale"] = scale.contiguous()
            if format_.name == "fp8":
                tensors[name] = values.to(torch.float8_e4m3fn).contiguous()
            else:
                tensors[f"{layer}weight_packed"] = pack_to_int32(values.to(torch.int8), BITS[format_.name])
                tensors[f"{layer}weight_shape"] = torch.tensor(values.shape)
        packed = set(opened.keys()) & set(weights)
    return tensors, packed


def _write_index(student: Path, packed: Path) -> None:
    """Write model.safetensors.index.json where the model has several files: which tensor is in which."""
    if not (student / "model.safetensors.index.json").exists():
        return
    where: dict[str, str] = {}
    total = 0
    for file in sorted(packed.glob("*.safetensors")):
        total += file.stat().st_size
        with safe_open(file, framework="pt") as opened:
            where |= dict.fromkeys(opened.keys(), file.name)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (packed / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def packing_scheme(format_: Format, plain: Sequence[str]) -> dict[str, Any]:
    """The `quantization_config` of config.json: all linear layers except head, routers and those called `plain`."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme

    if format_.name == "fp8":
        kind = QuantizationArgs(num_bits=8, type="float", symmetric=True, strategy="channel")
        layout = "float-quantized"
    else:
        bits = BITS[format_.name]
        kind = QuantizationArgs(num_bits=bits, type="int", symmetric=True, strategy="group", group_size=format_.group)
        layout = "pack-quantized"
    weights = QuantizationScheme(targets=["Linear"], weights=kind)
    config = QuantizationConfig(
        config_groups={"group_0": weights}, format=layout, quantization_status="compressed",
        ignore=list(dict.fromkeys(["lm_head", "re:.*mlp[.]gate$", *plain])),
    )  # fmt: skip
    entry: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return entry
