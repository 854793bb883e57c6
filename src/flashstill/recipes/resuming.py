"""Which keys of a recipe may change when a run goes on in its directory: one table, `RULES`; all others are refused.

The rules hold for the recipes of students, families and studies: "train.micro_windows" is also that of a student in a
family, and of a format in a study.  A key that an older version did not know had its default.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashstill.errors import shown
from flashstill.recipes.ranges import BY_KIND
from flashstill.recipes.teachers import is_address

_MISSING = "none"
_OLD_BALANCE_RATE = 1e-3
"""what versions before 2026-11-29 wrote down as balance_rate of every student that gave none"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A key of a recipe (its path, as "students[0].train.tokens") with its recorded and its new value."""

    key: str
    was: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} was {_plain(self.was)} and is {_plain(self.now)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What follows from a change of a key. key: the last names of its path; why_not: why a change is refused, empty if
    it is not; alone: only in the recipe of a single student."""

    key: str
    follows: str
    why_not: Callable[[Change], str] = lambda change: ""
    alone: bool = False


_MODELS = re.compile(r"((students\[\d+\]\.)?teachers\[\d+\]|student|students\[\d+\]|teacher)\.model|teacher")
_CONFIGURATIONS = re.compile(r"(student|students\[\d+\])\.config")
"""keys of what a run is made from, of which it notes the fingerprints (runs/origins.py)"""


def has_moved(change: Change) -> bool:
    """Whether what a run is made from has another place now: a model's directory, or the configuration of a student
    from scratch. That it is the same one is for its fingerprint to say."""
    was, now = str(change.was), str(change.now)
    if not (change.was and change.now) or _MISSING in (was, now) or is_address(was):
        return False
    if _CONFIGURATIONS.fullmatch(change.key):
        return Path(now).is_file()
    return _MODELS.fullmatch(change.key) is not None and Path(now).exists()


STUDIED = ("teach", "learn", "policy")
"""the tables of a deep-think study that train"""
_PASSES = "the gradients are the same and are added up in another order, so that bits may differ from here on"

RULES = (
    *(Rule(key=f"{table}.micro_windows", follows=_PASSES) for table in ("train", *STUDIED)),
    *(
        Rule(key=f"{table}.checkpoint_every_steps", follows="nothing but more or fewer checkpoints")
        for table in ("train", *STUDIED)
    ),
    Rule(
        key="think.rows_at_a_time",
        follows="texts sampled from here on are the same but where rounding of logits decides between two tokens, so"
        " that bits may differ",
    ),
    Rule(
        key="train.tokens",
        follows="the schedule of the learning rate is that of the new total, from the step reached; the warm-up that is"
        " over is not repeated",
        why_not=lambda change: "" if change.now > change.was else "it may rise, not fall",
        alone=True,
    ),
    Rule(key="train.recompute", follows="the gradients are the same, in more time and less memory, or the other way"),
    Rule(key="train.device", follows="another device rounds sums in another way, so that bits may differ from here on"),
    Rule(
        key="balance_rate",
        follows="only new routers, of upcycled students, have biases that move by 0.001 a step; those of routers that"
        " came trained stay from here on",
        why_not=lambda change: "" if (change.was, change.now) == (_OLD_BALANCE_RATE, BY_KIND) else "another rate",
    ),
    Rule(key="log", follows="a new logger gets the metrics of all steps; one that is left out keeps what it has"),
    Rule(key="signals.dir", follows="signals that are not there are made again"),
    *(
        Rule(
            key=f"{table}.model",
            follows="the server of the same model is asked at its new address",
            why_not=lambda change: (
                "" if is_address(str(change.was)) and is_address(str(change.now)) else "another teacher"
            ),
        )
        for table in ("teachers", "teacher")
    ),
    *(
        Rule(
            key=key,
            follows="the same model, by its fingerprint, is read from its new place",
            why_not=lambda change: "" if has_moved(change) else "another model",
        )
        for key in (
            *("teachers.model", "teacher.model", "teacher"),
            *("student.model", "students.model", "student.config", "students.config"),
        )
    ),
    *(
        Rule(key=f"{table}.in_flight", follows="nothing but more or fewer requests at a time")
        for table in ("teachers", "teacher")
    ),
    *(
        Rule(key=f"{table}.time_limit_s", follows="nothing but other patience with a server")
        for table in ("teachers", "teacher")
    ),
    Rule(key="regime.rollouts.server", follows="the student's next texts are sampled there"),
    Rule(key="regime.rollouts.name", follows="the student's next texts are sampled there"),
    Rule(key="regime.rollouts.in_flight", follows="nothing but more or fewer requests at a time"),
    Rule(key="regime.rollouts.time_limit_s", follows="nothing but other patience with a server"),
)
"""Besides these, the numbers of processes (torchrun) and threads (OMP_NUM_THREADS) may change: bits may differ then."""


def changes_of(recorded: Any, recipe: Any) -> list[Change]:
    """The keys in which two recipes of one type differ."""
    was, now = dict(_leaves(dataclasses.asdict(recorded), "")), dict(_leaves(dataclasses.asdict(recipe), ""))
    return [
        Change(key=key, was=was.get(key, _MISSING), now=now.get(key, _MISSING))
        for key in {**was, **now}
        if was.get(key, _MISSING) != now.get(key, _MISSING)
    ]


def rule_of(change: Change, alone: bool) -> Rule | None:
    """The rule that allows a change, None if it is refused. alone: whether the recipe is that of a single student."""
    path = re.sub(r"\[\d+\]", "", change.key)
    for rule in RULES:
        named = path == rule.key or (path.endswith(f".{rule.key}") and not rule.alone)
        if named and (alone or not rule.alone) and not rule.why_not(change):
            return rule
    return None


def loop_keys() -> frozenset[str]:
    """The keys of [train] that may differ from those in a checkpoint."""
    return frozenset(rule.key.removeprefix("train.") for rule in RULES if rule.key.startswith("train."))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _leaves(entry, f"{path}.{name}" if path else name)
    elif isinstance(value, (tuple, list)) and any(isinstance(entry, Mapping) for entry in value):
        for place, entry in enumerate(value):
            yield from _leaves(entry, f"{path}[{place}]")
    else:
        yield path, list(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> str:
    if type(value) is float and value == BY_KIND:
        return "not given"
    return _MISSING if value is _MISSING else f"{value:,}" if type(value) is int else shown(value)
