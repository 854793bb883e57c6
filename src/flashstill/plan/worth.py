"""What a draft is worth: the same deployment with speculative decoding and without it, by batch.

At small batches a step waits for the weights, and verifying a few more tokens costs almost nothing; as the batch grows,
the step becomes bound by arithmetic, and rejected drafts cost as much as accepted ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flashstill.errors import BadInput, FlashstillError, InfeasiblePlan
from flashstill.facts import Facts
from flashstill.plan.answer import Answer, answers
from flashstill.plan.case import Case
from flashstill.plan.resolve import resolve
from flashstill.tables import Displayed, Table, cell

COUNTS = (1, 2, 3, 4, 5)
"""numbers of drafted tokens that are tried where none are given"""
MOST_PREDICTIONS = 2000
"""batches times numbers of drafted tokens: some twenty seconds"""
PAYS = 1.001
"""ratio of tokens/s from which drafting counts as faster"""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorthRow:
    """One batch. chips: with the draft and without it; draft_tokens: the number of drafts at which it is fastest.

    drafted_...: with the draft; tokens_per_step: of a sequence, accepted drafts and one more; usd: None without price.
    """

    batch: int
    chips: int
    draft_tokens: int
    tokens_per_step: float
    tokens_per_s: float
    drafted_tokens_per_s: float
    speed_ratio: float
    tpot_s: float | None
    drafted_tpot_s: float | None
    joules_per_token: float | None
    drafted_joules_per_token: float | None
    usd_per_million_tokens: float | None
    drafted_usd_per_million_tokens: float | None
    bound: str | None
    drafted_bound: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftWorth(Displayed):
    """rows: by batch.  pays_up_to: the largest batch up to which drafting is faster at every batch; None if at none.

    left_out: batches with no answer, and why; note: of the measured acceptance, and of the prediction.
    """

    rows: tuple[WorthRow, ...]
    pays_up_to: int | None
    left_out: dict[int, str]
    note: str

    @property
    def verdict(self) -> str:
        """Where drafting pays, as a sentence."""
        batches = [row.batch for row in self.rows]
        if self.pays_up_to is None:
            return f"drafting is slower at batch {batches[0]:,} already"
        if self.pays_up_to == batches[-1]:
            return f"drafting is faster at every batch up to {batches[-1]:,}"
        after = batches[batches.index(self.pays_up_to) + 1]
        return f"drafting is faster up to batch {self.pays_up_to:,}, and no longer at {after:,}"

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per batch."""
        return [asdict(row) for row in self.rows]

    def as_dict(self) -> dict[str, Any]:
        """Rows and verdict as plain values."""
        left = {str(batch): why for batch, why in self.left_out.items()}
        return {
            "rows": self.as_records(), "pays_up_to": self.pays_up_to, "verdict": self.verdict, "left_out": left,
            "note": self.note,
        }  # fmt: skip

    def _table(self) -> Table:
        names = ("batch", "draft_tokens", "tokens_per_s", "drafted_tokens_per_s", "speed_ratio")
        return Table(names, [[cell(getattr(row, name)) for name in names] for row in self.rows], self.verdict)


def worth_by_batch(
    facts: Facts, case: Case, batches: Sequence[int], counts: Sequence[int] | None, price: str
) -> DraftWorth:
    """A case with its draft and without, at each batch; counts: drafted tokens to try (None: those that are measured).

    Raises BadInput if there is no draft, or for none of the batches an answer.
    """
    if case.scenario.draft is None:
        raise BadInput("say with draft what drafts")
    if not batches or any(batch < 1 for batch in batches):
        raise BadInput("give at least one batch, of at least 1")
    first = resolve(facts, case.but(draft_tokens=1, concurrency=batches[0]).scenario, case.deployment).setup.speculation
    assert first is not None
    most = len(first.measured) or COUNTS[-1]
    tried = tuple(count for count in COUNTS if count <= most) if counts is None else tuple(dict.fromkeys(counts))
    if len(set(batches)) * len(tried) > MOST_PREDICTIONS:
        raise BadInput(
            f"{len(set(batches)):,} batches x {len(tried):,} numbers of drafted tokens are"
            f" {len(set(batches)) * len(tried):,} predictions; give fewer, up to {MOST_PREDICTIONS:,}"
        )
    rows: list[WorthRow] = []
    reasons: Counter[str] = Counter()
    left_out: dict[int, str] = {}
    note = ""
    for batch in dict.fromkeys(sorted(batches)):
        cases = [case.but(concurrency=batch, draft=None)]
        cases += [case.but(concurrency=batch, draft_tokens=count) for count in tried]
        plain, *drafted = answers(facts, _on_as_many_chips(facts, cases, price), price)
        usable = [(count, each) for count, each in zip(tried, drafted, strict=True) if isinstance(each, Answer)]
        if not isinstance(plain, Answer) or not usable:
            why = plain if isinstance(plain, FlashstillError) else drafted[0]
            left_out[batch] = str(why)
            reasons.update((isinstance(why, InfeasiblePlan) and why.reasons) or {str(why): 1})
            if not isinstance(plain, InfeasiblePlan) and isinstance(plain, FlashstillError):
                raise plain
            if isinstance(drafted[0], BadInput):
                raise drafted[0]
            continue
        count, best = max(usable, key=lambda pair: _rate(pair[1]))
        setup = resolve(facts, case.but(concurrency=batch, draft_tokens=count).scenario, case.deployment).setup
        assert setup.speculation is not None
        rows.append(_row(batch, count, setup.speculation.tokens_per_step, plain, best))
        note = best.note
    if not rows:
        raise InfeasiblePlan(next(iter(left_out.values())), dict(reasons))
    return DraftWorth(rows=tuple(rows), pays_up_to=_pays(rows), left_out=left_out, note=note)


def _on_as_many_chips(facts: Facts, cases: list[Case], price: str) -> list[Case]:
    """The cases on as many chips as the one that needs most, if their number is open: a draft needs memory too."""
    if not cases[0].deployment.follows_the_load:
        return cases
    found = [each.deployment.chips or 1 for each in answers(facts, cases, price) if isinstance(each, Answer)]
    return [each.but(chips=max(found)) for each in cases] if len(set(found)) > 1 else cases


def _row(batch: int, count: int, tokens_per_step: float, plain: Answer, best: Answer) -> WorthRow:
    rate, drafted_rate = _rate(plain), _rate(best)
    return WorthRow(
        batch=batch, chips=plain.deployment.chips or 1, draft_tokens=count, tokens_per_step=tokens_per_step,
        tokens_per_s=rate,
        drafted_tokens_per_s=drafted_rate, speed_ratio=drafted_rate / rate, tpot_s=plain.tpot_s,
        drafted_tpot_s=best.tpot_s, joules_per_token=plain.joules_per_output_token,
        drafted_joules_per_token=best.joules_per_output_token,
        usd_per_million_tokens=plain.usd_per_million_output_tokens,
        drafted_usd_per_million_tokens=best.usd_per_million_output_tokens, bound=plain.bound, drafted_bound=best.bound,
    )  # fmt: skip


def _rate(answer: Answer) -> float:
    assert answer.output_tokens_per_s is not None, "an answer that fits has a rate"
    return answer.output_tokens_per_s


def _pays(rows: Sequence[WorthRow]) -> int | None:
    last = None
    for row in rows:
        if row.speed_ratio < PAYS:
            break
        last = row.batch
    return last
