"""How a replica schedules and how requests reach replicas."""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.errors import BadInput, check_counts, unknown
from flashstill.simulate.state import ROUTERS

CHUNKED, PREFILL_FIRST = "chunked", "prefill-first"
SCHEDULERS = (CHUNKED, PREFILL_FIRST)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Settings of every replica, and the router before them.

    scheduler: "chunked": prompts share steps with decoding, within the budget (Sarathi-Serve); "prefill-first": prompts
    come first, while decoding waits.  step_tokens: most tokens of a step; sequences: most running at a time;
    block_tokens: of a cache block.  None takes what the engine does.  replicas: copies of the deployment.  router:
    round-robin, least-requests, two-choices (the better of two drawn at random), least-tokens, or central (all wait
    in one line until a replica can admit them).
    max_ttft_s, max_tpot_s: bounds that a request keeps to count for goodput.
    """

    scheduler: str | None = None
    step_tokens: int | None = None
    sequences: int | None = None
    block_tokens: int | None = None
    replicas: int = 1
    router: str = ROUTERS[1]
    max_ttft_s: float | None = None
    max_tpot_s: float | None = None

    def __post_init__(self) -> None:
        if self.scheduler is not None and self.scheduler not in SCHEDULERS:
            raise BadInput(unknown("scheduler", self.scheduler, SCHEDULERS))
        if self.router not in ROUTERS:
            raise BadInput(unknown("router", self.router, ROUTERS))
        check_counts(
            {
                "step_tokens": self.step_tokens,
                "sequences": self.sequences,
                "block_tokens": self.block_tokens,
                "replicas": self.replicas,
            }
        )
        for name in ("max_ttft_s", "max_tpot_s"):
            bound = getattr(self, name)
            if bound is not None and not bound > 0:
                raise BadInput(f"the bound {name} must be above 0, not {bound}")
