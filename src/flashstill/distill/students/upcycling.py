"""Upcycling of a dense model into a mixture of experts, shared and fine-grained.

As in the literature (Komatsuzaki et al. 2023, "Sparse Upcycling"; Dai et al. 2024, "DeepSeekMoE", for shared and small
experts): the most active neurons of a gated FFN become the shared experts; the others are clustered by their rows of
the gate projection into groups of equal size, and every group becomes one or several experts.
A router row is the mean gate row of its group, scaled so that its scores on training text have a small spread; copies
of a group differ by noise.  Router weights sum to k, or to one and the experts' outputs are multiplied by k, so a
chosen expert adds what its neurons added in the dense FFN.

The mixture is any class of transformers with stacked gated experts.  Everything but the FFN is carried over tensor by
tensor; on a small float64 copy, all experts together with an even router must give what the dense model gives.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flashstill.arch.adapter import sparse as fields
from flashstill.arch.adapter.axes import NEURONS
from flashstill.arch.adapter.sizes import FEED_FORWARD, HEADS, KEY_HEADS, head_width, size, stated_size
from flashstill.distill.models import Model, cast
from flashstill.distill.models.host_memory import check_memory
from flashstill.distill.models.rebuild import without_memory
from flashstill.distill.students.axes import find_axis
from flashstill.distill.students.clusters import balanced_clusters
from flashstill.distill.students.feed_forward import Gated, Mixture, gated, mixtures, router_rows, split_queries
from flashstill.distill.students.importance import measured
from flashstill.distill.students.proving import alike, disturb, outputs, proven, small_copy, some_tokens
from flashstill.distill.students.watching import counted_rows, run_watched
from flashstill.errors import BadInput, UnsupportedArchitecture, first_line

SPREAD = 0.25  # of router scores before the sigmoid: small, so that chosen experts have nearly equal weights at first
NOISE = 0.1  # between copies of a group, relative to the size of the router row


@dataclass(frozen=True, kw_only=True, slots=True)
class Experts:
    """Numbers of routed experts, of routed experts per token, of shared experts, and of neurons per expert."""

    routed: int
    per_token: int
    shared: int
    neurons: int


def upcycle(
    model: Model,
    experts: Experts,
    tokens: Tensor,
    seed: int,
    into: str = "",
    learned: Tensor | None = None,
    real: Tensor | None = None,
    starts: Tensor | None = None,
) -> Model:
    """An MoE model from a dense one; neuron activity is measured on token ids [B, L] of training text.

    learned [B, L]: the places that count there, None for all.  real [B, L]: those that are no padding, to which routers
    are scaled, as they route prompts as well.  starts [B, L]: of documents (watching.py).  into: model_type of the
    mixture, by default the dense family's relative.  Raises BadInput for experts that do not fill the
    FFN, UnsupportedArchitecture in one sentence for a pair of families that do not compute the same.
    """
    into = fields.mixture_of(model.config, into)
    groups = _groups(size(model.config, FEED_FORWARD), experts)
    layout = proven(model, find_axis(model, NEURONS))
    check_memory(_shape(model, experts, into).to_dict(), "the student")
    twin = small_copy(model)
    disturb(twin, torch.Generator().manual_seed(0))
    _prove(twin, replace(experts, routed=groups, per_token=groups), into)
    by_name = measured(model, {NEURONS: layout}, tokens, learned, starts)[NEURONS]
    scores = [by_name[group.name] for group in layout]
    dense = gated(model, layout)
    inputs = _inputs(model, dense, tokens, real, starts)
    return _converted(model, dense, experts, into, scores, inputs, seed)


def empty_mixture(model: Model, experts: Experts, into: str = "") -> Model:
    """The mixture that `upcycle` makes of a dense model, both without weights; BadInput for experts that do not fill
    its FFN."""
    into = fields.mixture_of(model.config, into)
    _groups(size(model.config, FEED_FORWARD), experts)
    with without_memory():
        return _built(_shape(model, experts, into))


def _built(config: Any) -> Model:
    """The model of a configuration."""
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")  # of no shared experts
        return AutoModelForCausalLM.from_config(config)


def _groups(neurons: int, experts: Experts) -> int:
    """Groups of neurons that become routed experts; BadInput if they do not come out even."""
    left = neurons - experts.shared * experts.neurons
    if experts.neurons < 1 or left < experts.neurons or left % experts.neurons:
        raise BadInput(
            f"an FFN of {neurons} neurons less {experts.shared} shared experts of {experts.neurons}"
            f" leaves {left}, which experts of {experts.neurons} do not fill; change expert_neurons or shared_experts"
        )
    groups = left // experts.neurons
    if experts.routed % groups or not 1 <= experts.per_token <= experts.routed:
        raise BadInput(
            f"{groups} groups of neurons make {groups}, {2 * groups}, {3 * groups}... experts, not {experts.routed};"
            f" and a token gets 1 to {experts.routed} of them, not {experts.per_token}"
        )
    return groups


def _shape(model: Model, experts: Experts, into: str) -> Any:
    """The mixture's configuration."""
    from transformers import AutoConfig

    try:
        known = AutoConfig.for_model(into).to_dict()
    except ValueError as error:
        raise BadInput(f"student.into is {into!r}, which transformers does not know: {first_line(error)}") from error
    biases = any(name.endswith(("q_proj.bias", "qkv_proj.bias")) for name in model.state_dict())
    norms = any(name.endswith("q_norm.weight") for name in model.state_dict())
    changes = fields.upcycled(
        model.config, known, routed=experts.routed, per_token=experts.per_token, shared=experts.shared,
        neurons=experts.neurons, biases=biases, norms=norms,
    )  # fmt: skip
    try:
        return AutoConfig.for_model(into, **changes)
    except Exception as error:  # transformers' own kinds of errors for a configuration
        raise BadInput(f"transformers refuses a {into} of this shape: {first_line(error)}") from error


def _converted(
    model: Model, dense: list[Gated], experts: Experts, into: str, scores: list[Tensor], inputs: list[Tensor], seed: int
) -> Model:
    from transformers import AutoConfig

    config = _shape(model, experts, into)
    first = next(model.parameters())
    sparse = cast(_built(config), first.dtype).to(first.device)
    blocks = mixtures(sparse)
    _carry(model, sparse, dense, blocks)
    is_scaled = fields.scales_weights(AutoConfig.for_model(into).to_dict())
    generator = torch.Generator().manual_seed(seed)
    for index, (ffn, mixture) in enumerate(zip(dense, blocks, strict=True)):
        _fill(ffn, mixture, experts, scores[index], inputs[index], generator, 1 if is_scaled else experts.per_token)
    return sparse.eval()


def _carry(model: Model, sparse: Model, dense: list[Gated], blocks: list[Mixture]) -> None:
    """Copy all weights but those of the FFNs; UnsupportedArchitecture if one has no place in the other family."""
    config, own = model.config, sparse.state_dict()
    heads, width = size(config, HEADS), head_width(config)
    keys = (stated_size(config, KEY_HEADS) or heads) * width
    given = split_queries(dict(model.state_dict()), (heads * width, keys, keys), own)
    given = {name: each for name, each in given.items() if not name.startswith(tuple(f"{d.name}." for d in dense))}
    wanted = {name for name in own if not name.startswith(tuple(f"{mixture.name}." for mixture in blocks))}
    unplaced = [name for name, each in given.items() if name not in wanted or own[name].shape != each.shape]
    missing = sorted(wanted - given.keys())
    if unplaced or missing:
        lack, which, whose = (sparse, unplaced, "place for") if unplaced else (model, missing, "")
        raise UnsupportedArchitecture(
            f"{type(model).__name__} is not upcycled into {type(sparse).__name__}: {type(lack).__name__} has no"
            f" {whose + ' ' if whose else ''}{which[0]}"
        )
    sparse.load_state_dict(given, strict=False)


def _inputs(
    model: Model, dense: list[Gated], tokens: Tensor, real: Tensor | None, starts: Tensor | None
) -> list[Tensor]:
    """Inputs [N, d] of each block's FFN at the places that are no padding."""
    inputs: list[Tensor] = []

    def look(module: object, args: tuple[Tensor, ...]) -> None:
        inputs.append(counted_rows(args[0].detach().flatten(0, -2), real).float())

    handles = [model.get_submodule(ffn.name).register_forward_pre_hook(look) for ffn in dense]
    run_watched(model, tokens, handles, starts)
    return inputs


def _fill(
    dense: Gated, sparse: Mixture, experts: Experts, scores: Tensor, inputs: Tensor, generator: torch.Generator,
    factor: int,
) -> None:  # fmt: skip
    """Fill one block's experts and router from its dense FFN. factor: of the experts' outputs."""
    order = scores.argsort(descending=True)
    shared, rest = order[: experts.shared * experts.neurons], order[experts.shared * experts.neurons :]
    groups = balanced_clusters(dense.gate[rest].float().cpu(), len(rest) // experts.neurons, generator)
    with torch.no_grad():
        if experts.shared:
            _fill_shared(dense, sparse, shared)
        for expert in range(experts.routed):
            own = rest[groups == expert % int(groups.max() + 1)]
            sparse.gate_up[expert].copy_(torch.cat([dense.gate[own], dense.up[own]]))
            sparse.down[expert].copy_(factor * dense.down[:, own])
            row = dense.gate[own].float().mean(0)
            spread = (inputs @ row).std().clamp_min(1e-6)
            noise = torch.randn(row.shape, generator=generator).to(row.device) * row.std()
            router_rows(sparse)[expert].copy_((row + NOISE * noise) * SPREAD / spread)
        for weight in sparse.router.parameters():
            if weight.dim() == 1:
                weight.zero_()


def _fill_shared(dense: Gated, sparse: Mixture, chosen: Tensor) -> None:
    if sparse.shared.keys() != {"gate_proj", "up_proj", "down_proj"}:
        raise UnsupportedArchitecture(f"{sparse.name} has no shared FFN of three matrices; set shared_experts to 0")
    sparse.shared["gate_proj"].copy_(dense.gate[chosen])
    sparse.shared["up_proj"].copy_(dense.up[chosen])
    sparse.shared["down_proj"].copy_(dense.down[:, chosen])
    if sparse.shared_gate is not None:  # a sigmoid, of one half at zero
        sparse.shared_gate.zero_()
        sparse.shared["down_proj"].mul_(2.0)


def _prove(twin: Model, experts: Experts, into: str) -> None:
    """UnsupportedArchitecture unless all experts with an even router compute what the dense twin computes."""
    dense = gated(twin, proven(twin, find_axis(twin, NEURONS)))
    even = [torch.arange(len(ffn.gate)).float() for ffn in dense]
    inputs = [torch.ones(2, ffn.gate.shape[1], device=ffn.gate.device) for ffn in dense]
    sparse = _converted(twin, dense, experts, into, even, inputs, 0).to(next(twin.parameters()).dtype)
    sparse.set_experts_implementation("eager")
    for mixture in mixtures(sparse):
        router_rows(mixture).zero_()
    tokens = some_tokens(twin, torch.Generator().manual_seed(0))
    if not alike(outputs(sparse, tokens), outputs(twin, tokens)):
        raise UnsupportedArchitecture(
            f"{type(twin).__name__} is not upcycled into {type(sparse).__name__}: with the same weights and all experts"
            " active their outputs differ; choose another student.into"
        )
