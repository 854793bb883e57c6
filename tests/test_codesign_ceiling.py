"""How fast one user can be served at any cost: no memory gives a 70B model 10,000 tokens/s at 1 us (LIMINAL)."""

from __future__ import annotations

import pytest

from flashstill.arch import load_architecture
from flashstill.codesign.ceiling import Ceiling, ceilings
from flashstill.errors import BadInput
from flashstill.facts import load

FACTS = load()
LARGE, SMALL = load_architecture("llama-3.1-70b"), load_architecture("llama-3.1-8b")
REAL = ("hbm3e", "hbm4", "hbm5", "dram-3d", "sram")
"""memories that can be built; one that is read in no time is a limit of them"""
SYNCS = (5e-6, 1e-6, 2e-7, 0.0)
WANTED = 10_000.0


def table(memories: tuple[str, ...] = REAL, **changed: object) -> dict[tuple[str, float, int], Ceiling]:
    asked = {"syncs_s": SYNCS, "contexts": (1024, 131072), "model": LARGE} | changed
    rows = ceilings(FACTS, chip="b200", memories=memories, **asked)  # type: ignore[arg-type]
    return {(row.memory, row.sync_s, row.context): row for row in rows}


@pytest.fixture(scope="module")
def large() -> dict[tuple[str, float, int], Ceiling]:
    return table()


def test_no_memory_reaches_10_000_for_70b_with_synchronisation_of_a_microsecond(
    large: dict[tuple[str, float, int], Ceiling],
) -> None:
    """160 collectives that wait for each other take 160 us at 1 us each: 6,250 tokens/s if nothing else took time."""
    slow = [row for row in large.values() if row.sync_s >= 1e-6]
    assert max(row.tokens_per_s for row in slow) == pytest.approx(6_207, rel=0.01)
    assert max(row.tokens_per_s for row in slow) < WANTED
    assert large["hbm3e", 1e-6, 1024].tokens_per_s == pytest.approx(3_312, rel=0.02)


def test_what_would_reach_it(large: dict[tuple[str, float, int], Ceiling]) -> None:
    """Synchronisation well below 1 us, with 3D DRAM or SRAM; or a smaller model with a short context."""
    assert large["sram", 2e-7, 1024].tokens_per_s > WANTED
    assert large["dram-3d", 2e-7, 1024].tokens_per_s > WANTED
    assert large["hbm4", 2e-7, 1024].tokens_per_s < WANTED
    small = table(model=SMALL)
    assert small["hbm3e", 1e-6, 1024].tokens_per_s > WANTED
    assert small["hbm3e", 1e-6, 131072].tokens_per_s < WANTED  # the context is to blame
    assert small["hbm3e", 5e-6, 1024].tokens_per_s < WANTED  # synchronisation is


def test_two_thousand_are_within_reach(large: dict[tuple[str, float, int], Ceiling]) -> None:
    """LIMINAL: HBM, 3D DRAM and SRAM all reach 2,000 tokens/s a user, with synchronisation near 1 us."""
    for memory in REAL:
        assert large[memory, 1e-6, 1024].tokens_per_s > 2_000
        assert large[memory, 5e-6, 1024].tokens_per_s < 2_000


@pytest.mark.slow
def test_with_the_fastest_operations_known_nothing_reaches_it() -> None:
    """0.36 us for each of 400 operations in sequence (HC1's figure) is 144 us, whatever the memory and the links."""
    least = FACTS.value("dependent-operation", "least_s")
    rows = table((*REAL, "infinite"), operation_s=least)
    assert max(row.tokens_per_s for row in rows.values()) == pytest.approx(6_640, rel=0.02)


def test_less_of_anything_never_slows(large: dict[tuple[str, float, int], Ceiling]) -> None:
    for (memory, sync, context), row in large.items():
        faster = SYNCS[min(SYNCS.index(sync) + 1, len(SYNCS) - 1)]
        assert large[memory, faster, context].tokens_per_s >= row.tokens_per_s
        assert large[memory, sync, 1024].tokens_per_s >= row.tokens_per_s
        assert row.chips == row.tp * row.pp
    limit = table(("infinite",))
    assert all(limit["infinite", sync, size].tokens_per_s >= row.tokens_per_s for (_, sync, size), row in large.items())


def test_one_chip_that_reads_in_no_time_is_bound_by_its_multipliers() -> None:
    """No collective, no byte: 2 FLOP a weight, and the scores over 1,024 tokens, at 4.5 PFLOP/s."""
    (row,) = ceilings(FACTS, LARGE, "b200", ("infinite",), (1e-6,), (1024,), most_chips=1)
    peak = FACTS.get("b200", "flops_per_s", "fp8").value
    assert (row.chips, row.bound) == (1, "compute")
    assert row.step_s > 2.0 * (LARGE.parameters - LARGE.vocabulary * LARGE.width) / peak


@pytest.mark.parametrize("chip", ["wse-3", "l40s", "groq-lp30", "tpu-v7"])
def test_any_chip_lends_its_multipliers(chip: str) -> None:
    """Also one without stacks of its own, or without memory but SRAM, or on a torus."""
    rows = ceilings(FACTS, SMALL, chip, ("hbm4", "dram-3d", "sram", "infinite"), (1e-6,), (1024,))
    assert {row.memory for row in rows} == {"hbm4", "dram-3d", "sram", "infinite"}
    assert all(row.tokens_per_s > 0.0 for row in rows)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"memories": ("hbm9",)}, "hbm"),
        ({"syncs_s": (-1.0,)}, "between 0 and 1 second"),
        ({"contexts": ()}, "at least one"),
        ({"contexts": (10**7,)}, "made for"),
        ({"most_chips": 0}, "most chips"),
    ],
)
def test_impossible_questions_are_refused(changed: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        table(**changed)  # type: ignore[arg-type]


def test_a_chip_without_stacks_takes_those_that_two_of_its_sides_have_room_for() -> None:
    """A die of 800 mm2 has sides of 28.3 mm: four stacks of 12.5 mm along two of them, or nine of 6.25 mm."""
    rates = []
    for edge_mm in (12.5, 6.25):
        facts = FACTS.edited(["groq-lp30.die_mm2=800", f"hbm.stack_edge_mm={edge_mm}", "hbm4.stack_bytes=16e9"])
        (row,) = ceilings(facts, SMALL, "groq-lp30", ("hbm4",), (0.0,), (0,), most_chips=1)
        assert row.bound == "memory"
        rates.append(row.tokens_per_s)
    assert rates[1] == pytest.approx(rates[0] * 9 / 4)
