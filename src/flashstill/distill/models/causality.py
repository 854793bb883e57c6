"""Check that a causal language model is one: that no logit depends on a later token.

Several encoders (BERT, RoBERTa, ...) have a class with a causal head that reads in both directions unless its
configuration says `is_decoder`.  Distilled or evaluated like this they would know the answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flashstill.arch.adapter.sizes import kind, value
from flashstill.errors import BadInput

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
IN_HALF = 0.02
UNMARKED = ("big_bird", "megatron-bert", "rembert", "roformer")
"""encoders whose modules do not say in which directions they read; the modules of others have an `is_causal`"""


def check_decoder(path: Path, model: Any) -> None:
    """BadInput if a model, which needs no memory for its weights, is an encoder that its configuration left one."""
    directions = {getattr(module, "is_causal", None) for module in model.modules()}
    is_encoder = kind(model.config) in UNMARKED or (False in directions and True not in directions)
    if is_encoder and value(model.config, "is_decoder") is False:
        raise BadInput(
            f"model {path}: a {kind(model.config)} reads in both directions, also the tokens that it shall predict,"
            ' unless its config.json says "is_decoder": true; give a model that was trained so'
        )


def check_causal(model: Any, tokens: Tensor) -> None:
    """BadInput if the logits of a model at the first half of token ids [1, L] change with the second half."""
    half = tokens.shape[1] // 2
    if not half:
        return
    tokens = tokens.to(model.device)
    changed = tokens.clone()
    changed[:, half:] = tokens[:, :half].roll(1, -1)[:, :1]  # ids that the model knows
    if torch.equal(tokens, changed):
        return
    with torch.inference_mode():
        plain, other = (model(input_ids=each, use_cache=False).logits[:, :half].float() for each in (tokens, changed))
    if not bool(torch.isfinite(plain).all()):
        return  # found and told of where it is used
    change = float((plain - other).abs().max()) / max(float(plain.abs().max()), 1e-9)
    if change > TOLERANCE.get(model.dtype, IN_HALF):
        raise BadInput(
            f"{type(model).__name__} is no causal language model: its logits change by {change:.2g} of the largest with"
            " tokens that come later"
        )
