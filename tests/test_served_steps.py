"""The steps of a measured server: found again from the latencies that they gave, and used by the simulation."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.facts.lawful import complaint
from flashstill.plan.bands import stack_of
from flashstill.plan.deployment import Deployment
from flashstill.plan.served import STEP_FIELDS, ServedSteps, served_steps, without_served_ratios
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import requests_of
from flashstill.simulate.results import between_values
from flashstill.simulate.simulation import Prepared, prepared, simulated
from flashstill.simulate.tables import with_served_steps
from flashstill.simulate.tally import new_tally, note
from flashstill.simulate.traffic import Traffic
from flashstill.validation.served_steps import (
    LEAST,
    MOST,
    FittedSteps,
    Load,
    _steps,
    fit_steps,
    loads_of,
    percentiles,
    step_facts,
)  # fmt: skip
from tests.deployments import FACTS

MODEL, USED = "qwen3-0.6b", Deployment(chip="h100-sxm", engine="transformers")
POLICY = Policy(sequences=8, step_tokens=256)
TRUE = ServedSteps(kernel=2.0, prompt=3.0, step_s=0.01, sequence_s=0.0005, several_s=0.004, first_s=0.02, token_s=2e-5)


def traffic(many: int) -> Traffic:
    return Traffic(concurrency=many, requests=3 * many + 4, isl=100, osl=20)


def fleet(facts: Any = FACTS) -> Prepared:
    return prepared(facts, MODEL, USED, POLICY, requests_of(traffic(1), 0)[1])


def rows_of(steps: ServedSteps) -> list[Any]:
    resolved = fleet().resolved
    stack = stack_of(resolved.model, resolved.conditions)
    return step_facts(
        FittedSteps(chip="h100-sxm", stack=stack, model=MODEL, steps=steps, loads=3, before=1.0, after=0.0),
        Path("summary.json"),
    )


def measured(many: int) -> Load:
    """What a server with the true steps would show."""
    shown = Load(traffic=traffic(many), measured=dict.fromkeys(KEYS, 1.0), output_tokens_per_s=1.0)
    return dataclasses.replace(shown, measured=percentiles(fleet(FACTS.with_rows(rows_of(TRUE))), shown))


KEYS = [(name, percentile) for name in ("ttft_s", "tpot_s") for percentile in (50, 90)]


def test_tables_with_steps() -> None:
    plain = fleet().tables
    changed = with_served_steps(plain, TRUE)
    assert np.all(changed.decode_s[0] == 0.0)
    assert np.allclose(changed.decode_s[1], 2.0 * plain.decode_s[1] + 0.01 + 0.0005)
    assert np.allclose(changed.decode_s[3], 2.0 * plain.decode_s[3] + 0.01 + 3 * 0.0005 + 0.004)
    assert np.all(changed.extra_s[:, 0] == 0.0)
    step = plain.extra_s[0, 1:] - plain.extra_s[1, 1:]  # whoever is in it
    each = 2e-5 * plain.tokens[1:, None]
    assert np.allclose(changed.extra_s[0, 1:], 2.0 * step + 3.0 * plain.extra_s[1, 1:] + each + 0.01 + 0.004)
    assert np.allclose(changed.extra_s[1, 1:], 3.0 * plain.extra_s[1, 1:] + each + 0.004)
    same = with_served_steps(plain, ServedSteps())
    assert all(np.array_equal(*pair) for pair in zip(same, plain, strict=True))


def test_steps_of_several_sequences_pay_for_their_rows_once() -> None:
    """Decoding pays already, so that a prompt beside two sequences or more adds only what it takes."""
    plain = fleet().tables
    changed = with_served_steps(plain, TRUE)
    assert plain.batches.tolist() == [0.0, 1.0, 4.0, 8.0]
    assert changed.batches.tolist() == [0.0, 1.0, 2.0, 4.0, 8.0]
    third = 2.0 / 3.0 * plain.extra_s[1] + plain.extra_s[2] / 3.0  # of two sequences, between one and four
    each = 2e-5 * plain.tokens[1:, None]
    assert np.allclose(changed.extra_s[2, 1:], 3.0 * third[1:] + each)
    assert np.allclose(changed.extra_s[3:, 1:], 3.0 * plain.extra_s[2:, 1:] + each)
    assert np.allclose(changed.extra_j[2], 2.0 / 3.0 * plain.extra_j[1] + plain.extra_j[2] / 3.0)
    again = with_served_steps(changed, ServedSteps(several_s=0.001))
    assert again.batches.tolist() == changed.batches.tolist()


def test_ranks_that_step_together_pay_as_well() -> None:
    """Times of ranks are drawn between the tables of all of them and of one alone, at the same knots."""
    plain = fleet().tables
    ranks = plain._replace(alone_decode_s=plain.decode_s, alone_extra_s=plain.extra_s)
    changed = with_served_steps(ranks, TRUE)
    assert np.array_equal(changed.alone_decode_s, changed.decode_s)
    assert np.array_equal(changed.alone_extra_s, changed.extra_s)


def test_rows_are_those_of_one_stack() -> None:
    own = FACTS.with_rows(rows_of(TRUE))
    for deployment, model, expected in (
        (USED, MODEL, TRUE), (dataclasses.replace(USED, engine="vllm"), MODEL, None), (USED, "qwen3-8b", None),
    ):  # fmt: skip
        other = prepared(own, model, deployment, POLICY, requests_of(traffic(1), 0)[1])
        assert served_steps(own, other.resolved.model, other.resolved.conditions) == expected
        assert any("was measured to take" in note for note in other.notes) == (expected is not None)
    assert not any(quantity in STEP_FIELDS for _, quantity in without_served_ratios(own).rows)
    ours = fleet(own)
    assert ours.limits.first_s == ours.way_s == 0.02
    assert ours.limits.return_s == pytest.approx(0.02 + FACTS.value("engine", "return_s"), rel=1e-12)
    answers = [simulated(each, traffic(2), requests_of(traffic(2), 0)[0]) for each in (fleet(), ours)]
    assert answers[1].latencies["tpot_s"].mean_s > answers[0].latencies["tpot_s"].mean_s + 0.01


def test_the_way_is_part_of_the_loop() -> None:
    """One request at a time: after its last token the way out, the client, and the way in, and nothing of the step."""
    own = fleet(FACTS.with_rows(rows_of(TRUE)))
    ends = []
    for turnaround_s in (0.0, 0.005):
        asked = dataclasses.replace(traffic(1), turnaround_s=turnaround_s)
        ends.append(simulated(own, asked, requests_of(asked, 0)[0]))
    assert ends[1].seconds - ends[0].seconds == pytest.approx((traffic(1).requests - 1) * 0.005, rel=1e-6)
    work_s = ends[0].latencies["end_to_end_s"].mean_s - 0.02
    assert ends[0].seconds == pytest.approx(traffic(1).requests * (work_s + 0.02) - 0.02, rel=1e-6)


def test_percentiles_are_those_of_a_load_test() -> None:
    """As numpy's of the values themselves, within half a bin, also where it lies between two kinds of requests."""
    for values in ([0.0629] * 5 + [0.0825] * 5, [0.02] * 9 + [0.9], [0.3], np.geomspace(0.01, 0.5, 101)):
        tally = new_tally(0.1)
        for value in values:
            note(tally, 0, 0, value, 1)
        for share in (0.5, 0.9):
            expected = float(np.quantile(values, share))
            assert between_values(tally.histograms[0].sum(axis=0), share) == pytest.approx(expected, rel=0.0051)


def test_what_may_be_found_may_be_read() -> None:
    """Also where a server is so slow, or the machine so busy, that the search ends at its bounds."""
    for theta in (LEAST, MOST):
        for row in rows_of(_steps(theta, typical=10.0)):
            assert complaint(row.quantity, row.unit, row.value) is None


@pytest.mark.slow
def test_steps_are_found_again() -> None:
    fitted = fit_steps(FACTS, MODEL, USED, POLICY, [measured(many) for many in (1, 4, 12)])
    assert fitted.after < 0.03 < 0.5 < fitted.before
    own = fleet(FACTS.with_rows(step_facts(fitted, Path("summary.json"))))
    for many in (2, 8, 16):  # loads that were not seen
        load = measured(many)
        for key, seconds in percentiles(own, load).items():
            assert seconds == pytest.approx(load.measured[key], rel=0.08), (many, key)


def summary(levels: int) -> dict[str, Any]:
    """A document of `measure --server`, as far as it is read."""
    found = []
    for many in (1, 4, 12)[:levels]:
        load = measured(many)
        latencies: dict[str, Any] = {name: {"n": 16, "mean": load.measured[name, 50]} for name in ("ttft_s", "tpot_s")}
        for (name, percentile), value in load.measured.items():
            latencies[name][f"p{percentile}"] = {"value": value, "low": None, "high": None}
        found.append(
            {
                "load": "concurrency", "concurrency": many, "requests": load.traffic.requests, "ok": 16, "runs": [{}],
                "prompt_tokens": 100.0, "wanted_prompt_tokens": 100.0, "output_tokens": 20.0, "latencies": latencies,
                "over_runs": {"output_tokens_per_s": {"median": 50.0}}, "burst_share": 0.2,
                "spacing_s": None if many == 1 else 0.0,
            }
        )  # fmt: skip
    return {"served_model": "student", "levels": found, "definitions": {}}


def test_what_is_read() -> None:
    (load,) = loads_of(summary(1))
    assert load.traffic == traffic(1)
    assert load.output_tokens_per_s == 50.0
    spaced = summary(2)
    spaced["levels"][1]["spacing_s"] = 0.002
    spaced["levels"][1]["turnaround_s"] = 0.001
    assert [each.traffic.spacing_s for each in loads_of(spaced)] == [0.0, 0.002]
    assert [each.traffic.turnaround_s for each in loads_of(spaced)] == [None, 0.001]
    assert set(load.measured) == set(KEYS)
    empty = summary(1)
    empty["levels"][0]["latencies"] = {}
    with pytest.raises(BadInput, match="holds no load with percentiles"):
        loads_of(empty)
    bare = summary(1)
    bare["levels"][0]["over_runs"] = {}
    with pytest.raises(BadInput, match="concurrency 1 of the measurement has no output_tokens_per_s"):
        loads_of(bare)


def test_traces_and_agents_are_no_loads() -> None:
    """Their requests do not follow from the mean lengths that a summary has."""
    for kind, value in (("trace", {"speed": 1.0}), ("agents", {"agents": 1})):
        other = summary(2)
        del other["levels"][0]["concurrency"]
        other["levels"][0] |= {"load": kind, **value}
        assert [each.traffic.concurrency for each in loads_of(other)] == [4]
        assert loads_of({**other, "levels": other["levels"][:1]}) == []


@pytest.mark.slow
def test_calibrate_and_simulate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(summary(2)))
    cases = [f"--case={each}" for each in (f"model={MODEL}", "chip=h100-sxm", "engine=transformers")]
    limits = ["--sequences", "8", "--step-tokens", "256"]
    main(["calibrate", str(tmp_path / "summary.json"), "--out", str(tmp_path / "mine"), *cases, *limits, "--json"])
    told = json.loads(capsys.readouterr().out)["steps"]
    assert told["loads"] == 2
    assert told["after"] < 0.05
    asked = ["simulate", "--model", MODEL, "--chip", "h100-sxm", "--engine", "transformers", *limits, "--json"]
    load = ["--concurrency", "8", "--requests", "28", "--isl", "100", "--osl", "20"]
    main([*asked, *load, "--facts", str(tmp_path / "mine")])
    answer = json.loads(capsys.readouterr().out)
    expected = measured(8).measured["tpot_s", 50]
    assert answer["latencies"]["tpot_s"]["p50"]["value"] == pytest.approx(expected, rel=0.1)


def test_a_percentile_counts_by_what_its_interval_leaves_open() -> None:
    """A median between two kinds of requests, 122 and 480 ms: ln(480 / 122) over 2 x 1.96 standard deviations, and
    what runs differ by; without an interval, that alone."""
    key, other = ("ttft_s", 50), ("tpot_s", 50)
    measured = {key: 0.178, other: 0.017}
    load = Load(
        traffic=Traffic(requests=20, isl=64, osl=24, concurrency=12), measured=measured, output_tokens_per_s=400.0,
        intervals={key: (0.122, 0.480)},
    )  # fmt: skip
    assert load.spread(other) == 0.05
    assert load.spread(key) == pytest.approx(math.hypot(0.05, math.log(480 / 122) / 3.92))
    assert load.spread(key) == pytest.approx(0.353, abs=1e-3)
