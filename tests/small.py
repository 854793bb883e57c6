"""Models small enough that every operation can be worked out by hand: 2 layers of width 100 and 1,000 words."""

from __future__ import annotations

from typing import Any

from flashstill.arch import Architecture, Attention, FeedForward, LatentAttention, Layer, LinearAttention

SMALL_WEIGHTS = 2 * (100 * (100 + 100) + 100 * 100 + 2 * 100 * 200 + 200) + 100 * 1000 + 100
"""queries, keys and values; output; feed-forward; norms: 70,200 of each layer; embedding and last norm"""


def model_of(layer: Layer) -> Architecture:
    """A model of such layers, its head tied to the embedding."""
    return Architecture(
        name="small", width=100, vocabulary=1000, layers=(layer,), tied=True, context=4096, final_norm_parameters=100
    )


def grouped(**changes: Any) -> Attention:
    """4 heads of 25 over 2 cached ones: a token caches 2 x 2 x 25 = 100 values."""
    return Attention(heads=4, kv_heads=2, head_width=25, **changes)


def small_model(**changes: Any) -> Architecture:
    """A feed-forward of 200 without gate."""
    ffn = FeedForward(width=200, gated=False)
    return model_of(Layer(count=2, attention=grouped(**changes), ffn=ffn, norm_parameters=200))


def gated_model(**changes: Any) -> Architecture:
    """With a gate, and both branches at once."""
    ffn = FeedForward(width=200, gated=True)
    return model_of(Layer(count=2, attention=grouped(), ffn=ffn, norm_parameters=200, parallel=True, **changes))


def routed_model() -> Architecture:
    """8 experts of 50 with a gate, 2 for each token, and a shared one of 30."""
    ffn = FeedForward(width=50, gated=True, experts=8, experts_per_token=2, shared_width=30)
    return model_of(Layer(count=2, attention=grouped(), ffn=ffn, norm_parameters=200))


def latent_model(**changes: Any) -> Architecture:
    """4 heads of 20 + 5 that read one vector of 30 + 5; values of 15; queries directly."""
    attention = LatentAttention(
        **{
            "heads": 4,
            "query_rank": None,
            "kv_rank": 30,
            "rope_width": 5,
            "nope_width": 20,
            "value_width": 15,
            **changes,
        }
    )
    return model_of(Layer(count=2, attention=attention, ffn=FeedForward(width=200, gated=False), norm_parameters=200))


def recurrent_model() -> Architecture:
    """30,000 weights a mixer, a state of 1,000 values."""
    mixer = LinearAttention(kind="linear", heads=4, weights=30_000, other_parameters=0, state_values=1000)
    return model_of(Layer(count=2, attention=mixer, ffn=FeedForward(width=200, gated=False), norm_parameters=200))
