"""Segments of a run: where it was resumed under other conditions, so that its bits may differ from one never stopped.

A checkpoint belongs to a run with the same key.  Some conditions may change in between: threads, processes, windows a
pass, and the total of tokens, which may rise.  Each change begins a segment, recorded in checkpoints and in
segments.jsonl beside the metrics.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.errors import BadInput

FILE = "segments.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """from_step: steps that were finished when it began; steps: total planned then; tokens: of which so many targets.

    micro_windows: windows of a pass as asked for; processes, threads: that shared the work.
    """

    from_step: int
    steps: int
    tokens: int
    micro_windows: int
    processes: int
    threads: int

    def changes_to(self, later: Segment) -> list[str]:
        """What changed from this segment to a later one, as words; empty if nothing did."""
        was, now = dataclasses.asdict(self), dataclasses.asdict(later)
        names = [name for name in was if name not in ("from_step", "steps") and was[name] != now[name]]
        return [f"{name} {now[name]:,} (was {was[name]:,})" for name in names]


def continued(segments: Sequence[Segment], now: Segment) -> list[Segment]:
    """The segments of a run that goes on under the conditions `now`.

    Raises BadInput if the run has more steps behind it than it may have.
    """
    if now.from_step > now.steps:
        raise BadInput(f"{now.from_step} steps are finished, more than the {now.steps} of train.tokens {now.tokens:,}")
    if segments and not segments[-1].changes_to(now):
        return list(segments)
    return [*(each for each in segments if each.from_step < now.from_step), now]


def as_rows(segments: Sequence[Segment]) -> list[dict[str, int]]:
    """As plain values, for JSON."""
    return [dataclasses.asdict(segment) for segment in segments]


def from_record(record: Mapping[str, Any], window_length: int) -> list[Segment]:
    """The segments in a checkpoint's record; before 2026-11-29 there was one, described by its key.

    window_length: targets of a window.
    """
    if "segments" in record:
        return [Segment(**row) for row in record["segments"]]
    key = record["key"]
    recipe = key["recipe"]
    steps = max(1, recipe["tokens"] // (recipe["windows_per_step"] * window_length))
    return [
        Segment(
            from_step=0, steps=steps, tokens=recipe["tokens"], micro_windows=recipe["micro_windows"],
            processes=record["processes"], threads=key.get("threads", 0),
        )
    ]  # fmt: skip


def differences(own: Mapping[str, Any], theirs: Mapping[str, Any], may_change: Collection[str]) -> list[str]:
    """The entries in which the keys of two runs differ, with both values; those of the recipe field by field.

    may_change: fields of the recipe that may differ.  A field that an older version did not have is taken as it is now.
    """
    own, theirs = json.loads(json.dumps(own)), json.loads(json.dumps(theirs))
    found = []
    for name in {**own, **theirs}:
        if name == "threads":  # in keys of before 2026-11-29
            continue
        ours, other = own.get(name), theirs.get(name)
        if name == "sampling" and isinstance(other, dict):  # texts at a time: in keys of before 2026-11-30
            other.pop("batch", None)
        if name == "recipe" and isinstance(ours, dict) and isinstance(other, dict):
            fields = [each for each in {**other, **ours} if each not in may_change and each in other]
            differ = [
                f"{each} was {other[each]}, is {ours.get(each)}" for each in fields if other[each] != ours.get(each)
            ]
            found += [f"recipe ({', '.join(differ)})"] if differ else []
        elif ours != other:
            found.append(
                name if isinstance(ours, (dict, list)) or len(str(ours)) > 40 else f"{name} (was {other}, is {ours})"
            )
    return found
