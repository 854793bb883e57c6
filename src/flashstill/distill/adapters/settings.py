"""Read an untrusted adapter_config.json: only what a plain merge of LoRA needs, every value checked.

The file's regular expressions are never run (they may backtrack without end): which layers are adapted follows from the
names of the tensors, which are all compared with the base model's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from flashstill.arch.lora_base import CONFIG, read_adapter_config
from flashstill.errors import BadInput, shortened

MOST_RANK = 2**16
Number = TypeVar("Number", int, float)
ALL_LINEAR = "all-linear"
_PLAIN = re.compile(r"\^?[A-Za-z0-9_.\-]{1,512}\$?")
_INITIAL = (None, True, False, "gaussian", "orthogonal", "eva")
"""values of init_lora_weights that leave the base's weights as they are"""
_OTHER_FORWARD = (
    "alora_invocation_tokens", "arrow_config", "layer_replication", "lora_bias", "megatron_config", "monteclora_config",
    "target_parameters", "trainable_token_indices", "use_bdlora", "use_qalora", "velora_config", "kasa_config",
)  # fmt: skip
"""keys that add to the forward pass what a merge of two matrices does not hold"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSettings:
    """What scales an adapter's product, and which layers it should have.

    by_root: alpha / sqrt(rank) instead of alpha / rank (rsLoRA).  has_magnitudes: DoRA.  targets: plain names, None
    where the file has an expression.  whole: modules whose own weights are replaced (modules_to_save).
    """

    rank: int
    alpha: float
    by_root: bool = False
    has_magnitudes: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    targets: tuple[str, ...] | None = None
    all_linear: bool = False
    excluded: tuple[str, ...] | None = ()
    layers: tuple[int, ...] = ()
    whole: tuple[str, ...] = ()

    def rank_of(self, module: str) -> int:
        """The rank of one layer."""
        return _own(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        """The factor of a layer's product of matrices."""
        rank = self.rank_of(module)
        return _own(self.alphas, module, self.alpha) / (math.sqrt(rank) if self.by_root else rank)

    def asks(self, module: str) -> bool:
        """Whether a layer is among the plain target names."""
        if not self.targets or named(module, self.excluded or ()) or named(module, self.whole):
            return False
        number = re.search(r"\.(\d+)\.", module)
        if self.layers and (number is None or int(number[1]) not in self.layers):
            return False
        return named(module, self.targets)


def named(module: str, names: tuple[str, ...]) -> bool:
    """Whether a module has one of the names: in full, or as its last parts."""
    return any(module == name or module.endswith(f".{name}") for name in names)


def _own(pattern: Mapping[str, Number], module: str, usual: Number) -> Number:
    for name, value in pattern.items():
        plain = name.removeprefix("^").removesuffix("$")
        if module == plain or (not name.startswith("^") and module.endswith(f".{plain}")):
            return value
    return usual


def read_settings(path: Path) -> LoraSettings:
    """The settings of an adapter directory; BadInput, naming the key, for anything that cannot be merged safely."""
    fields, shown = read_adapter_config(path), path / CONFIG
    kind = fields.get("peft_type")
    if kind != "LORA":
        raise BadInput(
            f"{shown} is an adapter of peft_type {shortened(str(kind))!r}; LORA alone is read here, others must be"
            " merged into their model first"
        )
    if fields.get("task_type") not in (None, "CAUSAL_LM"):
        raise BadInput(f"{shown} has task_type {shortened(str(fields['task_type']))!r}; a CAUSAL_LM adapter is needed")
    start = fields.get("init_lora_weights")
    if not any(start is known or (isinstance(known, str) and start == known) for known in _INITIAL):
        raise BadInput(
            f"{shown} has init_lora_weights {shortened(str(start))!r}, which changes its base model's weights before"
            " training; convert it to a plain LoRA first (path_initial_model_for_weight_conversion of peft)"
        )
    for key in _OTHER_FORWARD:
        if fields.get(key):
            raise BadInput(f"{shown} sets {key}, which a merged model cannot hold; merge plain LoRA adapters only")
    if fields.get("bias", "none") not in ("none", "all", "lora_only"):
        raise BadInput(f"{shown}: bias must be none, all or lora_only")
    targets = fields.get("target_modules")
    return LoraSettings(
        rank=_rank(shown, "r", fields.get("r")),
        alpha=_number(shown, "lora_alpha", fields.get("lora_alpha")),
        by_root=_flag(shown, fields, "use_rslora"),
        has_magnitudes=_flag(shown, fields, "use_dora"),
        ranks={key: _rank(shown, key, value) for key, value in _pattern(shown, fields, "rank_pattern").items()},
        alphas={key: _number(shown, key, value) for key, value in _pattern(shown, fields, "alpha_pattern").items()},
        targets=None if targets is None or isinstance(targets, str) else _names(shown, "target_modules", targets),
        all_linear=targets == ALL_LINEAR,
        excluded=_plain_names(shown, "exclude_modules", fields.get("exclude_modules")),
        layers=_layers(shown, fields.get("layers_to_transform")),
        whole=_plain_names(shown, "modules_to_save", fields.get("modules_to_save")) or (),
    )


def _rank(shown: Path, key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_RANK:
        raise BadInput(f"{shown}: {key} must be a rank of 1 to {MOST_RANK:,}, not {shortened(str(value))}")
    return value


def _number(shown: Path, key: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < abs(value) <= 1e9:
        raise BadInput(f"{shown}: {key} must be a number other than 0, not {shortened(str(value))}")
    return float(value)


def _flag(shown: Path, fields: Mapping[str, Any], key: str) -> bool:
    value = fields.get(key)
    if value not in (None, True, False):
        raise BadInput(f"{shown}: {key} must be true or false")
    return bool(value)


def _pattern(shown: Path, fields: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = fields.get(key) or {}
    if not isinstance(value, dict) or len(value) > 100_000:
        raise BadInput(f"{shown}: {key} must be a table of layers")
    for name in value:
        if not _PLAIN.fullmatch(name):
            raise BadInput(f"{shown}: {key} names {shortened(name)!r}, and expressions are not run; name whole layers")
    return value


def _plain_names(shown: Path, key: str, value: Any) -> tuple[str, ...] | None:
    """The names of a list; None for an expression."""
    return () if value is None else None if isinstance(value, str) else _names(shown, key, value)


def _names(shown: Path, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > 100_000 or not all(isinstance(name, str) for name in value):
        raise BadInput(f"{shown}: {key} must be a list of names")
    return tuple(value)


def _layers(shown: Path, value: Any) -> tuple[int, ...]:
    listed = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(layer, int) and not isinstance(layer, bool) for layer in listed):
        raise BadInput(f"{shown}: layers_to_transform must be numbers of layers")
    return tuple(listed)
