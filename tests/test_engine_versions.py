"""Engines asked for by an older version: NAME@VERSION has rows of its own, over those of the engine of today."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import flashstill as fs
from flashstill.errors import BadInput, MissingFact
from flashstill.facts import load
from flashstill.hardware import software_of
from flashstill.plan.bands import COMBINATION, STACK, stack_of
from flashstill.plan.case import Case
from flashstill.plan.predict import predict
from flashstill.plan.resolve import resolve
from flashstill.simulate.prepare import engine_default
from flashstill.validation.anchors.launched import VERSIONS, versioned
from flashstill.validation.anchors.serving import Served, groups, stack_name
from flashstill.validation.calibration.engines import with_versions

FACTS = load()
OLDER = "trtllm@1.0"
ASKED: dict[str, Any] = {
    "model": "qwen3-32b", "chip": "h100-sxm", "tp": 2, "precision": "fp8-block", "isl": 1000, "osl": 500,
    "concurrency": 8,
}  # fmt: skip


def resolved(engine: str, **changes: Any) -> Any:
    case = Case.of(**{**ASKED, **changes}, engine=engine)
    return resolve(FACTS, case.scenario, case.deployment)


def test_a_version_has_its_own_coefficients_and_the_engines_other_rows() -> None:
    older, today = software_of(FACTS, OLDER), software_of(FACTS, "trtllm")
    assert (older.name, older.version, older.asked_as) == ("trtllm", "1.0", OLDER)
    assert (today.name, today.version, today.asked_as) == ("trtllm", "", "trtllm")
    assert older.step_s == FACTS.value(f"engine-{OLDER}", "step_s") != today.step_s
    # What no row of the version says is the engine's, not that of other engines: it reserves memory for whole answers.
    assert older.reserved_ratio == today.reserved_ratio == 1.0 != software_of(FACTS, "vllm").reserved_ratio


def test_every_version_of_the_anchors_can_be_asked_for() -> None:
    for engine, versions in VERSIONS.items():
        for version in versions:
            assert software_of(FACTS, f"{engine}@{version}").version == version


@pytest.mark.parametrize("engine", ["trtllm@1.0", "TRTLLM@1.0"])
def test_the_answer_says_the_version(engine: str) -> None:
    found = resolved(engine)
    assert found.deployment.engine == OLDER
    assert found.conditions.software.name == "trtllm", "its kernels are those timed with the engine"
    again = resolve(FACTS, found.scenario, found.deployment)
    assert again.conditions.software == found.conditions.software


def test_a_version_without_rows_is_refused_with_those_that_have_some() -> None:
    with pytest.raises(MissingFact, match=r"trtllm@1\.0"):
        resolved("trtllm@1.1")
    with pytest.raises(BadInput, match="vllm"):
        resolved("vlm@1.0")


def test_a_version_is_a_stack_of_its_own() -> None:
    """Qwen3-32B was measured with TensorRT-LLM 1.0 on H100, not with a newer one."""
    keys = [stack_of(found.model, found.conditions) for found in (resolved(OLDER), resolved("trtllm"))]
    assert [key.partition("; ")[0] for key in keys] == [OLDER, "trtllm"]
    answers = predict(FACTS, [Case.of(**ASKED, engine=engine) for engine in (OLDER, "trtllm")])
    assert [answer.band_basis for answer in answers] == [STACK, COMBINATION]


def test_a_setting_of_a_class_of_chips_is_for_these_chips() -> None:
    """vLLM schedules a step ahead on GPUs and not on CPUs; other engines have no row for CPUs."""
    on_gpu = resolved("vllm").conditions
    on_cpu = replace(on_gpu, chip=replace(on_gpu.chip, chip_class="cpu"))
    assert [engine_default(FACTS, each, "steps_ahead") for each in (on_gpu, on_cpu)] == [1, 0]
    assert engine_default(FACTS, on_cpu, "running_sequences") == FACTS.value("engine-vllm", "running_sequences")


def test_a_setting_is_the_versions_before_the_engines() -> None:
    conditions = resolved(OLDER).conditions
    assert engine_default(FACTS, conditions, "steps_ahead") == FACTS.value("engine-trtllm", "steps_ahead") == 1
    row = replace(FACTS.get("engine-trtllm", "steps_ahead"), name=f"engine-{OLDER}", value=0.0)
    facts = FACTS.with_rows([row])
    assert engine_default(facts, conditions, "steps_ahead") == 0
    assert engine_default(facts, resolved("trtllm").conditions, "steps_ahead") == 1


@pytest.mark.parametrize(
    ("backend", "version", "engine"),
    [
        ("trtllm", "1.0.0rc3", OLDER),
        ("trtllm", "1.0", OLDER),
        ("trtllm", "1.2.0rc6", "trtllm"),
        ("trtllm", "1.00", "trtllm"),
        ("trtllm", "", "trtllm"),
        ("vllm", "1.0", "vllm"),
    ],
)
def test_rows_name_their_version(backend: str, version: str, engine: str) -> None:
    assert versioned({"backend": backend, "backend_version": version}) == engine


def test_a_version_is_left_out_with_its_engine() -> None:
    row = Served(case=Case.of(**ASKED, engine=OLDER), tpot_s=0.01, ttft_s=0.1, version="1.0.0rc3")
    assert ("engine", "trtllm") in groups(FACTS, row)
    assert stack_name(FACTS, row) == "trtllm 1.0.0rc3 h100-sxm qwen3-32b fp8-block"


def test_a_version_of_which_nothing_is_known_yet_can_be_fitted() -> None:
    """Before the first fit of a version its rows are priced with the engine's."""
    row = Served(case=Case.of(**ASKED, engine="vllm@0.3"), tpot_s=0.01, ttft_s=0.1)
    facts = with_versions(FACTS, [row])
    assert software_of(facts, "vllm@0.3").layer_s == software_of(FACTS, "vllm").layer_s
    assert with_versions(FACTS, []) is FACTS


def test_what_is_best_for_a_design_says_the_version() -> None:
    found = fs.codesign(
        model="qwen3-32b", chip="h100-sxm", max_chips=2, batches=(1,), doubling=False, engine=OLDER
    ).as_dict()  # fmt: skip
    assert {best["engine"] for best in found["pairs"][0]["optima"].values()} == {OLDER}
