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

from flashstill.distill.models.directories import weight_files
from flashstill.distill.models.predictors import behind_the_blocks
from flashstill.errors import BadInput


def check_loaded(path: Path, model: Any, info: Mapping[str, Any]) -> None:
    """BadInput if tensors were missing, unexpected or of the wrong shape, or contain NaN or infinity.

    Layers for multi-token prediction are no surplus (predictors.py), where the configuration counts them.
    path: model directory or file, for the message; info: what from_pretrained returns with output_loading_info=True.
    """
    missing, unexpected, mismatched = (_names(info, f"{kind}_keys") for kind in ("missing", "unexpected", "mismatched"))
    surplus = unexpected - behind_the_blocks(model.config, unexpected)
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    for names, what in ((missing, "missing"), (surplus, "more than it has"), (mismatched, "of another shape")):
        if names:
            raise BadInput(
                f"model {path}: its weights do not match its configuration; {len(names)} tensors are {what},"
                f" the first {min(names, key=_in_order)}{_wrapped(missing, surplus, tied)}"
            )
    for name, parameter in model.named_parameters():
        is_plain = parameter.is_floating_point() and parameter.dtype.itemsize > 1 and parameter.device.type != "meta"
        if is_plain and not torch.isfinite(parameter.detach().sum(dtype=torch.float32)):
            raise BadInput(f"model {path}: {name} holds values that are not finite numbers")


def _names(info: Mapping[str, Any], key: str) -> set[str]:
    return {str(each[0] if isinstance(each, tuple) else each) for each in info.get(key) or ()}


def _wrapped(missing: set[str], surplus: set[str], tied: set[str]) -> str:
    """The prefix, as torch.compile leaves it, without which the surplus tensors would be the missing ones; or nothing.

    tied: names of tensors that need not be stored, as they are the same as others.
    """
    prefix = f"{min(surplus, default='').partition('.')[0]}."
    bare = {name.removeprefix(prefix) for name in surplus}
    if not missing or not surplus or bare - missing or missing - bare - tied:
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
