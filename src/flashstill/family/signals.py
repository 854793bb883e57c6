"""What a student pays for its teacher's signals.

    online    the teacher reads every trained token: a third of the chip-hours of training it on that token
    cached    it reads the text once (tokens / passes), for all students that learn from the same text; its logits are
              stored while the student trains.  The text of a student with less is a part of that of one with more
    text      it writes the text (tokens / passes) at the price of serving it
    none      labels alone

Reading a cache is shared by tokens among the students that read it, storage by what each keeps; a text is written for
each student that learns from one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.family.spec import Member
from flashstill.family.training import FORWARD_SHARE, Rate, Run
from flashstill.units import DAYS_PER_YEAR, TOKENS_PER_MILLION

DAYS_PER_MONTH = DAYS_PER_YEAR / 12.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Signals:
    """Dollars of a student's signals: the teacher's reading or writing, and storage."""

    kind: str
    teacher_usd: float
    storage_usd: float
    teacher_flops: float

    @property
    def usd(self) -> float:
        """Both."""
        return self.teacher_usd + self.storage_usd


def signals_of(
    facts: Facts,
    students: Sequence[tuple[Member, Run]],
    teacher: Rate | None,
    teacher_read_flops: float,
    teacher_usd_per_million: float | None,
) -> list[Signals]:
    """Signals of all students, with their runs. teacher: the rate of training it; its served price writes text.

    Raises BadInput for a student that needs a teacher whose price is not known.
    """
    lengths = [_texts(member, run) for member, run in students]
    cached = [length for (member, _), length in zip(students, lengths, strict=True) if member.signal == "cached"]
    read_once = max(cached, default=0.0)
    return [
        _of_one(facts, member, run, length, read_once / sum(cached) if cached else 1.0, teacher, teacher_read_flops,
                teacher_usd_per_million)
        for (member, run), length in zip(students, lengths, strict=True)
    ]  # fmt: skip


def _texts(member: Member, run: Run) -> float:
    """Tokens of the text that a student reads `passes` times."""
    return run.tokens / member.passes


def _of_one(
    facts: Facts, member: Member, run: Run, text: float, shared: float, teacher: Rate | None, read_flops: float,
    written_usd: float | None,
) -> Signals:  # fmt: skip
    if member.signal == "none":
        return Signals(kind="none", teacher_usd=0.0, storage_usd=0.0, teacher_flops=0.0)
    if member.signal == "text":
        if written_usd is None:
            raise BadInput(
                f'students with signal = "text" need the price of the teacher\'s tokens: give'
                f" teacher.usd_per_million_tokens, or a deployment that serves it ({member.name or member.model})"
            )
        dollars = text * written_usd / TOKENS_PER_MILLION
        return Signals(kind="text", teacher_usd=dollars, storage_usd=0.0, teacher_flops=read_flops * text)
    if teacher is None:
        raise BadInput("training.chip is missing: the teacher reads the students' text on some chip")
    tokens = text * shared if member.signal == "cached" else run.tokens
    kept = text if member.signal == "cached" else 0.0
    months = run.days / DAYS_PER_MONTH
    per_byte = facts.value("storage", "month_usd_per_byte") * facts.value("signals", "token_bytes")
    return Signals(
        kind=member.signal,
        teacher_usd=tokens * teacher.usd * FORWARD_SHARE,
        storage_usd=kept * per_byte * months,
        teacher_flops=read_flops * tokens,
    )
