"""A run goes on in its directory: what may change in between and what may not, and what is told of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from flashstill.distill.data.packing import Packed
from flashstill.distill.models import keep_layers
from flashstill.distill.training import Offline, TrainRecipe, checkpoints, hard, learning_rate_at, train
from flashstill.errors import BadInput
from flashstill.progress import Advance, Silent
from flashstill.recipes import DistillRecipe, FamilyRecipe, StudentRecipe, read_distillation, to_toml
from flashstill.recipes.regime import RegimeRecipe, RolloutRecipe
from flashstill.recipes.resuming import RULES, changes_of, loop_keys, rule_of
from flashstill.recipes.teachers import TeacherRecipe
from flashstill.recipes.thinking import TaskRecipe, ThinkingStudy
from flashstill.recipes.training import TrainTable
from flashstill.runs.distillation import run_distillation
from flashstill.runs.run_lock import CHANGES, adopt, claim, free_if_unused, lock
from tests.distillations import metrics, same, written
from tests.distillations import weights as weights_of
from tests.recorded_progress import RecordedProgress
from tests.tensors import weights

SILENT = Silent()
LOCAL = TeacherRecipe(model="/a/teacher")
ONE = DistillRecipe(name="one", teachers=(LOCAL,), losses=(), hard_weight=1.0)
TRAIN = TrainRecipe(tokens=1024, windows_per_step=4, learning_rate=1e-3, checkpoint_every_steps=2)


def trained(recipe: DistillRecipe, **changes: Any) -> DistillRecipe:
    return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **changes))


class TestRecipes:
    """recipes/resuming.py is the table; runs/run_lock.py follows it."""

    def test_every_rule_names_a_key(self) -> None:
        served = dataclasses.replace(ONE, teachers=(TeacherRecipe(model="http://a/v1", name="a", tokenizer="b"),))
        keys = {change.key.replace("[0]", "") for change in changes_of(ONE, served)} | {
            f"{table}.{name}" for table in ("train", "signals") for name in dataclasses.asdict(ONE)[table]
        } | {f"teachers.{name}" for name in dataclasses.asdict(LOCAL)} | {
            f"regime.rollouts.{name}" for name in dataclasses.asdict(RolloutRecipe())
        }  # fmt: skip
        study = dataclasses.asdict(
            ThinkingStudy(name="s", study="deep-think", task=TaskRecipe(source="gym:a"), chip="c", seeds=1)
        )
        tables = ("teach", "learn", "policy", "think", "teacher", "student")
        keys |= {"teacher", *(f"{table}.{name}" for table in tables for name in study[table])}  # of studies of language
        keys |= {f"{table}.{name}" for table in ("student", "students") for name in dataclasses.asdict(ONE.student)}
        own = {*dataclasses.asdict(ONE.student), *dataclasses.asdict(ONE)}
        assert {rule.key for rule in RULES} <= keys | own
        assert loop_keys() <= {entry.name for entry in dataclasses.fields(TrainTable)}

    @pytest.mark.parametrize(
        "changed",
        [
            trained(ONE, micro_windows=2),
            trained(ONE, tokens=200_000, checkpoint_every_steps=7),
            dataclasses.replace(ONE, teachers=(dataclasses.replace(LOCAL, in_flight=3, time_limit_s=9.0),)),
            dataclasses.replace(ONE, regime=RegimeRecipe(rollouts=RolloutRecipe(server="http://b/v1", name="b"))),
        ],
    )
    def test_what_may_change(self, tmp_path: Path, changed: DistillRecipe) -> None:
        assert claim(ONE, tmp_path, "distill.toml") == []
        changes, progress = claim(changed, tmp_path, "distill.toml"), RecordedProgress()
        assert tomllib.loads((tmp_path / "distill.toml").read_text()) == tomllib.loads(to_toml(ONE)), "not yet"
        adopt(changed, tmp_path, "distill.toml", changes, progress)
        assert claim(changed, tmp_path, "distill.toml") == []
        rows = [json.loads(line) for line in (tmp_path / CHANGES).read_text().splitlines()]
        assert [row["key"] for row in rows] == [change.key for change in changes]
        assert len(progress.lines) == len(rows) >= 1
        assert all(row["was"] != row["now"] for row in rows)

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            (dataclasses.replace(ONE, seed=4), r"\(seed was 0\); now seed is 4"),
            (trained(ONE, learning_rate=0.01), r"\(train.learning_rate was 0.0003\); now train.learning_rate is 0.01"),
            (trained(ONE, tokens=1000), r"train.tokens was 102,400\); now train.tokens is 1,000"),
            (
                dataclasses.replace(ONE, teachers=(TeacherRecipe(model="/another"),)),
                r"teachers\[0\].model was '/a/teacher'\); now teachers\[0\].model is '/another'",
            ),
            (
                dataclasses.replace(ONE, teachers=(LOCAL, TeacherRecipe(model="/b"))),
                r"teachers\[1\].model was none.*teachers\[1\].model is '/b'",
            ),
        ],
    )
    def test_what_may_not(self, tmp_path: Path, changed: DistillRecipe, said: str) -> None:
        claim(ONE, tmp_path, "distill.toml")
        with pytest.raises(BadInput, match=said):
            claim(changed, tmp_path, "distill.toml")
        with pytest.raises(BadInput, match=said):  # also beside a change that is allowed
            claim(trained(changed, micro_windows=2), tmp_path, "distill.toml")

    def test_a_server_that_has_moved(self) -> None:
        here, there = (TeacherRecipe(model=f"http://{host}:8000/v1", name="a", tokenizer="b") for host in "ab")
        first, second = (dataclasses.replace(ONE, teachers=(each,)) for each in (here, there))
        (change,) = changes_of(first, second)
        assert rule_of(change, alone=True) is not None
        (change, *_) = changes_of(ONE, second)
        assert rule_of(change, alone=True) is None

    def test_students_of_a_family(self) -> None:
        """Passes may change, since the sentence about memory that runs out says so; tokens are shared by controls."""
        student = StudentRecipe(name="half", keep_layers=3)
        family = FamilyRecipe(name="f", teachers=(LOCAL,), students=(student,))
        for train_table, allowed in ((TrainTable(micro_windows=2), True), (TrainTable(tokens=10**6), False)):
            other = dataclasses.replace(family, students=(dataclasses.replace(student, train=train_table),))
            (change,) = changes_of(family, other)
            assert change.key.startswith("students[0].train.")
            assert (rule_of(change, alone=False) is not None) == allowed

    def test_a_study_with_less_memory(self) -> None:
        """What the sentence about memory advises to lower, and nothing that other texts would follow from."""
        plain = ThinkingStudy(name="s", study="deep-think", task=TaskRecipe(source="gym:a"), chip="c")
        for table, allowed, changes in (
            ("think", True, {"rows_at_a_time": 3}), ("policy", True, {"micro_windows": 4}),
            ("learn", True, {"micro_windows": 4, "checkpoint_every_steps": 3}), ("teach", True, {"micro_windows": 4}),
            ("think", False, {"attempts": 3}), ("policy", False, {"attempts": 3}),
        ):  # fmt: skip
            other = dataclasses.replace(plain, **{table: dataclasses.replace(getattr(plain, table), **changes)})
            for change in changes_of(plain, other):
                assert (rule_of(change, alone=False) is not None) == allowed, change

    @pytest.mark.parametrize(("rate", "goes_on"), [(1e-3, True), (2e-3, False)])
    def test_a_balance_rate_that_an_older_version_wrote_down(self, rate: float, goes_on: bool) -> None:
        """It wrote its default into the recipe of every student, also of those without routers."""
        old = dataclasses.replace(ONE, student=dataclasses.replace(ONE.student, balance_rate=rate))
        member = StudentRecipe(name="half", keep_layers=3)
        family = FamilyRecipe(name="f", teachers=(LOCAL,), students=(member,))
        old_family = dataclasses.replace(family, students=(dataclasses.replace(member, balance_rate=rate),))
        for recorded, recipe in ((old, ONE), (old_family, family)):
            (change,) = changes_of(recorded, recipe)
            assert (rule_of(change, alone=recorded is old) is not None) == goes_on
            assert str(change).endswith(f"balance_rate was {rate} and is not given")

    def test_a_directory_of_an_older_version(self, tmp_path: Path) -> None:
        """A key that it did not know has its default; one that is not known any more is named."""
        claim(ONE, tmp_path, "distill.toml")
        text = (tmp_path / "distill.toml").read_text()
        assert "final_fraction = 0.1\n" in text
        (tmp_path / "distill.toml").write_text(text.replace("final_fraction = 0.1\n", ""))
        assert claim(ONE, tmp_path, "distill.toml") == []
        with pytest.raises(BadInput, match=r"train.final_fraction was 0.1\); now train.final_fraction is 0.5"):
            claim(trained(ONE, final_fraction=0.5), tmp_path, "distill.toml")
        (tmp_path / "distill.toml").write_text(text.replace("final_fraction", "last_fraction"))
        with pytest.raises(BadInput, match=r"begun by another version of flashstill .*last_fraction"):
            claim(ONE, tmp_path, "distill.toml")


class TestTraining:
    def run(self, teacher: Any, packed: Packed, folder: Path, recipe: TrainRecipe, stop: int = 0, **more: Any) -> Any:
        def after_step(model: Any, step: int) -> dict[str, float]:
            if step == stop:
                raise KeyboardInterrupt
            return {}

        student, source = keep_layers(teacher, [0, 5]).float(), Offline(packed, 4, 0)
        progress = more.pop("progress", SILENT)
        return train(
            student, source, hard, recipe, folder, progress, "t", after_step=after_step, may_change=loop_keys()
        )

    def test_with_other_passes(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """What the sentence about memory that runs out advises: the result is the same to rounding."""
        straight, progress = weights(self.run(teacher, packed, tmp_path / "a", TRAIN)), RecordedProgress()
        with pytest.raises(KeyboardInterrupt):
            self.run(teacher, packed, tmp_path / "b", TRAIN, stop=5)
        smaller = dataclasses.replace(TRAIN, micro_windows=1, checkpoint_every_steps=3)
        resumed = weights(self.run(teacher, packed, tmp_path / "b", smaller, progress=progress))
        assert all(torch.allclose(resumed[name], tensor, rtol=1e-3, atol=1e-4) for name, tensor in straight.items())
        assert progress.lines == ["t goes on at step 4 with micro_windows 1 (was 0): bits may differ"]
        segments = [json.loads(line) for line in (tmp_path / "b" / "segments.jsonl").read_text().splitlines()]
        assert [(each["from_step"], each["micro_windows"]) for each in segments] == [(0, 0), (4, 1)]

    @pytest.mark.slow
    def test_with_more_tokens(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """Of a finished training: the steps that were made stay, the schedule is that of the new total from there."""
        recipe = dataclasses.replace(TRAIN, schedule="wsd", warmup_fraction=0.25)
        self.run(teacher, packed, tmp_path, recipe)
        first = (tmp_path / "metrics.jsonl").read_text().splitlines()
        self.run(teacher, packed, tmp_path, dataclasses.replace(recipe, tokens=2048))
        rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert rows[:8] == first
        rates = [json.loads(row)["rate"] / recipe.learning_rate for row in rows]
        assert rates[:2] == pytest.approx([0.5, 1.0])
        assert rates[8:13] == pytest.approx([1.0] * 5), "at the peak, without another warm-up"
        assert rates[15] < 0.5
        with pytest.raises(BadInput, match=r"16 steps are finished, more than the 8 of train.tokens 1,024"):
            self.run(teacher, packed, tmp_path, recipe)

    def test_a_cosine_goes_on_where_that_of_the_new_total_is(self) -> None:
        recipe = dataclasses.replace(TRAIN, warmup_fraction=0.1)
        assert learning_rate_at(recipe, 60, 200, 100) == pytest.approx(learning_rate_at(recipe, 60, 200), rel=0.05)
        assert learning_rate_at(recipe, 10, 200, 100) > learning_rate_at(recipe, 10, 200)

    def test_another_recipe_is_named_with_both_values(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        self.run(teacher, packed, tmp_path, dataclasses.replace(TRAIN, tokens=256))
        with pytest.raises(BadInput, match=r"another recipe \(learning_rate was 0.001, is 0.002\)"):
            self.run(teacher, packed, tmp_path, dataclasses.replace(TRAIN, learning_rate=2e-3))

    @pytest.mark.slow
    def test_a_checkpoint_of_an_older_version(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """Its key has the number of threads, and it says nothing of segments."""
        with pytest.raises(KeyboardInterrupt):
            self.run(teacher, packed, tmp_path, TRAIN, stop=3)
        path = tmp_path / "step-00000002" / "checkpoint.json"
        record = json.loads(path.read_text())
        del record["segments"], record["key"]["recipe"]["diverged_at"]
        record["key"]["threads"] = 7
        path.write_text(json.dumps(record))
        self.run(teacher, packed, tmp_path, dataclasses.replace(TRAIN, micro_windows=2))
        segments = [json.loads(line) for line in (tmp_path / "segments.jsonl").read_text().splitlines()]
        assert [(each["from_step"], each["threads"]) for each in segments] == [(0, 7), (2, torch.get_num_threads())]
        assert segments[0]["steps"] == 8

    def test_segments_are_kept_in_checkpoints(self, tmp_path: Path) -> None:
        tensors = {"master/weight": torch.ones(2)}
        checkpoints.write(tmp_path, checkpoints.Snapshot(step=1, tensors=tensors, metrics=[]), {"a": 1})
        found = checkpoints.latest(tmp_path, {"a": 1})
        assert found is not None
        assert found.record["segments"] == []
        with pytest.raises(BadInput, match=r"another a \(was 1, is 2\)"):
            checkpoints.latest(tmp_path, {"a": 2})


class TestRuns:
    @pytest.fixture
    def recipe(self, tmp_path: Path, tiny_teacher: Path, text_file: Path) -> DistillRecipe:
        path = written(tmp_path / "distill.toml", tiny_teacher, text_file, tokens=1024)
        return trained(read_distillation(path), tokens=512)

    @pytest.mark.slow
    def test_a_finished_run_goes_on_with_more_tokens(self, recipe: DistillRecipe, tmp_path: Path) -> None:
        out, progress = tmp_path / "out", RecordedProgress()
        first = run_distillation(recipe, out, SILENT)
        student, losses = weights_of(out), [row["loss"] for row in metrics(out)]
        assert "segments" not in first
        made = {path: path.stat().st_mtime_ns for path in (out / "signals").rglob("*.safetensors")}
        longer = trained(recipe, tokens=1024, micro_windows=2)
        summary = run_distillation(longer, out, progress)
        assert {path: path.stat().st_mtime_ns for path in (out / "signals").rglob("*.safetensors")} == made
        assert [row["loss"] for row in metrics(out)][:4] == losses
        assert summary["steps"] == 8
        assert [(each["from_step"], each["tokens"]) for each in summary["segments"]] == [(0, 512), (4, 1024)]
        assert same(student, weights_of(out / "earlier" / "tokens-512"))
        assert not same(student, weights_of(out))
        assert any("train.tokens was 512 and is 1,024: the schedule" in line for line in progress.lines)
        assert run_distillation(longer, out, SILENT) == summary
        with pytest.raises(BadInput, match=r"train.tokens was 1,024\); now train.tokens is 512"):
            run_distillation(dataclasses.replace(recipe), out, SILENT)

    @pytest.mark.slow
    def test_a_teacher_that_was_moved(self, recipe: DistillRecipe, tiny_teacher: Path, tmp_path: Path) -> None:
        """In the middle of a training it goes on to the same weights; another model there is refused."""
        places = [Path(shutil.copytree(tiny_teacher, tmp_path / name)) for name in ("here", "there", "other")]
        path = places[2] / "model.safetensors"
        tensors = load_file(path)
        save_file({name: tensor * 1.5 for name, tensor in tensors.items()}, path, {"format": "pt"})
        here, there, other = (
            dataclasses.replace(recipe, teachers=(TeacherRecipe(model=str(place)),)) for place in places
        )
        run_distillation(here, tmp_path / "whole", SILENT)

        class Killed(RecordedProgress):
            @contextmanager
            def task(self, name: str, total: float, unit: str, done: float = 0.0) -> Iterator[Advance]:
                def advance(amount: float, note: str = "") -> None:
                    if list((out / "training").glob("step-*")):
                        raise KeyboardInterrupt

                yield advance

        out, progress = tmp_path / "out", RecordedProgress()
        with pytest.raises(KeyboardInterrupt):
            run_distillation(here, out, Killed())
        shutil.rmtree(places[0])
        with pytest.raises(BadInput, match=r"teachers.0. \(.*other\) has changed since .* which would mix two models"):
            run_distillation(other, out, SILENT)
        run_distillation(there, out, progress)
        assert any("the same model, by its fingerprint" in line for line in progress.lines)
        assert same(weights_of(tmp_path / "whole"), weights_of(out))
        with pytest.raises(BadInput, match="which would mix two models"):  # also once it is finished
            run_distillation(other, out, SILENT)

    @pytest.mark.slow
    def test_without_its_state_it_does_not(self, recipe: DistillRecipe, tmp_path: Path) -> None:
        """As older versions left it, or somebody who needed the room."""
        out = tmp_path / "out"
        run_distillation(recipe, out, SILENT)
        checkpoints.clear(out / "training")
        before = weights_of(out)
        with pytest.raises(BadInput, match=r"is finished and the state of its training, .*, is gone") as stopped:
            run_distillation(trained(recipe, tokens=1024), out, SILENT)
        assert f'student.model = "{out}/student"' in str(stopped.value)
        assert same(before, weights_of(out))
        assert run_distillation(recipe, out, SILENT)["steps"] == 4


@pytest.mark.parametrize("made", ["", "search.json"])
def test_a_mistake_that_was_found_before_any_work_leaves_the_directory_free(tmp_path: Path, made: str) -> None:
    """So that a corrected name of a teacher needs no other directory."""
    out = tmp_path / "out"

    def failing(recipe: DistillRecipe) -> None:
        claim(recipe, out, "distill.toml")
        with lock(out), free_if_unused(out, "distill.toml"):
            (out / "arithmetic.json").write_text("{}")
            if made:
                (out / made).write_text("{}")
            raise BadInput("there is no teacher")

    with pytest.raises(BadInput, match="no teacher"):
        failing(ONE)
    assert (out / "distill.toml").exists() == bool(made)
    assert (out / "arithmetic.json").exists() == bool(made)
    with pytest.raises(BadInput, match="belongs to another recipe" if made else "no teacher"):
        failing(trained(ONE, final_fraction=0.5))
