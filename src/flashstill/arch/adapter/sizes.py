"""Sizes and flags of a model, used by the distillation code, under flashstill's names.

A configuration is the dict of a config.json, or a transformers configuration; arch itself does not import transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashstill.arch.adapter.fields import CHOSEN, CONTEXT, DEPTH, HEADS, PREDICTORS, WIDTH, Config, Fields
from flashstill.arch.adapter.text import HOLDERS

__all__ = [
    "CONTEXT", "DEPTH", "FEED_FORWARD", "HEADS", "KEY_HEADS", "KIND", "QUANTISATION", "VOCABULARY", "WIDTH",
    "attention_window", "block_kinds", "chosen_neurons", "counts_no_predictors", "head_width", "is_quantised",
    "is_tied", "kind", "predictor_layers", "rotation", "size", "stated_size", "value", "without_predictors",
]  # fmt: skip

KEY_HEADS = ("num_key_value_heads",)
FEED_FORWARD = ("intermediate_size",)
VOCABULARY = ("vocab_size",)
QUANTISATION = "quantization_config"
"""how the weights of a checkpoint are quantised: an object"""
KIND = "model_type"
HEAD_WIDTH = "head_dim"
_EXPERT_WIDTH = ("moe_intermediate_size", *FEED_FORWARD)  # the latter in kinds without dense FFNs
_NO_OTHER_WIDTH = ("mixtral", "olmoe", "flex_olmo", "gpt_oss", "granitemoe", "phimoe", "minimax", "minimax_m2")
SHARED_COUNT = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
SHARED_WIDTH = ("shared_expert_intermediate_size", "shared_intermediate_size")


def size(configuration: Any, names: tuple[str, ...], of: str = "the model") -> int:
    """One of the sizes above; UnsupportedArchitecture, its message naming `of`, if it is not stated."""
    return _fields(configuration, names, of).count(*names)


def stated_size(configuration: Any, names: tuple[str, ...], of: str = "the model") -> int | None:
    """As `size`, but None if it is not stated; UnsupportedArchitecture if the value is not a count."""
    fields = _fields(configuration, names, of)
    return None if fields.value(*names) is None else fields.count(*names)


def head_width(configuration: Any) -> int:
    """Head width of keys and values; by default model width / heads."""
    stated = stated_size(configuration, (HEAD_WIDTH,))
    return stated or size(configuration, WIDTH) // size(configuration, HEADS)


def predictor_layers(configuration: Any) -> range:
    """Numbers of the layers behind the last block that predict further tokens (multi-token prediction); none if the
    configuration does not state its number of blocks."""
    depth = stated_size(configuration, DEPTH)
    counts = [value(configuration, name) for name in PREDICTORS]
    count = next((each for each in counts if type(each) is int and each > 0), 0)
    return range(0) if depth is None else range(depth, depth + count)


def counts_no_predictors(configuration: Any) -> bool:
    """Whether a configuration says that no layer predicts further tokens; one without such a field does not."""
    return any(value(configuration, name) == 0 for name in PREDICTORS)


def without_predictors(configuration: Any) -> dict[str, int]:
    """Changes of a configuration that say that no layer predicts further tokens; none if it says so already."""
    return {name: 0 for name in PREDICTORS if value(configuration, name)}


def chosen_neurons(configuration: Any) -> int:
    """FFN neurons used by one token in a block: its routed experts and the shared ones."""
    widths = FEED_FORWARD if kind(configuration) in _NO_OTHER_WIDTH else _EXPERT_WIDTH
    width, chosen = size(configuration, widths), size(configuration, CHOSEN)
    shared = next((value(configuration, name) for name in SHARED_COUNT if value(configuration, name)), 0)
    beside = next((value(configuration, name) for name in SHARED_WIDTH if value(configuration, name)), 0)
    return width * (chosen + int(shared)) + int(beside)


def kind(configuration: Any) -> str | None:
    """The model_type, such as "llama"; None if it is not a string."""
    named = value(configuration, KIND)
    return named if isinstance(named, str) else None


def block_kinds(configuration: Any) -> list[str] | None:
    """The kind of each block ("full_attention", ...); None if not listed."""
    return value(configuration, "layer_types") or None


def attention_window(configuration: Any) -> int | None:
    """Sliding-window length in tokens; None for full attention."""
    return value(configuration, "sliding_window") or None


def rotation(configuration: Any) -> str:
    """The kind of RoPE scaling; "default" if there is none."""
    return str((value(configuration, "rope_parameters") or {}).get("rope_type", "default"))


def is_tied(configuration: Any) -> bool:
    """Whether the LM head is the embedding."""
    return bool(value(configuration, "tie_word_embeddings"))


def is_quantised(configuration: Any) -> bool:
    """Whether the checkpoint's weights are stored in a packed quantised format."""
    return bool(value(configuration, QUANTISATION))


def value(configuration: Any, name: str) -> Any:
    """The value of a field, in a multimodal config.json that of its text part; None if absent or null."""
    if not isinstance(configuration, Mapping):
        return getattr(configuration, name, None)
    if configuration.get(name) is None and name != KIND:
        text = _held_text(configuration)
        return None if text is None else value(text, name)
    return configuration.get(name)


def _held_text(configuration: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The text part of a multimodal config.json."""
    return next((held for each in HOLDERS if isinstance(held := configuration.get(each), Mapping)), None)


def _size(configuration: Any, name: str) -> Any:
    """The value of a size: the text part's own counts more than one that is stated beside it, as a vocabulary of all
    modalities or one that was left over."""
    text = _held_text(configuration) if isinstance(configuration, Mapping) else None
    own = None if text is None else _size(text, name)
    return value(configuration, name) if own is None else own


def _fields(configuration: Any, names: tuple[str, ...], of: str) -> Fields:
    stored: Config = {name: _size(configuration, name) for name in names}
    return Fields({name: number for name, number in stored.items() if number is not None}, of)
