"""The language model inside a vision-language (or audio) checkpoint, as a causal language model of its own.

The whole model is loaded first, so that each of its tensors is checked.  Its language model has the tensors of a causal
class of transformers: that of its text configuration, or, where that has none (Qwen3-VL), of a relative (Qwen3) with
the same tensors.  Proven by running both on a text: their logits are equal.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.arch.adapter.edit import UNSCALED, text_fields
from flashstill.arch.adapter.sizes import kind
from flashstill.distill.models.rebuild import on_meta, with_tensors
from flashstill.errors import BadInput, UnsupportedArchitecture, first_line

PROBE_TOKENS = 12
MOST_RELATIVES, LEAST_SHARED = 24, 4
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
IN_HALF = 0.02


def is_multimodal(config: Any) -> bool:
    """Whether a transformers configuration has a text part beside others."""
    return config.get_text_config() is not config and len(getattr(config, "sub_configs", {})) > 1


def auto_class(config: Any) -> Any:
    """The transformers auto class that builds models of this configuration; BadInput if none does."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM

    order: tuple[Any, ...] = (AutoModelForImageTextToText, AutoModelForMultimodalLM) if is_multimodal(config) else ()
    for auto in (*order, AutoModelForCausalLM):
        if type(config) in auto._model_mapping:
            return auto
    raise BadInput(f"transformers has no causal language model of model_type {kind(config)}")


def text_model(whole: Any) -> tuple[Any, list[str]]:
    """The language model of a loaded multimodal model, with copies of its weights, and the names of all other tensors.

    UnsupportedArchitecture if no causal class of transformers is the same function of a text.
    """
    tried = []
    for kind_of_model, config in _candidates(whole.config):
        try:
            wanted = on_meta(kind_of_model, config)
        except BadInput:
            continue
        tensors = _matching(whole, wanted)
        if tensors is None:
            continue
        model = with_tensors(
            kind_of_model, config, {name: tensor for name, (_, tensor) in tensors.items()}, whole.dtype
        )
        tried += [kind_of_model.__name__] if kind_of_model.__name__ not in tried else []
        if _same_logits(whole, model):
            model.generation_config = whole.generation_config
            used = {source for source, _ in tensors.values()}
            return model, [name for name in whole.state_dict() if name not in used]
    found = f"; {', '.join(tried)} have its tensors, but other logits" if tried else ""
    raise UnsupportedArchitecture(f"the text part of a {kind(whole.config)} is no causal model of transformers{found}")


def check_text_part(whole: Any) -> None:
    """UnsupportedArchitecture if no causal class of transformers has the tensors of a multimodal model's text part; the
    model needs no memory for its weights."""
    for kind_of_model, config in _candidates(whole.config):
        with contextlib.suppress(BadInput):
            if _matching(whole, on_meta(kind_of_model, config)) is not None:
                return
    raise UnsupportedArchitecture(f"the text part of a {kind(whole.config)} is no causal model of transformers")


def _candidates(config: Any) -> Iterator[tuple[type[Any], Any]]:
    """Causal classes and configurations that may be the text part: its own, then those with similar names."""
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    fields, own = text_fields(config), str(kind(config.get_text_config()))
    names = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, key=lambda name: (-_shared(name, own), len(name)))
    for name in [own, *(each for each in names if each != own)][: MOST_RELATIVES + 1]:
        if name not in CONFIG_MAPPING or (name != own and _shared(name, own) < LEAST_SHARED):
            continue
        kind_of_config = CONFIG_MAPPING[name]
        if kind_of_config not in MODEL_FOR_CAUSAL_LM_MAPPING:
            continue
        candidate = _read(kind_of_config, fields)
        kinds = MODEL_FOR_CAUSAL_LM_MAPPING[kind_of_config]
        of_text = kinds[0] if isinstance(kinds, tuple) else kinds
        if candidate is None or is_multimodal(candidate):
            continue
        yield of_text, candidate
        # what the text part always does can be a switch of its relative: norm_topk_prob of Qwen3-VL-MoE
        switches = {each: on for each, on in candidate.to_dict().items() if isinstance(on, bool) and each not in fields}
        unscaled = (
            [UNSCALED] if any(each in fields for each in UNSCALED) else []
        )  # the whole may not scale (Aya Vision)
        changes = itertools.chain(unscaled, ({each: not on} for each, on in switches.items()))
        turned = (_read(kind_of_config, {**fields, **each}) for each in changes)
        yield from ((of_text, each) for each in turned if each is not None)


def _read(kind_of_config: Any, fields: Mapping[str, Any]) -> Any:
    """The configuration of these fields; None if its class refuses them."""
    try:
        return kind_of_config.from_dict(fields)
    except Exception:  # transformers raises many kinds for fields that do not fit together
        return None


def _shared(name: str, other: str) -> int:
    """Length of the beginning that two names share."""
    return next((i for i, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), min(len(name), len(other)))


def _matching(whole: Any, wanted: Any) -> dict[str, tuple[str, Tensor]] | None:
    """Name in the whole model and tensor for each tensor of the text model; None if no part of the model has them."""
    found = _part_like(whole, wanted.state_dict())
    if found is not None:
        return found
    prefix = str(wanted.base_model_prefix)
    body = getattr(wanted, prefix, None)
    head: Any = whole.get_output_embeddings() if hasattr(whole, "get_output_embeddings") else None
    found = _part_like(whole, body.state_dict()) if isinstance(body, nn.Module) else None
    if found is None:
        return None
    tensors = {f"{prefix}.{name}": pair for name, pair in found.items()}
    names = {id(module): name for name, module in whole.named_modules()}
    own_head = {id(module): name for name, module in wanted.named_modules()}.get(id(wanted.get_output_embeddings()))
    for name, tensor in head.state_dict().items() if isinstance(head, nn.Module) and own_head else ():
        tensors[f"{own_head}.{name}"] = (f"{names[id(head)]}.{name}", tensor)
    return tensors


def _part_like(whole: nn.Module, wanted: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]] | None:
    """A module of the model with tensors of exactly these names and shapes."""
    shapes = {name: tensor.shape for name, tensor in wanted.items()}
    for path, module in whole.named_modules():
        own = module.state_dict()
        if len(own) == len(shapes) and {name: tensor.shape for name, tensor in own.items()} == shapes:
            return {name: (f"{path}.{name}" if path else name, tensor) for name, tensor in own.items()}
    return None


@torch.no_grad()
def _same_logits(whole: Any, model: Any) -> bool:
    rows = model.get_input_embeddings().weight.shape[0]
    special = _special_ids(whole.config.to_dict())
    usual = torch.tensor([token for token in range(min(rows, 4096)) if token not in special])
    generator = torch.Generator().manual_seed(0)
    tokens = usual[torch.randint(0, len(usual), (1, PROBE_TOKENS), generator=generator)].to(whole.device)
    try:
        expected: Tensor = whole.eval()(input_ids=tokens, use_cache=False).logits.float()
    except Exception as error:  # transformers raises many kinds where an image is missing
        raise UnsupportedArchitecture(
            f"a {kind(whole.config)} does not run on text alone ({first_line(error)}); give the directory of its"
            " language model"
        ) from error
    found: Tensor = model.to(whole.device)(input_ids=tokens, use_cache=False).logits.float()
    if expected.shape != found.shape:
        return False
    change = float((expected - found).abs().max()) / max(float(expected.abs().max()), 1e-9)
    return change <= TOLERANCE.get(whole.dtype, IN_HALF)


def _special_ids(value: Any, name: str = "") -> set[int]:
    """Token ids that stand for images, sounds and the like: those under names with "token"."""
    if isinstance(value, dict):
        return set().union(*(_special_ids(inner, str(key)) for key, inner in value.items()))
    if isinstance(value, list):
        return set().union(*(_special_ids(inner, name) for inner in value)) if "token" in name else set()
    return {value} if type(value) is int and "token" in name else set()
