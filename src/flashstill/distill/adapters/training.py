"""A student's own adapter: put on the model for training (peft), written as a directory, merged for the export.

The base's weights need no gradient, so that neither the optimiser nor the checkpoints hold them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from flashstill.arch.lora_base import WEIGHTS
from flashstill.distill.adapters.merging import PREFIX, Pair, merged_weight
from flashstill.distill.adapters.targets import short_names, target_names
from flashstill.distill.models import Model
from flashstill.errors import BadInput, first_line
from flashstill.files import replacing_directory

NAME = "default"
"""peft's name of the one adapter of a model"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """Settings of a new adapter; see recipes/adapter.py. seed: of its first weights."""

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    rslora: bool = False
    dora: bool = False
    seed: int = 0


def attach(model: Model, adapter: Adapter) -> None:
    """Put a new adapter on a model, in place; only its matrices then require a gradient. At first it changes nothing.

    Its weights have the model's dtype.  Raises BadInput if a target does not fit.
    """
    from peft import inject_adapter_in_model

    chosen = target_names(model, adapter.targets)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    before = model.training
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that peft corrects layer by layer
            torch.manual_seed(adapter.seed)
            inject_adapter_in_model(_config(model, adapter, chosen), model, adapter_name=NAME)
    except ValueError as error:  # layers that peft knows to be read directly
        raise BadInput(f"{type(model).__name__} cannot be adapted so: {first_line(error)}") from error
    for _, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(model.dtype)
    model.train(before)


def _config(model: Model, adapter: Adapter, names: list[str]) -> Any:
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    alpha = adapter.alpha
    return LoraConfig(
        r=adapter.rank, lora_alpha=int(alpha) if alpha.is_integer() else alpha, lora_dropout=adapter.dropout,
        use_rslora=adapter.rslora, use_dora=adapter.dora, task_type="CAUSAL_LM",
        target_modules=short_names(model, names),
        fan_in_fan_out=all(isinstance(_base(model.get_submodule(name)), Conv1D) for name in names),
    )  # fmt: skip


def adapted_layers(model: Model) -> Iterator[tuple[str, Any]]:
    """(name, peft's layer) of every layer with an adapter."""
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            yield name, module


def is_adapted(model: Model) -> bool:
    """Whether a model is being trained through an adapter."""
    return next(adapted_layers(model), None) is not None


def write_adapter(model: Model, adapter: Adapter, base: str, path: Path) -> int:
    """Write the adapter of a trained model as peft, vLLM and SGLang read it; returns its number of weights.

    base: the model it belongs to, for adapter_config.json.
    """
    names = [name for name, _ in adapted_layers(model)]
    tensors: dict[str, Tensor] = {}
    for name, layer in adapted_layers(model):
        pair = _pair(layer)
        tensors[f"{PREFIX}{name}.lora_A.weight"], tensors[f"{PREFIX}{name}.lora_B.weight"] = pair.down, pair.up
        if pair.magnitude is not None:
            tensors[f"{PREFIX}{name}.lora_magnitude_vector"] = pair.magnitude
    config = _config(model, adapter, names)
    config.base_model_name_or_path, config.inference_mode = base, True
    with replacing_directory(path) as temporary:
        save_file(
            {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, temporary / WEIGHTS, {"format": "pt"}
        )
        config.save_pretrained(str(temporary))
    return sum(tensor.numel() for tensor in tensors.values())


def merge(model: Model) -> Model:
    """Merge the adapter of a model into its weights, in place: afterwards it is an ordinary model again."""
    for name, layer in list(adapted_layers(model)):
        base = _base(layer)
        is_turned = type(base).__name__ == "Conv1D"
        weight = base.weight.data.T if is_turned else base.weight.data
        total = merged_weight(weight, _pair(layer), float(layer.scaling[NAME]))
        base.weight.data.copy_(total.T if is_turned else total)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, base)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    for leftover in ("peft_config", "_hf_peft_config_loaded"):
        if leftover in vars(model):
            delattr(model, leftover)
    return model


def _base(layer: Any) -> Any:
    return getattr(layer, "base_layer", layer)


def _pair(layer: Any) -> Pair:
    magnitude = layer.lora_magnitude_vector[NAME].weight.detach() if NAME in layer.lora_magnitude_vector else None
    return Pair(down=layer.lora_A[NAME].weight.detach(), up=layer.lora_B[NAME].weight.detach(), magnitude=magnitude)
