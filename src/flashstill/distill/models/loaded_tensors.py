"""Check the tensors of a model: names and shapes after loading, and that their values are finite numbers.

Names and shapes are compared only after loading, because transformers renames, splits and stacks the tensors of many
families.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from flashstill.arch.adapter.sizes import predictor_layers
from flashstill.distill.models.directories import weight_files
from flashstill.errors import BadInput

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def check_loaded(path: Path, model: Any, info: Mapping[str, Any]) -> None:
    """BadInput if tensors were missing, unexpected or of the wrong shape, or contain NaN or infinity.

    Layers that predict further tokens lie behind the last block in published checkpoints; transformers has no modules
    for them, and knows only some of their numbers.
    path: model directory or file, for the message; info: what from_pretrained returns with output_loading_info=True.
    """
    for key, what in (("missing_keys", "missing"), ("unexpected_keys", "more than it has"),
                       ("mismatched_keys", "of another shape")):  # fmt: skip
        names = [str(each[0] if isinstance(each, tuple) else each) for each in info.get(key) or ()]
        if key == "unexpected_keys":
            beyond = predictor_layers(model.config)
            names = [name for name in names if not any(int(each) in beyond for each in _LAYER.findall(name)[:1])]
        if names:
            raise BadInput(
                f"model {path}: its weights do not match its configuration; {len(names)} tensors are {what},"
                f" the first {min(names, key=_in_order)}{_prefixed(info)}"
            )
    for name, parameter in model.named_parameters():
        is_plain = parameter.is_floating_point() and parameter.dtype.itemsize > 1 and parameter.device.type != "meta"
        if is_plain and not torch.isfinite(parameter.detach().sum(dtype=torch.float32)):
            raise BadInput(f"model {path}: {name} holds values that are not finite numbers")


def _prefixed(info: Mapping[str, Any]) -> str:
    """What stands before the names of missing tensors in the files, as torch.compile leaves it; or nothing."""
    missing, surplus = (sorted(map(str, info.get(key) or ())) for key in ("missing_keys", "unexpected_keys"))
    prefix = f"{surplus[0].partition('.')[0]}." if surplus else ""
    bare = {name.removeprefix(prefix) for name in surplus if name.startswith(prefix)}
    if not missing or len(bare & set(missing)) < len(surplus):
        return ""
    return f"; the files have {prefix!r} before their names, without which they would fit"


def check_finite(path: Path) -> None:
    """BadInput if a directory that `shapes` has checked holds NaN or infinity; one tensor at a time is read."""
    for file in weight_files(path):
        with safe_open(file, framework="pt") as opened:
            for name in sorted(opened.keys(), key=_in_order):
                tensor = opened.get_tensor(name)
                is_plain = tensor.is_floating_point() and tensor.dtype.itemsize > 1
                if is_plain and not torch.isfinite(tensor.sum(dtype=torch.float32)):
                    raise BadInput(f"model {path}: {name} in {file.name} holds values that are not finite numbers")


def restore_padding(path: Path, model: Any) -> None:
    """Restore rows of embeddings for a padding token from the files: some families (Youtu) zero them after loading."""
    rows = {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None
    }
    for file in weight_files(path) if rows else ():
        with safe_open(file, framework="pt") as opened:
            for name in set(opened.keys()) & set(rows):
                weight, place = rows[name].weight, int(rows[name].padding_idx or 0)
                if tuple(opened.get_slice(name).get_shape()) == tuple(weight.shape):
                    row = opened.get_slice(name)[place : place + 1][0]
                    weight.data[place] = row.to(weight.device, weight.dtype)


def _in_order(name: str) -> list[tuple[bool, int, str]]:
    """Sort key for names that contain numbers: layer 9 before layer 10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
