"""The parts that most families share: attention, experts, windows, and the assembly of blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from flashstill.arch.adapter.fields import CHOSEN, CONTEXT, EXPERTS, HEADS, Fields
from flashstill.arch.attention import Attention
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Layer

Kinds = Callable[[int], str]
ForLayer = Callable[[int], FeedForward]
_ATTENTION_KINDS = frozenset({"full", "sliding", "chunked"})
NO_FFN = FeedForward(width=0)

# Fields for structural changes that no family here models.
_NEVER = (
    "add_cross_attention", "cross_attention_layers", "cross_layer_attention", "use_cla", "is_encoder_decoder",
    "layer_config", "block_configs", "per_layer_config_overrides",
)  # fmt: skip


def grouped(
    fields: Fields,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: str = "",
    window: int | None = None,
    kv_heads: int | None = None,
    head_width: int | None = None,
    sinks: bool = False,
    output_gate: bool = False,
    value_width: int | None = None,
    extra_width: int = 0,
    extra_parameters: int = 0,
) -> Attention:
    """Grouped-query attention from the usual fields.

    qk_norm: "" none; "head" scale of one head's width; "all" scale over all heads; "biased" scale and bias of one head.
    """
    fields.refuse("kv_lora_rank")
    fields.ignore("head_dim", "num_key_value_heads")
    heads = fields.count(*HEADS)
    width = fields.width
    kv_heads = kv_heads or fields.count("num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise fields.fail(f": num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}")
    if head_width is None:
        if fields.value("head_dim") is None and width % heads:
            raise fields.fail(
                f" has no head_dim, and hidden_size {width} is no multiple of num_attention_heads {heads}"
            )
        head_width = fields.count("head_dim", default=width // heads)
    norms = {"": 0, "head": 2 * head_width, "biased": 4 * head_width, "all": (heads + kv_heads) * head_width}
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        window=window,
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        qk_norm_parameters=norms[qk_norm],
        sinks=sinks,
        output_gate=output_gate,
        value_width=value_width,
        extra_width=extra_width,
        extra_parameters=extra_parameters,
    )


def windows(fields: Fields, default: Kinds | None = None) -> list[int | None]:
    """The window of every block in tokens, from `layer_types` or the family's pattern; None for full attention."""
    kinds = fields.layer_kinds("layer_types", known=_ATTENTION_KINDS)
    if kinds is None:
        kinds = [default(i) if default else "full" for i in range(fields.depth)]
    lengths: dict[str, int | None] = {"full": None}
    for kind, field in (("sliding", "sliding_window"), ("chunked", "attention_chunk_size")):
        lengths[kind] = fields.count(field) if fields.value(field) is not None and kind in kinds else None
    return [lengths[kind] for kind in kinds]


def switched(fields: Fields) -> Fields:
    """The config with its window removed unless use_sliding_window is on, regardless of `layer_types`."""
    on = fields.flag("use_sliding_window", False)
    fields.ignore("sliding_window")
    return fields if on else fields.changed({"sliding_window": None})


def every_so_often(period: int, kind: str = "sliding") -> Kinds:
    """`kind` in all blocks except every `period`-th, which has full attention."""
    return lambda i: "full" if period and (i + 1) % period == 0 else kind


def always(kind: str) -> Kinds:
    """The same kind in every block."""
    return lambda i: kind


def routed(
    fields: Fields,
    *,
    width: tuple[str, ...],
    shared_width: int = 0,
    shared_gate: bool = False,
    bias: bool = False,
    gated: bool = True,
    router_bias: bool = False,
) -> FeedForward:
    """Routed experts; `width`: alternative names of the field with one expert's width."""
    experts, chosen = fields.count(*EXPERTS), fields.count(*CHOSEN)
    if chosen > experts:
        raise fields.fail(
            f": {fields.spelled(*CHOSEN)} {chosen} exceeds {fields.spelled(*EXPERTS)} {experts}"
        )  # fmt: skip
    return FeedForward(
        width=fields.count(*width),
        gated=gated,
        bias=bias,
        experts=experts,
        experts_per_token=chosen,
        shared_width=shared_width,
        shared_gate=shared_gate,
        router_bias=router_bias,
    )


def assemble(
    fields: Fields,
    blocks: Sequence[Layer],
    *,
    tied: bool = False,
    final_norm: int | None = None,
    position: int = 0,
    extra: int = 0,
    mtp_layers: int = 0,
    mtp_blocks: Sequence[Layer] | None = None,
    context: int | None = None,
    note: str = "",
) -> Architecture:
    """The architecture of a list of `blocks`; equal blocks are merged.

    mtp_layers: number of multi-token prediction modules; each has `mtp_blocks`, or a block like the last one, plus a
    projection from width 2 d to d and three norms (DeepSeek-V3, arXiv 2412.19437, section 2.2).
    """
    fields.refuse(*_NEVER)
    width = fields.width
    merged: dict[Layer, int] = {}
    for block in blocks:
        merged[block] = merged.get(block, 0) + block.count
    inside = sum(block.parameters(width) for block in mtp_blocks or blocks[-1:])
    module = inside + 2 * width * width + 3 * width if mtp_layers else 0
    return Architecture(
        name=fields.name,
        width=width,
        vocabulary=fields.count("vocab_size"),
        layers=tuple(replace(block, count=count) for block, count in merged.items()),
        tied=fields.flag("tie_word_embeddings", tied),
        context=fields.count(*CONTEXT, default=context),
        final_norm_parameters=width if final_norm is None else final_norm,
        position_parameters=position,
        extra_parameters=extra,
        mtp_layers=mtp_layers,
        mtp_parameters=mtp_layers * module,
        note=note,
    )


def dense(fields: Fields, *, gated: bool = True, bias: bool = False, width: int | None = None) -> FeedForward:
    """A dense FFN of width `intermediate_size`, unless `width` is given."""
    fields.refuse(*EXPERTS)
    return FeedForward(width=width or fields.count("intermediate_size"), gated=gated, bias=bias)


def uniform(
    fields: Fields,
    attention: Attention,
    ffn: FeedForward | ForLayer,
    *,
    kinds: Kinds | None = None,
    norms: int = 2,
    norm_bias: bool = False,
    small: int = 0,
    parallel: bool = False,
    tied: bool = False,
    final_norm: bool = True,
    position: int = 0,
    extra: int = 0,
    mtp_layers: int = 0,
    mtp_ffn: FeedForward | None = None,
    context: int | None = None,
    note: str = "",
) -> Architecture:
    """A model whose blocks differ only in window and FFN.

    norms: norm vectors per block; small: other small parameters per block.
    mtp_ffn: the FFN of a multi-token prediction module where it is not that of the last block.
    """
    vector = fields.width * (2 if norm_bias else 1)
    blocks = [
        Layer(
            count=1,
            attention=replace(attention, window=window),
            ffn=ffn if isinstance(ffn, FeedForward) else ffn(i),
            norm_parameters=norms * vector + small,
            parallel=parallel,
            norms=norms or 2,
        )
        for i, window in enumerate(windows(fields, kinds))
    ]
    own = None if mtp_ffn is None else [replace(blocks[-1], ffn=mtp_ffn)]
    return assemble(
        fields,
        blocks,
        mtp_blocks=own,
        tied=tied,
        final_norm=vector if final_norm else 0,
        position=position,
        extra=extra,
        mtp_layers=mtp_layers,
        context=context,
        note=note,
    )
