"""The cheapest model of a quality: targets, candidates, dollars, doubt, and what cannot be reached."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.arch import load_architecture
from flashstill.arch.scaling import scaled
from flashstill.cli import main
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import load
from flashstill.plan.scenario import Scenario
from flashstill.plan.space import SearchSpace
from flashstill.quality import published
from flashstill.targets import TargetPlan, TargetQuestion, TrainedModel, parse_target, parse_trained, plan_target
from flashstill.targets import doubt as doubted
from flashstill.targets import search as searched
from flashstill.targets.candidates import Shape, Variant, tokens_of
from flashstill.targets.costs import batch_tokens, training
from tests.commands import refuse

CHIP = "h100-sxm"
LIKE = load_architecture("llama-3.1-8b")
LAW = published("besiroglu-2024")
ASKED: dict[str, Any] = {
    "target": 2.2, "like": LIKE, "chips": CHIP, "max_chips": 2, "tokens_served": 1e12, "batches": (64, 512),
    "isl": 512, "osl": 512,
}  # fmt: skip
COMMAND = [
    "plan", "--quality-target", "2.2", "--like", "llama-3.1-8b", "--chip", CHIP, "--max-chips", "2",
    "--tokens-served", "1T",
]  # fmt: skip


def question(**changes: Any) -> TargetQuestion:
    space = SearchSpace(chips=(CHIP,), max_chips=2, batches=(64, 512))
    given: dict[str, Any] = {
        "target": 2.2, "like": LIKE, "tokens_served": 1e12, "scenario": Scenario(model=LIKE, isl=512, osl=512),
        "space": space, "law": LAW, "train_chips": (CHIP,), **changes,
    }  # fmt: skip
    return TargetQuestion(**given)


@pytest.fixture
def few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searched, "SIZES", 3)
    monkeypatch.setattr(searched, "REFINED", 1)
    monkeypatch.setattr(doubted, "DRAWS", 50)


def test_a_target_is_a_loss_or_a_model() -> None:
    assert parse_target("2.1") == 2.1
    named = parse_target("as llama-3.1-8b on 15T")
    assert isinstance(named, TrainedModel)
    assert (named.name, named.tokens) == ("llama-3.1-8b", 15e12)
    assert parse_trained("qwen3-8b").tokens is None
    assert parse_trained("qwen3-8b ON 15T").tokens == 15e12
    assert parse_trained("qwen3-8b on 100B tokens").tokens == 1e11


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("good", "not a loss in nats per token such as 2.1"),
        ("-2", "not a positive number"),
        ("nan", "not a positive number"),
        ("as llama-3.1-8b on many", "no number of training tokens"),
        ("as no-such-model", "unknown model"),
    ],
)
def test_a_mistaken_target_is_a_sentence(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse_target(text)


def test_a_model_without_tokens_is_compute_optimal_under_the_law() -> None:
    """Where the loss is as elastic in N as in D: alpha A / N^alpha = beta B / D^beta for an additive law."""
    c, size = LAW.coefficients, float(LIKE.parameters)
    tokens = TrainedModel(model=LIKE).tokens_under(LAW)
    assert c["beta"] * c["B"] / tokens ** c["beta"] == pytest.approx(c["alpha"] * c["A"] / size ** c["alpha"], rel=1e-3)
    assert tokens / size == pytest.approx(20, rel=0.3)
    assert "compute-optimally" in TrainedModel(model=LIKE).notes(LAW)[0]
    assert not any("compute-optimally" in note for note in TrainedModel(model=LIKE, tokens=1e12).notes(LAW))


def test_tokens_of_many_candidates_are_those_of_each() -> None:
    shapes = [
        Shape(model=model, size=float(model.active_parameters), experts=experts)
        for experts in (1.0, 8.0)
        for model in (scaled(LIKE, 2e9, experts), scaled(LIKE, 9e9, experts))
    ]
    plain = Variant(
        chip=CHIP, precision="published", kv_precision=None, weight_bits=16, activation_bits=16, cache_bits=16
    )
    narrow = dataclasses.replace(plain, precision="fp8", weight_bits=8, activation_bits=8, cache_bits=8)
    pairs = [(shape, variant) for shape in shapes for variant in (plain, narrow)]
    found = tokens_of(question(), LAW, 2.2, None, pairs)
    for tokens, (shape, variant) in zip(found, pairs, strict=True):
        conditions: dict[str, Any] = dict(variant.conditions)
        if shape.model.routed:
            conditions["experts"] = shape.experts
        assert LAW.loss(shape.size, tokens, **conditions) == pytest.approx(2.2, rel=1e-6)
    dense, sparse = found[:4], found[4:]
    assert np.all(sparse < dense)
    assert np.all(found[1::2] > found[::2])


def test_the_batch_of_a_run_follows_from_its_tokens() -> None:
    """Step Law: 0.58 D^0.571, 4.1 million tokens at 1e12; 1,024 sequences of 4,096 are 4.2 million."""
    facts = load()
    assert batch_tokens(facts, 1e12, 4096) == 1024 * 4096
    assert batch_tokens(facts, 100, 4096) == 4096


@pytest.mark.slow
def test_training_ends_in_time_on_as_few_chips_as_can() -> None:
    model, facts = scaled(LIKE, 1e9), load()
    slow = training(facts, model, 1e11, question(train_days=60.0))
    fast = training(facts, model, 1e11, question(train_days=3.0))
    assert slow.days <= 60
    assert fast.days <= 3
    assert fast.chips > slow.chips
    assert slow.usd == pytest.approx(6 * 1e9 * 1e11 / (989e12 * slow.mfu) / 3600 * 2.2, rel=0.6)


def test_the_answer_adds_up(few_sizes: None) -> None:
    plan = plan_target(load(), question(target=parse_target("as llama-3.2-1b on 100B"), tokens_served=1e12))
    best = plan.best
    assert best.usd == pytest.approx(best.training_usd + best.teacher_usd + best.serving_usd)
    assert best.serving_usd == pytest.approx((best.usd_per_million_output_tokens or 0) * 1e6)
    assert LAW.loss(best.counted_parameters, best.training_tokens) == pytest.approx(plan.loss, rel=1e-6)
    dollars = [each.usd for each in (best, *plan.runners_up)]
    assert dollars == sorted(dollars)
    assert plan.evaluated == plan.priced + sum(plan.reasons.values())
    assert len({each.model for each in (best, *plan.runners_up)}) == 1 + len(plan.runners_up)
    assert plan.reference is not None
    assert plan.reference.training_tokens == 1e11
    doubt = plan.doubt
    assert doubt is not None
    sizes = doubt.active_parameters
    assert sizes.p10 is not None
    assert sizes.p50 is not None
    assert sizes.p90 is not None
    assert sizes.p10 <= sizes.p50 <= sizes.p90
    assert 0 <= doubt.best_is_cheapest <= 1
    assert json.dumps(plan.as_dict(), allow_nan=False)
    assert len(plan.as_records()) == 1 + len(plan.runners_up)
    assert best.model in plan._repr_html_()


def test_a_loss_below_the_laws_least_is_infeasible() -> None:
    with pytest.raises(InfeasiblePlan, match=r"under besiroglu-2024.* stays above 1\.817") as refused:
        plan_target(load(), question(target=1.7))
    assert refused.value.reasons == {"the target is below the least loss of the law": 1}


def test_a_loss_that_the_smallest_shape_beats_is_infeasible_and_says_why(few_sizes: None) -> None:
    with pytest.raises(InfeasiblePlan) as refused:
        plan_target(load(), question(target=100.0))
    assert refused.value.reasons == {"no model of this shape has the size": 3}


def test_a_teacher_below_the_laws_least_loss_is_a_mistake() -> None:
    taught = question(
        target=2.3, law=published("busbridge-2025"), teacher=parse_trained("llama-3.1-8b on 1T"), teacher_loss=0.5
    )
    with pytest.raises(BadInput, match=r"no teacher has a loss of 0\.5"):
        plan_target(load(), taught)


def test_more_candidates_than_minutes_are_refused_before_one_is_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searched, "reachable", None)  # whatever goes on fails
    many = question(experts=tuple(float(count) for count in range(1, 65)))
    chips = ("h100-sxm", "h200-sxm", "b200")
    with pytest.raises(BadInput, match="14 sizes x 64 numbers of experts x 3 chips and formats are 2,688 candidates"):
        plan_target(load(), dataclasses.replace(many, space=dataclasses.replace(many.space, chips=chips)))
    wide = dataclasses.replace(many.space, max_chips=2**17, batches=tuple(range(1, 900)))
    with pytest.raises(BadInput, match=r"configurations; a search for a student prices up to 2,000 and 20,000,000"):
        plan_target(load(), dataclasses.replace(many, space=wide))


def test_a_loss_beyond_the_teacher_is_infeasible() -> None:
    taught = question(
        target=2.0, law=published("busbridge-2025"), teacher=parse_trained("llama-3.1-8b on 1T"), teacher_loss=2.1
    )
    with pytest.raises(InfeasiblePlan, match=r"the teacher llama-3\.1-8b has 2\.1 itself"):
        plan_target(load(), taught)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens_served": -1.0}, "tokens served is -1"),
        ({"experts": (0.0,)}, r"experts is 0, not a number from 1 \(dense\)"),
        ({"experts": tuple(range(1, 200))}, "experts names 199 numbers; a search tries up to 64"),
        ({"train_days": 0.0}, "train days is 0"),
        (
            {"train_length": 10**9},
            "train length is 1,000,000,000, beyond the 131,072 tokens that llama-3.1-8b was made",
        ),
        (
            {"law": published("busbridge-2025"), "teacher": TrainedModel(model=load_architecture("bloom-176b"))},
            "train length is 4,096, beyond the 2,048 tokens that bloom-176b was made for",
        ),
        ({"students": 0}, "students must be at least 1"),
        ({"students": 2}, "name the teacher"),
        ({"teacher_loss": 2.0}, "name the teacher"),
        ({"teacher": TrainedModel(model=LIKE)}, "the law besiroglu-2024 knows no teachers; take busbridge-2025"),
        ({"train_precision": "fp4"}, "not one of bf16, fp8"),
        ({"unique_tokens": float("inf")}, "unique tokens is inf"),
    ],
)
def test_a_mistaken_question_names_what_is_wrong(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        question(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens_served": "1T"}, "tokens_served is '1T', not a number"),
        ({"target": None}, "target is None, not a number"),
        ({"experts": "1,8"}, "experts is '1,8', not a number"),
        ({"train_length": 2.5}, r"train_length is 2\.5, not a whole number"),
        ({"law": 3}, "law is 3, not a published law's name"),
        ({"runs": 3}, "runs is 3, not a text or a path"),
        ({"chips": " , "}, "chips names no chip to serve on"),
    ],
)
def test_a_value_of_another_kind_is_a_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        fs.plan_student(**{**ASKED, **changes})


def test_the_command_refuses_what_does_not_belong(capsys: pytest.CaptureFixture[str]) -> None:
    without = ["plan", "--chip", CHIP, "--max-chips", "2"]
    assert "a student needs --tokens-served" in refuse(capsys, *COMMAND[:-2])
    assert "give --like MODEL" in refuse(capsys, *without, "--quality-target", "2")
    assert "--like and --model both name the shape" in refuse(capsys, *COMMAND, "--model", "gpt2")
    assert "--teacher is of a student, which needs a --quality-target" in refuse(
        capsys, *without, "--model", "gpt2", "--teacher", "gpt2"
    )
    assert "--emit has no place beside --quality-target" in refuse(capsys, *COMMAND, "--emit", "vllm")
    assert "'--model'" in refuse(capsys, *without)
    assert "experts is '1,many'" in refuse(capsys, *COMMAND, "--experts", "1,many")
    assert "unknown scaling law" in refuse(capsys, *COMMAND, "--law", "chinchila")


def test_an_unreachable_target_leaves_3_and_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    words = [word if word != "2.2" else "1.5" for word in COMMAND]
    with pytest.raises(SystemExit) as left:
        main([*words, "--json"])
    assert left.value.code == 3
    document = json.loads(capsys.readouterr().out)
    assert document["fits"] is False
    assert document["best"] is None
    assert "stays above" in document["reason"]


@pytest.mark.slow
def test_more_tokens_served_make_a_smaller_student_trained_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searched, "SIZES", 8)
    monkeypatch.setattr(searched, "REFINED", 1)
    plans = [fs.plan_student(**{**ASKED, "tokens_served": served}) for served in (0, 1e11, 1e13)]
    sizes = [plan.best.parameters for plan in plans]
    assert sizes[0] >= sizes[1] > sizes[2]
    assert plans[0].best.training_tokens < plans[2].best.training_tokens
    assert plans[0].best.serving_usd == 0


@pytest.mark.slow
def test_a_looser_target_is_never_dearer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searched, "SIZES", 8)
    losses = (2.1, 2.2, 2.3, 2.5)
    dollars = [fs.plan_student(**{**ASKED, "max_chips": 4, "target": loss}).best.usd for loss in losses]
    assert dollars == sorted(dollars, reverse=True)


@pytest.mark.slow
def test_a_law_of_own_runs_is_not_trusted_far_beyond_them(few_sizes: None, tmp_path: Path) -> None:
    """Runs that obey 1.8 + 480 / N^0.35 + 2,000 / D^0.37, of up to 100M parameters and 10B tokens."""
    runs = tmp_path / "runs.csv"
    rows = [
        (size, tokens, 1.8 + 480 / size**0.35 + 2000 / tokens**0.37)
        for size, tokens in ((1e7, 2e8), (1e7, 2e9), (3e7, 2e9), (1e8, 1e9), (1e8, 1e10))
    ]
    runs.write_text("parameters,tokens,loss\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n")
    asked = {**ASKED, "like": load_architecture("smollm2-135m"), "runs": runs, "max_chips": 1}
    plan = fs.plan_student(**{**asked, "target": 2.95})
    assert plan.law_kind == "fitted"
    assert plan.best.counted_parameters < 1e9
    with pytest.raises(InfeasiblePlan) as refused:
        fs.plan_student(**{**asked, "target": 2.2})
    assert refused.value.reasons["size or tokens beyond what the law answers for"] > 0
    assert fs.plan_student(**{**asked, "target": 2.2}, extrapolate=True).best.counted_parameters > 1e8


@pytest.mark.slow
def test_a_teacher_is_paid_and_its_signals_are_shared(few_sizes: None) -> None:
    asked = {**ASKED, "target": 2.3, "teacher": "llama-3.1-8b on 1T", "max_chips": 4}
    alone, shared = fs.plan_student(**asked), fs.plan_student(**asked, students=10)
    assert alone.best.teacher_usd > 0
    assert alone.teacher_loss is not None
    assert shared.best.teacher_usd / shared.best.training_tokens == pytest.approx(
        alone.best.teacher_usd / alone.best.training_tokens / 10
    )
    assert shared.best.usd <= alone.best.usd
    assert alone.doubt is not None
    assert alone.doubt.cases == 3
    assert any("unverified" in note for note in alone.notes)


@pytest.mark.slow
def test_the_command_prints_the_same_as_python(few_sizes: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        *COMMAND,
        "--isl",
        "512",
        "--osl",
        "512",
        "--batch",
        "64,512",
        "--experts",
        "1,8",
        "--precision",
        "bf16,fp8",
    ]
    main([*words, "--json"])
    document = json.loads(capsys.readouterr().out)
    plan = fs.plan_student(**ASKED, experts=(1, 8), precisions=("bf16", "fp8"))
    assert document["schema"] == "flashstill.plan/1"
    assert document["best"] == plan.as_dict()["best"]
    assert document["doubt"] == plan.as_dict()["doubt"]
    assert document["question"]["quality_target"] == "2.2"
    assert isinstance(plan, TargetPlan)
    assert plan.best.experts > 1
    assert plan.best.precision == "fp8"
    students = [plan.best, *plan.runners_up]
    assert [each.usd for each in students] == sorted(each.usd for each in students)
    assert len({each.model for each in students}) == len(students)
    assert plan.evaluated == plan.priced + sum(plan.reasons.values())
    main(words)
    told = capsys.readouterr().out
    for part in ("cheapest student:", "how sure", "P10 / P50 / P90", "experts counted as the dense model"):
        assert part in told
