"""Which parts of a model stay is judged by the tokens that are learned, and only among what can be said."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.models.shallower import InexpressibleLayers
from flashstill.distill.students import (
    Experts,
    Format,
    Width,
    apart,
    block_influence,
    compensated,
    greedy_drops,
    importance,
    plan,
    upcycle,
)
from flashstill.distill.students.feed_forward import mixtures, router_rows
from flashstill.distill.students.watching import counted_rows
from flashstill.errors import BadInput, UnsupportedArchitecture
from flashstill.progress import Silent
from flashstill.recipes import SearchRecipe
from flashstill.runs.layer_search import drops, spread
from tests import zoo
from tests.marks import slow
from tests.recorded_progress import RecordedProgress

SILENT = Silent()
TOKENS = torch.randint(3, 90, (3, 12), generator=torch.Generator().manual_seed(1))
FIRST = torch.zeros_like(TOKENS, dtype=torch.bool)
FIRST[0] = True


WIDTHS = {
    "llama": Width(hidden=16, feed_forward=8, key_heads=1), "qwen3_moe": Width(experts=2, expert_neurons=8),
    "llama4_text": Width(experts=2, expert_neurons=8),
}  # fmt: skip


@pytest.mark.parametrize("name", ["llama", *slow("qwen3_moe", "llama4_text")])
def test_importance(name: str) -> None:
    """Rows of a batch do not see each other, so that a row alone scores as it does among rows that do not count."""
    model = zoo.tiny(name, 0)
    cut = plan(model, WIDTHS[name])
    expected, plain = importance(model, TOKENS[:1], cut), importance(model, TOKENS, cut)
    found, everything = (importance(model, TOKENS, cut, each) for each in (FIRST, torch.ones_like(FIRST)))
    for axis, groups in expected.items():
        for group, scores in groups.items():
            assert torch.allclose(found[axis][group], scores, rtol=1e-3, atol=1e-6), (axis, group)
            assert torch.allclose(everything[axis][group], plain[axis][group], rtol=1e-3, atol=1e-6), (axis, group)
            assert not torch.allclose(plain[axis][group], scores, rtol=1e-2, atol=1e-4)


def test_influence_and_the_search() -> None:
    model = zoo.tiny("llama", 0, num_hidden_layers=5)
    assert block_influence(model, TOKENS, FIRST) == pytest.approx(block_influence(model, TOKENS[:1]), rel=1e-4)
    assert block_influence(model, TOKENS, FIRST) != pytest.approx(block_influence(model, TOKENS), rel=1e-3)
    seen: list[Any] = []

    def tell(place: Sequence[int]) -> bool:
        seen.append(place)
        return False

    alone = greedy_drops(model, TOKENS[:1], 2, 5, SILENT)
    assert greedy_drops(model, TOKENS, 2, 5, SILENT, FIRST, tell) == alone
    assert len(seen) == 4, "the candidates of the last step, of which none could be said"
    assert seen[0] == [each for each in range(5) if each not in alone]


def test_the_search_takes_what_can_be_said() -> None:
    model = zoo.tiny("llama", 0, num_hidden_layers=4)
    (best,) = greedy_drops(model, TOKENS, 1, 4, SILENT)
    (other,) = greedy_drops(model, TOKENS, 1, 4, SILENT, can_remain=lambda kept: best in kept)
    assert other != best


def test_what_no_choice_can_say_is_refused_before_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: Any, kept: Sequence[int]) -> Any:
        raise InexpressibleLayers("the configuration cannot say that")

    monkeypatch.setattr("flashstill.distill.models.shallower.shallower_config", refuse)
    monkeypatch.setattr("flashstill.distill.students.greedy_drops", lambda *_: pytest.fail("it was searched"))
    model = zoo.tiny("llama", 0, num_hidden_layers=4)
    search = SearchRecipe(method="greedy")
    with pytest.raises(InexpressibleLayers):
        drops(search, model, TOKENS, None, 2, tmp_path / "search.json", SILENT)


def test_windows_in_which_something_is_learned(packed: Packed) -> None:
    tokens, learned, real, starts = spread(packed, 4)
    assert learned is None
    assert real is None
    assert packed.starts is not None
    assert torch.equal(starts, torch.from_numpy(packed.starts[[0, 6, 13, 19]] != 0))
    assert torch.equal(tokens, torch.from_numpy(packed.tokens[[0, 6, 13, 19], :-1].astype(np.int64)))
    mask = np.zeros((packed.windows, packed.length), dtype=np.int32)
    mask[[3, 4, 11], 5:9] = 1
    tokens, learned, *_ = spread(dataclasses.replace(packed, target_mask=mask), 2)
    assert torch.equal(tokens, torch.from_numpy(packed.tokens[[3, 11], :-1].astype(np.int64)))
    assert torch.equal(learned, torch.from_numpy(mask[[3, 11]].astype(np.bool_)))
    with pytest.raises(BadInput, match="no target of the training text is learned"):
        spread(dataclasses.replace(packed, target_mask=np.zeros_like(mask)), 2)


def test_of_what_windows_hold_padding_counts_for_nothing(packed: Packed) -> None:
    """Prompts are read and so are real; behind the last learned target of a document is padding."""
    mask, starts = (np.zeros((packed.windows, packed.length), dtype=np.int32) for _ in range(2))
    mask[0, 5:9], starts[0, 12], mask[0, 20] = 1, 1, 1
    found = spread(dataclasses.replace(packed, target_mask=mask, starts=starts), 1)[2][0]
    expected = [*range(9), *range(12, 21)]
    assert found.nonzero().flatten().tolist() == expected
    found = spread(dataclasses.replace(packed, target_mask=mask, starts=None), 1)[2][0]
    assert found.nonzero().flatten().tolist() == list(range(21))


@pytest.mark.slow
def test_compensated_rounding_and_routers_see_what_is_real() -> None:
    """Rows of a batch do not see each other, so that a row alone gives the weights it gives beside padding."""
    model = zoo.tiny("llama", 0)
    format_, experts = Format(name="int4", group=8), Experts(routed=6, per_token=2, shared=0, neurons=8)
    alone, found, plain = (
        compensated(model, format_, tokens, SILENT, real).state_dict()
        for tokens, real in ((TOKENS[:1], None), (TOKENS, FIRST), (TOKENS, None))
    )
    for name, weight in alone.items():
        assert torch.allclose(found[name], weight, atol=2e-2), name
    assert any(not torch.allclose(plain[name], weight, atol=2e-2) for name, weight in alone.items())
    alone, found, plain = (
        torch.cat([router_rows(each) for each in mixtures(upcycle(model, experts, tokens, 0, "", learned, real))])
        for tokens, learned, real in ((TOKENS[:1], None, None), (TOKENS, FIRST, FIRST), (TOKENS, FIRST, None))
    )
    assert torch.allclose(found, alone, rtol=1e-3)
    assert not torch.allclose(plain, alone, rtol=1e-2)


WINDOW = torch.cat([TOKENS[0], TOKENS[1, :9], TOKENS[2, :3]])[None]
STARTS = torch.zeros_like(WINDOW, dtype=torch.bool)
STARTS[0, [0, 12, 21]] = True
DOCUMENTS = torch.stack(
    [TOKENS[0], *(torch.cat([TOKENS[n, :k], TOKENS[n, :1].expand(12 - k)]) for n, k in ((1, 9), (2, 3)))]
)
OWN = torch.arange(12) < torch.tensor([[12], [9], [3]])


@pytest.mark.parametrize("name", ["llama", *slow("mamba2", "qwen3_next")])
def test_documents_of_a_window_do_not_see_each_other(name: str) -> None:
    """As rows of their own: influence, search and importance; also of layers that carry a state along a window."""
    model = zoo.tiny(name, 0).float()
    tokens, learned, real, starts = apart(model, WINDOW, None, None, STARTS)
    assert (starts is None) == (name != "llama")
    assert (learned is None) == (real is None) == (starts is not None)
    expected = block_influence(model, DOCUMENTS, OWN)
    assert block_influence(model, tokens, learned, starts) == pytest.approx(expected, rel=1e-4)
    assert block_influence(model, WINDOW) != pytest.approx(expected, rel=1e-3)
    if name != "llama":
        return
    cut = plan(model, WIDTHS[name])
    whole, found = importance(model, DOCUMENTS, cut, OWN), importance(model, tokens, cut, learned, starts)
    for axis, groups in whole.items():
        for group, scores in groups.items():
            assert torch.allclose(found[axis][group], scores, rtol=1e-3, atol=1e-6), (axis, group)
    asked: list[list[str]] = []
    for text in ((DOCUMENTS, 1, 3, SILENT, OWN, None, None), (tokens, 1, 3, SILENT, learned, None, starts)):
        progress = RecordedProgress()
        greedy_drops(model, *text[:3], progress, *text[4:])
        asked.append(progress.notes)
    assert asked[0] == asked[1]


@pytest.mark.slow
def test_calibration_keeps_documents_apart() -> None:
    model = zoo.tiny("llama", 0)
    format_, experts = Format(name="int4", group=8), Experts(routed=6, per_token=2, shared=0, neurons=8)
    rows, found, mixed = (
        compensated(model, format_, tokens, SILENT, real, starts).state_dict()
        for tokens, real, starts in ((DOCUMENTS, OWN, None), (WINDOW, None, STARTS), (WINDOW, None, None))
    )
    for name, weight in rows.items():
        assert torch.allclose(found[name], weight, atol=2e-2), name
    assert any(not torch.allclose(mixed[name], weight, atol=2e-2) for name, weight in rows.items())
    rows, found, mixed = (
        torch.cat([router_rows(each) for each in mixtures(upcycle(model, experts, *text[:1], 0, "", *text[1:]))])
        for text in ((DOCUMENTS, OWN, OWN, None), (WINDOW, None, None, STARTS), (WINDOW, None, None, None))
    )
    assert torch.allclose(found, rows, rtol=1e-3)
    assert not torch.allclose(mixed, rows, rtol=1e-2)


def test_padding_of_short_documents_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long document beside many short ones: some of these are left out, evenly."""
    monkeypatch.setattr("flashstill.distill.students.watching.separation", lambda _: "rows")
    model = zoo.tiny("llama", 0)
    tokens, starts = torch.arange(3, 67)[None], torch.ones((1, 64), dtype=torch.bool)
    starts[0, 1:32] = False
    found, learned, real, left = apart(model, tokens, None, None, starts)
    assert (found.shape, left) == ((8, 32), None)
    assert found[0].tolist() == list(range(3, 35))
    assert found[-1, 0] == 66
    assert learned is not None
    assert learned.sum() == 32 + 7
    assert real is not None
    assert torch.equal(learned, real)
    places = torch.zeros_like(starts)
    places[0, [10, 40]] = True
    found, learned, real, _ = apart(model, tokens, places, None, starts)
    assert found[:, 0].tolist() == [3, 43], "if not all fit, those in which something is learned"
    assert learned is not None
    assert learned.sum() == 2
    monkeypatch.undo()
    assert apart(model, tokens, None, None, starts * 0)[3] is None


def test_rows_of_which_nothing_says_what_they_are() -> None:
    """An expert that is a module of its own is given some rows; none of transformers' causal models has one."""
    rows = torch.arange(72.0)[:, None]
    assert counted_rows(rows, FIRST).flatten().tolist() == list(range(24))
    with pytest.raises(UnsupportedArchitecture, match="was given 7 rows of 36 tokens, of which not all count"):
        counted_rows(rows[:7], FIRST)
