"""Conversion between dense and MoE: upcycling into shared and fine-grained experts, and dense models from MoE ones.

Dense to sparse (Komatsuzaki et al. 2023, "Sparse Upcycling"; Dai et al. 2024, "DeepSeekMoE", for shared and small
experts): the most active neurons of a gated FFN become the shared experts; the others are clustered by their rows of
the gate projection into groups of equal size, and every group becomes one or several experts.
A router row is the mean gate row of its group, scaled so that its scores on training text have a small spread; copies
of a group differ by noise.  Router weights sum to k, so a chosen expert adds what its neurons added in the dense FFN.

The result is `glm4_moe` of transformers: Llama's attention, sigmoid router scores, and a correction bias per expert
that affects the choice of experts but not their weights.  The bias balances the load instead of an auxiliary loss
(Wang et al. 2024, "Auxiliary-Loss-Free Load Balancing"):

    b_e += rate sign(mean load - load_e)    after every step
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from flashstill.arch.adapter import edit
from flashstill.arch.adapter.axes import NEURONS
from flashstill.arch.adapter.sizes import FEED_FORWARD, size
from flashstill.distill.models import Model, cast, decoder_layers
from flashstill.distill.models.host_memory import check_memory
from flashstill.distill.students.axes import find_axis
from flashstill.distill.students.importance import measured
from flashstill.distill.students.proving import proven
from flashstill.distill.students.watching import run_watched
from flashstill.errors import BadInput

CLUSTER_ROUNDS = 4
SPREAD = 0.25  # of router scores before the sigmoid: small, so that chosen experts have nearly equal weights at first
NOISE = 0.1  # between copies of a group, relative to the size of the router row


@dataclass(frozen=True, kw_only=True, slots=True)
class Experts:
    """Numbers of routed experts, of routed experts per token, of shared experts, and of neurons per expert."""

    routed: int
    per_token: int
    shared: int
    neurons: int


def upcycle(model: Model, experts: Experts, tokens: Tensor, seed: int) -> Model:
    """An MoE model from a dense Llama-like one; neuron activity is measured on token ids [B, L] of training text."""
    from transformers import Glm4MoeConfig, Glm4MoeForCausalLM

    config = model.config
    fields = edit.upcycled(
        config, routed=experts.routed, per_token=experts.per_token, shared=experts.shared, neurons=experts.neurons
    )
    feed_forward = size(config, FEED_FORWARD)
    left = feed_forward - experts.shared * experts.neurons
    if experts.neurons < 1 or left < experts.neurons or left % experts.neurons:
        raise BadInput(
            f"an FFN of {feed_forward} neurons less {experts.shared} shared experts of {experts.neurons}"
            f" leaves {left}, which experts of {experts.neurons} do not fill; change expert_neurons or shared_experts"
        )
    groups = left // experts.neurons
    if experts.routed % groups or not 1 <= experts.per_token <= experts.routed:
        raise BadInput(
            f"{groups} groups of neurons make {groups}, {2 * groups}, {3 * groups}... experts, not {experts.routed};"
            f" and a token gets 1 to {experts.routed} of them, not {experts.per_token}"
        )
    shape = Glm4MoeConfig(**fields)
    check_memory(shape.to_dict(), "the student")
    sparse = cast(Glm4MoeForCausalLM(shape), next(model.parameters()).dtype)
    _copy_common(model, sparse)
    layout = proven(model, find_axis(model, NEURONS))
    by_name = measured(model, {NEURONS: layout}, tokens)[NEURONS]
    scores, inputs = [by_name[group.name] for group in layout], _feed_forward_inputs(model, tokens)
    generator = torch.Generator().manual_seed(seed)
    for index, (block, target) in enumerate(zip(decoder_layers(model), decoder_layers(sparse), strict=True)):
        _split(block.mlp, target.mlp, experts, scores[index], inputs[index], generator)
    return sparse.eval()


def _copy_common(source: Model, target: Model) -> None:
    """Copy all weights except the FFNs."""
    given = source.state_dict()
    target.load_state_dict({name: tensor for name, tensor in given.items() if ".mlp." not in name}, strict=False)


def _feed_forward_inputs(model: Model, tokens: Tensor) -> list[Tensor]:
    """Inputs [N, d] of each block's FFN."""
    inputs: list[Tensor] = []
    handles = [
        block.mlp.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach().flatten(0, -2).float()))  # type: ignore[union-attr]
        for block in decoder_layers(model)
    ]
    run_watched(model, tokens, handles)
    return inputs


def _split(
    dense: Any, sparse: Any, experts: Experts, scores: Tensor, inputs: Tensor, generator: torch.Generator
) -> None:
    """Fill one block's experts and router from its dense FFN."""
    order = scores.argsort(descending=True).to(dense.gate_proj.weight.device)
    shared, rest = order[: experts.shared * experts.neurons], order[experts.shared * experts.neurons :]
    groups = balanced_clusters(dense.gate_proj.weight.detach()[rest].float(), len(rest) // experts.neurons, generator)
    with torch.no_grad():
        for name, axis in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
            chosen = getattr(dense, name).weight.index_select(axis, shared)
            if experts.shared:
                getattr(sparse.shared_experts, name).weight.copy_(chosen)
        for expert in range(experts.routed):
            own = rest[groups == expert % int(groups.max() + 1)]
            gate, up = dense.gate_proj.weight[own], dense.up_proj.weight[own]
            sparse.experts.gate_up_proj[expert].copy_(torch.cat([gate, up]))
            sparse.experts.down_proj[expert].copy_(dense.down_proj.weight[:, own])
            row = gate.float().mean(0)
            spread = (inputs @ row).std().clamp_min(1e-6)
            noise = torch.randn(row.shape, generator=generator) * row.std()
            sparse.gate.weight[expert].copy_((row + NOISE * noise) * SPREAD / spread)


def balanced_clusters(rows: Tensor, groups: int, generator: torch.Generator) -> Tensor:
    """Cluster index [N] of each row [N, d]; clusters of equal size: cosine k-means with an optimal assignment."""
    unit = nn.functional.normalize(rows, dim=-1)
    size = len(rows) // groups
    centres = unit[torch.randperm(len(rows), generator=generator)[:groups]]
    owner = torch.zeros(len(rows), dtype=torch.int64)
    for _ in range(CLUSTER_ROUNDS):
        near = (unit @ centres.T).numpy()
        places, seats = linear_sum_assignment(-np.repeat(near, size, axis=1))
        owner[torch.from_numpy(places)] = torch.from_numpy(seats // size)
        centres = nn.functional.normalize(torch.stack([unit[owner == group].sum(0) for group in range(groups)]), dim=-1)
    return owner


def dense_of(model: Model, feed_forward: int, seed: int) -> Model:
    """A dense model with the weights of an MoE model except its experts; FFNs of `feed_forward` neurons start random.

    feed_forward 0: as many neurons as are active per token in the MoE model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    relative = edit.dense_relative(model.config)
    known = AutoConfig.for_model(relative).to_dict()
    shape = AutoConfig.for_model(relative, **edit.dense(model.config, model.config.to_dict(), known, feed_forward))
    check_memory(shape.to_dict(), "the student")
    torch.manual_seed(seed)
    dense = AutoModelForCausalLM.from_config(shape)
    dense = cast(dense, next(model.parameters()).dtype)
    given, own = model.state_dict(), dense.state_dict()
    shared = {name: tensor for name, tensor in given.items() if name in own and tensor.shape == own[name].shape}
    dense.load_state_dict(shared, strict=False)
    return dense.eval()
