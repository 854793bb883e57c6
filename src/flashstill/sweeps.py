"""Sweeps: one prediction for every combination of the given values, with the results as a table.

A list, tuple, range or one-dimensional array is an axis of the sweep; the last axis varies fastest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from flashstill.calls import plain_value
from flashstill.errors import BadInput, FlashstillError, InfeasiblePlan, MissingFact, UnsupportedArchitecture, unknown
from flashstill.tables import Displayed, Table, records_table


class Answered(Protocol):
    """A result that can be converted to rows and plain values."""

    def as_records(self) -> list[dict[str, Any]]:
        """Flat rows: the inputs and the resulting figures."""

    def as_dict(self) -> dict[str, Any]:
        """The inputs and the resulting figures as nested plain values."""


A = TypeVar("A", bound=Answered)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A combination without an answer, and the reason."""

    question: Mapping[str, Any]
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """The inputs and the reason."""
        return {"question": dict(self.question), "fits": False, "reason": self.reason}

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row."""
        return [{**self.question, "fits": False, "reason": self.reason}]


@dataclass(frozen=True, slots=True)
class Sweep(Displayed, Sequence[A], Generic[A]):
    """The results of a sweep, in order. Iterating yields the answers; `refused` has the combinations without one."""

    outcomes: tuple[A | Refusal, ...]
    columns_shown: tuple[str, ...] = ()

    @property
    def answers(self) -> tuple[A, ...]:
        """The answers, without the refusals."""
        return tuple(outcome for outcome in self.outcomes if not isinstance(outcome, Refusal))

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """The combinations without an answer: they do not fit into memory or are invalid."""
        return tuple(outcome for outcome in self.outcomes if isinstance(outcome, Refusal))

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[A]:
        return iter(self.answers)

    def __getitem__(self, index: Any) -> Any:
        """The answer at an index, the answers of a slice, or the column of a name."""
        return self.column(index) if isinstance(index, str) else self.answers[index]

    def where(self, **values: Any) -> Sweep[A]:
        """The part of a sweep in whose rows these columns have these values, as where(chip="l4"). BadInput for a name
        that is no column."""
        kept = []
        for outcome in self.outcomes:
            record = outcome.as_records()[0]
            for name in values:
                if name not in record and not isinstance(outcome, Refusal):
                    raise BadInput(unknown("column", name, record))
            if all(record.get(name) == value for name, value in values.items()):
                kept.append(outcome)
        return Sweep(tuple(kept), self.columns_shown)

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per combination, for pandas.DataFrame or polars.DataFrame; `fits` is False for refusals."""
        return [record for outcome in self.outcomes for record in outcome.as_records()]

    def as_dict(self) -> dict[str, Any]:
        """All answers and refusals as nested plain values."""
        return {"outcomes": [outcome.as_dict() for outcome in self.outcomes]}

    def column(self, name: str) -> list[Any]:
        """One column, from the rows with an answer; BadInput if no row has that column."""
        records = [record for answer in self.answers for record in answer.as_records()]
        if records and not any(name in record for record in records):
            raise BadInput(unknown("column", name, records[0]))
        return [record.get(name) for record in records]

    def _table(self) -> Table:
        records = self.as_records()
        return records_table(records, self.columns_shown, f"{len(records)} rows")


def is_axis(value: Any) -> bool:
    """Whether a value is an axis of a sweep: a list, tuple, range or one-dimensional array."""
    return isinstance(value, list | tuple | range) or getattr(value, "ndim", 0) == 1


def combinations(values: Mapping[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """Every combination of the values, and whether any value is an axis. BadInput for an empty axis."""
    axes: list[list[Any]] = []
    for name, value in values.items():
        entries = [plain_value(entry) for entry in value] if is_axis(value) else [plain_value(value)]
        if not entries:
            raise BadInput(f"{name} is empty; give at least one value")
        axes.append(entries)
    swept = any(is_axis(value) for value in values.values())
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*axes)], swept


def outcomes_of(
    question: Callable[[int], Mapping[str, Any]], answers: Iterable[A | FlashstillError], swept: bool
) -> tuple[A | Refusal, ...]:
    """Answers, with a `Refusal` in place of each error. An error is raised if this is not a sweep, if it is a
    MissingFact or UnsupportedArchitecture, or if no combination has an answer.  question: of the answer at a place."""
    outcomes: list[A | Refusal] = []
    errors: list[FlashstillError] = []
    for place, answer in enumerate(answers):
        if isinstance(answer, FlashstillError):
            if not swept or isinstance(answer, MissingFact | UnsupportedArchitecture):
                raise answer
            errors.append(answer)
            outcomes.append(Refusal(question=question(place), reason=str(answer)))
        else:
            outcomes.append(answer)
    if len(errors) == len(outcomes):
        raise next((error for error in errors if not isinstance(error, InfeasiblePlan)), errors[0])
    return tuple(outcomes)


def several(values: Any) -> tuple[Any, ...]:
    """One value or several as a tuple."""
    return tuple(values) if is_axis(values) else (values,)
