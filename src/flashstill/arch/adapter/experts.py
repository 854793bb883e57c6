"""Families with routed experts and grouped-query attention."""

from __future__ import annotations

from flashstill.arch.adapter.build import ForLayer, Kinds, always, every_so_often, grouped, routed, switched, uniform
from flashstill.arch.adapter.fields import CHOSEN, EXPERTS, PREDICTORS, Fields
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture


def mixtral(fields: Fields) -> Architecture:
    """Mixtral."""
    fields.refuse("shared_intermediate_size")
    ffn = routed(fields, width=("intermediate_size",))
    return uniform(fields, grouped(fields), ffn, kinds=always("sliding"))


def phimoe(fields: Fields) -> Architecture:
    """Phi-3.5-MoE: Mixtral with layer norms and biases."""
    bias = fields.flag("attention_bias", False)
    return uniform(
        fields,
        grouped(fields, qkv_bias=bias, output_bias=bias),
        routed(fields, width=("intermediate_size",)),
        kinds=always("sliding"),
        norm_bias=True,
        extra=fields.count("vocab_size") if fields.flag("lm_head_bias", False) else 0,
    )


def qwen2_moe(fields: Fields) -> Architecture:
    """Qwen 1.5 and 2 MoE: a gated shared expert."""
    attention = grouped(fields, qkv_bias=fields.flag("qkv_bias", True))
    return uniform(switched(fields), attention, qwen_experts(fields), kinds=_alternate(fields))


def _alternate(fields: Fields) -> Kinds:
    fields.ignore("max_window_layers")
    if not fields.flag("use_sliding_window", False):
        return always("full")
    last = fields.count("max_window_layers", least=0)
    return lambda i: "sliding" if i % 2 == 0 and i < last else "full"


def qwen3_moe(fields: Fields) -> Architecture:
    """Qwen3 MoE: no shared expert; a window, where used, in every block."""
    fields.ignore("max_window_layers")
    fields.refuse("shared_expert_intermediate_size", "qkv_bias")
    bias = fields.flag("attention_bias", False)
    kinds = always("sliding" if fields.flag("use_sliding_window", False) else "full")
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head")
    return uniform(switched(fields), attention, qwen_experts(fields), kinds=kinds)


def qwen_experts(fields: Fields) -> ForLayer:
    """Experts in every `decoder_sparse_step`-th block, except those in `mlp_only_layers`."""
    fields.ignore("intermediate_size")
    shared = fields.count("shared_expert_intermediate_size", default=0, least=0)
    sparse = routed(fields, width=("moe_intermediate_size",), shared_width=shared, shared_gate=shared > 0)
    step, dense_blocks = fields.count("decoder_sparse_step", default=1), fields.whole_numbers("mlp_only_layers")
    chosen = [(i + 1) % step == 0 and i not in dense_blocks for i in range(fields.depth)]
    if all(chosen):
        return lambda i: sparse
    dense = FeedForward(width=fields.count("intermediate_size"))
    return lambda i: sparse if chosen[i] else dense


def gpt_oss(fields: Fields) -> Architecture:
    """gpt-oss: attention sinks, biases everywhere, windows in every second block."""
    bias = fields.flag("attention_bias", True)
    attention = grouped(
        fields, qkv_bias=bias, output_bias=bias, sinks=True, head_width=fields.count("head_dim", default=64)
    )
    ffn = routed(fields, width=("intermediate_size",), bias=True, router_bias=True)
    return uniform(fields, attention, ffn, kinds=every_so_often(2))


def minimax_m2(fields: Fields) -> Architecture:
    """MiniMax-M2: norms over all query and all key heads."""
    fields.refuse("shared_intermediate_size")
    fields.words("attn_type_list", (1,))  # full attention in every block
    fields.ignore("mlp_intermediate_size")  # of dense FFNs, which no block has
    modules = 0
    if fields.flag("use_mtp", True):
        fields.require("mtp_transformer_layers", 1)
        modules = fields.count("num_mtp_modules", default=0, least=0)
    attention = grouped(fields, qk_norm="all" if fields.flag("use_qk_norm", True) else "")
    return uniform(fields, attention, routed(fields, width=("intermediate_size",)), mtp_layers=modules)


def llama4(fields: Fields) -> Architecture:
    """Llama 4: chunked attention in the blocks with rotary position, one shared expert, experts in some blocks."""
    bias, width = fields.flag("attention_bias", False), fields.count("intermediate_size")
    sparse = routed(fields, width=("intermediate_size",), shared_width=width)
    step = fields.count("interleave_moe_layer_step", default=1)
    listed = fields.value("moe_layers")
    moe = fields.whole_numbers("moe_layers") if listed is not None else frozenset(range(step - 1, fields.depth, step))
    dense = None
    fields.ignore("intermediate_size_mlp", "interleave_moe_layer_step", "no_rope_layers", "use_qk_norm")
    if len(moe) < fields.depth:
        dense = FeedForward(width=fields.count("intermediate_size_mlp"))
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, head_width=fields.count("head_dim", default=128))
    ffn = lambda i: sparse if i in moe or dense is None else dense
    return uniform(fields, attention, ffn, kinds=_rotary_chunks(fields))


def _rotary_chunks(fields: Fields) -> Kinds:
    rotary = fields.value("no_rope_layers")
    if not rotary:
        return every_so_often(fields.count("no_rope_layer_interval", default=4), "chunked")
    if not isinstance(rotary, list) or len(rotary) != fields.depth:
        raise fields.fail(f": no_rope_layers does not list one number for each of the {fields.depth} layers")
    return lambda i: "chunked" if rotary[i] else "full"


def glm4_moe(fields: Fields) -> Architecture:
    """GLM-4.5 and 4.6: shared experts, first blocks dense, QK norms in the large model."""
    attention = grouped(
        fields,
        qkv_bias=fields.flag("attention_bias", False),
        qk_norm="head" if fields.flag("use_qk_norm", False) else "",
    )
    return uniform(fields, attention, deepseek_experts(fields, 1), mtp_layers=predictors(fields))


def dots1(fields: Fields) -> Architecture:
    """dots.llm1: DeepSeek's experts with multi-head attention and norms on queries and keys."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head")
    first = fields.count("max_window_layers", default=fields.depth, least=0)
    kinds: Kinds = lambda i: "sliding" if i >= first else "full"
    return uniform(fields, attention, deepseek_experts(fields, 0), kinds=kinds)


def deepseek_experts(fields: Fields, dense_default: int) -> ForLayer:
    """Dense FFNs in the first blocks, then routed and shared experts."""
    fields.ignore(
        "intermediate_size", "moe_intermediate_size", "first_k_dense_replace", "n_shared_experts",
        "num_shared_experts", *CHOSEN,
    )  # fmt: skip
    fields.require("moe_layer_freq", 1)
    if fields.value(*EXPERTS) is None and fields.says(*EXPERTS):  # null: no experts
        dense = FeedForward(width=fields.count("intermediate_size"))
        return lambda i: dense
    shared = fields.count("n_shared_experts", "num_shared_experts", default=0, least=0)
    sparse = routed(
        fields, width=("moe_intermediate_size",), shared_width=shared * fields.count("moe_intermediate_size")
    )  # fmt: skip
    kinds = fields.words("mlp_layer_types", ("dense", "sparse"))
    if kinds is None:
        first = fields.count("first_k_dense_replace", default=dense_default, least=0)
        kinds = ["dense" if i < first else "sparse" for i in range(fields.depth)]
    if "dense" not in kinds:
        return lambda i: sparse
    dense = FeedForward(width=fields.count("intermediate_size"))
    return lambda i: dense if kinds[i] == "dense" else sparse


def predictors(fields: Fields) -> int:
    """Number of multi-token prediction modules; 0 if the config does not state it."""
    return fields.count(*PREDICTORS, default=0, least=0)


def olmoe(fields: Fields) -> Architecture:
    """OLMoE and FlexOLMo: norms over all query and key heads."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="all")
    return uniform(fields, attention, routed(fields, width=("intermediate_size",)))


def granitemoe(fields: Fields) -> Architecture:
    """Granite MoE; version 2 has a shared FFN."""
    bias = fields.flag("attention_bias", False)
    shared = fields.count("shared_intermediate_size", default=0, least=0)
    ffn = routed(fields, width=("intermediate_size",), shared_width=shared)
    return uniform(fields, grouped(fields, qkv_bias=bias, output_bias=bias), ffn)


def hunyuan_moe(fields: Fields) -> Architecture:
    """Hunyuan-A13B: one shared expert; a field is a number, or a list with the same number for every block."""
    plain = _same_everywhere(fields, "moe_topk", "num_experts", "num_shared_expert", "moe_intermediate_size")
    bias = plain.flag("attention_bias", False)
    width = plain.count("moe_intermediate_size", "intermediate_size")
    shared = plain.count("num_shared_expert", default=1, least=0) * width
    qk_norm = "head" if plain.flag("use_qk_norm", True) else ""
    attention = grouped(plain, qkv_bias=bias, output_bias=bias, qk_norm=qk_norm)
    return uniform(
        plain, attention, routed(plain, width=("moe_intermediate_size", "intermediate_size"), shared_width=shared)
    )


def _same_everywhere(fields: Fields, *names: str) -> Fields:
    single = {}
    for name in names:
        value = fields.value(name)
        if isinstance(value, list):
            if not value or any(item != value[0] for item in value):
                raise fields.fail(f": {name} differs from block to block, which is not supported yet")
            single[name] = value[0]
    return fields.changed(single)


def ernie_moe(fields: Fields) -> Architecture:
    """ERNIE 4.5 MoE: experts in a range of blocks."""
    fields.refuse("use_bias")
    shared = fields.count("moe_num_shared_experts", default=2, least=0) * fields.count("moe_intermediate_size")
    sparse = routed(fields, width=("moe_intermediate_size",), shared_width=shared, router_bias=True)
    dense = FeedForward(width=fields.count("intermediate_size"))
    step = fields.count("moe_layer_interval", default=1)
    first = fields.count("moe_layer_start_index", default=1, least=0)
    last = fields.count("moe_layer_end_index", default=-1, least=-1)
    last = fields.depth - 1 if last == -1 else last
    ffn = lambda i: sparse if (i + 1) % step == 0 and first <= i <= last else dense
    return uniform(fields, grouped(fields), ffn, tied=True, mtp_layers=predictors(fields), mtp_ffn=dense)


def deepseek(fields: Fields) -> Architecture:
    """DeepSeekMoE, and models of version 2 without MLA (DeepSeek-VL2-Tiny, DeepSeek-OCR): multi-head attention."""
    for name in ("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        if fields.value(name):
            raise fields.fail(f" sets {name}, which multi-head attention does not have")
    fields.ignore("lm_head", "rm_head")
    bias = fields.flag("attention_bias", False)
    own = fields.changed({"kv_lora_rank": None})
    attention = grouped(own, qkv_bias=bias, output_bias=bias)
    return uniform(own, attention, deepseek_experts(own, 0))
