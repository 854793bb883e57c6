"""Kinds of future: one driver grows by its trend; a user's own from TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flashstill.arch import load_architecture
from flashstill.codesign.future import DENSE, KINDS, LONG_CONTEXT, SPARSE, THINKING, Share, mix_of
from flashstill.codesign.futures import driver_trend, landing_year, standard_futures
from flashstill.codesign.futures_file import futures_of, read_futures
from flashstill.errors import BadInput, MissingFact
from flashstill.facts import load

FACTS = load()
TODAY = mix_of(
    "today",
    (
        Share(model=load_architecture("llama-3.1-8b"), weight=1, isl=1000, osl=300),
        Share(model=load_architecture("qwen3-30b-a3b"), weight=1, isl=1000, osl=300),
    ),
)


@pytest.fixture(scope="module")
def futures() -> dict[str, Any]:
    return {future.kind: future for future in standard_futures(FACTS, TODAY, 2028, demand=10.0)}


def test_each_kind_grows_one_driver(futures: dict[str, Any]) -> None:
    assert set(futures) == set(KINDS)
    for kind, future in futures.items():
        times = 2.0 ** (driver_trend(FACTS, kind).slope * 2.0)
        for share, before in zip(future.mix(0).shares, TODAY.shares, strict=True):
            whole, active = before.model.parameters, before.model.active_parameters
            grown = {
                "parameters": share.model.parameters / whole,
                "active": share.model.active_parameters / active,
                "isl": share.isl / before.isl,
                "osl": share.osl / before.osl,
            }
            moved = {DENSE: "active", SPARSE: "parameters", LONG_CONTEXT: "isl", THINKING: "osl"}[kind]
            assert grown[moved] == pytest.approx(times, rel=0.1)
            stays = set(grown) - {moved, "parameters" if kind == DENSE else ""}
            assert all(grown[name] == pytest.approx(1.0, rel=0.1) for name in stays), (kind, grown)
            assert share.isl + share.osl <= share.model.context
        assert future.tokens(0) == 10.0
        assert sum(each.probability for each in futures.values()) == pytest.approx(1.0)
    assert not futures[DENSE].mix(0).shares[1].model.routed
    assert futures[SPARSE].mix(0).shares[0].model.routed


def test_a_chip_serves_for_years_and_models_go_on_growing(futures: dict[str, Any]) -> None:
    assert landing_year(FACTS, 2026) == 2028
    assert len(futures[THINKING].mixes) == 4
    lengths = [futures[THINKING].mix(year).shares[0].osl for year in range(4)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_futures_of_an_earlier_year_use_its_rows_only() -> None:
    with pytest.raises(MissingFact, match="needs 3 values"):
        standard_futures(FACTS, TODAY, 2025, 2022, kinds=(THINKING,))
    (dense,) = standard_futures(FACTS, TODAY, 2025, 2022, kinds=(DENSE,))
    assert "2019 to 2022" in dense.notes[0]


def test_a_users_futures(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        """
        [[future]]
        name = "agents"
        probability = 0.4
        demand = 10
        years = 3
        growth = {demand = 2.0, osl = 1.5}
        mix = [
            {model = "llama-3.1-8b", weight = 3, isl = 4000, osl = 800, max_tpot_s = 0.02},
            {model = "qwen3-30b-a3b", isl = 100, osl = 100, experts = 2.0},
        ]
        [[future]]
        name = "as today"
        mix = [{model = "llama-3.1-8b", isl = 1000, osl = 300}]
        """,
        encoding="utf-8",
    )
    agents, today = read_futures(FACTS, path)
    assert (agents.probability, today.probability) == (0.4, 0.6)
    assert agents.demand == (10.0, 20.0, 40.0)
    assert [agents.mix(year).shares[0].osl for year in range(3)] == [800, 1200, 1800]
    assert [share.weight for share in agents.mix(0).shares] == [0.75, 0.25]
    assert agents.mix(0).shares[0].max_tpot_s == 0.02
    assert agents.mix(0).shares[1].model.parameters > 1.7 * load_architecture("qwen3-30b-a3b").parameters
    assert len(today.mixes) == 4


MIX = [{"model": "llama-3.1-8b", "isl": 10, "osl": 10}]


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"future": []}, "at least one entry"),
        ({"future": [{"name": "a", "mix": []}]}, "at least one entry"),
        ({"future": [{"name": "a", "mix": MIX, "kind": "dens"}]}, "dense"),
        ({"future": [{"name": "a", "mix": MIX, "demnd": 2.0}]}, "demand"),
        ({"future": [{"name": "a", "mix": MIX, "probability": 0.5}]}, "sum to 0.5"),
        ({"future": [{"name": "a", "mix": MIX}, {"name": "a", "mix": MIX}]}, "name of its own"),
        ({"future": [{"name": "a", "mix": MIX, "probability": 1.0}, {"name": "b", "mix": MIX}]}, "left none"),
        ({"future": [{"name": "a", "mix": [{"model": "llama-3.1-8b", "isl": 0, "osl": 1}]}]}, "isl"),
        ({"future": [{"name": "a", "mix": MIX, "probability": 0.0}]}, r"probability is 0; it must lie above 0"),
        ({"future": [{"name": "a", "mix": MIX, "years": 0}]}, r"years is 0; it must be at least 1"),
        ({"future": [{"name": "a", "mix": MIX, "demand": 1e-300}]}, r"demand is 1e-300; it must be at least 1e-09"),
        ({"future": [{"name": "a", "mix": [{**MIX[0], "weight": 1e-300}]}]}, r"weight is 1e-300"),
        ({"future": [{"name": "a", "mix": [{**MIX[0], "max_tpot_s": 0.0}]}]}, r"max_tpot_s is 0; it must be positive"),
        (
            {"future": [{"name": "a", "mix": MIX, "years": 4, "growth": {"osl": 1e3}}]},
            "osl makes 10B tokens in year 4",
        ),
        ({"future": [{"name": "a", "mix": MIX, "years": 3, "growth": {"isl": 0.1}}]}, "isl makes 0.1 tokens in year 3"),
        ({"future": [{"name": "a", "mix": [{**MIX[0], "experts": 0.5}]}]}, "fewer than a token uses; at least 1"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(tree: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        futures_of(FACTS, tree)


def test_tokens_that_stop_growing_are_noted() -> None:
    (soon,), (late,) = (standard_futures(FACTS, TODAY, year, kinds=(LONG_CONTEXT,)) for year in (2028, 2060))
    assert not any("no further" in note for note in soon.notes)
    assert any("grow up to 10,000,000, and no further" in note for note in late.notes)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(BadInput, match="dense"):
        standard_futures(FACTS, TODAY, 2028, kinds=("denser",))
