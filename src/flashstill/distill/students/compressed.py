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
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from flashstill.arch.adapter.edit import with_quantization
from flashstill.distill.models import STORED, Model
from flashstill.distill.models.checksums import FILE as CHECKSUMS
from flashstill.distill.models.checksums import write_checksums
from flashstill.distill.students.quantise import Format, rounded, weights_to_round
from flashstill.errors import UnsupportedArchitecture
from flashstill.files import replacing_directory

BITS = {"int4": 4, "ternary": 2}
Rounded = dict[str, tuple[Tensor, Tensor]]
"""checkpoint name of a weight -> integers or e4m3 values [out, in], scales [out, groups]"""


def rounded_weights(model: Model, format_: Format) -> Rounded:
    """The rounded weights and scales of a quantisation-aware model, by checkpoint name."""
    by_name: Rounded = {}
    for path, module, name in weights_to_round(model):
        parametrizations = getattr(module, "parametrizations", None)
        fine = (
            parametrizations[name].original
            if parametrizations is not None and name in parametrizations
            else getattr(module, name)
        )
        values, scale = rounded(fine.detach().to(STORED), format_)
        scale = scale.squeeze(-1).to(STORED)
        values = values.flatten(-2)
        if name == "weight":
            by_name[f"{path}.weight"] = (values, scale)
        else:
            by_name |= _experts(path, name, values, scale)
    return by_name


def _experts(path: str, name: str, values: Tensor, scale: Tensor) -> Rounded:
    """Split an expert tensor [E, out, in] into one linear layer per expert, as checkpoints store them."""
    parts = {name: (values, scale)}
    if name == "gate_up_proj":
        halves = zip(("gate_proj", "up_proj"), values.chunk(2, -2), scale.chunk(2, -2), strict=True)
        parts = {part: (half, own) for part, half, own in halves}
    return {
        f"{path}.{expert}.{part}.weight": (both[0][expert], both[1][expert])
        for part, both in parts.items()
        for expert in range(len(values))
    }


def write_compressed(student: Path, target: Path, weights: Rounded, format_: Format) -> None:
    """Copy the model directory `student` to `target` with `weights` packed; the copy is atomic.

    Raises UnsupportedArchitecture if the weight names in the directory differ from those in `weights`.
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
        config = with_quantization(config, packing_scheme(format_))
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


def packing_scheme(format_: Format) -> dict[str, Any]:
    """The `quantization_config` of config.json: all linear layers except head and routers."""
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
        ignore=["lm_head", "re:.*mlp[.]gate$"],
    )  # fmt: skip
    entry: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return entry
