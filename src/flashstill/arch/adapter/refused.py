"""Model types that are known and not read, each with the reason."""

from __future__ import annotations

# Known families that `Layer` cannot represent.
_NOT_FOUND = "no published configuration of it was found that its reading could be checked against"
_PAIR = "it is the decoder of a pair, which also reads what an encoder made"
_ENCODER = "it is an encoder with parts of its own that no decoder here has"

REFUSED = {
    "axk2": "its norms have matrices of their own",
    "blt": "it is several models over bytes and patches of them",
    "cohere_compass_text": "it makes embeddings, not text",
    "diffusion_gemma_text": "it fills in whole blocks of tokens over many steps instead of one token after another",
    "ernie4_5_vl_moe_text": "it has other experts for images than for text",
    **dict.fromkeys(
        ("Dream", "llada", "llada2_moe", "llada_moe", "nemotron_labs_diffusion", "sdar", "sdar_moe"),
        "it fills in masked tokens over many steps instead of one token after another",
    ),
    "hunyuan": "pairs of its blocks share a cache",
    "phi4flash": "the second half of its blocks read the cache of one",
    **dict.fromkeys(("rwkv5", "rwkv6", "rwkv7"), _NOT_FOUND),
    "git": "its text part reads images through an encoder of its own",
    "glm5_next_text": "its residual streams carry delta attention and indexers over pooled keys",
    **dict.fromkeys(("hrm_text", "iquestloopcoder", "ouro"), "its blocks run several times over"),
    "inkling2_text": "its attention adds learned relative positions, and its blocks short convolutions",
    "inkling_text": "its attention adds learned relative positions, and its blocks short convolutions",
    **dict.fromkeys(("minicpmo", "minicpmv"), "which language model it has is told by a version alone"),
    "mllama_text_model": "some of its blocks read images only",
    "moshi": "it is two models that take turns within a step",
    **dict.fromkeys(("deepseek_v41", "deepseek_v41_text"), "its tables of n-grams are of a kind of their own"),
    "phi3small": "its attention is sparse in blocks",
    "qwen4_exp_text": "its tables of n-grams and residual streams are of a kind of their own",
    "reformer": "its attention goes by hashes",
    "xlm": "its embeddings of languages are not described",
    "xlnet": "its attention has two streams",
    "zamba": "its blocks share weights",
    "zamba2": "its blocks share weights",
    "zaya": "its attention works on convolutions of keys and queries, and its router is a network",
    **dict.fromkeys(
        ("k2_horizon", "pangu_ultra_moe", "param2moe", "plamo2", "plamo3", "step1", "telechat"),
        _NOT_FOUND,
    ),
    **dict.fromkeys(
        (
            "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "musicgen",
            "musicgen_melody",
            "mvp", "pegasus", "plbart", "prophetnet", "t5", "trocr", "umt5", "whisper",
        ),
        _PAIR,
    ),
    **dict.fromkeys(("big_bird", "electra", "rembert", "roc_bert", "roformer", "xmod"), _ENCODER),
}  # fmt: skip
