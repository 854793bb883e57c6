"""Build a model from its configuration and given tensors, as loading a directory would."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from flashstill.errors import BadInput, UnsupportedArchitecture, one_line

DRAWS = {
    torch.Tensor.normal_, torch.Tensor.uniform_, torch.nn.init.kaiming_uniform_, torch.nn.init.normal_,
    torch.nn.init.uniform_,
}  # fmt: skip
"""how new layers get their random weights"""


class Undrawn(TorchFunctionMode):
    """Context in which nothing is drawn for tensors without memory.

    PyTorch decomposes such draws in Python, which takes as long as it takes to make the layers.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """As PyTorch asks for it: what `func` returns for these arguments."""
        named = dict(kwargs or {})
        if func in DRAWS:
            tensor = args[0] if args else named["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **named)


@contextlib.contextmanager
def without_memory() -> Iterator[None]:
    """Context in which new models have no memory for their weights, and leave the random numbers as they are."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"), Undrawn():
        yield


def on_meta(kind: type[Any], config: Any) -> Any:
    """A model without memory for its weights; BadInput if the fields of the configuration do not fit together."""
    try:
        with without_memory():
            return kind._from_config(config)
    except Exception as error:  # transformers raises many kinds for fields that do not fit together
        raise BadInput(f"no {kind.__name__} can be made from this configuration: {_reason(error)}") from error


def check_initialisation(model: Any) -> None:
    """BadInput where a model cannot be initialised, which loading does: RWKV divides by its depth - 1."""
    try:
        with torch.no_grad(), Undrawn(), contextlib.suppress(RuntimeError, NotImplementedError, TypeError, ValueError):
            _initialise(model, model)  # these errors come from weights without memory
    except ArithmeticError as error:
        raise BadInput(f"a {type(model).__name__} of this configuration cannot be initialised: {error}") from error


def _initialise(module: Any, owner: Any) -> None:
    """As transformers does: the modules of a model within a model (a body) by the rules of the inner one."""
    owner = module if hasattr(module, "_init_weights") else owner
    for child in module.children():
        _initialise(child, owner)
    owner._init_weights(module)


def configured(config: Any, changes: Mapping[str, Any]) -> Any:
    """The configuration with some fields changed, derived fields made anew; BadInput if they do not fit together."""
    try:
        return type(config).from_dict({**config.to_dict(), **changes})
    except Exception as error:
        raise BadInput(f"these fields do not fit together: {_reason(error)}") from error


def with_tensors(kind: type[Any], config: Any, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Any:
    """A model of a class with these tensors, copied, in eval mode; tensors that are tied may be given once.

    UnsupportedArchitecture, naming the first, if one is missing, surplus or of another shape.
    """
    from transformers.initialization import no_init_weights

    with torch.random.fork_rng(devices=[]), no_init_weights():
        model = kind._from_config(config, dtype=dtype)  # buffers such as rotary frequencies keep their own dtype
        model.tie_weights()
    own = model.state_dict()
    groups: dict[int, list[str]] = {}
    for name, tensor in own.items():
        groups.setdefault(tensor.data_ptr(), []).append(name)
    tied = {name for names in groups.values() if any(each in tensors for each in names) for name in names}
    missing = [name for name in own if name not in tensors and name not in tied]
    surplus = [name for name in tensors if name not in own]
    wrong = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
    for names, what in ((missing, "missing"), (surplus, "more than it has"), (wrong, "of another shape")):
        if names:
            raise UnsupportedArchitecture(f"{len(names)} tensors of a {kind.__name__} are {what}, the first {names[0]}")
    by_module: dict[str, Any] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, tensor in own.items():
            if name in tensors:
                source = tensors[name]
                if name in by_module:
                    by_module[name].data = by_module[name].data.to(source.dtype)
                    by_module[name].data.copy_(source)
                else:
                    tensor.copy_(source)
    return model.eval()


def _reason(error: Exception) -> str:
    """The last line of a message, which says what transformers misses."""
    return one_line((str(error).strip().splitlines() or [type(error).__name__])[-1].strip())
