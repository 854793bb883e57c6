"""The keywords of predict, explain and search as types: of one question, and with several values to sweep over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = int | None | Sequence[int | None] | npt.NDArray[np.integer[Any]]
    Numbers = float | Sequence[float] | npt.NDArray[np.floating[Any]]
    Words = str | None | Sequence[str | None]


class DeploymentField(TypedDict, total=False):
    """Keywords of a deployment other than the chip; `Deployment` documents each."""

    chips: int | None
    tp: int | None
    pp: int | None
    ep: int | None
    dp: int | None
    redundant_experts: int | None
    prefill_chips: int | None
    prefill_tp: int | None
    prefill_pp: int | None
    prefill_ep: int | None
    prefill_dp: int | None
    prefill_redundant_experts: int | None
    prefill_instances: int | None
    topology: str | None
    precision: str | None
    kv_precision: str | None
    weights_in: str | None
    kv_in: str | None
    engine: str | None
    sampling: str
    overlap: str


class ServingField(DeploymentField, total=False):
    """Keywords of serving other than model, batch and lengths; `Scenario` documents each."""

    chunk: int | None
    batching_steps: float
    burst_share: float
    cohort: float
    cached_ratio: float
    isl_cv: float
    osl_cv: float
    draft: str | None
    draft_tokens: int
    acceptance: float
    acceptance_decay: float
    measured_acceptance: str | None
    max_ttft_s: float | None
    max_tpot_s: float | None
    min_tokens_per_s: float | None


class DeploymentFields(TypedDict, total=False):
    """The same keywords, each with one value or several to sweep over."""

    chips: Ints
    tp: Ints
    pp: Ints
    ep: Ints
    dp: Ints
    redundant_experts: Ints
    prefill_chips: Ints
    prefill_tp: Ints
    prefill_pp: Ints
    prefill_ep: Ints
    prefill_dp: Ints
    prefill_redundant_experts: Ints
    prefill_instances: Ints
    topology: Words
    precision: Words
    kv_precision: Words
    weights_in: Words
    kv_in: Words
    engine: Words
    sampling: Words
    overlap: Words


class ServingFields(DeploymentFields, total=False):
    """The same keywords, each with one value or several to sweep over."""

    chunk: Ints
    batching_steps: Numbers
    burst_share: Numbers
    cohort: Numbers
    cached_ratio: Numbers
    isl_cv: Numbers
    osl_cv: Numbers
    draft: Words
    draft_tokens: Ints
    acceptance: Numbers
    acceptance_decay: Numbers
    measured_acceptance: Words
    max_ttft_s: Numbers | None
    max_tpot_s: Numbers | None
    min_tokens_per_s: Numbers | None
