"""What elasticities and pools of chips are asked about: a model and its load, and chips stacked by their structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.codesign.subjects import Entry, Subject
from flashstill.cost import Conditions, Load, Speculation
from flashstill.cost.stacks import stacked_alike
from flashstill.plan.scenario import Scenario
from flashstill.plan.tables import Candidates

Places = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Model, load and bounds; the configurations tried are every layout with every batch of `chosen`.

    stacks: stacks of conditions that were made before, for models in the same formats.
    """

    model: Architecture
    scenario: Scenario
    chosen: Candidates
    speculation: Speculation | None = None
    stacks: dict[Any, Any] = field(default_factory=dict)

    def load_at(self, batch: Any) -> Load:
        """The load at a number of requests in flight."""
        asked = self.scenario
        return Load(
            isl=float(asked.isl), osl=float(asked.osl), concurrency=batch, batching_steps=asked.batching_steps,
            burst_share=asked.burst_share, cohort=asked.cohort, cached=float(asked.cached_tokens),
            isl_cv=asked.isl_cv, osl_cv=asked.osl_cv,
        )  # fmt: skip

    @property
    def is_bound(self) -> bool:
        """Whether the question has bounds, which only a price can tell to be kept."""
        asked = self.scenario
        return any(bound is not None for bound in (asked.max_ttft_s, asked.max_tpot_s, asked.min_tokens_per_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class StackedEntries:
    """A question with the entries of its subjects, stacked by structure.

    group, place: of each entry, the stack that has it, and where.
    """

    question: Question
    subjects: Sequence[Subject]
    entries: Sequence[Entry]
    stacks: tuple[Conditions, ...]
    group: Places
    place: Places


def stack_entries(question: Question, subjects: Sequence[Subject], entries: Sequence[Entry]) -> StackedEntries:
    """The entries stacked; the same stacks again for a question about another model in the same formats."""
    keys = tuple(entry.key for entry in entries)
    known = all(key is not None for key in keys)
    made = question.stacks.get(keys) if known else None
    if made is None:
        group, place = np.zeros(len(entries), np.intp), np.zeros(len(entries), np.intp)
        stacks: list[Conditions] = []
        for places, conditions in stacked_alike([entry.conditions for entry in entries], len(entries) or 1):
            group[places], place[places] = len(stacks), np.arange(len(places))
            stacks.append(conditions)
        made = {"stacks": tuple(stacks), "group": group, "place": place}
        if known:
            question.stacks[keys] = made
    return StackedEntries(question=question, subjects=subjects, entries=entries, **made)
