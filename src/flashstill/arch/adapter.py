"""From a Hugging Face config.json to our Architecture: the only place that knows Hugging Face field names.

Every number is read from the field that holds it (`head_dim` above all), a default is used only where transformers
itself has it, and what is not understood is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flashstill.arch.model import Architecture, Attention, FeedForward, Layer
from flashstill.errors import UnsupportedArchitecture, unknown

Config = Mapping[str, Any]
_MOST = 10**9


def from_hf(config: Config, name: str) -> Architecture:
    """The architecture of a parsed config.json.

    Raises UnsupportedArchitecture naming the field that is missing, wrong or not supported.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise UnsupportedArchitecture(f"the config of {name} has no model_type")
    reader = _FAMILIES.get(kind)
    if reader is None:
        raise UnsupportedArchitecture(f"the config of {name} names an {unknown('model_type', kind, _FAMILIES)}")
    return reader(_Fields(config, name))


class _Fields:
    """Typed access to a config, with errors that name the field."""

    def __init__(self, config: Config, name: str) -> None:
        self.config, self.name = config, name

    def count(self, field: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self.config.get(field)
        if value is None:
            if default is None:
                raise UnsupportedArchitecture(f"the config of {self.name} has no {field}")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise UnsupportedArchitecture(
                f"the config of {self.name}: {field} is {value!r}, not a positive whole number"
            )
        return value

    def flag(self, field: str, default: bool) -> bool:
        """True or False."""
        value = self.config.get(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise UnsupportedArchitecture(f"the config of {self.name}: {field} is {value!r}, not true or false")
        return value

    def refuse(self, *fields: str) -> None:
        """Refuse a config that sets a field whose meaning is not modelled."""
        for field in fields:
            if self.config.get(field):
                raise UnsupportedArchitecture(f"the config of {self.name} sets {field}, which is not supported yet")


def _attention(
    fields: _Fields, qkv_bias: bool, output_bias: bool, qk_norm: bool = False, window: int | None = None
) -> Attention:
    heads = fields.count("num_attention_heads")
    kv_heads = fields.count("num_key_value_heads", default=heads)
    width = fields.count("hidden_size")
    if fields.config.get("head_dim") is None and width % heads:
        raise UnsupportedArchitecture(
            f"the config of {fields.name} has no head_dim, and hidden_size {width} is no multiple of"
            f" num_attention_heads {heads}"
        )
    if heads % kv_heads:
        raise UnsupportedArchitecture(
            f"the config of {fields.name}: num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}"
        )
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_width=fields.count("head_dim", default=width // heads),
        window=window,
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        qk_norm=qk_norm,
    )


def _assemble(fields: _Fields, attention: Attention, ffn: FeedForward, tied_default: bool = False) -> Architecture:
    width = fields.count("hidden_size")
    depth = fields.count("num_hidden_layers")
    return Architecture(
        name=fields.name,
        width=width,
        vocabulary=fields.count("vocab_size"),
        layers=(Layer(count=depth, attention=attention, ffn=ffn, norm_parameters=2 * width),),
        tied=fields.flag("tie_word_embeddings", tied_default),
        context=fields.count("max_position_embeddings"),
        final_norm_parameters=width,
    )


def _llama(fields: _Fields) -> Architecture:
    bias = fields.flag("attention_bias", False)
    attention = _attention(fields, bias, bias)
    ffn = FeedForward(width=fields.count("intermediate_size"), bias=fields.flag("mlp_bias", False))
    return _assemble(fields, attention, ffn)


def _mistral(fields: _Fields) -> Architecture:
    window = fields.config.get("sliding_window")
    attention = _attention(fields, False, False, window=fields.count("sliding_window") if window else None)
    return _assemble(fields, attention, FeedForward(width=fields.count("intermediate_size")))


def _mixtral(fields: _Fields) -> Architecture:
    window = fields.config.get("sliding_window")
    attention = _attention(fields, False, False, window=fields.count("sliding_window") if window else None)
    return _assemble(fields, attention, _experts(fields, "num_local_experts", "intermediate_size"))


def _experts(fields: _Fields, count_field: str, width_field: str) -> FeedForward:
    experts, chosen = fields.count(count_field), fields.count("num_experts_per_tok")
    if chosen > experts:
        raise UnsupportedArchitecture(
            f"the config of {fields.name}: num_experts_per_tok {chosen} exceeds {count_field} {experts}"
        )
    return FeedForward(width=fields.count(width_field), experts=experts, experts_per_token=chosen)


def _present(fields: _Fields, *names: str) -> str:
    """The first of several spellings that the config uses; transformers 5 renamed some fields."""
    return next((name for name in names if name in fields.config), names[0])


def _qwen2(fields: _Fields) -> Architecture:
    fields.refuse("use_sliding_window")
    attention = _attention(fields, qkv_bias=True, output_bias=False)
    return _assemble(fields, attention, FeedForward(width=fields.count("intermediate_size")))


def _qwen3(fields: _Fields) -> Architecture:
    fields.refuse("use_sliding_window")
    bias = fields.flag("attention_bias", False)
    attention = _attention(fields, bias, bias, qk_norm=True)
    return _assemble(fields, attention, FeedForward(width=fields.count("intermediate_size")))


def _qwen3_moe(fields: _Fields) -> Architecture:
    fields.refuse("use_sliding_window", "mlp_only_layers")
    if fields.count("decoder_sparse_step", default=1) != 1:
        raise UnsupportedArchitecture(
            f"the config of {fields.name}: decoder_sparse_step other than 1 is not supported yet"
        )
    bias = fields.flag("attention_bias", False)
    attention = _attention(fields, bias, bias, qk_norm=True)
    return _assemble(
        fields,
        attention,
        _experts(fields, _present(fields, "num_experts", "num_local_experts"), "moe_intermediate_size"),
    )


_FAMILIES: dict[str, Callable[[_Fields], Architecture]] = {
    "llama": _llama,
    "mistral": _mistral,
    "mixtral": _mixtral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
}
