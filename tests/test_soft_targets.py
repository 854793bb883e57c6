"""The study of one teacher's soft targets, its drawn digits, and images that are moved anew every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flashstill.distill.classifiers.data import load
from flashstill.distill.classifiers.drawn import drawn_digits
from flashstill.distill.classifiers.fitting import Fit, fit
from flashstill.distill.classifiers.inputs import Inputs
from flashstill.distill.classifiers.nets import Nets
from flashstill.distill.classifiers.targets import hard
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes.studies import read_study, recipe_file
from flashstill.studies import run_study
from flashstill.studies.classifiers.soft_targets import BARS, GAP
from tests.images import write_images

RECIPE = """
name = "tiny"
study = "soft-targets"
seeds = 1
data = "{data}"

[teacher]
hidden = [24]
epochs = 8
batch = 30
learning_rate = 1e-2
dropout = 0.2
jitter = 1

[student]
hidden = [8]
epochs = 4
batch = 30
learning_rate = 1e-2
temperature = 20.0
count = 2
hard_weight = 0.1
"""


@pytest.mark.slow
def test_digits_follow_from_the_seed_and_are_told_apart() -> None:
    train, test = drawn_digits(200, 100)
    few, again, other = (drawn_digits(20, 10, seed=seed)[0][0] for seed in (0, 0, 1))
    assert np.array_equal(few, again)
    assert not np.array_equal(few, other)
    assert train[0].shape == (200, 28, 28)
    assert set(train[1].tolist()) == set(range(10))
    bright = train[0].reshape(200, -1).astype(float)
    nearest = ((test[0].reshape(100, 1, -1).astype(float) - bright) ** 2).sum(-1).argmin(1)
    assert (train[1][nearest] == test[1]).mean() > 0.4  # chance is 0.1


def test_an_image_is_moved_by_whole_pixels() -> None:
    values = torch.zeros(1, 7, 9)
    values[0, 3, 4] = 1.0
    index = torch.zeros(1, 400, dtype=torch.int64)
    moved = Inputs(values=values).moved(index, 2, torch.Generator().manual_seed(0)).view(400, 7, 9)
    assert bool((moved.sum((1, 2)) == 1.0).all())
    places = {tuple(place) for place in moved.nonzero()[:, 1:].tolist()}
    assert places == {(down, across) for down in range(1, 6) for across in range(2, 7)}


def test_the_edge_comes_in_from_outside() -> None:
    values = torch.arange(3.0).expand(1, 3, 3)
    moved = Inputs(values=values).moved(torch.zeros(1, 50, dtype=torch.int64), 1, torch.Generator().manual_seed(1))
    assert {tuple(row) for row in moved.view(-1, 3).tolist()} == {(0.0, 1.0, 2.0), (0.0, 0.0, 1.0), (1.0, 2.0, 2.0)}


def test_rows_of_a_table_are_not_moved() -> None:
    nets = Nets(4, (3,), 2, [0], torch.float32)
    data = Inputs(values=torch.zeros(8, 1, 4))
    with pytest.raises(BadInput, match="jitter moves images"):
        fit(
            nets,
            data,
            hard(torch.zeros(8, dtype=torch.int64)),
            Fit(epochs=1, jitter=1),
            0,
            [torch.arange(8)],
            Silent(),
            "x",
        )


@pytest.mark.slow
def test_the_study_counts_errors(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", classes=4, side=8, train=300, test=100, noise=100)
    (tmp_path / "study.toml").write_text(RECIPE.format(data=images))
    found = run_study(read_study(tmp_path / "study.toml"), [0], tmp_path / "out", Silent())
    figures = {name: figure["value"] for name, figure in found["figures"].items()}
    assert {name for name, figure in found["figures"].items() if "bar" in figure} == set(BARS)
    assert figures[GAP] == figures["labels_errors"] - figures["teacher_errors"]
    assert figures["errors_spared"] == figures["labels_errors"] - figures["soft_errors"]
    assert all(0.0 <= figures[name] < 75.0 for name in ("teacher_errors", "labels_errors", "soft_errors"))
    assert found["details"]["0"]["tested"] == 100
    assert found["figures"]["gap_closed"]["verdict"] == "not shown"


def test_the_built_in_recipe_has_the_printed_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read_study(recipe_file("hinton-2015-digits"))
    assert (recipe.teacher.hidden, recipe.teacher.jitter) == ((1200, 1200), 2)  # type: ignore[attr-defined]
    assert (recipe.student.hidden, recipe.student.temperature) == ((800, 800), 20.0)  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="nearest known: drawn-digits"):
        load("drawn-digit", 0)
