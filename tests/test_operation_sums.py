"""Operations of one kernel are priced side by side where numbers are few: the same sums, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.cost import Conditions, operation_sums
from flashstill.cost.chip_work import ChipWork, chip_work
from flashstill.cost.operation_sums import FEW
from flashstill.cost.operations import operation_seconds
from flashstill.cost.timing import Timing
from flashstill.facts import load
from flashstill.plan.case import Case
from flashstill.plan.resolve import resolve
from flashstill.validation.anchors.serving import Served
from flashstill.validation.calibration.trials import trials
from flashstill.workload import Chunks, Decoding, Operation, Quantity, is_any, mixed

MODELS = ("llama-3.1-70b", "gpt-oss-120b", "deepseek-v3.2", "qwen3-next-80b-a3b", "deepseek-v4-flash", "gemma-3-27b")


def step_of(model: str, sequences: Quantity, before: ChipWork | None = None) -> ChipWork:
    """The work of a mixed step on one chip of eight."""
    case = Case.of(model=model, chip="h200-sxm", tp=8)
    conditions = resolve(load(), case.scenario, case.deployment).conditions
    steps = Decoding(sequences=sequences, context=5000.0), Chunks(count=sequences / 70.0, length=900.0)
    operations = mixed(load_architecture(model), *steps, conditions.widths, conditions.skew)
    return chip_work(conditions, operations, before=before) if before else chip_work(conditions, operations)


def assert_equal(one: ChipWork, other: ChipWork) -> None:
    for name in one.shares_s:
        assert np.all(np.asarray(one.shares_s[name]) == other.shares_s[name]), name
    for level in one.joules:
        assert np.all(np.asarray(one.joules[level]) == other.joules[level]), level
    assert np.all(one.macs == other.macs)
    assert np.all(one.clocked_s == other.clocked_s)


@pytest.mark.parametrize("model", MODELS)
def test_sums_do_not_depend_on_how_many_numbers_are_priced(model: str) -> None:
    few, many = np.linspace(1.0, 300.0, 3), np.linspace(1.0, 300.0, 300)
    many[:3] = few
    some, all_of_them = step_of(model, few), step_of(model, many)
    first = ChipWork(
        shares_s={name: np.broadcast_to(value, 300)[:3] for name, value in all_of_them.shares_s.items()},
        joules={level: np.broadcast_to(value, 300)[:3] for level, value in all_of_them.joules.items()},
        macs=np.asarray(all_of_them.macs)[:3],
        clocked_s=np.asarray(all_of_them.clocked_s)[:3],
    )
    assert_equal(some, first)


def test_work_before_is_added_first(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = np.array([1.0, 30.0])
    before = step_of("gpt-oss-120b", sequences)
    in_a_table = step_of("llama-3.1-70b", sequences, before)
    monkeypatch.setattr(operation_sums, "FEW", 0)
    assert_equal(in_a_table, step_of("llama-3.1-70b", sequences, before))


@pytest.mark.parametrize("count", [FEW - 1, FEW, FEW + 1])
def test_sums_do_not_change_where_few_become_many(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = np.linspace(1.0, 300.0, count)
    found = step_of("gpt-oss-120b", sequences)
    monkeypatch.setattr(operation_sums, "FEW", 10 * FEW if count > FEW else 0)
    assert_equal(found, step_of("gpt-oss-120b", sequences))


def test_one_call_prices_all_products_of_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def priced(conditions: Conditions, operation: Operation) -> Timing:
        calls.append(type(operation).__name__)
        return operation_seconds(conditions, operation)

    monkeypatch.setattr(operation_sums, "operation_seconds", priced)
    step_of("llama-3.1-70b", np.array([1.0, 30.0]))
    # five products; attention of decoding and of prompts are two kernels; norms of blocks and the embedding
    assert sorted(calls) == ["Attention", "Attention", "Matmul", "Operation"]
    calls.clear()
    step_of("llama-3.1-70b", np.linspace(1.0, 300.0, 300))
    assert sorted(calls) == ["Attention"] * 2 + ["Matmul"] * 5 + ["Operation"] * 2


def test_a_term_that_is_given_as_one_number_counts_for_each_step() -> None:
    norms = Operation(name="norms", count=3.0, activation_bytes=1e6)
    moved = Operation(name="copies", activation_bytes=np.array([0.0, 5e6]))
    case = Case.of(model="qwen3-8b", chip="h100-sxm")
    conditions = resolve(load(), case.scenario, case.deployment).conditions
    both = chip_work(conditions, [norms, moved])
    alone = [chip_work(conditions, [one]) for one in (norms, moved)]
    for level in ("far_sram", "activations"):
        assert np.allclose(both.joules[level], alone[0].joules[level] + alone[1].joules[level], rtol=1e-15, atol=0.0)


def test_whether_any_number_is_not_0() -> None:
    assert [is_any(2.0), is_any(np.array([0.0, 1e-300])), is_any(np.array(3.0) > 1)] == [True] * 3
    assert [is_any(0.0), is_any(np.zeros(3)), is_any(np.array(1.0) > 1)] == [False] * 3


@pytest.mark.parametrize("model", ["llama-3.1-70b", "gpt-oss-120b"])
def test_engines_under_trial_are_priced_as_engines_alone(model: str) -> None:
    """A fit asks with arrays for an engine's coefficients, however few rows there are."""
    asked = {"model": model, "chip": "h200-sxm", "tp": 4, "engine": "vllm", "isl": 900, "osl": 900}
    rows = [Served(case=Case.of(**asked, concurrency=count), tpot_s=0.01, ttft_s=None) for count in (4, 16)]
    (trial,) = trials(load(), rows)
    for name in ("matmul_ratio", "experts_ratio", "quantise_ratio", "scales_ratio"):
        both = trial.price({name: np.array([0.5, 0.8, 1.0])})
        for place, value in enumerate((0.5, 0.8, 1.0)):
            alone = trial.price({name: np.array([value])})
            for quantity, values in alone.items():
                assert both[quantity][place] == pytest.approx(values[0], rel=1e-12), name
