"""How a replica schedules and how requests reach replicas."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from flashstill.errors import BadInput, check_counts, unknown
from flashstill.simulate.state import PREFIX_ROUTER, ROUTERS
from flashstill.simulate.view import Scheduler, name_of

CHUNKED, PREFILL_FIRST, DECODE_PRIORITY, SLO_AWARE = "chunked", "prefill-first", "decode-priority", "slo-aware"
LRU, OFF = "lru", "off"
RECOMPUTE, SWAP = "recompute", "swap"
SCHEDULERS = (CHUNKED, PREFILL_FIRST, DECODE_PRIORITY, SLO_AWARE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Settings of every replica, and the router before them.

    scheduler: a function of the user (view.py), or one of
      chunked: prompts share steps with decoding, within the budget of tokens (Sarathi-Serve, Agrawal et al. 2024)
      prefill-first: prompts come first, while decoding waits (Orca and vLLM's first scheduler)
      decode-priority: no prompt starts before all but `refill_sequences` of the running sequences are done; then the
      replica is filled again (FasterTransformer's batches; the term is that of Agrawal et al., section 3.1)
      slo-aware: as chunked; requests that can no longer keep max_ttft_s go behind those that can, or away with
      refuse_late, and prompts get only what keeps a step within max_tpot_s (bounds.py)
    step_tokens: most tokens of a step, in a pipeline of each batch that goes round; sequences: most running at a time;
    block_tokens: of a cache block.  None takes what the engine does.  cache_blocks: of a replica's cache, as an engine
    was told; None: as many as the memory holds.  replicas: copies of the deployment;
    prefill_replicas: prefill instances of all copies, by default as many for each as the deployment says; prefill_chip:
    their chip, if it is another one (the layout of an instance is that of the deployment's prefill_ fields on it).
    router: round-robin, least-requests, two-choices (the better of two drawn at random), least-tokens, central (all
    wait in one line until a replica can admit them), or prefix (the replica with the longest cached prefix, unless it
    has more than prefix_margin requests more than the one with the fewest, which then gets the request; None: as
    SGLang's cache-aware router, a fact row).
    prefix_cache: lru (blocks that requests name are kept until their memory is needed) or off; None: lru where they
    name any, as engines do.
    preemption: recompute (the cache of a preempted sequence is computed again) or swap (it goes to the memory of the
    host and comes back).
    max_ttft_s, max_tpot_s: bounds that a request keeps to count for goodput.
    draft, draft_tokens, acceptance, acceptance_decay, measured_acceptance: speculative decoding, as in a `Scenario`.
    """

    scheduler: str | Scheduler | None = None
    refill_sequences: int = 0
    refuse_late: bool = False
    step_tokens: int | None = None
    sequences: int | None = None
    block_tokens: int | None = None
    cache_blocks: int | None = None
    replicas: int = 1
    prefill_replicas: int | None = None
    prefill_chip: str | None = None
    router: str = ROUTERS[1]
    prefix_cache: str | None = None
    prefix_margin: int | None = None
    preemption: str = RECOMPUTE
    max_ttft_s: float | None = None
    max_tpot_s: float | None = None
    draft: str | None = None
    draft_tokens: int = 3
    acceptance: float = 0.7
    acceptance_decay: float = 1.0
    measured_acceptance: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.scheduler, str):
            if self.scheduler not in SCHEDULERS:
                raise BadInput(unknown("scheduler", self.scheduler, SCHEDULERS))
        elif self.scheduler is not None and not callable(self.scheduler):
            raise BadInput(f"a scheduler is a name or a function, not {self.scheduler!r}")
        if self.router not in ROUTERS:
            raise BadInput(unknown("router", self.router, ROUTERS))
        if self.prefix_cache not in (None, LRU, OFF):
            raise BadInput(unknown("prefix_cache", self.prefix_cache, (LRU, OFF)))
        if self.preemption not in (RECOMPUTE, SWAP):
            raise BadInput(unknown("preemption", self.preemption, (RECOMPUTE, SWAP)))
        if self.prefix_margin is not None and self.prefix_margin < 0:
            raise BadInput(f"prefix_margin must be at least 0, not {self.prefix_margin}")
        if self.prefix_margin is not None and self.router != PREFIX_ROUTER:
            raise BadInput(f"prefix_margin is of the router {PREFIX_ROUTER}")
        check_counts(
            {
                "step_tokens": self.step_tokens,
                "sequences": self.sequences,
                "block_tokens": self.block_tokens,
                "cache_blocks": self.cache_blocks,
                "replicas": self.replicas,
                "prefill_replicas": self.prefill_replicas,
            }
        )
        for name in ("max_ttft_s", "max_tpot_s"):
            bound = getattr(self, name)
            if bound is not None and not bound > 0:
                raise BadInput(f"the bound {name} must be above 0, not {bound}")
        if self.refill_sequences < 0:
            raise BadInput(f"refill_sequences must be at least 0, not {self.refill_sequences}")
        if self.refill_sequences and self.scheduler != DECODE_PRIORITY:
            raise BadInput(f"refill_sequences is of the scheduler {DECODE_PRIORITY}")
        if self.scheduler == SLO_AWARE and self.max_ttft_s is None and self.max_tpot_s is None:
            raise BadInput(f"the scheduler {SLO_AWARE} needs a bound to keep: max_ttft_s, max_tpot_s or both")
        for name in ("draft_tokens", "acceptance", "acceptance_decay", "measured_acceptance"):
            if self.draft is None and getattr(self, name) != self.__dataclass_fields__[name].default:
                raise BadInput(f"{name} is of speculative decoding; say with draft what drafts")
        if self.refuse_late and (self.scheduler != SLO_AWARE or self.max_ttft_s is None):
            raise BadInput(f"refuse_late is of the scheduler {SLO_AWARE} with max_ttft_s")

    @property
    def function(self) -> Scheduler | None:
        """The user's function, if that is what schedules."""
        return None if self.scheduler is None or isinstance(self.scheduler, str) else self.scheduler

    def as_dict(self) -> dict[str, Any]:
        """As plain values; a function by its name, file and line."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | ({} if self.function is None else {"scheduler": name_of(self.function)})
