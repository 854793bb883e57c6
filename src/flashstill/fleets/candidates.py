"""The layouts worth simulating, the most promising first, each with step tables of its own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flashstill.arch import Architecture
from flashstill.errors import FlashstillError
from flashstill.facts import Facts
from flashstill.fleets.copies import Candidate
from flashstill.fleets.demand import Demand
from flashstill.fleets.search import TPOT_FLOOR, TTFT_FLOOR
from flashstill.fleets.slo import Bound, tightest
from flashstill.fleets.space import Choices, Kind
from flashstill.simulate.capacity import Mix, capacity
from flashstill.simulate.prepare import sizes_of
from flashstill.simulate.simulation import prepared

MOST, DEARER = 8, 2.0
"""layouts simulated for one question, and how many times as dear as the best they may look by the closed form"""


@dataclass(kw_only=True, slots=True)
class Candidates:
    """Layouts of all kinds; their tables are made when first asked for. proved: those that were the cheapest under
    some bounds, and are looked at under others whatever the closed form says."""

    facts: Facts
    model: Architecture
    choices: Choices
    demand: Demand
    mix: Mix
    kinds: Sequence[Kind]
    proved: list[tuple[int, int]] = field(default_factory=list)
    _made: dict[tuple[int, int], Candidate | None] = field(default_factory=dict)

    def ranked(self, bounds: Sequence[Bound], times: float, reasons: Counter[str]) -> list[Candidate]:
        """Those that look cheapest for so many times the demand, by whole replicas or by fractions of them."""
        ttft_s, tpot_s = (tightest(bounds, name) or math.inf for name in ("ttft", "tpot"))
        rows: list[tuple[float, float, tuple[int, int]]] = []
        for number, kind in enumerate(self.kinds):
            rates = kind.rates(tpot_s)
            late = kind.first_s > ttft_s
            reasons[TTFT_FLOOR] += int(np.count_nonzero(late))
            reasons[TPOT_FLOOR] += int(np.count_nonzero(~late & (rates <= 0.0)))
            for at in np.flatnonzero(~late & (rates > 0.0)):
                share = times * self.demand.rate / rates[at]
                price = float(kind.usd_per_hour[at])
                rows.append((math.ceil(share) * price, share * price, (number, int(at))))
        for reason in [reason for reason, count in reasons.items() if not count]:
            del reasons[reason]
        if not rows:
            return []
        whole = [key for cost, _, key in sorted(rows) if cost <= DEARER * min(rows)[0]]
        best = min(share for _, share, _ in rows)
        parts = [key for share, key in sorted((share, key) for _, share, key in rows) if share <= DEARER * best]
        usable = {key for *_, key in rows}
        before = [key for key in self.proved if key in usable]
        keys = dict.fromkeys([*before, *whole[: MOST - MOST // 4], *parts[: MOST // 4], *whole[:MOST]])
        made = (self.of(key, reasons) for key in list(keys)[:MOST])
        return [each for each in made if each is not None]

    def note_proved(self, candidate: Candidate) -> None:
        """Remember a layout that was the cheapest under some bounds."""
        number, at = candidate.key
        if (number, at) not in self.proved:
            self.proved.append((number, at))

    def others(self, bounds: Sequence[Bound], requests: int, seconds: float, dear: float) -> list[tuple[int, int]]:
        """All layouts that could serve so many requests in so many seconds for less than `dear` dollars per hour, the
        cheapest in fractions of replicas first, by the closed form."""
        ttft_s, tpot_s = (tightest(bounds, name) or math.inf for name in ("ttft", "tpot"))
        rows: list[tuple[float, tuple[int, int]]] = []
        for number, kind in enumerate(self.kinds):
            rates = kind.rates(tpot_s)
            for at in np.flatnonzero((kind.first_s <= ttft_s) & (rates > 0.0)):
                share, price = requests / seconds / rates[at], float(kind.usd_per_hour[at])
                if max(math.ceil(share - 1e-9), 1) * price < dear * (1.0 - 1e-9):
                    rows.append((share * price, (number, int(at))))
        return [key for _, key in sorted(rows)]

    def of(self, key: tuple[int, int], reasons: Counter[str]) -> Candidate | None:
        """The layout of a kind (its number, that of the layout) with its tables; None, with the reason counted."""
        if key not in self._made:
            kind = self.kinds[key[0]]
            try:
                fleet = prepared(
                    self.facts, self.model, kind.deployment_of(key[1]), self.choices.policy,
                    sizes_of(self.demand.requests), self.choices.price,
                )  # fmt: skip
                self._made[key] = Candidate(
                    key=key,
                    prepared=fleet,
                    capacity=capacity(fleet.tables, fleet.limits, self.mix).times(fleet.limits.ranks),
                    usd_per_hour=float(kind.usd_per_hour[key[1]]),
                )
            except FlashstillError as error:
                reasons[str(error)] += 1
                self._made[key] = None
        return self._made[key]
