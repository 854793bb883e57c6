"""What a prediction is asked and what it answers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from flashstill.errors import BadInput, unknown
from flashstill.hardware import BYTES_PER_VALUE
from flashstill.hardware.software import ENGINES

GREEDY = "greedy"
AS_PUBLISHED = "published"
SAMPLINGS = (GREEDY, "top-p")
PRECISION_NAMES = {"mxfp4": "fp4", "nvfp4": "fp4", "fp8_block": "fp8-block", "fp16": "bf16", "bfloat16": "bf16"}
NOT_FITTING = "does not fit in memory"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What may be said of a deployment beside model and chip. None takes the default, the same for every command.

    chips: all of them; the fewest that hold what is asked for.  tp: as far as the heads divide.  pp: what tp leaves.
    ep: all chips of a stage where dp is above 1.  topology: edges of a torus, as "4x4x8".
    precision: as the checkpoint stores it.  kv_precision: as goes with it.
    weights_in, kv_in: names of memory tiers; the chip's main one.
    engine: vllm, or none where no engine serves the class of chip.
    sampling: the likeliest token each time, or drawn by top-k and top-p.
    """

    chips: int | None = None
    tp: int | None = None
    pp: int | None = None
    ep: int | None = None
    dp: int | None = None
    topology: str | None = None
    precision: str | None = None
    kv_precision: str | None = None
    weights_in: str | None = None
    kv_in: str | None = None
    engine: str | None = None
    sampling: str = GREEDY

    def __post_init__(self) -> None:
        """Words are taken in any case."""
        for name in ("precision", "kv_precision", "weights_in", "kv_in", "engine", "sampling"):
            word = getattr(self, name)
            if word is not None and not word.islower():
                object.__setattr__(self, name, word.lower())


@dataclass(frozen=True, kw_only=True, slots=True)
class Case(Choices):
    """What is asked: a model on chips in a layout, under a load.

    chunk: most prompt tokens of one pass; a prompt at once.  draft: a model that drafts `draft_tokens` ahead, or
    "heads" of the model's own ("new-heads": still to be trained), each token accepted with rate `acceptance`.
    """

    model: str
    chip: str
    isl: int = 1024
    osl: int = 1024
    concurrency: int = 16
    chunk: int | None = None
    draft: str | None = None
    draft_tokens: int = 3
    acceptance: float = 0.7


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The answer to a case. Seconds, joules at the chips, dollars; None where it does not fit or cannot be read.

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

    def as_json(self) -> dict[str, Any]:
        """Keys as in the case files' columns."""
        return asdict(self)

    @property
    def valid(self) -> bool:
        """Whether the question made sense: it fits, or it is known why it does not."""
        return self.fits or self.reason == NOT_FITTING


def sound(answer: Prediction) -> Prediction:
    """The answer, or a reason in its place where a number of it cannot be: NaN, infinite, below 0."""
    for name in PREDICTION_FIELDS:
        value = getattr(answer, name)
        if isinstance(value, float) and not 0.0 <= value < math.inf:
            return Prediction(fits=False, reason=f"the facts and the case lead to no {name} that can be ({value})")
    return answer


CASE_FIELDS = tuple(field.name for field in fields(Case))
LOAD_FIELDS = ("isl", "osl", "concurrency")
"""what may differ between cases of one model on one machine"""
PREDICTION_FIELDS = tuple(field.name for field in fields(Prediction))


def known_engine(name: str) -> str:
    """The engine, or BadInput with the nearest ones."""
    if name.lower() not in ENGINES:
        raise BadInput(unknown("engine", name, ENGINES))
    return name.lower()


def known_precision(name: str) -> str:
    """The format that a name stands for; BadInput with the nearest ones."""
    found = PRECISION_NAMES.get(name.lower(), name.lower())
    if found not in BYTES_PER_VALUE:
        raise BadInput(unknown("precision", name, [*BYTES_PER_VALUE, *PRECISION_NAMES]))
    return found
