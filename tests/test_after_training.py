"""Errors after training lose nothing: the same command goes on; models that change in between are noticed."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from flashstill.distill import students
from flashstill.distill.training import step
from flashstill.distill.training.micro_steps import run_micro_steps
from flashstill.errors import BadInput, DiskTrouble, MissingFact
from flashstill.progress import Silent
from flashstill.recipes import DistillRecipe, read_distillation, read_recipe
from flashstill.runs import engine, evaluating, outcome, run_family, stages
from flashstill.runs.after_training import kept_after_errors
from flashstill.runs.distillation import run_distillation
from tests.distillations import metrics, same, weights, written
from tests.tiny import family_text

SILENT = Silent()


class TestMessages:
    def test_a_sentence_goes_on(self, tmp_path: Path) -> None:
        with (
            pytest.raises(
                MissingFact, match=r"^no row; the student is trained and kept in .*; the same command"
            ) as one,
            kept_after_errors("the student is trained", tmp_path),
        ):
            raise MissingFact("no row", ["a"])
        assert one.value.missing == ("a",)

    def test_memory(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="memory") as refused:  # what torch says here
            torch.empty(2**50)
        told = RuntimeError("DefaultCPUAllocator: not enough memory: you tried")  # and elsewhere
        for error in (MemoryError(), refused.value, told):
            expected = pytest.raises(BadInput, match="out of memory; the student is trained and kept in")
            with expected, kept_after_errors("the student is trained", tmp_path):
                raise error

    def test_a_traceback_has_a_note(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError) as stopped, kept_after_errors("the student is trained", tmp_path):
            raise ZeroDivisionError
        assert stopped.value.__notes__[0].startswith("the student is trained and kept in ")


PLANTED: dict[str, tuple[Any, str]] = {
    "the student is written": (engine, "leave_student"),
    "the packed student is written": (students, "write_compressed"),
    "evaluation": (evaluating, "judge"),
    "records are written": (outcome, "write_records"),
    "the summary is written": (outcome, "write_text"),
}
FULL = OSError(errno.ENOSPC, "No space left on device")


class TestDistillation:
    @pytest.fixture
    def recipe(self, tmp_path: Path, tiny_teacher: Path, text_file: Path) -> DistillRecipe:
        path = written(tmp_path / "distill.toml", tiny_teacher, text_file, tokens=512)
        quantised = path.read_text().replace("keep_layers = 3", 'keep_layers = 2\nquantise = "int4"\ngroup = 16')
        path.write_text(quantised)
        return read_distillation(path)

    @pytest.mark.slow
    def test_an_error_at_every_stage(
        self, recipe: DistillRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One after the other in one run, some of them a full disk: no step is made twice, and the student is that of
        a run without errors."""
        run_distillation(recipe, tmp_path / "straight", SILENT)
        steps, original = [0], run_micro_steps

        def counted(*args: Any) -> float:
            steps[0] += 1
            return original(*args)

        monkeypatch.setattr(step, "run_micro_steps", counted)
        out = tmp_path / "out"
        for number, (module, name) in enumerate(PLANTED.values()):
            error: Exception = FULL if number % 2 else RuntimeError("planted")
            with monkeypatch.context() as patch:
                patch.setattr(module, name, lambda *_, error=error: (_ for _ in ()).throw(error))
                with pytest.raises(DiskTrouble if error is FULL else RuntimeError) as stopped:
                    run_distillation(recipe, out, SILENT)
            said = str(stopped.value) if error is FULL else stopped.value.__notes__[0]
            assert "kept in" in said
            assert "the same command goes on" in said
            assert steps[0] == 4, "no step is made twice"
        summary = run_distillation(recipe, out, SILENT)
        assert steps[0] == 4
        assert summary["steps"] == 4
        assert same(weights(out), weights(tmp_path / "straight"))
        assert [row["loss"] for row in metrics(out)] == [row["loss"] for row in metrics(tmp_path / "straight")]
        assert summary["quality"] == json.loads((tmp_path / "straight" / "summary.json").read_text())["quality"]

    @pytest.mark.slow
    @pytest.mark.parametrize("changed", ["teacher", "student"])
    def test_a_model_that_changes_in_between(
        self, tiny_teacher: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
    ) -> None:
        """Also where no signals tell: the teacher runs in every step, and the student is made from another model."""
        for name in ("teacher", "student"):
            shutil.copytree(tiny_teacher, tmp_path / name)
        path = written(tmp_path / "distill.toml", tmp_path / "teacher", text_file, signals="none", tokens=256)
        path.write_text(path.read_text().replace("keep_layers = 3", 'keep_layers = 3\nmodel = "student"'))
        recipe = read_distillation(path)
        with monkeypatch.context() as patch:
            patch.setattr(engine, "leave_student", lambda *_: (_ for _ in ()).throw(RuntimeError("planted")))
            with pytest.raises(RuntimeError):
                run_distillation(recipe, tmp_path / "out", SILENT)
        config = tmp_path / changed / "config.json"
        before = config.read_text()
        config.write_text(before.replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
        assert config.read_text() != before
        key = r"teachers\[0\]" if changed == "teacher" else "student.model"
        with pytest.raises(BadInput, match=rf"^{key} \(.*\) has changed since .* was begun"):
            run_distillation(recipe, tmp_path / "out", SILENT)
        config.write_text(before)
        assert run_distillation(recipe, tmp_path / "out", SILENT)["steps"] == 2


@pytest.mark.slow
def test_a_copy_does_not_round_its_teacher(
    tiny_teacher: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a teacher in float32: its student is written in bfloat16, and the teacher that goes on teaching is as before,
    as it would be in a run that was interrupted after that."""
    import torch
    from safetensors.torch import load_file, save_file

    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, teacher)
    tensors = {name: each.float() * (1 + 1e-4) for name, each in load_file(teacher / "model.safetensors").items()}
    save_file(tensors, teacher / "model.safetensors", {"format": "pt"})
    path = written(tmp_path / "distill.toml", teacher, text_file, signals="none", tokens=256)
    text = path.read_text().replace('kind = "depth"\nkeep_layers = 3', 'kind = "copy"')
    path.write_text(text.replace('arithmetic = "bf16"', 'arithmetic = "fp32"'))
    recipe = read_distillation(path)
    taught: list[Any] = []
    from flashstill.runs.sources import teacher_of

    def seen(work: Any, packed: Any) -> Any:
        taught.append(next(work.model(0).parameters()).detach().clone())
        return teacher_of(work, packed)

    monkeypatch.setattr(engine, "teacher_of", seen)
    run_distillation(recipe, tmp_path / "out", SILENT, judged=False)
    assert torch.equal(taught[0], tensors["model.embed_tokens.weight"])


class TestFamilies:
    @pytest.mark.slow
    def test_an_error_at_every_stage(
        self, tmp_path: Path, tiny_teacher: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "other.txt").write_text("\n\n".join(f"def step_{i}(x):\n    return x * {i}" for i in range(300)))
        path = tmp_path / "family.toml"
        path.write_text(family_text(tiny_teacher, text_file))
        recipe, out, steps, original = read_recipe(path), tmp_path / "out", [0], run_micro_steps

        def counted(*args: Any) -> float:
            steps[0] += 1
            return original(*args)

        monkeypatch.setattr(step, "run_micro_steps", counted)
        made = 0
        for stage in ("evaluate", "measure", "cost", "report"):
            with monkeypatch.context() as patch:
                patch.setitem(stages.STAGES, stage, lambda family: (_ for _ in ()).throw(FULL))
                with pytest.raises(DiskTrouble, match=r"disk is full.*; the students are trained and kept in"):
                    run_family(recipe, out, SILENT)
            assert steps[0] == made or stage == "evaluate"
            made = steps[0]
        run_family(recipe, out, SILENT)
        assert steps[0] == made > 0
        assert (out / "report.html").is_file()
