"""The pooled fit of engines: known coefficients are recovered, and what is left out has no part in its prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from flashstill.errors import BadInput
from flashstill.facts import load
from flashstill.hardware.software import Software, software_of
from flashstill.plan.predict import Case, predict
from flashstill.validation.anchors.left_out import forgetting
from flashstill.validation.anchors.serving import Served
from flashstill.validation.calibration.bands import weighted_quantile
from flashstill.validation.calibration.doubtful import doubtful
from flashstill.validation.calibration.leave_out import leave_out
from flashstill.validation.calibration.pooled import Observed, Pooled, Prior, fit_pooled
from flashstill.validation.calibration.software import FIRST_START, SOFTWARE_START, ServedRows, fit_engines
from flashstill.validation.calibration.trials import trials
from flashstill.validation.error_table import comparisons_with

FACTS = load()
TRUE = {"new": {"a_s": 3.0, "b_s": 0.5}, "old": {"a_s": 2.0, "b_s": 1.0}}
PRIOR = Prior(start={"a_s": 1.0, "b_s": 1.0}, mean_width={"a_s": 2.0, "b_s": 2.0}, width={"a_s": 0.5, "b_s": 0.5})


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Rows t = a + b n of one engine."""

    engine: str
    rows: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.float64]

    def price(self, coefficients: Mapping[str, Any]) -> dict[str, Any]:
        columns = {name: np.asarray(values)[:, None] for name, values in coefficients.items()}
        return {"tpot_s": columns["a_s"] + columns["b_s"] * self.sizes}


SIZES = np.geomspace(0.1, 100.0, 40)
BLOCKS = [
    Lines(engine=engine, rows=np.arange(40) + 40 * index, sizes=SIZES) for index, engine in enumerate(sorted(TRUE))
]
MEASURED = np.concatenate([TRUE[block.engine]["a_s"] + TRUE[block.engine]["b_s"] * SIZES for block in BLOCKS])
STACKS = np.arange(80) // 10


def fitted(values: Any, weights: Any, near: Pooled | None = None) -> Pooled:
    observed = [Observed(quantity="tpot_s", values=values, names=("a_s", "b_s"), noise=0.05)]
    return fit_pooled(BLOCKS, observed, weights, STACKS, PRIOR, near)


def test_coefficients_of_each_engine_are_recovered() -> None:
    noise = np.exp(0.02 * np.random.default_rng(1).standard_normal(80))
    found = fitted(MEASURED * noise, np.ones(80))
    for engine, values in TRUE.items():
        assert found.values(engine) == pytest.approx(values, rel=0.05)
        assert max(found.spread(engine).values()) < 0.15
    assert not found.held("old")


def test_an_engine_with_one_row_stays_near_its_siblings_and_one_without_takes_their_mean() -> None:
    few = np.ones(80)
    few[1:40] = 0.0  # one short row is left of "new"
    found = fitted(MEASURED, few)
    assert found.values("old") == pytest.approx(TRUE["old"], rel=0.03)
    assert found.values("new")["b_s"] == pytest.approx(TRUE["old"]["b_s"], rel=0.3)  # its own row does not tell
    assert found.values("new")["a_s"] > 1.2 * found.values("old")["a_s"]  # that row does tell its floor
    assert found.spread("new")["b_s"] > found.spread("old")["b_s"]
    none = fitted(MEASURED, np.where(np.arange(80) < 40, 0.0, 1.0))
    assert none.values("new") == pytest.approx(none.values("another"))
    assert min(none.spread("another").values()) > 0.9


def test_outliers_bend_a_fit_little() -> None:
    values = MEASURED.copy()
    values[::10] *= 5.0
    assert fitted(values, np.ones(80)).values("old") == pytest.approx(TRUE["old"], rel=0.15)


def test_rows_of_weight_zero_have_no_part_wherever_the_search_starts() -> None:
    kept = np.where(STACKS == 2, 0.0, 1.0)
    poisoned = np.where(STACKS == 2, 7.0 * MEASURED, MEASURED)
    clean = fitted(MEASURED, kept, fitted(MEASURED, np.ones(80)))
    other = fitted(poisoned, kept, fitted(poisoned, np.ones(80)))
    for engine in TRUE:
        assert clean.values(engine) == pytest.approx(other.values(engine), rel=0.01)


def served_rows(poison: float = 1.0, **columns: Any) -> list[Served]:
    """Rows that "vllm" would give with known overheads, of two models; those of the second are multiplied."""
    changes = {"step_s": 2e-3, "layer_s": 2e-5}
    rows = []
    for model in ("llama-3.2-1b", "llama-3.1-8b"):
        cases = [
            Case.of(model=model, chip="h100-sxm", engine="vllm", tp=1, isl=500, osl=100, concurrency=batch, **columns)
            for batch in (1, 4, 16, 64)
        ]
        (block,) = trials(FACTS, [Served(case=case, tpot_s=1.0, ttft_s=None) for case in cases])
        priced = block.price({name: np.array([value]) for name, value in changes.items()})
        factor = poison if model == "llama-3.1-8b" else 1.0
        rows += [
            Served(case=case, tpot_s=float(tpot) * factor, ttft_s=float(ttft) * factor)
            for case, tpot, ttft in zip(cases, priced["tpot_s"][0], priced["ttft_s"][0], strict=True)
        ]
    return rows


def test_trials_price_as_predictions_do() -> None:
    """The same function, with coefficients as columns: the second trial is the engine as it is."""
    rows = served_rows()
    (first, _) = trials(FACTS, rows)
    software = software_of(FACTS, "vllm")
    names = (*SOFTWARE_START, *FIRST_START)
    columns = {name: np.array([1.5, 1.0]) * getattr(software, name) for name in names}
    priced = first.price(columns)
    answers = predict(FACTS, [row.case for row in rows[:4]])
    assert priced["tpot_s"][1] == pytest.approx([answer.tpot_s for answer in answers], rel=1e-12)
    assert priced["ttft_s"][1] == pytest.approx([answer.ttft_s for answer in answers], rel=1e-12)
    assert (priced["tpot_s"][0] > priced["tpot_s"][1]).all()
    assert set(names) <= set(Software.__slots__)


@pytest.mark.slow
def test_a_model_left_out_does_not_influence_its_own_prediction() -> None:
    predicted = []
    for poison in (1.0, 3.0):
        served = ServedRows.of(FACTS, served_rows(poison))
        whole = fit_engines(served, np.ones(8, dtype=bool))
        predicted.append(leave_out(FACTS, served, whole, ("model",)).predicted["model"]["tpot_s"])
    assert predicted[0][4:] == pytest.approx(predicted[1][4:], rel=0.003)
    assert abs(predicted[0][0] / predicted[1][0] - 1.0) > 0.02  # the other model's rows have learnt from the poison


def test_impossible_and_contradicted_rows_are_listed_apart() -> None:
    rows = served_rows()
    rows[0] = replace(rows[0], tpot_s=1e-5)
    rows += [replace(rows[5], tpot_s=rows[5].tpot_s * factor, ttft_s=None) for factor in (1.02, 0.99, 4.0)]
    listed = doubtful(FACTS, rows)
    assert [each.row for each in listed] == [rows[0], rows[-1]]
    assert "faster than a perfect machine" in listed[0].reason
    assert "repeats" in listed[1].reason


def test_rows_of_which_few_run_at_once_are_listed_apart() -> None:
    """Memory holds all 64 in flight: a wait of a round of prompts is one of the load, one of three answers is not."""
    rows = served_rows()
    most = max(rows, key=lambda row: row.case.scenario.batch)
    answer_s = most.case.scenario.osl * most.tpot_s
    rows += [replace(most, tpot_s=most.tpot_s * 1.01, ttft_s=share * answer_s) for share in (1.9, 3.0)]
    listed = {id(each.row): each.reason for each in doubtful(FACTS, rows)}
    flight = most.case.scenario.batch
    assert "in flight ran at once" in listed[id(rows[-1])]
    assert listed[id(rows[-1])].startswith(f"some {flight / 4:.0f} of {flight} in flight")
    assert "in flight ran at once" not in listed.get(id(rows[-2]), "")


def test_a_weighted_quantile_is_the_plain_one_for_equal_weights() -> None:
    values = np.random.default_rng(0).standard_normal(1001)
    assert weighted_quantile(values, np.ones(1001), 0.9) == pytest.approx(float(np.quantile(values, 0.9)), abs=0.01)
    assert weighted_quantile(np.array([0.0, 1.0]), np.array([1.0, 0.0]), 0.5) == 0.0


def test_facts_that_forget_a_group_give_the_band_of_something_new() -> None:
    rows = served_rows()
    (small, large) = (rows[0].case, rows[4].case)
    knowing = forgetting(FACTS, rows)
    assert {answer.band_basis for answer in predict(knowing, [small, large])} == {"stack measured"}
    blind = forgetting(FACTS, rows[:4])
    assert [answer.band_basis for answer in predict(blind, [small, large])] == ["stack measured", "new model"]
    other = large.but(model="llama-3.2-1b", chip="h200-sxm")
    assert predict(blind, [other])[0].band_basis == "new chip"
    assert predict(blind, [large.but(chip="h200-sxm")])[0].band_basis == "new model and chip"
    assert predict(blind, [small.but(engine="sglang")])[0].band_basis == "new engine"
    assert predict(blind, [small.but(engine="none")])[0].band_basis == "kernels alone"
    assert predict(blind, [small.but(chip="tpu-v5e")])[0].band_basis == "class not measured"


def test_leaving_out_needs_served_rows_and_a_known_kind() -> None:
    with pytest.raises(BadInput, match="give --anchors"):
        comparisons_with(FACTS, None, "model")
    with pytest.raises(BadInput, match="kind of group to leave out"):
        comparisons_with(FACTS, None, "city")
