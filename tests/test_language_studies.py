"""The studies of language models: recipes that read, arms that share, one toy run of each from end to end."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from flashstill.arch.catalogue import read_config
from flashstill.distill.data.vocabulary import learn_tokenizer
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes.language import MoeToDense
from flashstill.recipes.studies import KINDS, read_study, recipe_file
from flashstill.recipes.study import StudyRecipe
from flashstill.records import ModelRecord, QualityRecord, read_records
from flashstill.studies import run_study
from flashstill.studies.arms import loads

COMMON = """
name = "toy"
study = "{study}"
seeds = 2
data = "{data}"
out_of_domain = "{other}"
{own}

[text]
window_tokens = 32
train_tokens = 1024
heldout_tokens = 256
out_of_domain_tokens = 256
"""
TRAIN = "tokens = 1024\nwindows_per_step = 4\nlearning_rate = 1e-3\ncheckpoint_every_steps = 3"


def recipe(tmp_path: Path, text_file: Path, other_text: str, study: str, own: str, tables: str) -> StudyRecipe:
    other = tmp_path / "other.txt"
    other.write_text(other_text)
    path = tmp_path / f"{study}.toml"
    path.write_text(COMMON.format(study=study, data=text_file, other=other, own=own) + tables)
    return read_study(path)


def test_the_built_in_studies_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("kd-against-labels", "kd-by-passes", "kd-by-size", "moe-to-dense", "rounding", "rounding-gpu"):
        (tmp_path / name).mkdir()  # what `run NAME --out NAME` leaves; NAME is still the recipe's
        found = read_study(recipe_file(name))
        assert (found.name, type(found)) == (name, KINDS[name.removesuffix("-gpu")])


@pytest.mark.parametrize(
    ("study", "own", "tables", "said"),
    [
        ("kd-against-labels", 'keep_layer = 3', "", "nearest known: keep_layers"),
        ("kd-against-labels", "keep_layers = 0", "", "keep_layers is 0; it must be at least 1"),
        ("moe-to-dense", "hard_weight = 1.5", "", "hard_weight is 1.5; it must"),
        ("moe-to-dense", "", "[sparse]\nhidden = 30", "heads of an even size do not fill"),
        ("moe-to-dense", "", "[sparse]\nexperts = 1", "2 of the 1 experts"),
        ("rounding", "", '[[formats]]\nname = "int5"', "nearest known: int4"),
        ("rounding", "", "", "'formats' is missing"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence_before_the_work(
    tmp_path: Path, text_file: Path, other_text: str, study: str, own: str, tables: str, said: str
) -> None:
    with pytest.raises(BadInput) as stopped:
        recipe(tmp_path, text_file, other_text, study, own, tables)
    assert said in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_a_learned_tokenizer_writes_every_text() -> None:
    tokenizer = learn_tokenizer(["the cache holds the token", "the token moves"] * 20, 300)
    for text in ("the token", "Öl\x00\n漢字", ""):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert 257 < len(tokenizer) <= 300
    assert tokenizer.eos_token_id == 0
    with pytest.raises(BadInput, match="does not hold all bytes"):
        learn_tokenizer(["text"], 256)


def weights(student: Path) -> dict[str, Any]:
    return load_file(student / "model.safetensors")


def records_of(seed: Path) -> tuple[dict[str, ModelRecord], dict[tuple[str, str, str], QualityRecord]]:
    """Models by name; quality by model, domain and metric."""
    records = read_records(seed / "records.jsonl")
    models = {each.model: each for each in records if isinstance(each, ModelRecord)}
    quality = [each for each in records if isinstance(each, QualityRecord)]
    return models, {(each.model, each.domain, each.metric): each for each in quality}


@pytest.mark.slow
def test_kd_against_labels(tmp_path: Path, tiny_teacher: Path, text_file: Path, other_text: str) -> None:
    own = f'teacher = "{tiny_teacher}"\nkeep_layers = 3'
    study = recipe(tmp_path, text_file, other_text, "kd-against-labels", own, "[train]\n" + TRAIN)
    figures = run_study(study, range(2), tmp_path / "out", Silent())["figures"]
    assert figures["KL to the teacher, held out: distilled less labels"]["high"] is not None
    assert figures["KL to the teacher, held out: distilled less labels"]["value"] < 0
    seed = tmp_path / "out" / "seed-0"
    rows = {
        arm: [
            json.loads(line) for line in (seed / "arms" / arm / "training" / "metrics.jsonl").read_text().splitlines()
        ]
        for arm in ("distilled", "labels")
    }
    assert [row["rate"] for row in rows["distilled"]] == [row["rate"] for row in rows["labels"]]
    assert len(rows["labels"]) == 8
    assert not (seed / "arms" / "labels" / "signals").exists(), "signals are shared, and labels need none"
    models, quality = records_of(seed)
    assert {name: (each.role, each.of) for name, each in models.items()} == {
        "teacher": ("teacher", "teacher"), "distilled": ("student", "distilled"),
        "labels": ("control", "distilled"), "untrained": ("untrained", "distilled"),
    }  # fmt: skip
    assert (models["labels"].layers, models["labels"].training_tokens, models["labels"].training_steps) == (3, 1024, 8)
    told = json.loads((seed / "result.json").read_text())["details"]["quality"]
    assert {key: each.value for key, each in quality.items()} == {
        (model, domain, metric): values[0]
        for model, domains in told.items()
        for domain, metrics in domains.items()
        for metric, values in metrics.items()
    }


@pytest.mark.slow
def test_moe_to_dense(tmp_path: Path, text_file: Path, other_text: str) -> None:
    """From end to end, killed and gone on; the student is a plain dense model to transformers and to the cost arm."""
    shape = "[sparse]\nlayers = 2\nhidden = 32\nexperts = 4\nexpert_neurons = 16\n"
    study = recipe(tmp_path, text_file, other_text, "moe-to-dense", "vocabulary = 320", shape + "[train]\n" + TRAIN)
    assert isinstance(study, MoeToDense)
    found = run_study(study, [0], tmp_path / "out", Silent())
    seed = tmp_path / "out" / "seed-0"
    gap = found["figures"]["sparse better than dense, nats, held out"]["value"]
    quality = found["details"]["0"]["quality"]
    nats = {name: math.log(each["heldout"]["perplexity"][0]) for name, each in quality.items()}
    assert gap == pytest.approx(nats["baseline"] - nats["teacher"])
    assert found["figures"]["gap kept"]["value"] == pytest.approx((nats["baseline"] - nats["student"]) / gap)
    sizes = found["details"]["0"]["parameters"]
    assert sizes["student"] == sizes["baseline"] < sizes["sparse"]
    student = seed / "arms" / "student" / "student"
    start, sparse = weights(seed / "starts" / "teacher"), weights(seed / "arms" / "sparse" / "student")
    kept = [name for name in start if ".mlp." not in name]
    assert all(start[name].equal(sparse[name]) for name in kept)
    assert not any(weights(seed / "starts" / "new")[name].equal(sparse[name]) for name in kept if "proj" in name)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)
    prompt = tokenizer("The cache", return_tensors="pt").input_ids
    assert model.generate(prompt, max_new_tokens=4, do_sample=False).shape[1] > prompt.shape[1]
    assert read_config(student / "config.json", "student").parameters == sizes["student"]
    models, _ = records_of(seed)
    assert {name: each.parameters for name, each in models.items() if name != "teacher"} == {
        name: size for name, size in sizes.items() if name != "sparse"
    }
    assert models["teacher"].parameters == sizes["sparse"]
    assert (models["baseline"].of, models["weights-only"].of) == ("distribution-only", "student")
    again = run_study(dataclasses.replace(study), [0], tmp_path / "again", Silent())
    assert again["figures"] == found["figures"], "a seed gives the same figures wherever it runs"


@pytest.mark.slow
def test_rounding(
    tmp_path: Path, tiny_teacher: Path, text_file: Path, other_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def watched(directories: dict[str, Path], place: Path) -> dict[str, Callable[[], Any]]:
        def watch(load: Callable[[], Any]) -> Any:
            alive.append(sum(model() is not None for model in evaluated))
            evaluated.append(weakref.ref(model := load()))
            return model

        return {name: functools.partial(watch, load) for name, load in loads(directories, place).items()}

    monkeypatch.setattr("flashstill.studies.rounding.loads", watched)
    tables = "".join(
        f'[[formats]]\nname = "{name}"\ngroup = 16\n[formats.train]\n{TRAIN}\n' for name in ("int4", "ternary")
    )
    study = recipe(tmp_path, text_file, other_text, "rounding", f'teacher = "{tiny_teacher}"', tables)
    found = run_study(study, [1], tmp_path / "out", Silent())
    figures, quality = found["figures"], found["details"]["1"]["quality"]
    kl = {name: each["heldout"]["kl_to_teacher"][0] for name, each in quality.items()}
    assert alive == [0] * 6, "models that were evaluated stay in memory"
    models, _ = records_of(tmp_path / "out" / "seed-1")
    assert (models["int4-rounded"].role, models["int4-rounded"].of) == ("untrained", "int4-distilled")
    assert {name: each.number_format for name, each in models.items() if each.role == "student"} == {
        "int4-distilled": "int4", "ternary-distilled": "ternary",
    }  # fmt: skip
    assert 0 < kl["int4-rounded"] < kl["ternary-rounded"]
    assert kl["ternary-distilled"] < kl["ternary-rounded"]
    won = 1 - kl["ternary-distilled"] / kl["ternary-rounded"]
    assert figures["ternary: KL won back"]["value"] == pytest.approx(won)
    judged = {name for name, each in figures.items() if {"bar", "holds"} <= each.keys()}
    assert judged == {"int4: KL won back", "ternary: KL won back"}, "a student can win back loss by learning the text"
    student = weights(tmp_path / "out" / "seed-1" / "arms" / "ternary-labels" / "student")
    name = next(name for name in student if name.endswith("mlp.up_proj.weight"))
    assert len(student[name].reshape(-1, 16)[0].abs().unique()) <= 2
