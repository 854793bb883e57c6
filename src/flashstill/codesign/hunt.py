"""The cheapest design, found by pricing designs in the order of their lower bounds until no bound is below the best.

    bound(d) <= cost(d) for every design d: once the least bound left is not below the best cost, no design is better.

Costs of one design in several futures are a vector; what is minimised may be any function of it that never falls when
one of them rises: one of them, a mean, the largest regret (regret.py).  Prices are kept: the futures share them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flashstill.codesign.block_facts import BlockFacts
from flashstill.codesign.design_columns import Designs, Places, designs_at, merged
from flashstill.codesign.design_prices import Asks, Figures, PriceQuestion, prices_of
from flashstill.codesign.designs import DesignSpace, Values
from flashstill.codesign.loads import DesignLoad
from flashstill.codesign.screened import Screened, Wanted
from flashstill.economics.tco import Terms
from flashstill.facts import Facts

Combined = Callable[[Sequence[Values]], Values]
_FIRST, _MOST = 32, 1024
"""designs priced in the first round, and in one round at the most"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hunt:
    """A screened space, and the prices found so far.

    costs: by load the designs that were priced, in their order, and their costs by (objective and volume, design).
    """

    facts: Facts
    space: DesignSpace
    loads: tuple[DesignLoad, ...]
    wanted: tuple[Wanted, ...]
    terms: Terms
    screened: Screened
    costs: dict[int, tuple[Places, Values]] = field(default_factory=dict)

    def cost(self, future: int, designs: Places) -> Values:
        """Full cost of designs in a future; infinite where nothing keeps the bounds."""
        one = self.wanted[future]
        total = np.zeros(len(designs))
        for load, part in one.loads:
            total += part * self._priced(load, one, designs)
        return total

    def _priced(self, load: int, one: Wanted, designs: Places) -> Values:
        asks = tuple(dict.fromkeys((other.objective, other.volume) for other in self.wanted))
        known, prices = self.costs.get(load, (np.zeros(0, dtype=np.intp), np.zeros((len(asks), 0))))
        missing = np.setdiff1d(designs, known)
        if len(missing):
            added, found = [known], [prices]
            for places, answers in self.answers(load, missing, asks):
                added.append(places)
                found.append(
                    np.array([answer[objective] for (objective, _), answer in zip(asks, answers, strict=True)])
                )
            known = np.concatenate(added)
            order = np.argsort(known)
            known, prices = known[order], np.concatenate(found, axis=1)[:, order]
            self.costs[load] = known, prices
        mine: Values = prices[asks.index((one.objective, one.volume)), np.searchsorted(known, designs)]
        return mine

    def answers(self, load: int, designs: Places, asks: Asks) -> list[tuple[Places, tuple[Figures, ...]]]:
        """Prices of designs on a load, by groups of designs that one call can price."""
        groups: dict[object, list[tuple[Places, Designs]]] = {}
        for places, found in self.by_block(designs):
            block = found.block
            groups.setdefault((block.on_sram, block.node_nm, block.narrowest), []).append((places, found))
        answers = []
        for group in groups.values():
            question = PriceQuestion(
                facts=self.facts,
                space=self.space,
                block_facts=self.block_facts_of(group[0][1]),
                load=self.loads[load],
                terms=self.terms,
                asks=asks,
            )
            prices = prices_of(question, merged([found for _, found in group]))
            answers.append((np.concatenate([places for places, _ in group]), prices))
        return answers

    def block_facts_of(self, designs: Designs) -> BlockFacts:
        """The block_facts of the block of designs."""
        return next(block_facts for block_facts in self.screened.facts_of_blocks if block_facts.block == designs.block)

    def by_block(self, designs: Places) -> list[tuple[Places, Designs]]:
        """Designs by block, with their silicon."""
        groups: list[tuple[Places, Designs]] = []
        blocks = self._block(designs)
        for block in np.unique(blocks):
            mine, block_facts = designs[blocks == block], self.screened.facts_of_blocks[block]
            groups.append((mine, designs_at(block_facts, self.space, mine - block_facts.block.first)))
        return groups

    def _block(self, designs: npt.ArrayLike) -> Places:
        firsts = [block_facts.block.first for block_facts in self.screened.facts_of_blocks]
        return np.searchsorted(firsts, np.asarray(designs), side="right") - 1

    @property
    def priced(self) -> int:
        """Designs that were priced in full in some future."""
        known = [designs for designs, _ in self.costs.values()]
        return len(np.unique(np.concatenate(known))) if known else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The best design, its cost, and the designs that were priced on the way. design: -1 if none is feasible.

    left, bound: designs that were not priced though they might cost less, and their least lower bound.
    """

    design: int
    cost: float
    tried: Places
    left: int = 0
    bound: float = np.inf


def least(hunt: Hunt, futures: Sequence[int], combined: Combined | None = None, most: float = np.inf) -> Found:
    """The design with the least combined cost. combined: of the costs in these futures; None for the only one.

    most: designs after which the best so far is returned, with what its bound leaves open.
    """
    together: Combined = combined or (lambda costs: costs[0])
    bound = together([hunt.screened.bounds[future] for future in futures])
    best, cost, tried = -1, np.inf, []
    open_ = np.flatnonzero(np.isfinite(bound))
    size = _FIRST
    spent = 0
    while len(open_) and (best < 0 or spent < most):
        if len(open_) > size:
            parted = np.argpartition(bound[open_], size - 1)
            some, left = open_[parted[:size]], open_[parted[size:]]
        else:
            some, left = open_, open_[:0]
        some = np.sort(some)
        full = together([hunt.cost(future, some) for future in futures])
        tried.append(some)
        spent += len(some)
        place = int(np.argmin(full))
        if full[place] < cost or (full[place] == cost and some[place] < best):
            best, cost = int(some[place]), float(full[place])
        open_ = left[bound[left] < cost]
        size = min(2 * size, _MOST)
    return Found(
        design=best, cost=cost, tried=np.concatenate(tried) if tried else open_, left=len(open_),
        bound=float(bound[open_].min(initial=np.inf)),
    )  # fmt: skip
