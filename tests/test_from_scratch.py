"""The studies of small Llamas that are all trained here: by size, and by passes over the same text."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes.from_scratch import KdByPasses, KdBySize, LlamaRecipe
from flashstill.recipes.studies import read_study, recipe_file
from flashstill.recipes.study import StudyRecipe
from flashstill.studies import kd_by_passes, kd_by_size, run_study
from flashstill.studies.arms import Quality
from flashstill.studies.seeds import together
from flashstill.verdicts import HOLDS, MISSED, NOT_SHOWN


def quality(losses: dict[str, float]) -> Quality:
    """What an evaluation gives, from losses in nats; 0.5 more in the other domain."""
    return {
        name: {
            domain: {"perplexity": [math.exp(loss + more)] * 3, "kl_to_teacher": [0.1] * 3}
            for domain, more in (("heldout", 0.0), ("out-of-domain", 0.5))
        }
        for name, loss in losses.items()
    }


def built_in(name: str) -> StudyRecipe:
    return read_study(recipe_file(name))


def test_what_is_saved_by_size_is_counted_from_labels() -> None:
    recipe = built_in("kd-by-size")
    assert isinstance(recipe, KdBySize)
    small, middle, large = (student.name for student in recipe.students)
    losses = {"teacher": 2.5}
    for name, labels, saved in ((small, 4.0, 0.1), (middle, 3.5, 0.05), (large, 3.0, 0.2)):
        losses |= {f"{name}-labels": labels, f"{name}-distilled": labels - saved}
    found = kd_by_size.result(recipe, quality(losses))
    assert found.measures["nats saved, least of all sizes"] == pytest.approx(0.05)
    assert found.measures[f"perplexity saved, {large}"] == pytest.approx(math.exp(3.0) - math.exp(2.8))
    assert found.measures[f"loss, other domain: {small}, labels"] == pytest.approx(4.5)
    saved, at_first = found.shares["saved by the largest over the smallest"]
    assert saved / at_first == pytest.approx(2.0)
    figures = together([found, found], kd_by_size.BARS)
    assert figures["saved by the largest over the smallest"]["verdict"] == HOLDS
    worse = dataclasses.replace(found, measures={**found.measures, "nats saved, smallest": -0.1})
    figures = together([found, worse], kd_by_size.BARS)
    assert figures["saved by the largest over the smallest"]["verdict"] == NOT_SHOWN, "a gain that may be none"


def test_the_gap_by_passes_is_that_of_labels_after_the_fewest() -> None:
    recipe = built_in("kd-by-passes")
    assert isinstance(recipe, KdByPasses)
    recipe = dataclasses.replace(recipe, passes=(1, 4))
    losses = {"teacher": 2.0, "1-labels": 4.0, "1-distilled": 3.5, "4-labels": 3.9, "4-distilled": 2.5}
    found = kd_by_passes.result(recipe, quality(losses))
    shares = {name: a / b for name, (a, b) in found.shares.items() if not name.endswith("domain")}
    assert shares == pytest.approx({
        "gap closed, distilled, 1 pass": 0.25, "gap closed, distilled, 4 passes": 0.75,
        "gap closed, labels, 1 pass": 0.0, "gap closed, labels, 4 passes": 0.05,
        "gap closed, distilled, most passes": 0.75,
    })  # fmt: skip
    assert found.measures["nats that passes save, distilled less labels"] == pytest.approx(0.9)
    verdicts = {name: figure.get("verdict") for name, figure in together([found, found], kd_by_passes.BARS).items()}
    assert verdicts["gap closed, distilled, most passes"] == MISSED
    assert verdicts["nats that passes save, distilled less labels"] == HOLDS


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("kd-by-size", {"students": (LlamaRecipe(name="a"), LlamaRecipe(name="a"))}, "two students have the name a"),
        ("kd-by-size", {"students": (LlamaRecipe(hidden=24), LlamaRecipe(name="b"))}, "width of 24, which heads of 16"),
        ("kd-by-passes", {"passes": (4, 1)}, "they must rise"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_the_work(name: str, changes: dict[str, Any], said: str) -> None:
    assert said in "; ".join(dataclasses.replace(built_in(name), **changes).problems())


def test_a_teacher_with_less_text_than_its_students_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(recipe_file("kd-by-size").read_text().replace("text_tokens = 512_000", "text_tokens = 1_000"))
    with pytest.raises(BadInput, match="must be at least the"):
        read_study(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kd-by-size", "kd-by-passes"])
def test_a_toy_run(tmp_path: Path, text_file: Path, other_text: str, kind: str) -> None:
    other = tmp_path / "other.txt"
    other.write_text(other_text)
    students = '[[students]]\nname = "a"\nlayers = 1\nhidden = 16\n[[students]]\nname = "b"\nhidden = 32\n'
    train = "windows_per_step = 4\nlearning_rate = 1e-2\ncheckpoint_every_steps = 50\n"
    path = tmp_path / "toy.toml"
    path.write_text(
        f'name = "toy"\nstudy = "{kind}"\nseeds = 2\ndata = "{text_file}"\nout_of_domain = "{other}"\n'
        f'vocabulary = 320\narithmetic = "fp32"\n{"" if kind == "kd-by-size" else "passes = [1, 2]"}\n'
        "[text]\nwindow_tokens = 32\ntrain_tokens = 1_024\nheldout_tokens = 256\nout_of_domain_tokens = 256\n"
        f"[teacher]\nlayers = 1\nhidden = 32\ntext_tokens = 2_048\n[teacher.train]\ntokens = 4_096\n{train}"
        f"{students if kind == 'kd-by-size' else ''}[train]\n{train}"
    )
    study = read_study(path)
    found = run_study(study, [0], tmp_path / "out", Silent())
    seed = tmp_path / "out" / "seed-0"
    steps = {
        arm.name: len((arm / "training" / "metrics.jsonl").read_text().splitlines())
        for arm in (seed / "arms").iterdir()
    }
    wanted = {"a-distilled": 8, "a-labels": 8, "b-distilled": 8, "b-labels": 8}
    by_passes = {"1-distilled": 8, "1-labels": 8, "2-distilled": 16, "2-labels": 16}
    assert steps == {"teacher": 32, **(wanted if kind == "kd-by-size" else by_passes)}
    whole, some = (load_file(seed / name / "train.safetensors")["tokens"] for name in ("data-teacher", "data"))
    assert (len(whole), len(some)) == (64, 32)
    known = {row.tobytes() for row in whole.numpy()}
    assert {row.tobytes() for row in some.numpy()} < known, "the students' windows are a sample of the teacher's"
    assert not torch.equal(some, whole[:32])
    told = json.loads((seed / "result.json").read_text())["details"]["quality"]
    assert told["teacher"]["heldout"]["kl_to_teacher"][0] == 0.0
    assert {name for name, figure in found["figures"].items() if "bar" in figure} == set(
        kd_by_size.BARS if kind == "kd-by-size" else kd_by_passes.BARS
    )
