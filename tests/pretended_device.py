"""A GPU that does not exist: its tensors live in CPU memory, but say that they do not, and refuse to meet CPU tensors.

    with pretended("cuda:0"):
        model.to("cuda:0")(tokens)    # RuntimeError, as on a GPU: tensors on cuda:0 and cpu meet in aten.embedding

Storages carry the device; an operation passes it to its outputs.  What a GPU refuses is refused here: operations on
tensors of two devices (apart from numbers, and from CPU indices into a GPU tensor), NumPy views, generators of another
device.  What runs in C++ without a tensor operation is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU = torch.device("cpu")
_CROSSING = {
    "aten.copy_.default", "aten._to_copy.default", "aten.set_.source_Tensor", "aten.lift_fresh.default",
    "aten._has_compatible_shallow_copy_type.default",
}  # fmt: skip
_INDEXING = {"aten.index.Tensor", "aten.index_put_.default", "aten.index_put.default", "aten._index_put_impl_.default"}


class Labels:
    """The pretended device of every storage that has one."""

    def __init__(self) -> None:
        self._labels: dict[int, tuple[StorageWeakRef, torch.device]] = {}

    def of(self, tensor: Tensor) -> torch.device:
        """The device that a tensor says it is on."""
        if tensor.is_meta:
            return torch.device("meta")
        label = self._labels.get(tensor.untyped_storage()._cdata)
        return label[1] if label is not None and not label[0].expired() else CPU  # type: ignore[no-untyped-call]

    def set(self, tensor: Tensor, device: torch.device) -> None:
        """Label the storage of a tensor."""
        storage = tensor.untyped_storage()
        self._labels.pop(storage._cdata, None)
        if device.type not in ("cpu", "meta"):
            self._labels[storage._cdata] = (StorageWeakRef(storage), device)  # type: ignore[no-untyped-call]

    def known(self, tensor: Tensor) -> bool:
        return not tensor.is_meta and self.of(tensor) != CPU


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses tensors of two devices in one operation, and labels the outputs."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.labels = labels

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {self.labels.of(tensor) for tensor in tensors if tensor.dim()}
        if str(func) in _INDEXING:  # indices may lie on the CPU, unless the tensor does; a number may be put anywhere
            values = [args[0], *(each for each in args[2:3] if each.dim())]
            devices = {self.labels.of(tensor) for tensor in values}
            places = {self.labels.of(each) for each in args[1] if isinstance(each, Tensor)}
            devices |= places - {CPU}
        elif str(func) in _CROSSING:
            devices = {self.labels.of(args[0])}
        if len(devices - {torch.device("meta")}) > 1:
            names = " and ".join(sorted(map(str, devices)))
            raise RuntimeError(f"tensors on {names} meet in {func}")
        generators = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Generator)]
        device = next(iter(devices), next((self.labels.of(each) for each in tensors), CPU))
        if generators and device not in (CPU, torch.device("meta")):
            raise RuntimeError(f"a generator of the CPU draws for a tensor on {device} in {func}")
        if str(func).startswith("aten.histc") and not args[0].is_floating_point():
            args = (args[0].float(), *args[1:])  # the CPU counts numbers only, a GPU also integers
        made = func(*args, **kwargs)
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor) and not leaf.is_meta and not self.labels.known(leaf) and device != CPU:
                self.labels.set(leaf, device)
        return made


class Calls(TorchFunctionMode):
    """Answers what asks for a device, and moves tensors between devices."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self.labels = labels

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:
            return self.labels.of(args[0])
        if func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return self.labels.of(args[0]).type == "cuda"
        if func == Tensor.is_cpu.__get__:  # type: ignore[attr-defined]
            return self.labels.of(args[0]) == CPU
        name = getattr(func, "__name__", "")
        if name in ("numpy", "__array__") and self.labels.of(args[0]) != CPU:
            raise TypeError(f"a tensor on {self.labels.of(args[0])} cannot be an array")
        if name in ("cpu", "cuda") and isinstance(args[0], Tensor):
            return self._moved(args[0], CPU if name == "cpu" else torch.device("cuda", 0), lambda: args[0])
        if func is Tensor.to:
            return self._to(args, kwargs)
        if name == "__deepcopy__":
            copied = func(*args, **kwargs)
            self.labels.set(copied, self.labels.of(args[0]))
            return copied
        device = kwargs.get("device")
        if device is None or name == "_parse_to" or torch.device(device).type == "meta":
            return func(*args, **kwargs)
        kwargs["device"] = "cpu"
        made = func(*args, **kwargs)
        self.labels.set(made, _indexed(device))
        return made

    def _to(self, args: Any, kwargs: dict[str, Any]) -> Tensor:
        tensor, rest = args[0], list(args[1:])
        if rest and isinstance(rest[0], Tensor):
            rest[:1] = [self.labels.of(rest[0]), rest[0].dtype]
        elif rest and isinstance(rest[0], torch.dtype):
            rest.insert(0, None)
        asked = dict(zip(("device", "dtype", "non_blocking", "copy"), rest, strict=False)) | kwargs
        device = asked.pop("device", None)
        there = self.labels.of(tensor) if device is None else _indexed(device)
        asked = {name: value for name, value in asked.items() if value is not None and value is not False}
        if there.type == "meta" or tensor.is_meta:
            return Tensor.to(tensor, there, **asked)
        return self._moved(tensor, there, lambda: Tensor.to(tensor, **asked) if asked else tensor)

    def _moved(self, tensor: Tensor, device: torch.device, convert: Callable[[], Tensor]) -> Tensor:
        here, made = self.labels.of(tensor), convert()
        if here != device:
            if made.untyped_storage()._cdata == tensor.untyped_storage()._cdata:
                made = made.clone()
            self.labels.set(made, device)
        return made


def _indexed(device: Any) -> torch.device:
    asked = torch.device(device)
    return torch.device(asked.type, 0) if asked.type == "cuda" and asked.index is None else asked


@contextmanager
def pretended(device: str = "cuda:0") -> Iterator[Labels]:
    """A context in which tensors can be moved to a device that this machine has not got."""
    labels = Labels()
    with Calls(labels), Operations(labels):
        yield labels
