"""A model without weights, to be sharded before any are read: parameters on the meta device, buffers as computed.

Parameters of a plain model are on disk under their own names, of some families under others (transformers joins the
experts of a block when it loads them); only the former can be read in slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from flashstill.distill.models.configuration import plain_config
from flashstill.distill.models.directories import check_directory, check_small_files, weight_files
from flashstill.distill.models.expert_products import fit_experts
from flashstill.distill.models.loading import STORED, Model, check_tensors, load_model, quiet
from flashstill.errors import BadInput, first_line
from flashstill.files import disk_errors


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Context in which new parameters take no memory; buffers do, as they are computed and not loaded."""
    original = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:  # one on meta may be tied: it stays the same object
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        original(module, name, parameter)

    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]


def empty_model(path: Path, dtype: torch.dtype = STORED) -> Model:
    """The model of a directory of plain weights, without them; BadInput if the directory is unsafe or broken.

    Parameters and buffers have the dtypes that `load_model` gives them: some are kept in float32.
    """
    from transformers import AutoModelForCausalLM

    check_directory(path)
    check_small_files(path)
    quiet()
    config = plain_config(path)
    alike = check_tensors(path, dtype)
    if alike is None:
        raise BadInput(
            f"model {path}: its weights are packed, or transformers cannot lay it out without them; train it in one"
            " process"
        )
    try:
        # in float32, as buffers are computed when weights are loaded: some come of numbers in the default dtype
        with parameters_on_meta(), torch.random.fork_rng(devices=[]):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except Exception as error:  # transformers raises many kinds for a broken configuration
        raise BadInput(f"model directory {path} cannot be loaded: {first_line(error)}") from error
    _take_dtypes(model, alike)
    fit_experts(model)
    return model.eval()


def _take_dtypes(model: Model, alike: Model) -> None:
    """Give parameters, buffers and configuration of a model the dtypes of another one of the same names."""
    tensors = {**dict(alike.named_parameters()), **dict(alike.named_buffers())}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        tensor.data = tensor.data.to(tensors[name].dtype)
    model.config.dtype = alike.config.dtype
    model.config.get_text_config().dtype = alike.config.get_text_config().dtype


class Files:
    """Where the tensors of a model lie on disk, by the names of its parameters and persistent buffers."""

    def __init__(self, places: Mapping[str, tuple[Path, str]]) -> None:
        self._places = places

    def read(self, name: str, part: tuple[slice, ...] = ()) -> Tensor:
        """A tensor, or a part of it; nothing else is read."""
        path, stored = self._places[name]
        with safe_open(path, framework="pt") as opened:
            tensor: Tensor = opened.get_slice(stored)[part or (slice(None),)] if part else opened.get_tensor(stored)
        return tensor


def files_of(directory: Path, model: Model) -> Files | None:
    """The files of a directory, if every tensor of `model` is in them under its own name (or that of a tied one)."""
    places: dict[str, tuple[Path, str]] = {}
    stored: dict[str, tuple[int, ...]] = {}
    for path in weight_files(directory):
        with disk_errors(path), safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                places[name], stored[name] = (path, name), tuple(opened.get_slice(name).get_shape())
    tied = _tied(model)
    found: dict[str, tuple[Path, str]] = {}
    for name, tensor in model.state_dict().items():
        known = next((each for each in tied.get(name, (name,)) if stored.get(each) == tuple(tensor.shape)), None)
        if known is None:
            return None
        found[name] = places[known]
    return Files(found)


def write_plainly(directory: Path, dtype: torch.dtype, target: Path, template: Model) -> None:
    """Load a model and write its tensors to one file, under the names that `files_of` looks for."""
    from safetensors.torch import save_file

    own = load_model(directory, dtype).state_dict()
    tied = _tied(template)
    kept = {name: tensor for name, tensor in own.items() if name == tied.get(name, (name,))[0]}
    target.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(target):
        save_file({name: tensor.cpu().contiguous() for name, tensor in kept.items()}, target)


def fill_buffers(model: nn.Module, files: Files) -> None:
    """Read the persistent buffers of a model, all of them in every process: they are small."""
    names = set(model.state_dict())
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name in names:
                buffer.copy_(files.read(name))


def allocated(model: nn.Module, device: torch.device) -> nn.Module:
    """Give a model on meta memory on a device, in place; contents are undefined, those of its buffers are kept."""
    buffers = {name: buffer for name, buffer in model.named_buffers() if not buffer.is_meta}
    shared = [[(module, name) for module, name in places] for places in _places(model).values() if len(places) > 1]
    model.to_empty(device=device)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name in buffers:
                buffer.copy_(buffers[name])
    for (first, own), *others in shared:  # to_empty takes tied parameters apart
        for module, name in others:
            module._parameters[name] = first._parameters[own]
    return model


def _places(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """The modules that hold each parameter, with its name there."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                places.setdefault(id(parameter), []).append((module, name))
    return places


def _tied(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """The names of every parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    groups: list[tuple[str, ...]] = [tuple(group) for group in names.values() if len(group) > 1]
    return {name: group for group in groups for name in group}


def parameter_bytes(model: Any) -> int:
    """Bytes of all parameters, tied ones once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
