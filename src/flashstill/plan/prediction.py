"""What a prediction answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

NOT_FITTING = "does not fit in memory"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The answer to a scenario on a deployment. Seconds, joules at the chips, dollars; None where it does not fit or
    cannot be read.

    tpot_s: None also where osl is 1: there is no token after the first.  usd_...: None where no price is known.
    note: what was assumed or done otherwise than asked, in words.  price_basis: where the dollars an hour are from.
    decode_...: a decode step by itself, at isl + osl/2 cached tokens and `running` sequences, as `explain` has it.
    kv_bytes_per_token: cache of one token of one sequence.  cache_room_bytes: left for cache beside weights and the
    engine's buffers, on all chips together.  sequences_fit: how many of the mean length fit in it.
    """

    fits: bool
    reason: str = ""
    ttft_s: float | None = None
    tpot_s: float | None = None
    tpot_low_s: float | None = None
    tpot_high_s: float | None = None
    output_tokens_per_s: float | None = None
    joules_per_output_token: float | None = None
    watts_per_chip: float | None = None
    usd_per_million_output_tokens: float | None = None
    bound: str | None = None
    note: str = ""
    usd_per_chip_hour: float | None = None
    price_basis: str = ""
    running: float | None = None
    decode_step_s: float | None = None
    decode_joules_per_token: float | None = None
    decode_usd_per_million_tokens: float | None = None
    kv_bytes_per_token: float | None = None
    cache_room_bytes: float | None = None
    sequences_fit: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Keys as in the columns of the files of cases."""
        return {name: getattr(self, name) for name in PREDICTION_FIELDS}

    @property
    def valid(self) -> bool:
        """Whether the question made sense: it fits, or it is known why it does not."""
        return self.fits or self.reason == NOT_FITTING


PREDICTION_FIELDS = tuple(field.name for field in fields(Prediction))


def sound(answer: Prediction) -> Prediction:
    """The answer, or a reason in its place where a number of it cannot be: NaN, infinite, below 0."""
    for name in PREDICTION_FIELDS:
        value = getattr(answer, name)
        if isinstance(value, float) and not 0.0 <= value < math.inf:
            return Prediction(fits=False, reason=f"the facts and the case lead to no {name} that can be ({value})")
    return answer
