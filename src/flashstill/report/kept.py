"""Typed readers of the files of a finished run; BadInput names what a page needs and is missing.

provenance.json, family.toml, records.jsonl    of a family
summary.json, study.toml                       of a study
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from flashstill.checked import Amount, Number, between, built, json_object, sized, toml_tree
from flashstill.errors import BadInput

Seed = Annotated[int, between(0, 2**63)]
PARTS = ("teacher_best_of", "teacher_majority_of", "student_greedy", "student_best_of")


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Provenance of a family's run."""

    teacher_fingerprint: str
    tokenizer_fingerprint: str
    corpus: str
    machine: str
    begun: str
    versions: dict[str, str]
    command: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heading:
    """The keys of a recipe that the page's heading shows."""

    name: str
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A measure or share over the seeds; None if nothing was measured. bar: the claimed minimum."""

    value: Number | None
    low: Number | None
    high: Number | None
    values: tuple[Number | None, ...]
    bar: Number | None = None
    holds: bool | None = None

    def problems(self) -> Iterator[str]:
        """Errors: fields that must be present together."""
        if (self.low is None) != (self.high is None) or (self.value is None and self.low is not None):
            yield "has half an interval, or one around nothing"
        if (self.bar is None) != (self.holds is None):
            yield "has a bar without a verdict, or a verdict without a bar"


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The summary of a study."""

    figures: Annotated[dict[str, Figure], sized(1, 10_000)]
    seeds: Annotated[tuple[Seed, ...], sized(1, 10_000)]
    seconds: Amount
    details: dict[str, Any]
    resumed: tuple[Seed, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class HardHalf:
    """Accuracy on the harder half of the problems."""

    value: Number


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Accuracy of a model, and tokens per answer."""

    value: Number
    se: Amount
    tokens: Amount
    hard_half: HardHalf


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """Dollars per token; None if the chip has no price."""

    teacher: Amount | None
    student: Amount | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Thought:
    """The results of one seed of a deep-think study: quality against tokens."""

    student: str
    usd_per_token: Price
    teacher_greedy: Answers
    teacher_best_of: dict[str, Answers]
    teacher_majority_of: dict[str, Answers]
    student_greedy: dict[str, Answers]
    student_best_of: dict[str, Answers]


def provenance(path: Path) -> dict[str, Any]:
    """Read provenance.json; checks the required keys."""
    content = json_object(path)
    built(Provenance, content, str(path), open_end=True)
    return {"command": "", **content}


def recipe_text(path: Path) -> str:
    """The text of a family.toml or study.toml, which has a name and a seed."""
    built(Heading, toml_tree(path), str(path), open_end=True)
    return path.read_text(encoding="utf-8")


def summary(path: Path) -> dict[str, Any]:
    """Read summary.json of a study; checks everything that its page shows."""
    content = json_object(path)
    details = content.get("details")
    if not isinstance(details, dict):
        raise BadInput(f"{path}: the key 'details' is missing or no table")
    typed = built(Summary, {**content, "details": {}}, str(path), open_end=True)
    for name, figure in typed.figures.items():
        for problem in figure.problems():
            raise BadInput(f"{path}: figures.{name} {problem}")
    if is_thought(details):
        seeds = {seed: built(Thought, each, f"{path}: details.{seed}", open_end=True) for seed, each in details.items()}
        first = next(iter(seeds.values()))
        for seed, each in seeds.items():
            if each.student != first.student or any(
                set(getattr(each, name)) != set(getattr(first, name)) for name in PARTS
            ):
                raise BadInput(f"{path}: details.{seed} has other models or attempts than the first seed")
    return content


def is_thought(details: Mapping[str, Any]) -> bool:
    """Whether every seed has results of quality against tokens, as in deep-think studies."""
    return bool(details) and all(isinstance(each, dict) and "teacher_best_of" in each for each in details.values())
