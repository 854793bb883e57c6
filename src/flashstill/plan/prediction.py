"""The figures of a prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

NOT_FITTING = "does not fit in memory"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The answer to a scenario on a deployment. Seconds, joules at the chips, dollars; None if it does not fit or is
    invalid.

    tpot_s: None also if osl is 1: there is no token after the first.  usd_...: None if no price is known.
    note: assumptions and deviations from the request, in words.  price_basis: source of the dollars per hour.
    decode_...: a single decode step at isl + osl/2 cached tokens and `running` sequences, as in `explain`.
    kv_bytes_per_token: cache of one token of one sequence.  cache_room_bytes: memory left for cache beside weights and
    the engine's buffers, on all chips together.  sequences_fit: how many sequences of mean length fit in it.
    kv_transfer_s, prefill_busy_share: with a prefill pool, the seconds of a request's cache on its way to the decode
    pool, and the share of the time in which the prefill pool works; `running` are then the requests that decode.
    usd_per_million_output_tokens pays for everything; of its dollars, KIND_usd_per_million_tokens (cached, input,
    output) are what each kind of token causes (economics/token_kinds.py), None for a kind of which there are none.
    ..._low, ..._high: ends of the 80 % band.  band_basis: what had been measured of the case (plan/bands.py).
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
    cached_usd_per_million_tokens: float | None = None
    input_usd_per_million_tokens: float | None = None
    output_usd_per_million_tokens: float | None = None
    kv_bytes_per_token: float | None = None
    cache_room_bytes: float | None = None
    sequences_fit: float | None = None
    kv_transfer_s: float | None = None
    prefill_busy_share: float | None = None
    ttft_low_s: float | None = None
    ttft_high_s: float | None = None
    output_tokens_per_s_low: float | None = None
    output_tokens_per_s_high: float | None = None
    joules_per_output_token_low: float | None = None
    joules_per_output_token_high: float | None = None
    band_basis: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Keys as the columns of case files."""
        return {name: getattr(self, name) for name in PREDICTION_FIELDS}

    @property
    def valid(self) -> bool:
        """Whether the question is valid: it fits, or the reason why it does not fit is known."""
        return self.fits or self.reason == NOT_FITTING


PREDICTION_FIELDS = tuple(field.name for field in fields(Prediction))
ENDS = {
    "tpot_s": ("tpot_low_s", "tpot_high_s"),
    "ttft_s": ("ttft_low_s", "ttft_high_s"),
    "output_tokens_per_s": ("output_tokens_per_s_low", "output_tokens_per_s_high"),
    "joules_per_output_token": ("joules_per_output_token_low", "joules_per_output_token_high"),
}
"""figures with a band, and the fields with its ends"""
_FIGURES = tuple(
    field.name
    for field in fields(Prediction)
    if "float" in str(field.type) and "_low" not in field.name and "_high" not in field.name
)
_figures = attrgetter(*_FIGURES)


def sound(answer: Prediction) -> Prediction:
    """The prediction, or a reason in its place if a figure is NaN, infinite or negative."""
    for name, value in zip(_FIGURES, _figures(answer), strict=True):  # ends of bands are multiples of these
        if value is not None and not 0.0 <= value < math.inf:
            return Prediction(fits=False, reason=f"the facts and the case lead to no {name} that can be ({value})")
    return answer
