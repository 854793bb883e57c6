"""Nemotron-H and Nemotron 3: a list of mixers and FFNs, each with its own norm and residual.

A mixer and the FFN after it form one block here, so `depth` is less than the number of layers in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flashstill.arch.adapter.build import NO_FFN, assemble, grouped, routed
from flashstill.arch.adapter.fields import DEPTH, Fields
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Layer, Mixer
from flashstill.arch.recurrent import LinearAttention
from flashstill.arch.state_space import mamba2
from flashstill.errors import shown

_LETTERS = {"M": "linear", "E": "moe", "*": "full", "-": "mlp"}


def nemotron_h(fields: Fields) -> Architecture:
    """Blocks of a Mamba 2 or attention mixer, with or without an FFN."""
    fields.refuse("sliding_window", "attention_bias")
    listed = fields.value("layers_block_type", "layer_types")
    if fields.value(*DEPTH) is None and isinstance(listed, list):
        fields = fields.changed({DEPTH[0]: len(listed)})
    fields.require("num_query_groups", fields.value("num_key_value_heads"))
    kinds = _kinds(fields, "layer_types", "layers_block_type", pattern="hybrid_override_pattern")
    if len(kinds) != fields.depth:
        raise fields.fail(f": the pattern of blocks names {len(kinds)} of {fields.depth} layers")
    # time_step_rank is a field of Mamba 1: the step of a Mamba 2 head is one number.
    fields.ignore("expand", "mamba_expand", "intermediate_size", "hybrid_override_pattern", "time_step_rank")
    mixers: dict[str, Mixer] = {
        "linear": _mamba(fields),
        "full": grouped(fields, head_width=fields.count("head_dim", "attention_head_dim", default=128)),
    }
    ffns = {"mlp": lambda: _mlp(fields), "moe": lambda: _experts(fields)}
    predicted = fields.count("num_nextn_predict_layers", default=0, least=0)
    fields.ignore("mtp_layers_block_type", "mtp_hybrid_override_pattern")
    module = _blocks(fields, _predicting(fields), mixers, ffns) if predicted else []
    return assemble(fields, _blocks(fields, kinds, mixers, ffns), mtp_layers=predicted, mtp_blocks=module)


def _blocks(
    fields: Fields, kinds: list[str], mixers: dict[str, Mixer], ffns: dict[str, Callable[[], FeedForward]]
) -> list[Layer]:
    """Blocks of one mixer each, plus the FFN if one follows."""
    blocks: list[Layer] = []
    waiting: Mixer | None = None
    for kind in kinds:
        if kind in mixers:
            if waiting is not None:
                blocks.append(_block(waiting, NO_FFN, fields.width))
            waiting = mixers[kind]
        elif waiting is None:
            raise fields.fail(f": layers_block_type has a {kind} that does not follow a mixer, which is not supported")
        else:
            blocks.append(_block(waiting, ffns[kind](), 2 * fields.width))
            waiting = None
    if waiting is not None:
        blocks.append(_block(waiting, NO_FFN, fields.width))
    return blocks


def _block(mixer: Mixer, ffn: FeedForward, norms: int) -> Layer:
    return Layer(count=1, attention=mixer, ffn=ffn, norm_parameters=norms)


def _predicting(fields: Fields) -> list[str]:
    """The kinds of layers in a multi-token prediction module."""
    kinds = _kinds(fields, "mtp_layers_block_type", pattern="mtp_hybrid_override_pattern", default="*E")
    return kinds if kinds[0] in ("full", "linear") else ["full", *kinds]


def _kinds(fields: Fields, *names: str, pattern: str, default: str | None = None) -> list[str]:
    known = tuple(_LETTERS.values())
    listed = fields.value(*names)
    if listed is not None:
        if not isinstance(listed, list):
            raise fields.fail(f": {fields.spelled(*names)} is no list")
        return fields.changed({DEPTH[0]: len(listed)}).layer_kinds(*names, known=known) or []
    letters = fields.value(pattern) or default
    if not isinstance(letters, str) or not letters or set(letters) - set(_LETTERS):
        raise fields.fail(f": {pattern} is {shown(letters)}, not one of M E * - for each layer")
    return [_LETTERS[letter] for letter in letters]


def _mamba(fields: Fields) -> LinearAttention:
    return mamba2(
        width=fields.width,
        heads=fields.count("mamba_num_heads"),
        head_width=fields.count("mamba_head_dim"),
        groups=fields.count("n_groups", "mamba_n_groups", default=8),
        state_width=fields.count("ssm_state_size"),
        taps=fields.count("conv_kernel", "mamba_d_conv", default=4),
        conv_bias=fields.flag(fields.spelled("use_conv_bias", "mamba_conv_bias"), True),
        bias=fields.flag("use_bias", False),
    )


def _mlp(fields: Fields) -> FeedForward:
    return FeedForward(width=fields.count("intermediate_size"), gated=False, bias=fields.flag("mlp_bias", False))


def _experts(fields: Fields) -> FeedForward:
    fields.refuse("mlp_bias")
    fields.require("n_shared_experts", 1)
    shared = fields.count("moe_shared_expert_intermediate_size")
    latent = fields.count("moe_latent_size", default=0, least=0)
    return replace(
        routed(fields, width=("moe_intermediate_size",), shared_width=shared, gated=False), latent_width=latent
    )
