"""The study of classifiers on tiny images: whole, resumed, refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from flashstill.distill.classifiers.data import load
from flashstill.distill.classifiers.fitting import fit
from flashstill.distill.classifiers.nets import Nets
from flashstill.distill.models import STORED
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes.classifiers import ClassifierStudy
from flashstill.recipes.studies import read_study, recipe_file
from flashstill.records import ModelRecord, QualityRecord, read_records
from flashstill.studies import run_study
from flashstill.studies.classifiers import BARS
from flashstill.studies.classifiers import work as work_module
from flashstill.studies.classifiers.work import work_for
from tests.images import write_images
from tests.intervals import ends_of

RECIPE = """
name = "tiny"
study = "classifiers"
seeds = 1
data = "{data}"
unseen_class = 2

[variants]
copies = 3
warp = {warp}

[transfer]
copies = 4
warp = {warp}
mix = 0.3

[teacher]
hidden = [24, 24]
epochs = 6
batch = 30
learning_rate = 1e-2
dropout = 0.1

[large]
hidden = [16, 16]
epochs = 4
batch = 30
learning_rate = 1e-2
temperature = 20.0

[small_labels]
hidden = [6]
epochs = 4
batch = 30
learning_rate = 1e-2

[small]
hidden = [6]
epochs = 4
batch = 30
learning_rate = 1e-2
temperature = 2.0
count = 2

[members]
hidden = [8]
epochs = 3
batch = 30
learning_rate = 1e-2
size = 3

[one]
hidden = [8]
epochs = 4
batch = 30
learning_rate = 1e-2
temperature = 2.0

[unseen]
hidden = [8]
epochs = 6
batch = 30
learning_rate = 1e-2
temperature = 2.0

[scarce]
hidden = [6]
share = 0.1
variants = {{ copies = 20, bare = 0, warp = {warp}, mix = 1.0 }}
epochs = 2
batch = 30
learning_rate = 1e-2
label_epochs = 10
temperature = 2.0

[specialists]
clusters = 2
epochs = 1
batch = 30
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images", classes=4, side=8, train=300, test=100, noise=100)


@pytest.fixture
def recipe(tmp_path: Path, images: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(RECIPE.format(data=images, warp=0.5))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, images: Path) -> tuple[Path, dict[str, Any]]:
    """One seed of the study, made once, and what it found; whoever changes its directory takes a copy."""
    place = tmp_path_factory.mktemp("finished")
    (place / "study.toml").write_text(RECIPE.format(data=images, warp=0.5))
    return place / "out", ran(place / "study.toml", place / "out", [0])


def ran(recipe: Path, out: Path, seeds: list[int]) -> dict[str, Any]:
    return run_study(read_study(recipe), seeds, out, Silent())


def weights(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "seed-0" / "nets").glob("*.safetensors")}


@pytest.mark.slow
def test_every_part_is_told_with_its_arms(finished: tuple[Path, dict[str, Any]]) -> None:
    _, found = finished
    figures, details = found["figures"], found["details"]["0"]
    assert {name for name, figure in figures.items() if "bar" in figure} == set(BARS)
    assert figures["teacher_accuracy"]["value"] > 0.9
    assert figures["unseen_recall"]["value"] > figures["unseen_recall_before"]["value"]
    assert len(details["ensemble"]["members"]) == 3
    assert len(details["small"]["soft"]) == 2
    assert [row["class"] for row in details["unseen"]] == [0, 1, 2, 3]
    assert details["scarce"]["examples"] == 30
    assert details["small"]["parameters"] == 64 * 6 + 6 + 6 * 4 + 4
    assert figures["with_specialists_accuracy"]["value"] > 0.9


@pytest.mark.slow
def test_its_nets_are_records_as_the_models_of_a_family_are(finished: tuple[Path, dict[str, Any]]) -> None:
    place, found = finished
    records = read_records(place / "seed-0" / "records.jsonl")
    models = {each.model: each for each in records if isinstance(each, ModelRecord)}
    assert {models[name].role for name in ("teacher", "members")} == {"teacher"}
    assert (models["small-longer"].role, models["small-longer"].of) == ("control", "small-soft")
    assert (models["small-soft"].role, models["small-soft"].layers) == ("student", 2)
    accuracies = {each.model: each for each in records if isinstance(each, QualityRecord)}
    assert set(accuracies) == set(models)
    assert not [name for name in models if name.startswith("specialist")]
    for name, measure in (("teacher", "teacher_accuracy"), ("small-soft", "small_soft_accuracy")):
        figure = accuracies[name]
        assert figure.value == pytest.approx(found["figures"][measure]["value"])
        low, high = ends_of(figure)
        assert low <= figure.value <= high
        assert (figure.metric, figure.domain, figure.documents) == ("accuracy", "test", 100)


def test_going_on_from_a_net_leaves_it_as_it_is(recipe: Path, tmp_path: Path) -> None:
    found = read_study(recipe)
    assert isinstance(found, ClassifierStudy)
    at = work_for(load(found.data, 0), 0, tmp_path, Silent(), STORED, found.variants, found.transfer)
    begun = at.trained("begun", found.small_labels, at.labels_of_variants, 2)
    before = [weight.detach().clone() for weight in begun.parameters()]
    on = at.trained("on", found.small, at.labels_of_variants, 2, first=begun)
    assert all(torch.equal(old, new) for old, new in zip(before, begun.parameters(), strict=True))
    assert not torch.equal(before[0], next(on.parameters()))


@pytest.mark.slow
def test_a_seed_that_stops_half_way_goes_on(
    recipe: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fifth fit fails; what was trained before is read back, and the end is that of an uninterrupted seed."""
    straight, whole = finished
    fits = []

    def failing(*given: Any) -> Nets:
        fits.append(given[-1])
        if len(fits) == 5:
            raise KeyboardInterrupt
        return fit(*given)

    monkeypatch.setattr(work_module, "fit", failing)
    with pytest.raises(KeyboardInterrupt):
        ran(recipe, tmp_path / "out", [0])
    assert len(weights(tmp_path / "out")) == 4
    resumed = ran(recipe, tmp_path / "out", [0])
    assert resumed["details"] == whole["details"]
    assert weights(tmp_path / "out") == weights(straight)
    assert sorted(fits) == sorted([*{*fits}, fits[4]]), "only the one at work was trained twice"


@pytest.mark.slow
def test_a_seed_whose_nets_are_all_there_asks_nobody(
    recipe: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variants and what teachers say of them take minutes; nets that are read back need neither."""
    shutil.copytree(finished[0], tmp_path / "out")
    (tmp_path / "out" / "seed-0" / "result.json").unlink()

    def never(*given: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(work_module, "transfer_set", never)
    monkeypatch.setattr(work_module, "class_probabilities", never)
    assert ran(recipe, tmp_path / "out", [0])["details"] == finished[1]["details"]


@pytest.mark.slow
def test_a_killed_seed_ends_with_the_same_weights(
    recipe: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """SIGKILL as soon as the second group of nets is there; then as if nothing had been."""
    straight, whole = finished
    out = tmp_path / "out"
    command = [sys.executable, "-m", "flashstill", "run", str(recipe), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=dict(os.environ))
    deadline = time.monotonic() + 600
    while not (out / "seed-0" / "nets" / "members.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = {path: path.stat().st_mtime_ns for path in (out / "seed-0" / "nets").glob("*.safetensors")}
    assert begun
    resumed = ran(recipe, out, [0])
    assert weights(out) == weights(straight)
    assert all(path.stat().st_mtime_ns == written for path, written in begun.items()), "a net that is there stays"
    assert resumed["details"] == whole["details"]


@pytest.mark.slow
def test_a_damaged_net_is_told_of(recipe: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = shutil.copytree(finished[0], tmp_path / "out")
    (out / "seed-0" / "result.json").unlink()
    path = out / "seed-0" / "nets" / "members.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadInput, match=r"members.safetensors is damaged; remove it"):
        ran(recipe, out, [0])


@pytest.mark.slow
def test_a_table_instead_of_images(tmp_path: Path) -> None:
    rows = "".join(f"{x},{y},{int(x > 5) + int(y > 5)}\n" for x in range(12) for y in range(12))
    (tmp_path / "rows.csv").write_text("x,y,label\n" + rows)
    path = tmp_path / "study.toml"
    path.write_text(RECIPE.format(data=tmp_path / "rows.csv", warp=0.0))
    found = ran(path, tmp_path / "out", [0])
    assert found["figures"]["teacher_accuracy"]["value"] > 0.8
    path.write_text(RECIPE.format(data=tmp_path / "rows.csv", warp=0.5))
    with pytest.raises(BadInput, match="warp distorts images and cannot be used on rows of a table: set it to 0"):
        ran(path, tmp_path / "moved", [0])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs = 6", "epochs = 0", "study.toml: teacher.epochs is 0; it must be positive"),
        ("temperature = 20.0", "temperature = -1.0", "large.temperature is -1; it must be positive"),
        ("size = 3", "size = 1", "members.size is 1; it must be at least 2"),
        ("share = 0.1", "share = 1.5", "scarce.share is 1.5; it must lie between 0 and 1"),
        ("[small]\nhidden = [6]", "[small]\nhidden = [0]", r"small.hidden\[0\] is 0; it must be at least 1"),
        (
            "[members]\nhidden = [8]",
            "[members]\nhidden = [9]",
            "one.hidden is \\[8\\]; it must be that of members, \\[9\\]",
        ),
        ("copies = 3", "copies = 3\nbare = 4", "variants.bare is 4; of 3 copies no more can be left as they are"),
        ("copies = 20", "copies = 0", "scarce.variants.copies is 0; it must be at least 1"),
        ("warp = 0.5", "warp = -1.0", "variants.warp is -1; it must lie between 0 and 10"),
    ],
)
def test_recipes_that_are_not_right(recipe: Path, old: str, new: str, said: str) -> None:
    recipe.write_text(recipe.read_text().replace(old, new))
    with pytest.raises(BadInput, match=said):
        read_study(recipe)


def test_a_class_that_is_not_there(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text().replace("unseen_class = 2", "unseen_class = 9"))
    with pytest.raises(BadInput, match="unseen_class is 9, but the data has the classes 0 to 3"):
        ran(recipe, tmp_path / "out", [0])
    nets = tmp_path / "out" / "seed-0"
    assert not list(nets.rglob("*.safetensors")), "told before anything is trained"


def test_the_built_in_study_is_read() -> None:
    found = read_study(recipe_file("hinton-2015"))
    assert isinstance(found, ClassifierStudy)
    assert found.seeds == 5
    assert found.teacher.hidden == (1200, 1200)
    assert found.members.size == 10
    assert found.variants.warp > 0
