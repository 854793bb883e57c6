"""Merge a LoRA adapter directory into its base model, with every tensor checked against that model.

    LoRA    W + s B A, with A [r, in], B [out, r] and s = alpha / r            (Hu et al. 2022, section 4.1)
    rsLoRA  the same with s = alpha / sqrt(r)                                   (Kalajdzievski 2023, theorem 3.2)
    DoRA    m (W + s B A) / |W + s B A|, the norm over each output's row        (Liu et al. 2024, equation 5)

Sums are taken in float32 and rounded to the model's dtype once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from flashstill.arch.lora_base import WEIGHTS
from flashstill.bounded import check_regular
from flashstill.distill.adapters.settings import LoraSettings, read_settings
from flashstill.distill.losses.workspace import wide
from flashstill.distill.models import Model
from flashstill.errors import BadInput, first_line, shortened

PREFIX = "base_model.model."
DOWN, UP, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
EMBEDDED_DOWN, EMBEDDED_UP = ".lora_embedding_A", ".lora_embedding_B"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """The matrices of one layer: down [r, in], up [out, r]; magnitude [out] of DoRA, else None."""

    down: Tensor
    up: Tensor
    magnitude: Tensor | None = None


@torch.no_grad()
def merged_weight(weight: Tensor, pair: Pair, scale: float) -> Tensor:
    """The weight [out, in] with a pair merged into it, in `weight`'s dtype and on its device."""
    high = weight.to(wide(weight.dtype))
    total = torch.addmm(high, pair.up.to(high), pair.down.to(high), alpha=scale)
    if pair.magnitude is not None:
        total *= (pair.magnitude.to(high) / torch.linalg.vector_norm(total, dim=1))[:, None]
    return total.to(weight.dtype)


def merge_directory(model: Model, path: Path) -> None:
    """Merge the adapter of a directory into its base model, in place.

    Raises BadInput if a tensor is missing, belongs to no layer, has another shape or is not finite.
    """
    settings, shapes = read_settings(path), _shapes(path)
    shared_weights = tied(model)
    adapted, replaced = _sorted(path, shapes)
    _check_missing(model, settings, adapted, path)
    with safe_open(path / WEIGHTS, framework="pt") as opened:

        def read(name: str, wanted: tuple[int, ...]) -> Tensor:
            if shapes[name] != wanted:
                raise BadInput(
                    f"adapter {path}: {shortened(name)} has the shape {list(shapes[name])}, and its base model needs"
                    f" {list(wanted)}"
                )
            tensor: Tensor = opened.get_tensor(name)
            if not tensor.is_floating_point() or not torch.isfinite(tensor.sum(dtype=torch.float32)):
                raise BadInput(f"adapter {path}: {shortened(name)} holds values that are not finite numbers")
            return tensor

        _replace(model, replaced, read, path)  # first: an adapted embedding may come with its base
        for name in adapted:
            layer = _layer(model, name, path)
            if id(layer.weight) in shared_weights:
                raise BadInput(
                    f"adapter {path} changes {name}, whose weights the base model shares with another layer; it cannot"
                    " be merged"
                )
            is_turned = isinstance(layer, Conv1D | nn.Embedding)
            weight = layer.weight.data.T if is_turned else layer.weight.data
            total = merged_weight(weight, _pair(name, weight, settings, shapes, read), settings.scale_of(name))
            layer.weight.data.copy_(total.T if is_turned else total)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the adapter's file, by its name."""
    file = path / WEIGHTS
    if not file.exists():
        pickle = next((each.name for each in path.glob("adapter_model.*")), "")
        instead = f", only {pickle}, and pickles can run code; save it as safetensors first" if pickle else ""
        raise BadInput(f"adapter {path} has no {WEIGHTS}{instead}")
    check_regular(file)
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{file} is not a whole safetensors file ({first_line(error)})") from error


def _sorted(path: Path, shapes: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The names of the adapted layers, and parameter -> tensor of those that are replaced as a whole."""
    adapted: dict[str, set[str]] = {}
    replaced = {}
    for name in shapes:
        if not name.startswith(PREFIX):
            raise BadInput(f"adapter {path}: {shortened(name)} is no tensor of a peft adapter ({PREFIX}...)")
        own = name.removeprefix(PREFIX)
        end = next((end for end in _ENDS if own.endswith(end)), None)
        if end is None:
            replaced[own.replace(".base_layer.", ".")] = name
        else:
            adapted.setdefault(own.removesuffix(end), set()).add(_ENDS[end])
    for layer, ends in adapted.items():
        if not {"down", "up"} <= ends:
            raise BadInput(f"adapter {path}: {layer} has only one of its two matrices; the adapter is broken")
    if not adapted:
        raise BadInput(f"adapter {path} holds no LoRA matrices")
    return list(adapted), replaced


_ENDS = {
    DOWN: "down",
    UP: "up",
    MAGNITUDE: "size",
    f"{MAGNITUDE}.weight": "size",
    EMBEDDED_DOWN: "down",
    EMBEDDED_UP: "up",
}


def _layer(model: Model, name: str, path: Path) -> Any:
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        layer = None
    if layer is None or not (is_linear(layer) or isinstance(layer, nn.Embedding)):
        raise BadInput(
            f"adapter {path} changes {shortened(name)}, which is no linear layer of its base model"
            f" ({type(model).__name__}); name the base it was trained on with `base`"
        )
    return layer


def _pair(name: str, weight: Tensor, settings: LoraSettings, shapes: Mapping[str, Any], read: Any) -> Pair:
    rank, (outputs, inputs) = settings.rank_of(name), weight.shape
    own = f"{PREFIX}{name}"
    down, up = (DOWN, UP) if own + DOWN in shapes else (EMBEDDED_DOWN, EMBEDDED_UP)
    size = next((own + end for end in (MAGNITUDE, f"{MAGNITUDE}.weight") if own + end in shapes), None)
    if (size is not None) != settings.has_magnitudes:
        raise BadInput(f"adapter: {name} and use_dora disagree about magnitudes (DoRA); the adapter is broken")
    return Pair(
        down=read(own + down, (rank, inputs)),
        up=read(own + up, (outputs, rank)),
        magnitude=None if size is None else read(size, (outputs,)),
    )


def _check_missing(model: Model, settings: LoraSettings, adapted: list[str], path: Path) -> None:
    """BadInput if a layer that the configuration names has no tensors."""
    head = model.get_output_embeddings()
    held = set(adapted)
    for name, module in model.named_modules():
        if name in held or not isinstance(module, nn.Linear | Conv1D | nn.Embedding):
            continue
        is_inner = is_linear(module) and module is not head
        if settings.asks(name) or (settings.all_linear and settings.excluded == () and is_inner):
            raise BadInput(f"adapter {path} has no tensors for {name}, which its target_modules name")


def _replace(model: Model, replaced: Mapping[str, str], read: Any, path: Path) -> None:
    """Put whole weights and biases that were trained beside the adapter in place of the base's."""
    own = dict(model.named_parameters(remove_duplicate=False))
    done: dict[int, Tensor] = {}
    for name, tensor_name in replaced.items():
        if name not in own:
            raise BadInput(f"adapter {path}: {shortened(tensor_name)} belongs to no layer of its base model")
        value = read(tensor_name, tuple(own[name].shape))
        earlier = done.setdefault(id(own[name]), value)
        if earlier is not value and not torch.equal(earlier, value):
            raise BadInput(f"adapter {path} gives two different weights to layers that share theirs in its base model")
        own[name].data.copy_(value)
    shared = tied(model)
    for name in replaced:
        if id(own[name]) in shared and not shared[id(own[name])] <= set(replaced):
            raise BadInput(f"adapter {path} changes {name} apart from the layer that shares its weights; not mergeable")


def tied(model: Model) -> dict[int, set[str]]:
    """id of each parameter that has several names -> these names."""
    names: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), set()).add(name)
    return {key: each for key, each in names.items() if len(each) > 1}


def layers_of(model: Model) -> Iterator[tuple[str, Any]]:
    """(name, module) of every layer that LoRA can adapt: linear in its input."""
    for name, module in model.named_modules():
        if is_linear(module):
            yield name, module


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer: of these classes, and where it has a forward pass of its own (Falcon), one
    that multiplies as they do on a probe (DeepSeek-V4 groups the inputs of one)."""
    if not isinstance(module, nn.Linear | Conv1D):
        return False
    if type(module).forward in (nn.Linear.forward, Conv1D.forward):
        return True
    return isinstance(module, nn.Linear) and _multiplies(module)


@torch.no_grad()
def _multiplies(module: nn.Linear) -> bool:
    weight, bias = module.weight, module.bias
    if weight.is_meta or not weight.is_floating_point():
        return False
    probe = torch.linspace(-1.0, 1.0, 2 * module.in_features, device=weight.device).view(2, -1).to(weight.dtype)
    try:
        found = module(probe)
    except (RuntimeError, TypeError, ValueError, IndexError):  # it takes other inputs
        return False
    expected = nn.functional.linear(probe, weight, bias)
    close = 1e-2 * float(expected.abs().amax())  # bfloat16 rounds sums in any order
    if not isinstance(found, torch.Tensor):  # a router: its choice of experts, not a product
        return False
    return found.shape == expected.shape and torch.allclose(found.float(), expected.float(), rtol=0.0, atol=close)
