"""Continue prompts token by token with continuous batching: new prompts replace finished rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from flashstill.arch.adapter.sizes import CONTEXT, stated_size
from flashstill.distill.generate.cached import CachedDecoder, Decoder, RereadingDecoder, cache_names
from flashstill.distill.generate.drawing import Sampling, choose
from flashstill.distill.generate.llama import LlamaDecoder, is_plain
from flashstill.distill.generate.rows import Rows, Samples
from flashstill.distill.losses import Workspace
from flashstill.distill.models import Model, parts
from flashstill.errors import BadInput
from flashstill.progress import Advance


def sample(
    model: Model,
    prompts: Sequence[Sequence[int] | np.ndarray],
    settings: Sampling,
    rows: Sequence[int] | None = None,
    advance: Advance | None = None,
    space: Workspace | None = None,
) -> Samples:
    """Sample a continuation of every prompt (token ids, of any lengths).

    rows: an id per prompt that determines its random draws; by default its index.  advance: called with the number of
    rows that finished.  space: buffers for the caches, to reuse between calls.
    Raises BadInput for an empty prompt, an unknown token id, or more positions than the model has.
    """
    prompt_ids = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
    longest = checked_prompts(model, prompt_ids, settings)
    if not prompt_ids:
        return Rows([], [], settings, torch.device("cpu")).samples
    with at_rest(model), torch.no_grad():
        decoder = decoder_of(model, longest, space or Workspace())
        table = Rows(
            prompt_ids, list(range(len(prompt_ids))) if rows is None else rows, settings, parts(model).head.device
        )
        while table.goes_on:
            table.fill(decoder)
            table.add(decoder, *choose(decoder.step(table.inputs), table.draws, settings), advance)
    return table.samples


def decoder_of(model: Model, longest: int, space: Workspace) -> Decoder:
    """The fastest decoder for `model` for rows of up to `longest` tokens."""
    if is_plain(model, longest):
        return LlamaDecoder(model, longest, space)
    return CachedDecoder(model) if cache_names(model) else RereadingDecoder(model)


@contextmanager
def at_rest(model: Model) -> Iterator[None]:
    """Put the model in eval mode within the context, then restore its previous mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def checked_prompts(model: Model, prompts: Sequence[np.ndarray], settings: Sampling) -> int:
    """Check the prompts and settings; returns the number of positions that the longest row needs."""
    known = parts(model).head.shape[0]
    if settings.vocabulary > known or any(not 0 <= each < known for each in settings.stop):
        raise BadInput(f"the model knows {known} tokens; stop ids and vocabulary must lie within them")
    for prompt in prompts:
        if not len(prompt):
            raise BadInput("a prompt is empty; at least one token is needed to continue")
        if prompt.min() < 0 or prompt.max() >= known:
            raise BadInput(f"a prompt holds token {prompt.max()}, but the model knows only {known}")
    longest = max((len(prompt) for prompt in prompts), default=0) + settings.new_tokens
    most = stated_size(model.config, CONTEXT)
    if most is not None and longest > most:
        raise BadInput(
            f"prompts of up to {longest - settings.new_tokens} tokens and {settings.new_tokens} new ones exceed the"
            f" model's {most} positions"
        )
    return longest
