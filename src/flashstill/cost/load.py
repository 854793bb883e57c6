"""The load of a server: lengths, requests in flight, and what it makes of the passes that prefill prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flashstill.cost.conditions import Conditions
from flashstill.cost.lengths import attended_tokens, decoding_tokens, long_request_tokens
from flashstill.hardware import Software
from flashstill.parallel import Layout
from flashstill.workload import Chunks, Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Token lengths, requests in flight, and the most prompt tokens per prefill pass (None: whole prompts).

    batching_steps: decode steps for which a request waits before its prefill, so that prompts are prefilled together.
    burst_share: the part of all requests that arrives together; 0 in a steady state.
    cohort: prompts that are prefilled together or one right after the other, at the least; above 1 where equal lengths
    keep requests in step, or an engine gathers prompts.
    cached: tokens of each prompt that are found in a prefix cache: they take room and are attended to, not computed.
    isl_cv, osl_cv: coefficients of variation of both lengths, whose means isl and osl are; 0: equal lengths.
    """

    isl: Quantity
    osl: Quantity
    concurrency: Quantity
    chunk: int | None = None
    batching_steps: Quantity = 0.0
    burst_share: Quantity = 0.0
    cohort: Quantity = 1.0
    cached: Quantity = 0.0
    isl_cv: Quantity = 0.0
    osl_cv: Quantity = 0.0

    @property
    def context(self) -> Quantity:
        """Mean cached tokens of a sequence while it decodes."""
        return decoding_tokens(self.isl, self.osl, self.osl_cv)

    def longest(self, context: Quantity) -> Quantity:
        """Tokens of a request at its full length, of a long one where lengths vary; at most a model's context."""
        return long_request_tokens(self.isl, self.osl, self.isl_cv, self.osl_cv, context)

    @property
    def spread(self) -> Quantity:
        """Tokens before those of a prompt that are computed, for the spread of lengths."""
        return attended_tokens(self.computed, self.isl_cv)

    @property
    def past(self) -> Quantity:
        """The same with those found in a cache, a share of every prompt: longer ones find more, and compute more."""
        return self.cached * (1.0 + self.isl_cv**2) + self.spread

    @property
    def computed(self) -> Quantity:
        """Tokens of a prompt that are prefilled."""
        return self.isl - self.cached


def pieces_of(load: Load) -> Quantity:
    """Number of chunks in which a prompt is prefilled."""
    pieces: Quantity = 1.0 if load.chunk is None else np.ceil(load.computed / load.chunk)
    return pieces


def chunks_of(load: Load, prompts: Quantity) -> Chunks:
    """The chunks of `prompts` prompts in one step: one each, with the average number of tokens before it."""
    length = load.computed / pieces_of(load)
    return Chunks(count=prompts, length=length, past=load.past + (load.computed - length) / 2.0)


def prompts_together(conditions: Conditions, load: Load, local: Quantity) -> Quantity:
    """Prompts per prefill pass of one tensor-parallel group: those that arrive in a step, within the token budget."""
    most = prompts_of_a_pass(conditions, load)
    least = np.minimum(np.minimum(np.maximum(local, 1.0), load.cohort), most)
    prompts: Quantity = np.minimum(np.maximum(local / load.osl, least), most)
    return prompts


def prompts_of_a_pass(conditions: Conditions, load: Load) -> Quantity:
    """Most prompts that the engine prefills in one pass."""
    most: Quantity = np.maximum(conditions.software.prefill_tokens / load.computed, 1.0)
    return most


def cohort_passes(load: Load, local: Quantity, prompts: Quantity) -> Quantity:
    """Passes, of `prompts` prompts each, that prefill a request's cohort; at least its own.

    Requests of equal length follow one another: a new one comes while the prompt before it is prefilled, and where
    steps are scheduled ahead another goes before it.  Those of a burst wait in its queue instead.
    """
    followed = np.maximum(np.minimum(np.maximum(local, 1.0), load.cohort) / prompts, 1.0)
    passes: Quantity = load.burst_share + (1.0 - load.burst_share) * followed
    return passes


def other_requests(layout: Layout, batch: Quantity) -> Quantity:
    """Requests that share the engine of a replica with one of `batch` requests on the whole layout."""
    others: Quantity = np.maximum(np.minimum(layout.local_batch(batch) * layout.pp, batch) - 1.0, 0.0)
    return others


def delaying_prompts(conditions: Conditions, load: Load, layout: Layout, batch: Quantity) -> Quantity:
    """Prompts of others for which a request waits while it decodes: those that did not come before it in a burst.

    Each stage of a pipeline does its part of a prefill at once, and decodes meanwhile in the others.
    """
    later = conditions.software.interference_ratio * other_requests(layout, batch) * (1.0 - load.burst_share / 2.0)
    waits: Quantity = later / layout.pp
    return waits


class Passes(NamedTuple):
    """Prefill passes of others for each decode step. joined: in the step; delaying: by themselves beside it, over the
    chunks of a prompt; queued: those for which there is no time, likewise; mixed: share of passes that join a step."""

    joined: Quantity
    delaying: Quantity
    queued: Quantity
    mixed: Quantity


def passes_of(software: Software, layout: Layout, prefills: Quantity, pieces: Quantity, steps: Quantity) -> Passes:
    """How an engine runs `prefills` passes for each of `steps` decode steps.

    Beside decoding an engine that mixes runs one pass a step, at the cost of `interference`; other prompts wait.
    In a pipeline `joined` is the share of the longer step that a token waits for.
    """
    beside = np.minimum(prefills, software.interference_ratio) * software.mixed_ratio
    joined = np.minimum(beside, software.mixed_ratio)
    together = np.minimum(prefills, 1.0) * software.mixed_ratio
    return Passes(
        joined=_share_behind(layout, joined, pieces),
        delaying=(beside + (1.0 - software.mixed_ratio) * prefills - joined) / pieces,
        queued=(software.mixed_ratio * prefills - beside) / pieces,
        mixed=np.where((prefills > 0) & (steps > 0), together / np.maximum(prefills, 1e-30), 0.0),
    )


def _share_behind(layout: Layout, passes: Quantity, pieces: Quantity) -> Quantity:
    """Share of tokens that come behind a pass with prompts all the way through a pipeline, as they cannot overtake it.

    passes: for each step of a stage, at most 1; in the time of a token all pp stages' sequences step once.  Prompts
    come at random; the chunks of one follow each other, so that its `pieces` passes take pieces + pp - 1 stages.
    """
    later = (layout.pp - 1.0) / pieces
    share: Quantity = passes * (1.0 + later) / (1.0 + passes * later)
    return share


def prefill_share(layout: Layout, pieces: Quantity) -> Quantity:
    """Seconds of a prompt's own prefill over those of its pieces one by one: in a pipeline they follow each other."""
    share: Quantity = (pieces + layout.pp - 1.0) / (pieces * layout.pp)
    return share


def delay_seconds(
    software: Software, layout: Layout, passes: Passes, pieces: Quantity, pass_s: Quantity, step_s: Quantity
) -> Quantity:
    """Seconds that passes beside decode steps add to each of them; pass_s of all pieces of one, step_s of a step.

    A stage is busy for its parts of all of them.  In a pipeline a token also waits for one of them through all stages.
    With one stage this is never the longer of both.
    """
    alone = np.minimum((1.0 - software.mixed_ratio) * passes.delaying * pieces, 1.0)
    through: Quantity = _share_behind(layout, alone, pieces) * (pass_s / pieces - step_s)
    delay: Quantity = np.maximum(passes.delaying * pass_s, through)
    return delay


def prefilling_stages(layout: Layout, batch: Quantity) -> Quantity:
    """Stages of all replicas that work on prompts at the same time: those that have requests."""
    stages: Quantity = np.minimum(batch, layout.dp) * np.minimum(np.maximum(batch / layout.dp, 1.0), layout.pp)
    return stages
