"""The configurations among which the best ones are: of each layout the smallest batch, and the largest that fits.

A step takes longer with more sequences, so that the fewest seconds per token are those of the smallest batch that
fills every group, on as few stages of a pipeline as fit; and it takes less than in proportion longer, so that dollars
and joules per token fall up to the largest batch that fits.  Where that costs at most CONTENDS times the least of all,
the next smaller batch is priced as well, and where it is cheaper (requests that wait for memory, power limits), further
ones down to the first that costs more.  With bounds, which only a price can tell to be kept, every batch is priced.
The result is that of a search of all configurations, which is tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.codesign.questions import Places, StackedEntries
from flashstill.codesign.row_prices import Prices
from flashstill.codesign.rows import OBJECTIVES, Rows, Values, price, rooms_of
from flashstill.plan.feasible import impossible

FEW = 2_000
"""layouts of all entries up to which their second largest batches are priced at once, in the same call"""
CONTENDS = 1.25
"""cost of a layout's largest batch, over the least of all, up to which smaller batches are looked at"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Priced configurations of every entry. subject: of each row."""

    stacked: StackedEntries
    rows: Rows
    prices: Prices
    subject: Places

    def of(self, subject: int) -> Places:
        """The rows of a subject."""
        return np.flatnonzero(self.subject == subject)

    def best(self, mine: Places, objective: int) -> tuple[float, int]:
        """The least cost of the rows `mine`, and its row; infinite and -1 if none is feasible."""
        if not len(mine):
            return float("inf"), -1
        costs = np.where(self.prices.feasible[mine], self.prices.bare[objective, mine], np.inf)
        at = int(np.argmin(costs))
        return float(costs[at]), int(mine[at]) if np.isfinite(costs[at]) else -1


def pool_of(stacked: StackedEntries, reasons: Sequence[Counter[str]], step: float = 0.0) -> Pool:
    """The configurations that can be the best of any objective, priced; `reasons` counts all that are refused.

    step: relative change of a number for which configurations are wanted that it could make feasible.
    """
    chosen = stacked.question.chosen
    batches = chosen.batches[0]
    rooms = rooms_of(stacked)
    larger = rooms_of(stacked, step) if step else rooms
    least = np.searchsorted(batches, np.broadcast_to(chosen.degrees[3, :, 0], rooms.shape), side="left")
    top = np.searchsorted(batches, rooms, side="right") - 1
    then = np.searchsorted(batches, larger, side="right") - 1
    allowed = _allowed(stacked)
    _count(stacked, rooms, reasons)
    few = int(np.count_nonzero((top > least) & allowed)) <= FEW
    fastest = _can_be_fastest(stacked, (top >= least) & allowed)
    rows = _first(least, top, then, allowed, fastest, stacked.question.is_bound, few)
    prices = price(stacked, rows, None, step)
    if stacked.question.is_bound:
        _count_bounds(stacked, rows, prices, reasons)
    else:
        rows, prices = _down(stacked, rows, prices, least, top, step)
    subject = np.array([entry.subject for entry in stacked.entries], dtype=np.intp)[rows.entry]
    return Pool(stacked=stacked, rows=rows, prices=prices, subject=subject)


def _allowed(stacked: StackedEntries) -> npt.NDArray[np.bool_]:
    """(entries, layouts): whether the chip has the links, and the overlap something to hide."""
    never: dict[tuple[bool, str], npt.NDArray[np.bool_]] = {}
    allowed = np.ones((len(stacked.entries), stacked.question.chosen.shape[0]), dtype=bool)
    for place, entry in enumerate(stacked.entries):
        key = (bool(entry.conditions.chip.topology.link_bytes_per_s), entry.overlap)
        if key not in never:
            never[key] = _never(stacked, place).reshape(-1)
        allowed[place] = ~never[key]
    return allowed


def _never(stacked: StackedEntries, place: int) -> npt.NDArray[np.bool_]:
    """Layouts that an entry cannot have, whatever the batch."""
    shape = stacked.question.chosen.shape
    masks = list(_masks(stacked, place, np.full(shape, np.inf)).values())[:2]
    never: npt.NDArray[np.bool_] = np.logical_or.reduce([np.broadcast_to(mask, shape)[:, -1:] for mask in masks])
    return never


def _masks(stacked: StackedEntries, place: int, room: Values) -> dict[str, npt.NDArray[np.bool_]]:
    """Reasons other than bounds, in the order in which they count."""
    entry, chosen = stacked.entries[place], stacked.question.chosen
    return impossible(entry.conditions.chip, chosen.layout, chosen.batches, entry.overlap, room)


def _count(stacked: StackedEntries, rooms: Values, reasons: Sequence[Counter[str]]) -> None:
    """Count the configurations that are refused without a price, by their first reason."""
    shape = stacked.question.chosen.shape
    for place, entry in enumerate(stacked.entries):
        feasible = np.ones(shape, dtype=bool)
        for why, mask in _masks(stacked, place, rooms[place][:, None]).items():
            count = int(np.count_nonzero(feasible & mask))
            if count:
                reasons[entry.subject][why] += count
                feasible &= ~mask


def _count_bounds(stacked: StackedEntries, rows: Rows, prices: Prices, reasons: Sequence[Counter[str]]) -> None:
    """Count the priced configurations that break a bound, by the first."""
    names = list(prices.refused)
    feasible = ~np.logical_or.reduce([prices.refused[why] for why in names[:4]])
    subject = np.array([one.subject for one in stacked.entries], dtype=np.intp)[rows.entry]
    for why in names[4:]:
        refused = feasible & prices.refused[why]
        for owner, count in zip(*np.unique(subject[refused], return_counts=True), strict=True):
            reasons[int(owner)][why] += int(count)
        feasible &= ~prices.refused[why]


def _can_be_fastest(stacked: StackedEntries, fits: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(entries, layouts): not with more stages of a pipeline than fit, as a token passes through all of them."""
    degrees = [tuple(column) for column in stacked.question.chosen.degrees[:, :, 0].T.tolist()]
    can = fits.copy()
    for place, (tp, pp, *others) in enumerate(degrees):
        fewer = [at for at, (tp2, pp2, *others2) in enumerate(degrees) if pp2 < pp and (tp2, others2) == (tp, others)]
        if fewer:
            can[:, place] &= ~fits[:, fewer].any(axis=1)
    return can


def _first(
    least: Places,
    top: Places,
    then: Places,
    allowed: npt.NDArray[np.bool_],
    fastest: npt.NDArray[np.bool_],
    whole: bool,
    few: bool,
) -> Rows:
    """Rows of every entry and layout: all batches that fit, or the smallest and the largest (the two largest of few
    layouts); and those that fit with a little more memory."""
    highest = np.maximum(top, then)
    parts = []
    reach = int(highest.max(initial=-1)) + 1
    for batch in range(reach):
        wanted = (batch >= least) & (batch <= highest)
        if not whole:
            wanted &= ((batch == least) & fastest) | (batch >= (top - 1 if few else top))
        entry, layout = np.nonzero(wanted & allowed)
        parts.append(Rows(entry=entry, layout=layout, batch=np.full(len(entry), batch, dtype=np.intp)))
    empty = np.zeros(0, dtype=np.intp)
    whole_rows = Rows(entry=empty, layout=empty, batch=empty)
    for part in parts:
        whole_rows = whole_rows.and_(part)
    return whole_rows


def _down(
    stacked: StackedEntries, rows: Rows, prices: Prices, least: Places, top: Places, step: float
) -> tuple[Rows, Prices]:
    """Smaller batches, where the second largest is cheaper than the largest, as long as they get cheaper."""
    shape = (*least.shape, len(stacked.question.chosen.batches[0]))
    several = len(OBJECTIVES) - 1
    costs = np.full((several, *shape), np.nan)
    costs[:, rows.entry, rows.layout, rows.batch] = prices.bare[:several]
    entry, layout = np.nonzero((top > least) & (_contends(stacked, rows, prices, costs, top)))
    at = top.copy()
    at[entry, layout] -= 1
    rows, prices = _more(stacked, rows, prices, costs, Rows(entry=entry, layout=layout, batch=at[entry, layout]), step)
    while len(entry):
        here, above = costs[:, entry, layout, at[entry, layout]], costs[:, entry, layout, at[entry, layout] + 1]
        falls = np.any(here < above, axis=0)
        falls &= at[entry, layout] > least[entry, layout]
        entry, layout = entry[falls], layout[falls]
        at[entry, layout] -= 1
        # The one below as well: few rows cost as little as one, and a call costs more than both.
        below = Rows(entry=entry, layout=layout, batch=at[entry, layout])
        two = Rows(entry=entry, layout=layout, batch=np.maximum(at[entry, layout] - 1, least[entry, layout]))
        below = below.and_(two.at(two.batch < below.batch))
        rows, prices = _more(stacked, rows, prices, costs, below, step)
    return rows, prices


def _more(
    stacked: StackedEntries, rows: Rows, prices: Prices, costs: Values, wanted: Rows, step: float
) -> tuple[Rows, Prices]:
    """The rows and prices with those of `wanted` that are not priced yet; `costs` has them by place."""
    fresh = wanted.at(np.isnan(costs[0, wanted.entry, wanted.layout, wanted.batch]))
    if not len(fresh):
        return rows, prices
    found = price(stacked, fresh, None, step)
    costs[:, fresh.entry, fresh.layout, fresh.batch] = found.bare[: len(costs)]
    return rows.and_(fresh), prices.and_(found)


def _contends(stacked: StackedEntries, rows: Rows, prices: Prices, costs: Values, top: Places) -> npt.NDArray[np.bool_]:
    """(entries, layouts): whether the largest batch that fits is not far from the least of its subject."""
    owners = np.array([entry.subject for entry in stacked.entries], dtype=np.intp)
    contends = np.zeros(top.shape, dtype=bool)
    entry, layout = np.nonzero(top >= 0)
    for which in range(len(costs)):
        least = np.full(len(stacked.subjects), np.inf)
        np.minimum.at(least, owners[rows.entry[prices.feasible]], prices.bare[which, prices.feasible])
        mine = costs[which, entry, layout, top[entry, layout]]
        contends[entry, layout] |= mine <= CONTENDS * least[owners[entry]]
    return contends
