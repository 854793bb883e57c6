"""Refinement between the points of the grid: never worse than it, within its bounds, and nearly free of its density."""

from __future__ import annotations

import numpy as np
import pytest

from flashstill.chip_searching import chip_search
from flashstill.codesign.designs import LIMITS
from flashstill.codesign.finer import LEFT, Finer, refined
from flashstill.codesign.finer_steps import choices_around, first_steps, steps_around
from flashstill.codesign.hunt import Hunt, least
from flashstill.codesign.listed import BLOCK, LIMITED, LINKS, MACS, MEMORY, SRAM, Listed, listed_of, rows_from
from flashstill.codesign.regret import regrets_of
from tests.chip_hunts import a_hunt


def refined_of(hunt: Hunt) -> tuple[Finer, list[float]]:
    """A hunt's one future by each objective, refined, and the grid's costs."""
    founds = [least(hunt, [place]) for place in range(len(hunt.wanted))]
    grid = regrets_of(hunt, [0], [1.0])
    kept = np.unique([one.design for one in founds])
    finer = refined(hunt, [1.0], dict(enumerate(founds)), grid, 0, kept, founds[0].design)
    return finer, [one.cost for one in founds]


@pytest.mark.parametrize("seed", [3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 4, 6))])
def test_refinement_is_never_worse_than_the_grid_and_keeps_its_bounds(seed: int) -> None:
    hunt = a_hunt(seed, "llama-3.1-8b", 3000)
    finer, grid = refined_of(hunt)
    again, _ = refined_of(hunt)
    assert 0 < finer.priced <= hunt.space.size // (LEFT - 1)
    for place, cost in enumerate(grid):
        found = least(finer.hunt, [place])
        assert found.cost <= cost * (1.0 + 1e-12)
        assert found.cost == least(again.hunt, [place]).cost
    assert any(least(finer.hunt, [place]).cost < 0.995 * cost for place, cost in enumerate(grid))
    assert isinstance(finer.hunt, Listed)
    points, space = finer.hunt.points, hunt.space
    for axis, values in ((MACS, space.macs), (SRAM, space.sram_bytes), (LIMITED, (min(LIMITS), 1.0))):
        assert min(values) <= points[:, axis].min() <= points[:, axis].max() <= max(values)
    for _, designs in finer.hunt.by_block(np.arange(len(points))):
        assert (designs.silicon.reason < 0).all(), "every refined design can be made"


def test_a_design_of_the_grid_costs_the_same_in_the_list() -> None:
    hunt = a_hunt(3, "llama-3.1-8b", 200)
    some = np.flatnonzero(np.isfinite(hunt.screened.bounds[0]))[::40]
    empty = listed_of(hunt)
    listed, numbers = empty.with_rows(rows_from(empty, hunt, some), len(some))
    for future in range(len(hunt.wanted)):
        np.testing.assert_allclose(listed.cost(future, numbers), hunt.cost(future, some), rtol=1e-12)
    same, repeated = listed.with_rows(rows_from(listed, hunt, some), 0)
    assert same is listed
    assert repeated.tolist() == numbers.tolist()


def test_steps_go_along_one_axis_two_or_to_the_next_choice() -> None:
    hunt = a_hunt(3, "llama-3.1-8b", 200)
    empty = listed_of(hunt)
    some = np.flatnonzero(np.isfinite(hunt.screened.bounds[0]))
    row = rows_from(empty, hunt, some[len(some) // 2 :][:1])[0]
    steps = first_steps((hunt.space.macs, hunt.space.sram_bytes))
    along, beside = steps_around(empty, row, steps), choices_around(empty, row)
    for around, axes in ((along, {MACS, SRAM, LIMITED}), (beside, {BLOCK, MACS, MEMORY, LINKS})):
        moved = around != row
        assert {int(axis) for axis in np.flatnonzero(moved.any(axis=0))} <= axes
        assert moved.sum(axis=1).max() == 2
    block = empty.blocks[int(row[BLOCK])]
    dies = {empty.blocks[int(one[BLOCK])].dies for one in choices_around(empty, row)}
    assert dies == {1, 2}, f"both numbers of chiplets, from {block.dies}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "tpot_s", "precision"),
    [("llama-3.1-8b", 0.02, None), ("llama-3.1-70b", 0.05, "fp8"), ("gpt-oss-20b", 0.1, None)],
)
def test_the_price_hardly_depends_on_the_density_of_the_grid(model: str, tpot_s: float, precision: str | None) -> None:
    """Grids alone are 30, 5 and 7 % apart; refined answers 1.7, 0.4 and 0.01 %."""
    costs = [
        chip_search(model=model, max_tpot_s=tpot_s, precision=precision, designs=designs).best["cost"]
        for designs in (20_000, 1_000_000)
    ]
    assert max(costs) <= 1.03 * min(costs)
