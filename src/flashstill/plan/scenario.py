"""The question: a model, its load, and bounds that an answer must keep.

serving   `batch` requests in flight, of `isl` prompt tokens and `osl` output tokens each
a step    one decode step of `batch` sequences that each have `context` tokens cached
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost import Speculation
from flashstill.cost.lengths import decoding_tokens, long_request_tokens
from flashstill.errors import BadInput, check_counts, shortened

MOST_BATCH = 10**9
"""most requests in flight, of a search as well"""
IN_FLIGHT = "the number of requests in flight"
"""what messages call the field that is batch from Python and --concurrency of a command"""
MOST_SPREAD = 3.0
"""largest coefficient of variation of lengths: beyond, a few requests are nearly all tokens"""
TTFT_ABOVE, TPOT_ABOVE, RATE_BELOW = "ttft above the bound", "tpot above the bound", "throughput below the bound"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """Model, load and bounds of a question about a deployment.

    model: a known name, the path of a config.json or a model directory, or a model as `load_architecture` returns it.
    isl, osl: tokens of a prompt and of its answer.  batch: requests in flight (the concurrency of a server).
    context: cached tokens per sequence, to price a single decode step; isl and osl are then ignored.
    chunk: most prompt tokens per prefill pass; None: whole prompts.
    batching_steps: decode steps for which a request waits before its prefill, so that prompts are prefilled together
    (half of SGLang's scheduler_recv_interval; TensorRT-LLM's batch_wait_timeout_iters).
    burst_share: the part of all requests that arrives at once: 0.1 as load generators measure that send ten times
    the concurrency, all of the first at t = 0; 0 for a steady state.
    cohort: prompts that are prefilled together or one right after the other, at the least: 1 where lengths vary;
    answers of equal length end, and so are followed, closely: about 2, or 3 where steps are scheduled ahead.
    isl_cv, osl_cv: how both lengths vary: standard deviation over mean (isl and osl are means): 0 for equal ones, 0.58
    for uniform ones from 0 on, 1 for exponential ones.
    cached_ratio: share of every prompt that is found in a prefix cache in the chips' memory: not computed again.
    draft: a model that drafts `draft_tokens` ahead, or "heads" of the model's own ("new-heads": not yet trained),
    each token accepted with probability `acceptance`, times `acceptance_decay` for each position after the first.
    measured_acceptance: in place of both, rates by position ("0.6,0.5,0.4"), or a file of records, FILE or FILE@T for
    one temperature; None takes acceptance.jsonl from the draft's directory if there is one, "none" ignores it.
    max_ttft_s, max_tpot_s: bounds in seconds; min_tokens_per_s: output of the whole deployment; None: no bound.
    """

    model: str | Architecture
    isl: int = 1024
    osl: int = 1024
    batch: int = 16
    context: int | None = None
    chunk: int | None = None
    batching_steps: float = 0.0
    burst_share: float = 0.1
    cohort: float = 1.0
    cached_ratio: float = 0.0
    isl_cv: float = 0.0
    osl_cv: float = 0.0
    draft: str | None = None
    draft_tokens: int = 3
    acceptance: float = 0.7
    acceptance_decay: float = 1.0
    measured_acceptance: str | None = None
    max_ttft_s: float | None = None
    max_tpot_s: float | None = None
    min_tokens_per_s: float | None = None

    @property
    def model_name(self) -> str:
        """The name of the model."""
        return self.model if isinstance(self.model, str) else self.model.name

    @property
    def cached_tokens(self) -> int:
        """Tokens of a prompt that are found in a cache: at least one is computed."""
        return min(round(self.isl * self.cached_ratio), self.isl - 1)

    @property
    def mean_tokens(self) -> float:
        """Mean cached tokens of a sequence while it decodes."""
        if self.context is not None:
            return float(self.context)
        return float(decoding_tokens(self.isl, self.osl, self.osl_cv))

    def longest_tokens(self, model: Architecture) -> float:
        """Cached tokens of a sequence at its full length, of a long one where lengths vary."""
        if self.context is not None:
            return float(self.context)
        return float(long_request_tokens(self.isl, self.osl, self.isl_cv, self.osl_cv, model.context))

    def occupancy(self, model: Architecture, speculation: Speculation | None = None) -> Occupancy:
        """The sequences that a deployment must hold in memory for this scenario."""
        return Occupancy(float(self.batch), self.mean_tokens, self.longest_tokens(model), speculation)


class Occupancy(NamedTuple):
    """Sequences of a mean length that a deployment must hold; one of the longest length must also fit."""

    sequences: float
    mean_tokens: float
    longest_tokens: float
    speculation: Speculation | None = None


def check_scenario(scenario: Scenario, model: Architecture) -> None:
    """Raise BadInput for an invalid load, or one beyond the model's maximum context."""
    if scenario.batch > MOST_BATCH:
        raise BadInput(
            f"{shortened(str(scenario.batch))} requests in flight are too many; ask for {MOST_BATCH:,} or fewer"
        )
    if scenario.context is not None:
        if scenario.batch < 1 or scenario.context < 0:
            raise BadInput(
                f"batch must be at least 1 and context at least 0, not {scenario.batch} and {scenario.context}"
            )
        if scenario.context > model.context:
            raise BadInput(
                f"a context of {scenario.context} is beyond the {model.context} tokens that {model.name} was made for"
            )
        return
    check_counts(
        {
            "isl": scenario.isl,
            "osl": scenario.osl,
            IN_FLIGHT: scenario.batch,
            "chunk": scenario.chunk,
        }
    )
    if not 0.0 <= scenario.burst_share <= 1.0:
        raise BadInput(f"burst_share must lie between 0 and 1, not {scenario.burst_share}")
    if not 0.0 <= scenario.cached_ratio <= 1.0:
        raise BadInput(f"cached_ratio must lie between 0 and 1, not {scenario.cached_ratio}")
    check_spread({"isl": (scenario.isl, scenario.isl_cv), "osl": (scenario.osl, scenario.osl_cv)})
    if not 1.0 <= scenario.cohort <= 1e6:
        raise BadInput(f"cohort must lie between 1 and a million, not {scenario.cohort}")
    if not 0.0 <= scenario.batching_steps <= 1e6:
        raise BadInput(f"batching_steps must lie between 0 and a million, not {scenario.batching_steps}")
    if scenario.isl + scenario.osl > model.context:
        raise BadInput(
            f"isl + osl = {scenario.isl + scenario.osl} is beyond the {model.context} tokens that {model.name} was"
            " made for"
        )


def check_spread(lengths: Mapping[str, tuple[int, float]]) -> None:
    """Raise BadInput for a coefficient of variation that lengths of such a mean cannot have. lengths: by field."""
    for name, (mean, varied) in lengths.items():
        if not 0.0 <= varied <= MOST_SPREAD:
            raise BadInput(f"{name}_cv must lie between 0 and {MOST_SPREAD:g}, not {varied}")
        if varied and mean == 1:
            raise BadInput(f"{name} is 1, below which no length is, so that none varies; leave {name}_cv out")


def check_bounds(scenario: Scenario) -> None:
    """Raise BadInput for a bound that is not positive, or a tpot bound with a single output token."""
    for name in ("max_ttft_s", "max_tpot_s", "min_tokens_per_s"):
        bound = getattr(scenario, name)
        if bound is not None and not bound > 0:
            raise BadInput(f"the bound {name} must be above 0, not {bound}")
    if scenario.max_tpot_s is not None and scenario.osl == 1:
        raise BadInput(
            "one output token has no time per token after the first; leave the bound on it out, or raise osl"
        )


def broken_bounds(scenario: Scenario, ttft_s: Any, tpot_s: Any, tokens_per_s: Any) -> dict[str, Any]:
    """Whether each bound that is set is violated, by reason; values are numbers or arrays."""
    broken: dict[str, Any] = {}
    if scenario.max_ttft_s is not None:
        broken[TTFT_ABOVE] = np.asarray(ttft_s) > scenario.max_ttft_s
    if scenario.max_tpot_s is not None:
        broken[TPOT_ABOVE] = np.asarray(tpot_s) > scenario.max_tpot_s
    if scenario.min_tokens_per_s is not None:
        broken[RATE_BELOW] = np.asarray(tokens_per_s) < scenario.min_tokens_per_s
    return broken
