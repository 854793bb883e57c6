"""The public face: its names and signatures, its answers beside the command line's, sweeps, errors, what it loads."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.calls import refuses_other_keywords
from flashstill.cli import main
from flashstill.distilling import says_what_is_missing
from tests.deployments import FACTS

NAMES = {
    "BadInput", "Decision", "Deployment", "FlashstillError", "InfeasiblePlan", "MissingFact", "ReplicaView",
    "Scenario", "SearchSpace", "UnsupportedArchitecture", "acceptance", "arrays", "asic", "capacity", "cascade",
    "ceiling", "chip", "chip_search", "codesign", "distill", "draft_worth", "economics", "evaluate", "explain",
    "card", "export",
    "family_economics", "knee",
    "measure_model", "measure_server", "model", "plan_fleet", "plan_student", "predict", "quality_law", "run",
    "search", "serve", "should_distil", "simulate", "simulate_sweep", "train_cost", "trends",
}  # fmt: skip
SIGNATURES = {
    "model": ("name",),
    "chip": ("name", "facts", "set"),
    "family_economics": (
        "family", "generations", "student_growth", "tokens_per_day", "chip", "draws", "seed", "facts", "set",
    ),
    "should_distil": (
        "student", "tokens", "teacher", "teacher_tokens", "teacher_loss", "teacher_ratio", "teacher_exists",
        "students", "reading", "overhead", "unique_tokens", "tokens_range", "draws", "seed",
    ),
    "capacity": (
        "plan", "price", "rolling_hours", "gang_gap", "gang_seconds", "frontier", "told", "facts", "set",
    ),
    "cascade": ("plan", "price", "told", "facts", "set"),
    "predict": (
        "scenario", "deployment", "model", "chip", "batch", "isl", "osl", "price", "simulated", "facts", "set",
        "more",
    ),
    "explain": ("scenario", "deployment", "model", "chip", "batch", "context", "price", "facts", "set", "more"),
    "search": ("scenario", "space", "model", "chips", "max_chips", "batches", "price", "facts", "set", "more"),
    "quality_law": ("law_or_runs", "domain", "metric", "role", "teacher_loss", "extrapolate", "seed"),
    "train_cost": (
        "model", "chip", "length", "batch", "microbatch", "tokens", "price", "facts", "set", "more",
    ),
    "economics": (
        "model", "chip", "max_chips", "isl", "osl", "cached", "thinking", "tokens_per_day", "requests_per_day",
        "api_price", "grid", "utilisation", "least_replicas", "max_ttft_s", "max_tpot_s", "precision", "engine",
        "overlaps", "redundant_experts", "disaggregated", "price", "facts", "set",
    ),
    "plan_fleet": (
        "model", "chips", "trace", "slo", "max_chips", "precision", "kv_precision", "engine", "speed", "window_s",
        "cold_start_s", "disaggregated", "price", "told", "facts", "set", "more",
    ),
    "plan_student": (
        "target", "like", "chips", "max_chips", "tokens_served", "law", "runs", "domain", "role", "extrapolate",
        "experts", "teacher", "teacher_loss", "students", "unique_tokens", "train_chips", "train_days", "train_length",
        "train_precision", "price", "progress", "facts", "set", "more",
    ),
    "simulate": (
        "model", "chip", "trace", "rate", "concurrency", "seed", "price", "facts", "set", "more",
    ),
    "simulate_sweep": (
        "model", "chip", "seeds", "seed", "workers", "dask", "price", "facts", "set", "told", "more",
    ),
    "asic": (
        "model", "volume", "variant", "node", "isl", "osl", "max_ttft_s", "max_tpot_s", "precision", "kv_precision",
        "memory", "concurrency", "against", "price", "draws", "seed", "decided", "progress", "facts", "set",
    ),
    "chip_search": (
        "model", "weights", "future", "objective", "node", "year", "as_of", "isl", "osl", "max_ttft_s", "max_tpot_s",
        "precision", "memory", "designs", "volume", "demand", "max_chips", "max_batch", "told",
        "facts", "set",
    ),
    "codesign": (
        "model", "chip", "isl", "osl", "max_chips", "batches", "max_ttft_s", "max_tpot_s", "min_tokens_per_s",
        "precisions", "kv_precisions", "tiers", "engine", "overlaps", "redundant_experts", "burst_share",
        "batching_steps", "cohort", "cached_ratio", "isl_cv", "osl_cv", "price", "doubling", "facts", "set",
    ),
    "trends": (
        "year", "as_of", "against", "model", "isl", "osl", "concurrency", "facts", "set",
    ),
    "ceiling": (
        "model", "chip", "memory", "sync_s", "context", "wanted", "precision", "max_chips", "operation_s", "facts",
        "set",
    ),
    "arrays": (
        "model", "tokens", "edge", "precision", "node", "multipliers", "overlapped", "facts", "set",
    ),
    "serve": (
        "directory", "engine", "engine_python", "plan", "sequences", "length", "arithmetic", "name", "host", "port",
        "log", "wait_s",
    ),
    "knee": ("model", "chip", "trace", "percentile", "seed", "facts", "set", "more"),
    "measure_model": ("model", "batch", "context", "repeats", "arithmetic", "out", "progress"),
    "measure_server": ("server", "concurrency", "rate", "trace", "agents", "case", "out", "progress", "more"),
    "acceptance": (
        "target", "drafts", "data", "draft_tokens", "temperatures", "top_p", "documents", "prompt_tokens", "new_tokens",
        "counted", "seed", "arithmetic", "out", "progress",
    ),
    "draft_worth": (
        "model", "chip", "draft", "batches", "draft_tokens", "isl", "osl", "price", "facts", "set", "more",
    ),
    "run": ("recipe", "out", "seed", "minutes", "arithmetic", "log", "progress"),
    "distill": ("recipe", "out", "arithmetic", "log", "progress"),
    "evaluate": (
        "models", "texts", "teacher", "control", "base", "metrics", "tokens", "window_tokens", "seed", "arithmetic",
        "out", "chat_template", "tasks", "items", "attempts", "chat", "allow_task_code", "progress",
    ),
    "card": ("directory", "records", "model", "chips", "base_model", "license_id", "replace"),
    "export": ("model", "out", "file_format", "number_format", "base", "progress"),
    "Scenario": (
        "model", "isl", "osl", "batch", "context", "chunk", "batching_steps", "burst_share", "cohort", "cached_ratio",
        "isl_cv", "osl_cv",
        "draft", "draft_tokens", "acceptance", "acceptance_decay", "measured_acceptance", "max_ttft_s",
        "max_tpot_s", "min_tokens_per_s",
    ),
    "Deployment": (
        "chip", "chips", "tp", "pp", "ep", "dp", "redundant_experts", "prefill_chips", "prefill_tp", "prefill_pp",
        "prefill_ep", "prefill_dp", "prefill_redundant_experts", "prefill_instances", "topology", "precision",
        "kv_precision", "weights_in", "kv_in", "engine", "sampling", "overlap",
    ),
    "SearchSpace": (
        "chips", "max_chips", "batches", "precisions", "kv_precisions", "tiers", "engine", "draft_tokens",
        "redundant_experts", "overlaps", "disaggregated",
    ),
}  # fmt: skip
CASE: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm"}


def test_the_names_that_are_promised() -> None:
    assert set(fs.__all__) == NAMES
    assert set(dir(fs)) >= NAMES
    assert fs.__all__ == sorted(fs.__all__)
    for name in fs.__all__:
        assert inspect.getdoc(getattr(fs, name)), f"{name} has no documentation"
    with pytest.raises(AttributeError, match="no attribute 'predikt'"):
        fs.predikt  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_signatures(name: str) -> None:
    assert tuple(inspect.signature(getattr(fs, name)).parameters) == SIGNATURES[name]


@pytest.mark.parametrize("name", sorted(name for name in SIGNATURES if not inspect.isclass(getattr(fs, name))))
def test_a_call_that_does_not_fit_names_what_is_wrong(name: str) -> None:
    """Whatever the function: what is missing, or the nearest keyword; never a bare TypeError."""
    function = getattr(fs, name)
    with pytest.raises(fs.BadInput) as stop:
        function(no_such_keyword=1)
    assert "unknown keyword" in str(stop.value) or "need" in str(stop.value) or "give" in str(stop.value)
    with pytest.raises(fs.BadInput):
        function(*range(40))


@pytest.mark.parametrize(
    ("function", "given", "sentence"),
    [
        ("plan_fleet", {"model": "m", "chip": "c", "trace": "t", "slo": "s"}, "needs chips; is 'chip' meant to be"),
        ("simulate", {"model": "m", "chips": "c", "rate": 1.0}, "simulate needs chip; is 'chips' meant to be that?"),
        ("measure_server", {"rate": 1.0}, "measure_server needs server"),
        ("measure_model", {"modle": "m"}, "unknown keyword of measure_model 'modle'; the nearest known: model"),
        ("economics", {"model": "m", "chp": "c"}, "unknown keyword of economics 'chp'; the nearest known: chip"),
        ("plan_fleet", {"model": "m", "chips": "c", "trace": "t", "slo": "s", "max_chip": 1},
         "unknown keyword of plan_fleet 'max_chip'; the nearest known: max_chips"),
        ("distill", {"recpe": "r"}, "unknown keyword of distill 'recpe'; the nearest known: recipe"),
    ],
)  # fmt: skip
def test_the_nearest_keyword(function: str, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(fs.BadInput) as stop:
        getattr(fs, function)(**given)
    assert sentence in str(stop.value)


def test_a_mistake_inside_a_call_stays_one() -> None:
    """A TypeError of a call that fits is a fault of the program, and is not dressed up."""

    def broken(size: int) -> int:
        return size + "x"  # type: ignore[operator]

    with pytest.raises(TypeError, match="unsupported operand"):
        refuses_other_keywords(broken)(3)


def test_an_import_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import flashstill; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["flashstill"]
    code = (
        f"import sys, flashstill as fs; fs.predict(**{CASE}); fs.quality_law('besiroglu-2024').predict(1e9, 1e11);"
        " print(*{each.split('.')[0] for each in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "transformers", "scipy", "click", "pydantic", "pandas"} & set(done.stdout.split()) == set()


def test_the_command_line_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    def told(command: str, *more: str) -> Any:
        main([command, "--model", "qwen3-8b", *more, "--json"])
        document = json.loads(capsys.readouterr().out)
        return {name: value for name, value in document.items() if name not in ("schema", "version", "question")}

    shape: dict[str, Any] = {"batch": 8, "isl": 300, "osl": 200}
    answer = fs.predict(**CASE, **shape)
    flags = ("--concurrency", "8", "--isl", "300", "--osl", "200")
    assert told("predict", "--chip", "h100-sxm", *flags) == {**answer.figures(), "edits": []}
    step = fs.explain(**CASE, batch=8, context=400)
    assert told("explain", "--chip", "h100-sxm", "--batch", "8", "--context", "400") == {**step.as_dict(), "edits": []}
    assert fs.explain(fs.Scenario(model="qwen3-8b", **shape), fs.Deployment(chip="h100-sxm")).cost == step.cost
    found = fs.search(model="qwen3-8b", chips="h100-sxm", max_chips=2, isl=300, osl=200, batches=[1, 8])
    wide = ("--chips-from", "h100-sxm", "--max-chips", "2", "--isl", "300", "--osl", "200", "--batch", "1,8")
    assert json.loads(json.dumps(told("plan", *wide)["front"])) == json.loads(json.dumps(found.as_records()))


class TestSweeps:
    def test_every_combination_in_order(self) -> None:
        found = fs.predict(model="qwen3-8b", chip=["h100-sxm", "tpu-v6e"], batch=np.array([1, 16, 64]), tp=1)
        assert [(row["chip"], row["batch"]) for row in found.as_records()] == [
            (chip, batch) for chip in ("h100-sxm", "tpu-v6e") for batch in (1, 16, 64)
        ]
        alone = fs.predict(model="qwen3-8b", chip="tpu-v6e", batch=16, tp=1)
        assert found[4] == alone
        assert found.column("tpot_s")[4] == alone.tpot_s
        assert len(found) == len(list(found)) == 6
        assert json.loads(json.dumps(found.as_dict()))["outcomes"][4] == json.loads(json.dumps(alone.as_dict()))

    def test_combinations_without_an_answer_say_why(self) -> None:
        found = fs.predict(**CASE, tp=[1, 3, 64])
        assert [row["fits"] for row in found.as_records()] == [True, False, False]
        assert [refusal.question["tp"] for refusal in found.refused] == [3, 64]
        assert (
            found.as_records()[1]["reason"]
            == "tp does not divide the heads: 32 heads over 3 chips; the nearest that does is 4"
        )
        assert len(found) == 1
        steps = fs.explain(model="llama-3.1-70b", chip="h100-sxm", batch=[1, 16], chips=[1, 4])
        assert [row["fits"] for row in steps.as_records()] == [False, False, True, True]

    def test_scenarios_on_deployments(self) -> None:
        scenarios = [fs.Scenario(model="qwen3-8b", batch=batch) for batch in (1, 2)]
        deployments = [fs.Deployment(chip=name) for name in ("h100-sxm", "h200-sxm")]
        found = fs.predict(scenarios, deployments)
        assert [(answer.scenario.batch, answer.deployment.chip) for answer in found] == [
            (1, "h100-sxm"), (1, "h200-sxm"), (2, "h100-sxm"), (2, "h200-sxm"),
        ]  # fmt: skip
        assert all(answer.deployment.engine == "vllm" for answer in found)

    def test_bounds_are_told(self) -> None:
        loose, tight = (fs.predict(**CASE, max_tpot_s=bound) for bound in (1.0, 1e-6))
        assert (loose.broken_bounds, tight.broken_bounds) == ((), ("tpot above the bound",))
        assert [answer.as_records()[0]["within_bounds"] for answer in (loose, tight)] == [True, False]


def test_what_if_edits() -> None:
    rate = FACTS.value("h100-sxm", "memory_bytes_per_s")
    plain, same = fs.predict(**CASE), fs.predict(**CASE, set={"h100-sxm.memory_bytes_per_s": rate})
    assert plain.tpot_s == same.tpot_s
    faster = fs.predict(**CASE, set={"h100-sxm.memory_bytes_per_s": "6.7TB/s"})
    assert faster.tpot_s is not None
    assert plain.tpot_s is not None
    assert faster.tpot_s < plain.tpot_s
    assert fs.chip("h100-sxm", set={"h100-sxm.memory_bytes_per_s": 5e12}).memory.bytes_per_s == 5e12
    assert fs.predict(**CASE, facts=FACTS) == plain


@pytest.mark.parametrize(
    ("asked", "kind", "sentence"),
    [
        ({"chip": "h1000"}, fs.MissingFact, "unknown chip 'h1000'; the nearest known"),
        ({"chip": ["h100-sxm", "h1000"]}, fs.MissingFact, "unknown chip 'h1000'"),
        ({"chip": None}, fs.BadInput, "give chip="),
        ({"batches": 3}, fs.BadInput, "unknown keyword 'batches'; the nearest known: batch"),
        ({"batch": "3"}, fs.BadInput, "batch is '3', not a whole number"),
        ({"batch": 2.5}, fs.BadInput, "batch is 2.5, not a whole number"),
        ({"acceptance": "high"}, fs.BadInput, "acceptance is 'high', not a number"),
        ({"engine": 3}, fs.BadInput, "engine is 3, not a text"),
        ({"batch": []}, fs.BadInput, "batch is empty"),
        ({"batch": 0}, fs.BadInput, "the number of requests in flight must be at least 1"),
        ({"max_tpot_s": -1.0}, fs.BadInput, "max_tpot_s must be above 0"),
        ({"price": "leased"}, fs.BadInput, "unknown price basis 'leased'"),
        ({"tp": [3, 5]}, fs.BadInput, "tp does not divide the heads"),
        ({"model": "llama-3.1-405b", "chips": 1}, fs.InfeasiblePlan, "does not fit in memory"),
        ({"scenario": fs.Scenario(model="qwen3-8b")}, fs.BadInput, "name it there"),
    ],
)
def test_mistakes_are_our_exceptions(asked: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        fs.predict(**{**CASE, **asked})


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"batches": ["1"]}, "batches is '1', not a whole number"),
        ({"max_chips": "2"}, "max_chips is '2', not a whole number"),
        ({"isl": "10"}, "isl is '10', not a whole number"),
        ({"engine": ["vllm"]}, "engine is .*, not a text"),
        ({"batches": []}, "batches is empty"),
        ({"max_chip": 2}, "unknown keyword 'max_chip'; the nearest known: max_chips"),
        ({"max_chips": None}, "a search needs max_chips="),
        ({"model": 3}, "model is 3, not a name"),
        ({"scenario": fs.Scenario(model="qwen3-8b")}, "name it there"),
    ],
)
def test_mistakes_in_a_search(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(fs.BadInput, match=sentence):
        fs.search(**{"model": "qwen3-8b", "chips": "h100-sxm", "max_chips": 1, **asked})


def test_a_search_takes_arrays_and_no_keywords_beside_values() -> None:
    keywords: dict[str, Any] = {"model": "qwen3-8b", "chips": "h100-sxm", "max_chips": 1}
    whole = fs.search(**keywords, batches=np.array([1, 4]))
    assert whole.front == fs.search(**keywords, batches=(1, 4)).front
    scenario, space = fs.Scenario(model="qwen3-8b"), fs.SearchSpace(chips=("h100-sxm",), max_chips=1, batches=(1, 4))
    assert fs.search(scenario, space).front == whole.front
    with pytest.raises(fs.BadInput, match="max_ttft_s is a field of the Scenario or the SearchSpace"):
        fs.search(scenario, space, max_ttft_s=1e-9)
    with pytest.raises(fs.BadInput, match="give a Scenario and a SearchSpace"):
        fs.search(scenario)


@pytest.mark.parametrize(
    ("scenario", "deployment", "sentence"),
    [
        ({"batch": 2.5}, {}, "batch is 2.5, not a whole number"),
        ({"isl": "10"}, {}, "isl is '10', not a whole number"),
        ({}, {"tp": "2"}, "tp is '2', not a whole number"),
        ({}, {"precision": 8}, "precision is 8, not a text"),
        ({"batch": None}, {}, "batch is None, not a whole number"),
    ],
)
def test_values_of_another_kind(scenario: dict[str, Any], deployment: dict[str, Any], sentence: str) -> None:
    with pytest.raises(fs.BadInput, match=sentence):
        fs.predict(fs.Scenario(model="qwen3-8b", **scenario), fs.Deployment(chip="h100-sxm", **deployment))


def test_answers_are_frozen_and_shown_escaped() -> None:
    answer = fs.predict(**CASE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.tpot_s = 1.0
    found = fs.search(model="qwen3-8b", chips="h100-sxm", max_chips=1, batches=1)
    for shown in (answer, fs.explain(**CASE), fs.predict(**CASE, batch=[1, 2]), found):
        assert shown._repr_html_().startswith("<table>")
    shape = dataclasses.replace(fs.model("qwen3-8b"), name="<script>")
    assert "<script>" not in fs.predict(model=shape, chip="h100-sxm")._repr_html_()
    assert "&lt;script&gt;" in fs.predict(model=shape, chip="h100-sxm")._repr_html_()


@pytest.mark.slow
def test_rooms_of_the_same_name_can_be_called() -> None:
    code = (
        "import inspect, sys, flashstill as fs, flashstill.distill as room\n"
        "assert sys.modules['flashstill.distill'] is room is fs.distill\n"
        "print(*inspect.signature(fs.distill).parameters)\n"
        "try: fs.distill('no-such-recipe.toml', 'out')\n"
        "except fs.BadInput as error: print(error)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parameters, sentence = done.stdout.splitlines()
    assert parameters == "recipe out arithmetic log progress"
    assert sentence == "there is no recipe at no-such-recipe.toml"


def test_a_package_that_is_missing_is_told_with_its_extra() -> None:
    def needs_torch() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    def has_a_fault() -> None:
        raise ModuleNotFoundError("No module named 'flashstill.nowhere'", name="flashstill.nowhere")

    with pytest.raises(
        fs.BadInput, match=r"needs the package 'torch', which is not installed; pip install .*flashstill\["
    ):
        says_what_is_missing(needs_torch)()
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        says_what_is_missing(has_a_fault)()
    with pytest.raises(fs.BadInput, match="there is no recipe at"):
        fs.run("no-such-recipe", "out")


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"facts": 3}, "facts is a directory, several, or"),
        ({"facts": [None]}, "facts is a directory, several, or"),
        ({"set": ["h100-sxm.memory_bytes=1"]}, "set is a mapping"),
        ({"set": {"h100-sxm.memory_bytes": None}}, "neither a number nor a text"),
        ({"set": {"h100-sxm.memory_bytes": True}}, "neither a number nor a text"),
    ],
)
def test_facts_and_edits_of_another_kind_are_refused(keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(fs.BadInput, match=told):
        fs.predict(**CASE, **keywords)
