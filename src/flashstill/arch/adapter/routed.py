"""Younger families with routed experts: Trinity, EXAONE MoE, MiMo, Laguna, MiniMax-M3, Hunyuan 3 and others."""

from __future__ import annotations

from dataclasses import replace

from flashstill.arch.adapter.bounds import shown
from flashstill.arch.adapter.build import ForLayer, Kinds, always, assemble, every_so_often, grouped, routed, uniform
from flashstill.arch.adapter.experts import deepseek_experts, predictors, qwen_experts
from flashstill.arch.adapter.fields import CHOSEN, EXPERTS, HEADS, Fields
from flashstill.arch.adapter.relatives import first_of
from flashstill.arch.attention import Attention, Indexer
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Layer


def mlp_kinds(fields: Fields, default: list[str]) -> list[str]:
    """ "dense" or "sparse" for every block, as the config lists them."""
    return fields.words("mlp_layer_types", ("dense", "sparse")) or default


def sparse_or_dense(fields: Fields, sparse: FeedForward, kinds: list[str], dense_field: str) -> ForLayer:
    """Experts in the blocks called sparse, a dense FFN as wide as `dense_field` says in the others."""
    fields.ignore(dense_field)
    if "dense" not in kinds:
        return lambda i: sparse
    dense = FeedForward(width=fields.count(dense_field))
    return lambda i: dense if kinds[i] == "dense" else sparse


def first_dense(fields: Fields, count: int) -> list[str]:
    """The first `count` blocks are dense, the others sparse."""
    return ["dense" if i < count else "sparse" for i in range(fields.depth)]


def _shared(fields: Fields, default: int = 1) -> int:
    width = fields.count("moe_intermediate_size")
    return width * fields.count("num_shared_experts", "n_shared_experts", default=default, least=0)


def afmoe(fields: Fields) -> Architecture:
    """Arcee Trinity: norms on both sides, a gate on the output of attention, windows in three blocks of four."""
    fields.ignore("mup_enabled", "global_attn_every_n_layers")
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head", output_gate=True)
    if bias:
        raise fields.fail(": attention_bias is not supported for this model_type")
    sparse = routed(fields, width=("moe_intermediate_size",), shared_width=_shared(fields), router_bias=True)
    kinds = first_dense(fields, fields.count("num_dense_layers", default=1, least=0))
    period = every_so_often(fields.count("global_attn_every_n_layers", default=4))
    return uniform(
        fields, attention, sparse_or_dense(fields, sparse, kinds, "intermediate_size"), kinds=period, norms=4
    )  # fmt: skip


def aria(fields: Fields) -> Architecture:
    """Aria: experts and shared experts of the same width in every block."""
    fields.refuse("mlp_bias")
    bias, width = fields.flag("attention_bias", False), fields.count("intermediate_size")
    shared = width * fields.count("moe_num_shared_experts", default=2, least=0)
    ffn = routed(fields, width=("intermediate_size",), shared_width=shared)
    return uniform(fields, grouped(fields, qkv_bias=bias, output_bias=bias), ffn)


def cohere2_moe(fields: Fields) -> Architecture:
    """Command with experts: attention and FFN in parallel, windows in three blocks of four."""
    fields.ignore("first_k_dense_replace", "prefix_dense_sliding_window_pattern", "sliding_window_pattern")
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias)
    dense_blocks = fields.count("first_k_dense_replace", default=0, least=0)
    wide = fields.count("num_shared_experts", default=0, least=0) * fields.count("intermediate_size")
    sparse = routed(fields, width=("intermediate_size",), shared_width=wide)
    kinds = mlp_kinds(fields, first_dense(fields, dense_blocks))
    if "dense" in kinds:
        raise fields.fail(": dense blocks are not supported yet for this model_type")
    windows = every_so_often(fields.count("sliding_window_pattern", default=4))
    return uniform(fields, attention, sparse, kinds=windows, norms=1, parallel=True, tied=True)


def exaone_moe(fields: Fields) -> Architecture:
    """EXAONE MoE: norms on queries and keys, the first block dense, windows in three blocks of four."""
    fields.ignore("sliding_window_pattern")
    period = fields.count("sliding_window_pattern", default=4, least=0)
    kinds: Kinds = always("full") if fields.value("sliding_window") is None else every_so_often(period)
    ffn = deepseek_experts(fields, 1)
    return uniform(fields, grouped(fields, qk_norm="head"), ffn, kinds=kinds, mtp_layers=predictors(fields))


def flex_olmo(fields: Fields) -> Architecture:
    """FlexOLMo: OLMo 2 with experts."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="all")
    return uniform(fields, attention, routed(fields, width=("intermediate_size",)))


def flint(fields: Fields) -> Architecture:
    """Flint: sinks, a shared expert without gate; full attention at both ends and in every fourth block."""
    bias, last = fields.flag("attention_bias", False), fields.depth - 1
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head", sinks=True)
    kinds: Kinds = lambda i: "full" if i < 2 or i % 4 == 1 or i == last else "sliding"
    fields = fields.with_defaults({"mlp_only_layers": [0, 1]})
    return uniform(fields, attention, _without_gate(qwen_experts(fields)), kinds=kinds)


def _without_gate(ffn: ForLayer) -> ForLayer:
    return lambda i: replace(ffn(i), shared_gate=False)


def granitemoe_swa(fields: Fields) -> Architecture:
    """Granite MoE with sinks and windows in three blocks of four."""
    fields.ignore("layer_rope_theta")
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, sinks=True)
    shared = fields.count("shared_intermediate_size", default=0, least=0)
    ffn = routed(fields, width=("intermediate_size",), shared_width=shared)
    return uniform(fields, attention, ffn, kinds=first_of(4))


def hunyuan3(fields: Fields) -> Architecture:
    """Hunyuan 3: the first block dense, one shared expert, norms on queries and keys."""
    fields.refuse("mlp_bias")
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head")
    sparse = routed(fields, width=("moe_intermediate_size",), shared_width=_shared(fields))
    kinds = mlp_kinds(fields, first_dense(fields, fields.count("first_k_dense_replace", default=1, least=0)))
    ffn = sparse_or_dense(fields, sparse, kinds, "intermediate_size")
    return uniform(fields, attention, ffn, mtp_layers=predictors(fields))


def kolibri1(fields: Fields) -> Architecture:
    """Kolibri: norms on both sides, a shared expert, full attention in every fifth block."""
    shared = fields.count("shared_expert_intermediate_size")
    ffn = routed(fields, width=("moe_intermediate_size",), shared_width=shared)
    return uniform(fields, grouped(fields, qk_norm="head"), ffn, kinds=every_so_often(5), norms=4)


def laguna(fields: Fields) -> Architecture:
    """Laguna: gates on the output of attention, which may have as many heads as it likes in each block."""
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


def mellum(fields: Fields) -> Architecture:
    """Mellum: Qwen3 MoE with windows where `layer_types` says so."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head")
    fields.refuse("num_mtp_layers")
    fields.ignore("mtp_layer_types", "mtp_mlp_layer_types")
    sparse = routed(fields, width=("moe_intermediate_size",))
    ffn = sparse_or_dense(fields, sparse, mlp_kinds(fields, first_dense(fields, 0)), "intermediate_size")
    return uniform(fields, attention, ffn)


def mimo_v2(fields: Fields) -> Architecture:
    """MiMo-V2-Flash: windows with sinks and twice the key/value heads in five blocks of six, narrow values."""
    fields.ignore("sliding_window_size", "attention_value_scale")
    bias, heads = fields.flag("attention_bias", False), fields.count("num_key_value_heads")
    values = fields.count("v_head_dim")
    # Published files count the tokens before the query's own.
    given = fields.value("sliding_window_size")
    length = fields.count("sliding_window_size") + 1 if given is not None else fields.count("sliding_window")
    distant = grouped(fields, qkv_bias=bias, value_width=values)
    local = grouped(fields, qkv_bias=bias, value_width=values, sinks=True, kv_heads=2 * heads, window=length)
    windows = fields.layer_kinds("layer_types", known=("full", "sliding"))
    if windows is None:
        windows = ["full" if i == 0 or (i + 1) % 6 == 0 else "sliding" for i in range(fields.depth)]
    sparse = routed(fields, width=("moe_intermediate_size",))
    ffn = sparse_or_dense(fields, sparse, mlp_kinds(fields, first_dense(fields, 1)), "intermediate_size")
    blocks = [
        Layer(
            count=1,
            attention=local if kind == "sliding" else distant,
            ffn=ffn(i),
            norm_parameters=2 * fields.width,
        )
        for i, kind in enumerate(windows)
    ]
    return assemble(fields, blocks)


_SPARSE_OLD = {
    "index_n_heads": "sparse_num_index_heads",
    "index_head_dim": "sparse_index_dim",
    "index_block_size": "sparse_block_size",
    "index_topk_blocks": "sparse_topk_blocks",
    "index_local_blocks": "sparse_local_block",
}


def minimax_m3(fields: Fields) -> Architecture:
    """MiniMax-M3: an indexer picks blocks of tokens in the sparse blocks; shared expert, some blocks dense."""
    older = fields.part("sparse_attention_config")
    names = {new: older.value(old) for new, old in _SPARSE_OLD.items()}
    listed = older.value("sparse_attention_freq")
    if fields.value("layer_types") is None and listed is not None:
        kinds = ["blocks" if flag else "full" for flag in older.changed({"num_hidden_layers": fields.depth}).words(
            "sparse_attention_freq", (0, 1))or []]  # fmt: skip
    else:
        kinds = fields.layer_kinds("layer_types", known=("full", "blocks")) or ["full"] * fields.depth
    index = fields.changed({new: value for new, value in names.items() if value is not None})
    heads, top = index.count("index_n_heads", default=4), index.count("index_topk_blocks", default=16)
    block, local = index.count("index_block_size", default=128), index.count("index_local_blocks", default=1, least=0)
    scorer = Indexer(
        heads=heads, head_width=index.count("index_head_dim", default=128), top=(top + local) * block, weighted=False
    )
    full = grouped(fields, qk_norm="head")
    fields.ignore("moe_layer_freq", "intermediate_size")
    default = first_dense(fields, 0)
    if fields.value("mlp_layer_types") is None and fields.value("moe_layer_freq") is not None:
        default = [("dense", "sparse")[flag] for flag in fields.words("moe_layer_freq", (0, 1)) or []]
    shared = fields.count("shared_intermediate_size", "intermediate_size")
    sparse = routed(fields, width=("intermediate_size",), shared_width=shared)
    ffn = sparse_or_dense(fields, sparse, mlp_kinds(fields, default), "dense_intermediate_size")
    mixers = {"full": full, "blocks": replace(full, indexer=scorer)}
    blocks = [
        Layer(count=1, attention=mixers[kind], ffn=ffn(i), norm_parameters=2 * fields.width)
        for i, kind in enumerate(kinds)
    ]
    return assemble(fields, blocks)


def solar_open(fields: Fields) -> Architecture:
    """Solar Open: GLM-4.5's experts in every block."""
    attention = grouped(fields, qkv_bias=fields.flag("attention_bias", False))
    return uniform(fields, attention, deepseek_experts(fields, 0), mtp_layers=predictors(fields))


def jetmoe(fields: Fields) -> Architecture:
    """JetMoE: experts for the queries and outputs of attention as well."""
    heads, width = fields.count(*HEADS), fields.width
    experts, chosen = fields.count(*EXPERTS), fields.count(*CHOSEN)
    kv_heads, head_width = fields.count("num_key_value_heads"), fields.count("kv_channels")
    inner = kv_heads * head_width
    # Each token meets `chosen` of the projections; the others are counted among the small parameters.
    if heads != kv_heads * chosen:
        raise fields.fail(": num_attention_heads other than num_key_value_heads x num_experts_per_tok is not supported")
    fields.ignore("head_dim")
    attention = Attention(heads=heads, kv_heads=kv_heads, head_width=head_width)
    idle = (experts - chosen) * 2 * width * inner + experts * width + width
    return uniform(
        fields,
        attention,
        routed(fields, width=("intermediate_size",), router_bias=False),
        small=idle + width,
        tied=True,
        note="the experts of attention are priced as plain attention",
    )


def beam(fields: Fields) -> Architecture:
    """Beam: gates with a bias a head on the output of attention, norms on both sides, the first blocks dense."""
    fields.refuse("attention_bias", "n_shared_experts", "num_shared_experts")
    if fields.value("layer_types") is None:
        raise fields.fail(" has no layer_types")
    attention = grouped(fields, qk_norm="head", output_gate=True, extra_parameters=fields.count(*HEADS))
    sparse = routed(fields, width=("moe_intermediate_size",))
    ffn = sparse_or_dense(fields, sparse, mlp_kinds(fields, first_dense(fields, 3)), "intermediate_size")
    return uniform(fields, attention, ffn, norms=4)


def step3p5(fields: Fields) -> Architecture:
    """Step 3.5 and 3.7: more heads in the blocks with a window, a gate a head, one shared expert."""
    fields.refuse("attention_bias", "mlp_bias")
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
    ffn = sparse_or_dense(fields, sparse, kinds or _enumerated(fields), "intermediate_size")
    blocks = []
    for i, kind in enumerate(windows or ["full"] * depth):
        own = fields.changed({HEADS[0]: local_heads if kind == "sliding" else heads})
        attention = grouped(
            own, kv_heads=groups, qk_norm="head", extra_width=own.count(*HEADS),
            window=fields.count("sliding_window") if kind == "sliding" else None,
        )  # fmt: skip
        blocks.append(Layer(count=1, attention=attention, ffn=ffn(i), norm_parameters=2 * fields.width))
    fields.ignore("sliding_window")
    return assemble(fields, blocks, mtp_layers=predicted)


def _trimmed(fields: Fields, name: str, predicted: int) -> Fields:
    """The config without what a list says about modules that predict further tokens, behind the blocks."""
    listed = fields.value(name)
    padded = isinstance(listed, list) and predicted and len(listed) == fields.depth + predicted
    return fields.changed({name: listed[: fields.depth]}) if padded and isinstance(listed, list) else fields


def _enumerated(fields: Fields) -> list[str]:
    """Sparse in the blocks of moe_layers_enum, "3,4,5", else from the fourth on."""
    text = fields.value("moe_layers_enum")
    if text is None:
        return first_dense(fields, 3)
    words = text.split(",") if isinstance(text, str) else text
    if not isinstance(words, list) or not all(
        str(word).strip().isascii() and str(word).strip().isdigit() for word in words
    ):
        raise fields.fail(f": moe_layers_enum is {shown(text)}, not numbers of layers with commas")
    sparse = {int(str(word)) for word in words}
    return ["sparse" if i in sparse else "dense" for i in range(fields.depth)]
