"""Dense students of a mixture of experts: everything but its experts, and FFNs that start random.

The dense model is of the mixture's dense family, or of its own class with dense blocks only.  Everything outside the
FFNs is carried over tensor by tensor; on a small float64 copy, both models without their FFNs must give the same.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch

from flashstill.arch.adapter import sparse as fields
from flashstill.arch.adapter.axes import EXPERT_COUNT, NEURONS, choices
from flashstill.arch.adapter.sizes import kind
from flashstill.distill.models import Model, cast, decoder_layers
from flashstill.distill.models.host_memory import check_memory
from flashstill.distill.students.axes import block_path, find_axis
from flashstill.distill.students.proving import alike, disturb, outputs, small_copy, some_tokens
from flashstill.errors import BadInput, UnsupportedArchitecture, first_line


def dense_of(model: Model, feed_forward: int, seed: int, into: str = "") -> Model:
    """A dense model with the weights of an MoE model except its experts; FFNs of `feed_forward` neurons start random.

    feed_forward 0: as many neurons as are active per token in the MoE model.  into: model_type of the dense model.
    Raises UnsupportedArchitecture in one sentence if no dense family has all that is outside the FFNs.
    """
    own = kind(model.config)
    if next(choices(model.config, EXPERT_COUNT), None) is None:
        raise UnsupportedArchitecture(f"no dense relative of {own} is known: it has no experts to leave out")
    twin = small_copy(model)
    disturb(twin, torch.Generator().manual_seed(0))
    reasons = []
    for relative in fields.dense_relatives(model.config, into):
        try:
            check_memory(_shape(model, relative, feed_forward).to_dict(), "the student")
            _prove(twin, _made(twin, relative, feed_forward, seed))
            return _made(model, relative, feed_forward, seed).eval()
        except UnsupportedArchitecture as error:
            reasons.append(str(error))
    raise UnsupportedArchitecture(f"no dense relative of {own} is known: {'; '.join(reasons)}")


def _shape(model: Model, relative: str, feed_forward: int) -> Any:
    from transformers import AutoConfig

    try:
        known = AutoConfig.for_model(relative).to_dict()
        return AutoConfig.for_model(relative, **fields.dense(model.config, known, feed_forward))
    except Exception as error:  # transformers' own kinds of errors for a configuration
        raise BadInput(f"transformers makes no {relative} of this shape: {first_line(error)}") from error


def _made(model: Model, relative: str, feed_forward: int, seed: int) -> Model:
    """The dense model; UnsupportedArchitecture if a weight outside the FFNs has no place in it, or is missing."""
    from transformers import AutoModelForCausalLM

    shape = _shape(model, relative, feed_forward)
    torch.manual_seed(seed)
    first = next(model.parameters())
    dense = cast(AutoModelForCausalLM.from_config(shape), first.dtype).to(first.device)
    if any("experts" in name and weight.dim() == 3 for name, weight in dense.named_parameters()):
        raise UnsupportedArchitecture(f"{type(dense).__name__} has experts in every block")
    given, own = model.state_dict(), dense.state_dict()
    left, new = ffn_prefixes(model), ffn_prefixes(dense)
    for here, there, those in ((given, own, left), (own, given, new)):
        for name, tensor in here.items():
            if not name.startswith(those) and (name not in there or there[name].shape != tensor.shape):
                has, lacks = (model, dense) if here is given else (dense, model)
                raise UnsupportedArchitecture(f"{type(has).__name__} has {name}, and {type(lacks).__name__} has not")
    shared = {name: tensor for name, tensor in given.items() if name in own and tensor.shape == own[name].shape}
    dense.load_state_dict(shared, strict=False)
    return dense


def _prove(twin: Model, dense: Model) -> None:
    """UnsupportedArchitecture unless both models, with FFNs of zeros, compute the same; changes both."""
    dense.to(next(twin.parameters()).dtype).eval()
    for model in (twin, dense):
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name.startswith(ffn_prefixes(model)):
                    tensor.zero_()
    tokens = some_tokens(twin, torch.Generator().manual_seed(0))
    if not alike(outputs(dense, tokens), outputs(twin, tokens)):
        raise UnsupportedArchitecture(
            f"with the same weights outside their FFNs, {type(twin).__name__} and {type(dense).__name__} differ"
        )


def ffn_prefixes(model: Model) -> tuple[str, ...]:
    """Prefixes of the names of all weights of FFNs, routers and experts."""
    path, inside = block_path(model), set()
    for name, weight in model.named_parameters():
        if weight.dim() == 3 and "experts" in name:
            inside.add(name.removeprefix(f"{path}.").split(".", 1)[1].rpartition(".experts")[0])
    with suppress(UnsupportedArchitecture):  # all FFNs are experts whose width has another field
        groups = find_axis(model, NEURONS).layouts[0]
        inside |= {group.name.removeprefix(f"{path}.").split(".", 1)[1] for group in groups}
    outermost = {name for name in inside if not any(name.startswith(f"{other}.") for other in inside)}
    return tuple(f"{path}.{index}.{name}." for index in range(len(decoder_layers(model))) for name in outermost)
