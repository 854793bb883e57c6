"""Families whose blocks differ in their attention heads: Laguna, MiMo-V2, Step 3.5."""

from __future__ import annotations

from flashstill.arch.adapter.build import NO_FFN, assemble, grouped, routed
from flashstill.arch.adapter.experts import predictors
from flashstill.arch.adapter.fields import HEADS, Fields
from flashstill.arch.adapter.routed import first_dense, mlp_kinds, sparse_or_dense
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Layer
from flashstill.errors import shown


def laguna(fields: Fields) -> Architecture:
    """Laguna: gated attention output; the number of heads can differ between blocks."""
    bias = fields.flag("attention_bias", False)
    usual = fields.count(*HEADS)
    listed = fields.value("num_attention_heads_per_layer") or [usual] * fields.depth
    if not isinstance(listed, list) or len(listed) != fields.depth:
        raise fields.fail(": num_attention_heads_per_layer does not list one number for each layer")
    gating = fields.value("gating")
    per_head = gating in (None, True, "per-head")
    windows = fields.layer_kinds("layer_types", known=("full", "sliding")) or ["full"] * fields.depth
    length = fields.count("sliding_window") if "sliding" in windows else fields.value("sliding_window") and None
    sparse = routed(
        fields, width=("moe_intermediate_size",), shared_width=fields.count("shared_expert_intermediate_size"),
        router_bias=True,
    )  # fmt: skip
    ffn = sparse_or_dense(fields, sparse, mlp_kinds(fields, first_dense(fields, 1)), "intermediate_size")
    blocks = []
    for i, kind in enumerate(windows):
        heads = fields.changed({HEADS[0]: listed[i]})
        count = heads.count(HEADS[0])
        attention = grouped(
            heads, qkv_bias=bias, output_bias=bias, qk_norm="head", extra_width=count if per_head else 0,
            output_gate=not per_head and bool(gating), window=length if kind == "sliding" else None,
        )  # fmt: skip
        blocks.append(Layer(count=1, attention=attention, ffn=ffn(i), norm_parameters=2 * fields.width))
    return assemble(fields, blocks)


def mimo_v2(fields: Fields) -> Architecture:
    """MiMo-V2: five of six blocks have windows, sinks and more key/value heads; values narrower than keys.

    In the form of transformers windowed blocks differ in twice the key/value heads; published configs state each width
    (`swa_...`), the kind of each block in `hybrid_layer_pattern`, and its FFN in `moe_layer_freq`.
    """
    fields.ignore("sliding_window_size", "sliding_window", "attention_value_scale", "attention_chunk_size")
    fields.refuse("n_shared_experts")
    bias, values = fields.flag("attention_bias", False), fields.count("v_head_dim")
    # In published configs, sliding_window_size excludes the query's own position.
    given = fields.value("sliding_window_size")
    length = fields.count("sliding_window_size") + 1 if given is not None else fields.count("sliding_window")
    sinks = fields.flag("add_full_attention_sink_bias", False), fields.flag("add_swa_attention_sink_bias", True)
    distant = grouped(fields, qkv_bias=bias, value_width=values, sinks=sinks[0])
    near = fields.changed({
        HEADS[0]: fields.count("swa_num_attention_heads", default=fields.count(*HEADS)),
        "head_dim": fields.count("swa_head_dim", default=distant.head_width),
    })  # fmt: skip
    local = grouped(
        near, qkv_bias=bias, value_width=fields.count("swa_v_head_dim", default=values), sinks=sinks[1], window=length,
        kv_heads=fields.count("swa_num_key_value_heads", default=2 * distant.kv_heads),
    )  # fmt: skip
    windows = fields.layer_kinds("layer_types", known=("full", "sliding"))
    pattern = fields.words("hybrid_layer_pattern", (0, 1))
    if windows is None:
        windows = [("full", "sliding")[kind] for kind in pattern] if pattern is not None else [
            "full" if i == 0 or (i + 1) % 6 == 0 else "sliding" for i in range(fields.depth)
        ]  # fmt: skip
    sparse = routed(fields, width=("moe_intermediate_size",))
    listed = fields.words("moe_layer_freq", (0, 1))
    kinds = [("dense", "sparse")[kind] for kind in listed] if listed is not None else first_dense(fields, 1)
    ffn = sparse_or_dense(fields, sparse, mlp_kinds(fields, kinds), "intermediate_size")
    blocks = [
        Layer(
            count=1,
            attention=local if kind == "sliding" else distant,
            ffn=ffn(i),
            norm_parameters=2 * fields.width,
        )
        for i, kind in enumerate(windows)
    ]
    predicted = predictors(fields)
    module = []
    if predicted:  # windowed attention and a dense FFN
        wide = FeedForward(width=fields.count("intermediate_size"))
        module = [Layer(count=1, attention=local, ffn=wide, norm_parameters=2 * fields.width)]
    return assemble(fields, blocks, mtp_layers=predicted, mtp_blocks=module)


def step3p5(fields: Fields) -> Architecture:
    """Step 3.5 and 3.7: more heads in windowed blocks, one gate per head, one shared expert."""
    fields.refuse("attention_bias", "mlp_bias")
    fields.refuse("use_mfa")
    fields.ignore("zero_centered", "max_seq_len")
    fields.ignore("mtp_layer_types", "mtp_mlp_layer_types", "swiglu_limits", "swiglu_limits_shared", "gating")
    fields.ignore(
        "use_head_wise_attn_gate", "yarn_only_types", "partial_rotary_factors", "use_moe", "attention_other_setting"
    )
    predicted, depth = predictors(fields), fields.depth
    windows = _trimmed(fields, "layer_types", predicted).layer_kinds("layer_types", known=("full", "sliding"))
    other = fields.part("attention_other_setting")
    heads = fields.count(*HEADS)
    local_heads = fields.count("num_sliding_attention_heads", default=other.count("num_attention_heads", default=heads))
    groups = fields.count("num_key_value_heads", "num_attention_groups", default=heads)
    other.require("num_attention_groups", groups)
    other.require("head_dim", fields.value("head_dim"))
    other.ignore("attention_type", "true_head_dim")
    fields.ignore("per_layer_config")
    shared = fields.count("share_expert_dim", "share_expert_dims", default=1280)
    chosen = fields.with_defaults(
        {
            "num_experts_per_tok": fields.value("moe_top_k"),
            "num_experts": fields.value("n_routed_experts", "moe_num_experts"),
        }
    )
    chosen = chosen.changed({"num_local_experts": None, "moe_num_experts": None, "n_routed_experts": None})
    sparse = routed(chosen, width=("moe_intermediate_size",), shared_width=shared)
    kinds = _trimmed(fields, "mlp_layer_types", predicted).words("mlp_layer_types", ("dense", "sparse"))
    ffn = sparse_or_dense(fields, sparse, kinds or enumerated(fields, 3), "intermediate_size")

    def block(kind: str, ffn: FeedForward) -> Layer:
        own = fields.changed({HEADS[0]: local_heads if kind == "sliding" else heads})
        attention = grouped(
            own, kv_heads=groups, qk_norm="head", extra_width=own.count(*HEADS),
            window=fields.count("sliding_window") if kind == "sliding" else None,
        )  # fmt: skip
        return Layer(count=1, attention=attention, ffn=ffn, norm_parameters=2 * fields.width)

    windows = windows or ["full"] * depth
    blocks = [block(kind, ffn(i)) for i, kind in enumerate(windows)]
    fields.ignore("sliding_window")
    # Modules have windows where the model does, and a dense FFN.
    wide = FeedForward(width=fields.count("intermediate_size")) if predicted else NO_FFN
    module = [block("sliding" if "sliding" in windows else "full", wide)] if predicted else None
    return assemble(fields, blocks, mtp_layers=predicted, mtp_blocks=module)


def _trimmed(fields: Fields, name: str, predicted: int) -> Fields:
    """The config with entries for multi-token prediction modules cut from the end of a per-block list."""
    listed = fields.value(name)
    padded = isinstance(listed, list) and predicted and len(listed) == fields.depth + predicted
    return fields.changed({name: listed[: fields.depth]}) if padded and isinstance(listed, list) else fields


def enumerated(fields: Fields, dense: int) -> list[str]:
    """Sparse in the blocks listed in moe_layers_enum (such as "3,4,5"); by default in all after the first `dense`."""
    text = fields.value("moe_layers_enum")
    if text is None:
        return first_dense(fields, dense)
    words = text.split(",") if isinstance(text, str) else text
    if not isinstance(words, list) or not all(
        str(word).strip().isascii() and str(word).strip().isdigit() for word in words
    ):
        raise fields.fail(f": moe_layers_enum is {shown(text)}, not numbers of layers with commas")
    sparse = {int(str(word)) for word in words}
    return ["sparse" if i in sparse else "dense" for i in range(fields.depth)]
