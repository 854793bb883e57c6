"""An architecture of another size in the shape of a given one: what a hypothetical model of N parameters looks like.

    width and depth   grow together by one factor r, so that width / depth stays (Llama 3 keeps it within 102 and 128
                      from 8B to 405B) and parameters grow as r^3 where the embedding is small
    heads             keep their width; their number grows with r, in steps that tensor parallelism divides
    KV heads          keep their number where it divides the heads; as many as heads where the model has that
    FFN               keeps its ratio to the width
    experts           a token uses as many neurons as before; `expansion` says how many times as many there are
    ranks             of compressed queries and latents grow with r
    vocabulary, context, windows, head widths, taps of convolutions: as they are

Depth is rounded to whole blocks; the width then makes up for it, in steps of 64 (of 8 below 512).  Multi-token
prediction modules are left out, weights are bf16.
"""

from __future__ import annotations

from dataclasses import replace

from flashstill.arch.attention import Attention, LatentAttention
from flashstill.arch.compressed import CompressedAttention
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.formats import Formats
from flashstill.arch.model import Architecture, Layer, Mixer
from flashstill.arch.recurrent import LinearAttention
from flashstill.errors import BadInput
from flashstill.units import short_count

_HALVINGS = 26
_SMALLEST, _LARGEST = 1e-3, 1e3
"""factors of width and depth between which a size is searched for"""
_NEAR = 8
"""steps of the width to either side that are tried for the rounded depth"""


def expansion(model: Architecture) -> float:
    """FFN weights of a model over those that one token uses: 1 if it is dense."""
    every, used = (
        sum(layer.count * _ffn_weights(layer.ffn, model.width, active) for layer in model.layers)
        for active in (False, True)
    )
    return every / used if used else 1.0


def counted(model: Architecture, embeddings: bool = True) -> int:
    """Parameters that a token uses, with or without those of embedding and head."""
    return model.active_parameters - (0 if embeddings else model.embedding_parameters)


def scaled(
    like: Architecture, parameters: float, experts: float | None = None, embeddings: bool = True
) -> Architecture:
    """A model of about `parameters` parameters (those that a token uses, if it has experts) in the shape of `like`.

    experts: how many times the FFN weights of a token there are; 1 for a dense model, None for as many as `like` has.
    embeddings: whether `parameters` counts embedding and head.  Raises BadInput if no such model is that small or
    large.
    """
    if not parameters > 0:
        raise BadInput(f"a model has a positive number of parameters, not {parameters:g}")
    experts = _of_routed(like, experts)
    low, high = _SMALLEST, _LARGEST
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        made = _shaped(like, middle * like.width, middle * like.depth, experts)
        low, high = (middle, high) if counted(made, embeddings) < parameters else (low, middle)
    depth = max(1, round(high * like.depth))
    step = _step(high * like.width)
    widths = [step * max(1, round(high * like.width / step) + more) for more in range(-_NEAR, _NEAR + 1)]
    tried = [_shaped(like, width, depth, experts) for width in dict.fromkeys(widths)]
    best = min(tried, key=lambda model: abs(counted(model, embeddings) - parameters))
    if not 1 / 2 < counted(best, embeddings) / parameters < 2:
        nearest = f"the nearest has {counted(best, embeddings):,}"
        raise BadInput(f"no model in the shape of {like.name} has {parameters:,.0f} parameters: {nearest}")
    return best


def _of_routed(like: Architecture, experts: float | None) -> float | None:
    """How many times the FFN weights of a token a layer with experts has, so that all layers have `experts` times."""
    if experts is None or experts <= 1 or not like.routed:
        return experts
    used = [(layer, layer.count * _ffn_weights(layer.ffn, like.width, active=True)) for layer in like.layers]
    routed = sum(weights for layer, weights in used if layer.ffn.experts)
    return 1 + (experts - 1) * sum(weights for _, weights in used) / routed


def _shaped(like: Architecture, width: float, depth: float, experts: float | None) -> Architecture:
    """The shape at this width and depth. Names say how many parameters a token uses of how many."""
    step = _step(width)
    wide = max(step, round(width / step) * step)
    ratio = wide / like.width
    kinds = _counts([layer.count for layer in like.layers], max(1, round(depth)))
    layers = tuple(
        _layer(layer, count, like.width, wide, experts if layer.ffn.experts or not like.routed else None)
        for layer, count in zip(like.layers, kinds, strict=True)
        if count
    )
    made = replace(
        like, width=wide, layers=layers, final_norm_parameters=round(like.final_norm_parameters * ratio),
        position_parameters=round(like.position_parameters * ratio),
        extra_parameters=round(like.extra_parameters * ratio), mtp_layers=0, mtp_parameters=0, formats=Formats(),
        note="",
    )  # fmt: skip
    return replace(made, name=_name(like.name, made))


def _name(like: str, made: Architecture) -> str:
    whole, used = made.parameters, made.active_parameters
    active = "" if not made.routed else f" ({short_count(used)} active)"
    return f"{short_count(whole)}{active} like {like}"


def _layer(layer: Layer, count: int, width: int, wide: int, experts: float | None) -> Layer:
    ratio = wide / width
    return replace(
        layer,
        count=count,
        attention=_mixer(layer.attention, ratio),
        ffn=_ffn(layer.ffn, width, wide, experts),
        norm_parameters=round(layer.norm_parameters * ratio),
        side_weights=round(layer.side_weights * ratio),
    )


def _mixer(mixer: Mixer, ratio: float) -> Mixer:
    heads = _heads(mixer.heads * ratio)
    of_heads = heads / mixer.heads
    if isinstance(mixer, Attention):
        whole = mixer.kv_heads == mixer.heads
        over_all = mixer.qk_norm_parameters > 4 * mixer.head_width
        kv_heads = heads if whole else _divisor(heads, mixer.kv_heads)
        return replace(
            mixer, heads=heads, kv_heads=kv_heads,
            query_rank=None if mixer.query_rank is None else _rank(mixer.query_rank * ratio),
            qk_norm_parameters=(heads + kv_heads) * mixer.head_width if over_all else mixer.qk_norm_parameters,
            extra_width=round(mixer.extra_width * of_heads), extra_parameters=round(mixer.extra_parameters * of_heads),
        )  # fmt: skip
    if isinstance(mixer, LatentAttention):
        return replace(
            mixer, heads=heads, kv_rank=_rank(mixer.kv_rank * ratio),
            query_rank=None if mixer.query_rank is None else _rank(mixer.query_rank * ratio),
            extra_width=round(mixer.extra_width * of_heads), extra_parameters=round(mixer.extra_parameters * of_heads),
        )  # fmt: skip
    if isinstance(mixer, CompressedAttention):
        return replace(
            mixer, heads=heads, query_rank=_rank(mixer.query_rank * ratio),
            output_rank=_rank(mixer.output_rank * ratio),
            output_groups=_divisor(heads, mixer.output_groups),
        )  # fmt: skip
    return _linear(mixer, heads, ratio)


def _linear(mixer: LinearAttention, heads: int, ratio: float) -> LinearAttention:
    """Matrices grow with the width and with the heads, everything else with the heads."""
    of_heads, state = heads / mixer.heads, mixer.matrix_state
    if state is not None:
        key_heads = heads if state.key_heads == state.heads else _divisor(heads, round(state.key_heads * of_heads))
        state = replace(state, heads=_heads(state.heads * of_heads), key_heads=key_heads)
    return replace(
        mixer, heads=heads, weights=round(mixer.weights * ratio * of_heads), matrix_state=state,
        other_parameters=round(mixer.other_parameters * of_heads), state_values=round(mixer.state_values * of_heads),
        channels=round(mixer.channels * of_heads), output_width=round(mixer.output_width * of_heads),
        convolved=round(mixer.convolved * of_heads),
    )  # fmt: skip


def _ffn(ffn: FeedForward, width: int, wide: int, experts: float | None) -> FeedForward:
    """The FFN at another model width; its neurons per token stay in proportion whatever the number of experts."""
    if not ffn.width:
        return ffn
    ratio = wide / width

    def neurons(count: int) -> int:
        step = _step(count * ratio)
        return max(step, round(count * ratio / step) * step) if count else 0

    grown = replace(
        ffn, width=neurons(ffn.width), shared_width=neurons(ffn.shared_width), dense_width=neurons(ffn.dense_width),
        latent_width=neurons(ffn.latent_width), router_extra=round(ffn.router_extra * ratio),
    )  # fmt: skip
    if experts is None:
        return grown
    if experts <= 1:
        chosen = ffn.experts_per_token * ffn.width if ffn.experts else ffn.width
        return FeedForward(
            width=neurons(chosen + ffn.shared_width + ffn.dense_width), gated=ffn.gated, bias=ffn.bias
        )  # fmt: skip
    per_token = max(1, grown.experts_per_token)
    one = replace(grown, experts=per_token, experts_per_token=per_token)
    used = _ffn_weights(one, wide, active=True)
    routed = (experts * used - (used - per_token * one.expert_matrices(wide))) / one.expert_matrices(wide)
    return replace(one, experts=max(per_token, round(routed / per_token) * per_token))


def _ffn_weights(ffn: FeedForward, width: int, active: bool) -> float:
    """Weights of an FFN without its router; with `active`, those of one token."""
    return float(ffn.parameters(width, active) - ffn.router_parameters(width))


def _counts(counts: list[int], depth: int) -> list[int]:
    """`depth` blocks shared out in the proportions of `counts`, largest remainders first; every kind keeps one while
    there are enough."""
    total = sum(counts)
    exact = [depth * count / total for count in counts]
    least = 1 if depth >= len(counts) else 0
    shared = [max(least, int(part)) for part in exact]
    order = sorted(range(len(counts)), key=lambda place: exact[place] - shared[place], reverse=True)
    while sum(shared) < depth:
        place = max(order, key=lambda place: exact[place] - shared[place])
        shared[place] += 1
    while sum(shared) > depth:
        place = min((p for p in order if shared[p] > least), key=lambda p: exact[p] - shared[p])
        shared[place] -= 1
    return shared


def _heads(count: float) -> int:
    """A number of heads in steps of 8 from 24 on, of 4 from 12 on, of 2 from 4 on."""
    step = 8 if count >= 24 else 4 if count >= 12 else 2 if count >= 4 else 1
    return max(1, round(count / step) * step)


def _divisor(heads: int, most: int) -> int:
    """The largest divisor of `heads` that is at most `most`."""
    return next(count for count in range(max(1, min(heads, most)), 0, -1) if heads % count == 0)


def _rank(count: float) -> int:
    step = _step(count)
    return max(step, round(count / step) * step)


def _step(width: float) -> int:
    return 64 if width >= 512 else 8
