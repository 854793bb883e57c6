"""Validation during training: figures by hand, the best weights, when it stops, and all of it after a kill."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.distill.data.packing import Packed
from flashstill.distill.models import keep_layers
from flashstill.distill.teachers import Online
from flashstill.distill.training import (
    Course,
    Offline,
    Soft,
    TrainRecipe,
    Validation,
    distillation,
    hard,
    train,
)
from flashstill.progress import Silent
from flashstill.recipes import DistillRecipe, TextRecipe, read_distillation, read_recipe
from flashstill.recipes.drafts import KIND as EAGLE
from flashstill.recipes.regime import RegimeRecipe
from flashstill.recipes.teachers import TeacherRecipe
from flashstill.recipes.training import TrainTable
from flashstill.recipes.validation import (
    ValidationRecipe,
    every_steps,
    share_of_training,
    validation_problems,
    validations,
)
from tests.distillations import metrics, same, shot_at_random, written
from tests.distillations import weights as weights_of
from tests.recorded_progress import RecordedProgress
from tests.tensors import weights

# steps at a rate that soon makes text it has not seen less likely
RECIPE = TrainRecipe(
    tokens=1536, windows_per_step=4, learning_rate=2e-2, schedule="constant", checkpoint_every_steps=5, diverged_at=0.0
)
STEPS = 12


def halves(packed: Packed) -> tuple[Packed, Packed]:
    """Four windows to learn by heart, and others to validate on, a third of whose targets do not count."""
    mask = np.ones((8, packed.length), dtype=np.int32)
    mask[:, : packed.length // 3] = 0
    other = packed.taken(slice(12, 20))
    owners = np.where(mask > 0, other.target_document, -1)
    return packed.taken(slice(4)), dataclasses.replace(other, target_mask=mask, target_document=owners)


def run(
    teacher: Any, packed: Packed, folder: Path, validation: Validation | None, stop: int = 0, **more: Any
) -> tuple[Any, list[dict[str, float]], dict[int, dict[str, torch.Tensor]]]:
    """The student after training, the metrics, and its weights after each step; stop: as if killed after a step."""
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def after_step(model: Any, step: int) -> dict[str, float]:
        seen[step] = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        if step == stop:
            raise KeyboardInterrupt
        return {}

    student, source = keep_layers(teacher, [0, 5]).float(), Offline(halves(packed)[0], 4, 0)
    recipe, progress = more.pop("recipe", RECIPE), more.pop("progress", Silent())
    trained = train(
        student, source, more.pop("objective", hard), recipe, folder, progress, "t", after_step=after_step,
        may_change=("tokens",), validation=validation,
    )  # fmt: skip
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return trained, rows, seen


def untimed(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: row[name] for name in row if name not in ("step_s", "tokens_per_s", "validation_s")} for row in rows]


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def watched(packed: Packed, **changes: Any) -> Validation:
    plain = Validation(packed=halves(packed)[1], objective=hard, every_steps=2, keep_best=True)
    return dataclasses.replace(plain, **changes)


class TestFigures:
    def test_a_text_of_which_nothing_is_learned(self, packed: Packed) -> None:
        """Its loss would be 0 for every student, and the first one the best."""
        from flashstill.errors import BadInput

        prompts = dataclasses.replace(packed, target_mask=np.zeros_like(packed.target_bytes))
        with pytest.raises(BadInput, match=r"nothing of the validation text is learned.*raise text.window_tokens"):
            dataclasses.replace(watched(packed), packed=prompts)

    def test_they_are_those_of_the_whole_logits(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """The loss over the targets that count, bits per byte and KL over the text's: by log-softmax of the logits."""
        text = halves(packed)[1]
        asked, plain = [], Online(teacher.float())

        def online(batch: Any) -> Any:
            asked.append(batch)
            return plain(batch)

        both = distillation(online, [Soft(temperature=2.0, weight=0.7)], hard_weight=0.3)
        recipe = dataclasses.replace(RECIPE, tokens=128, learning_rate=1e-9)
        validation = Validation(packed=text, objective=both, teacher=online, is_of_loss=True, every_steps=1)
        student, (row,), _ = run(teacher, packed, tmp_path, validation, recipe=recipe, objective=both)
        assert len({id(batch) for batch in asked}) == len(asked), "the teacher runs once a pass"
        tokens = torch.from_numpy(text.tokens.astype(np.int64)).to(student.device)
        nll, kl, loss = [], [], []
        with torch.no_grad():
            for window in range(text.windows):
                for part in text.documents_in(window):
                    inputs = tokens[window, :-1][part][None]
                    q, p = (model(inputs).logits[0].double() for model in (student, teacher))
                    target = tokens[window, 1:][part][:, None]
                    log_q, log_p = q.log_softmax(-1), p.log_softmax(-1)
                    nll.append(-log_q.gather(-1, target)[:, 0])
                    kl.append((log_p.exp() * (log_p - log_q)).sum(-1))
                    soft_q, soft_p = (q / 2).log_softmax(-1), (p / 2).log_softmax(-1)
                    loss.append(0.7 * 4.0 * (soft_p.exp() * (soft_p - soft_q)).sum(-1) + 0.3 * nll[-1])
        counts, is_text = text.mask.ravel(), (text.target_document >= 0).ravel()
        assert not counts.all()
        assert row["validation_loss"] == pytest.approx(float(torch.cat(loss)[counts].mean()), rel=1e-4)
        bits = float(torch.cat(nll)[is_text].sum()) / math.log(2.0) / text.target_bytes.ravel()[is_text].sum()
        assert row["validation_bits_per_byte"] == pytest.approx(bits, rel=1e-4)
        assert row["validation_kl"] == pytest.approx(float(torch.cat(kl)[is_text].mean()), rel=1e-3)

    @pytest.mark.slow
    def test_looking_changes_nothing(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """A training that validates ends with the weights of one that does not."""
        plain, rows, _ = run(teacher, packed, tmp_path / "a", None)
        seen, others, _ = run(teacher, packed, tmp_path / "b", watched(packed, keep_best=False))
        assert equal(weights(plain), weights(seen))
        assert [row["loss"] for row in rows] == [row["loss"] for row in others]
        assert [row["step"] for row in others if "validation_loss" in row] == [2, 4, 6, 8, 10, 12]


class TestBest:
    def test_the_weights_with_the_lowest_figure_are_returned(
        self, teacher: Any, packed: Packed, tmp_path: Path
    ) -> None:
        """Not those of the last step, which is worse, nor those of the best one that is not validated."""
        progress = RecordedProgress()
        student, rows, seen = run(teacher, packed, tmp_path, watched(packed), progress=progress)
        figures = {int(row["step"]): row["validation_loss"] for row in rows if "validation_loss" in row}
        best = min(figures, key=figures.__getitem__)
        assert figures[STEPS] > figures[best] + 0.1, "the last step is worse on text that is held out"
        assert equal(seen[best], weights(student))
        assert not equal(seen[STEPS], weights(student))
        assert progress.lines == [f"t: loss on validation text was lowest after step {best}; its weights are kept"]

    @pytest.mark.slow
    @pytest.mark.parametrize("stop", [1, 5, 6, 9, 12])
    def test_a_killed_run_returns_the_same(self, teacher: Any, packed: Packed, tmp_path: Path, stop: int) -> None:
        """With checkpoints after steps 5, 10 and 12 and validations after every second one, best before a checkpoint
        and after it."""
        student, rows, _ = run(teacher, packed, tmp_path / "a", watched(packed, patience=5))
        with pytest.raises(KeyboardInterrupt):
            run(teacher, packed, tmp_path / "b", watched(packed, patience=5), stop=min(stop, len(rows)))
        again, others, _ = run(teacher, packed, tmp_path / "b", watched(packed, patience=5))
        assert equal(weights(student), weights(again))
        assert untimed(rows) == untimed(others)

    @pytest.mark.slow
    def test_training_goes_on_from_the_last_weights(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """Not from the best ones: a finished run with more tokens makes the steps of one that had them at once."""
        longer = dataclasses.replace(RECIPE, tokens=RECIPE.tokens + 256)
        run(teacher, packed, tmp_path / "a", watched(packed))
        student, rows, _ = run(teacher, packed, tmp_path / "a", watched(packed), recipe=longer)
        once, others, _ = run(teacher, packed, tmp_path / "b", watched(packed), recipe=longer)
        assert equal(weights(student), weights(once))
        assert [row["loss"] for row in rows] == [row["loss"] for row in others]


class TestStopping:
    @pytest.mark.slow
    def test_it_ends_when_patience_does(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        """And a run that is called again returns the same, without another step."""
        progress, validation = RecordedProgress(), watched(packed, patience=2)
        student, rows, _ = run(teacher, packed, tmp_path, validation, progress=progress)
        figures = {int(row["step"]): row["validation_loss"] for row in rows if "validation_loss" in row}
        best = min(figures, key=figures.__getitem__)
        assert len(rows) == best + 4 < STEPS
        assert progress.lines[-1].endswith(f"after step {best}; its weights are kept and training has stopped")
        again, others, seen = run(teacher, packed, tmp_path, validation)
        assert not seen
        assert others == rows
        assert equal(weights(again), weights(student))

    def test_what_counts_as_an_improvement(self) -> None:
        """Against the last figure that improved by more than min_delta; the best is the lowest, however little."""
        figures = [1.0, 0.9, 0.88, 0.86, 0.84, 0.95]

        def course(patience: int = 0, min_delta: float = 0.0) -> tuple[int, int]:
            made = Course("loss", patience, min_delta, [])
            for step, figure in enumerate(figures, start=1):
                made.add({"step": step, "loss": 9.0 - step, "validation_loss": figure})
                if made.is_over:
                    return step, made.best_step
            return 0, made.best_step

        assert course() == (0, 5)
        assert course(patience=2, min_delta=0.05) == (4, 4), "0.88 and 0.86 are not 0.05 below 0.9"
        assert course(patience=3, min_delta=0.05) == (0, 5), "0.84 is"
        assert course(patience=1, min_delta=0.0) == (6, 5)
        assert course(patience=5, min_delta=2.0) == (6, 5)


LOCAL = TeacherRecipe(model="/a/teacher")


def asked(validation_tokens: int = 8192, tokens: int = 10_240_000, **changes: Any) -> DistillRecipe:
    """10,000 steps of 1,024 tokens, unless said otherwise."""
    return DistillRecipe(
        name="one", teachers=(LOCAL,), text=TextRecipe(validation_tokens=validation_tokens),
        train=TrainTable(tokens=tokens), **changes,
    )  # fmt: skip


class TestRecipes:
    @pytest.mark.parametrize("tokens", [102_400, 1_024_000, 10_240_000, 9_999_999])
    @pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
    def test_the_share_of_time_is_bounded(self, tokens: int, share: float) -> None:
        """And nearly used: one validation more would exceed it."""
        recipe = asked(tokens=tokens, validation=ValidationRecipe(share=share))
        if next(validation_problems(recipe), ""):
            assert (tokens, share) == (102_400, 0.02)
            return
        assert 0.0 < share_of_training(recipe) <= share
        often = dataclasses.replace(recipe, validation=ValidationRecipe(every_steps=max(1, every_steps(recipe) - 1)))
        assert validations(often) == validations(recipe) or share_of_training(often) > share_of_training(recipe)
        assert every_steps(asked(validation=ValidationRecipe(share=0.1))) == 37, "4 steps of 41, if at once"

    def test_without_text_nothing_is_validated(self) -> None:
        assert list(validation_problems(asked(0))) == []
        assert (validations(asked(0)), share_of_training(asked(0))) == (0, 0.0)

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"validation_tokens": 0, "validation": ValidationRecipe(patience=3)}, "validation.patience needs text"),
            (
                {"validation_tokens": 0, "validation": ValidationRecipe(keep="best")},
                "give text.validation_tokens, such",
            ),
            ({"validation_tokens": 100}, "less than one window of 256"),
            ({"validation": ValidationRecipe(min_delta=0.1)}, "give both"),
            ({"student": {"kind": EAGLE}}, "a drafting head is judged by what is accepted"),
            ({"regime": RegimeRecipe(kind="sequence")}, "set regime.soft to true"),
            ({"losses": (), "hard_weight": 1.0, "validation": ValidationRecipe(metric="kl")}, "kl needs losses"),
            ({"validation": ValidationRecipe(every_steps=10)}, "would take 29% of the training, more than valida"),
            ({"tokens": 10_240}, "8,192 tokens once would take 29% of the training"),
            ({"tokens": 102_400, "validation": ValidationRecipe(patience=2)}, "nothing would ever stop"),
        ],
    )
    def test_what_contradicts_itself_is_refused(self, changes: dict[str, Any], sentence: str) -> None:
        if isinstance(changes.get("student"), dict):
            student = dataclasses.replace(DistillRecipe(name="one", teachers=(LOCAL,)).student, **changes["student"])
            changes = {**changes, "student": student}
        problems = list(validation_problems(asked(**changes)))
        assert len(problems) == 1
        assert sentence in problems[0]

    def test_a_file_that_asks_to_stop_without_text(self, tmp_path: Path) -> None:
        from flashstill.errors import BadInput

        path = tmp_path / "distill.toml"
        path.write_text(
            'name = "a"\n[[teachers]]\nmodel = "x"\n[student]\nkeep_layers = 3\n[validation]\npatience = 3\n'
        )
        with pytest.raises(BadInput, match=r"validation.patience needs text that is held out for it: give text"):
            read_distillation(path)

    def test_students_of_a_family_differ_key_by_key(self, tmp_path: Path) -> None:
        path = tmp_path / "family.toml"
        path.write_text(
            'name = "f"\nteacher = "x"\n[text]\nvalidation_tokens = 1024\n[validation]\nkeep = "best"\nmetric = "kl"\n'
            '[[students]]\nname = "a"\nkeep_layers = 3\n'
            '[[students]]\nname = "b"\nkeep_layers = 2\nvalidation = { metric = "bits_per_byte" }\n'
        )
        family = read_recipe(path)
        first, second = (family.distillation(student).validation for student in family.students)
        assert (first.keep, first.metric, second.keep, second.metric) == ("best", "kl", "best", "bits_per_byte")
        control = family.control_of(family.students[0])
        assert control is not None
        assert (control.validation.keep, control.validation.metric) == ("best", "loss"), "it has no teacher"


def test_its_documents_are_neither_trained_on_nor_judged(tiny_teacher: Path, tmp_path: Path) -> None:
    """Nor any paragraph that the training text or the held-out text shares; the held-out text is what it was."""
    from flashstill.distill.data.chats import Reading
    from flashstill.distill.data.splits import Sizes, packed_splits
    from flashstill.distill.models import load_tokenizer

    folder = tmp_path / "text"
    folder.mkdir()
    for index in range(40):
        lines = [f"Document {index} says {index * place} of {place}, twice over." for place in range(12)]
        (folder / f"{index:02}.txt").write_text("\n\n".join([*lines, "All of them end with the same long sentence."]))
    (tmp_path / "other.txt").write_text("\n\n".join(f"def step_{i}(x): return x * {i}" for i in range(200)))
    tokenizer = load_tokenizer(tiny_teacher)
    sizes = Sizes(window_tokens=32, train_tokens=2048, heldout_tokens=256, out_of_domain_tokens=128)

    def split(more: int) -> dict[str, Packed]:
        reading = Reading(tokenizer=tokenizer)
        asked = dataclasses.replace(sizes, validation_tokens=more)
        return packed_splits(str(folder), str(tmp_path / "other.txt"), reading, asked, 0)

    def documents(packed: Packed) -> set[str]:
        text = tokenizer.decode(packed.tokens.ravel().tolist())
        assert "same long sentence" not in text or packed.windows > 32
        return {word for word in text.replace("Document ", "Document_").split() if word.startswith("Document_")}

    without, found = split(0), split(256)
    assert set(without) | {"validation"} == set(found)
    assert found["validation"].windows == 8
    assert np.array_equal(found["heldout"].tokens, without["heldout"].tokens)
    names = [documents(found[part]) for part in ("train", "heldout", "validation")]
    assert all(names)
    assert not names[0] & (names[1] | names[2])
    assert not names[1] & names[2]


@pytest.mark.slow
def test_buffers_of_the_best_step_come_back(packed: Packed, tmp_path: Path) -> None:
    """A router's correction bias is state that no gradient trains."""
    from tests.zoo import tiny

    model = tiny("glm4_moe", 0).float()
    text = halves(packed)
    small = [dataclasses.replace(each, tokens=each.tokens % 60) for each in text]
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def after_step(model: Any, step: int) -> dict[str, float]:
        for name, buffer in model.named_buffers():
            if name.endswith("correction_bias"):
                buffer += 1.0
                seen.setdefault(step, {})[name] = buffer.clone()
        return {}

    validation = Validation(packed=small[1], objective=hard, every_steps=1, keep_best=True)
    train(
        copy.deepcopy(model), Offline(small[0], 4, 0), hard, RECIPE, tmp_path, Silent(), "t", after_step=after_step,
        validation=validation,
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    best = min(rows, key=lambda row: row["validation_loss"])["step"]
    again = train(
        model, Offline(small[0], 4, 0), hard, RECIPE, tmp_path, Silent(), "t", after_step=after_step,
        validation=validation,
    )  # fmt: skip
    assert best < STEPS
    own = dict(again.named_buffers())
    assert seen
    assert all(torch.equal(own[name], buffer) for name, buffer in seen[best].items())


def stopping(path: Path, teacher: Path, data: Path, signals: str, more: str) -> Path:
    """A recipe that validates; see tests/distillations.py."""
    recipe = written(path, teacher, data, signals)
    text = recipe.read_text().replace("heldout_tokens", "validation_tokens = 256\nheldout_tokens")
    recipe.write_text(f"{text}\n[validation]\nevery_steps = 2\nshare = 0.5\n{more}")
    return recipe


@pytest.mark.slow
def test_a_run_that_stops(tiny_teacher: Path, text_file: Path, tmp_path: Path) -> None:
    """By the KL to exact signals, whatever is stored of the training text; and more tokens are refused."""
    from flashstill.errors import BadInput
    from flashstill.runs.distillation import run_distillation

    asked = 'keep = "best"\nmetric = "kl"\npatience = 2\nmin_delta = 0.5\n'
    path = stopping(tmp_path / "distill.toml", tiny_teacher, text_file, "topk", asked)
    recipe, progress = read_distillation(path), RecordedProgress()
    summary = run_distillation(recipe, tmp_path / "out", progress)
    steps = len(metrics(tmp_path / "out"))
    assert steps < 16
    found = summary["validation"]
    assert (found["stopped_early"], found["last_step"], found["metric"]) == (True, steps, "kl")
    assert found["kept_step"] == found["best_step"]
    rows = {row["step"]: row for row in metrics(tmp_path / "out")}
    assert rows[found["best_step"]]["validation_kl"] == found["best"]
    assert summary["training_s"] > sum(row["step_s"] for row in rows.values())
    assert "validation on 256 tokens every 2 steps, 8 times: about 33% of the training time" in progress.lines
    longer = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, tokens=4096))
    with pytest.raises(BadInput, match=rf"training stopped after {steps} steps, as validation.patience was over"):
        run_distillation(longer, tmp_path / "out", Silent())


@pytest.mark.slow
def test_shot_at_random_moments(tiny_teacher: Path, text_file: Path, tmp_path: Path) -> None:
    """The student at the best step, and all figures, are those of a run that nobody shot."""
    path = stopping(tmp_path / "distill.toml", tiny_teacher, text_file, "none", 'keep = "best"\n')
    path.write_text(path.read_text().replace("learning_rate = 1e-3", 'learning_rate = 5e-2\nschedule = "constant"'))
    command = [sys.executable, "-m", "flashstill", "distill", str(path), "--out"]
    subprocess.run([*command, str(tmp_path / "a")], check=True, capture_output=True)

    def look() -> None:
        assert same(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))
        assert untimed(metrics(tmp_path / "a")) == untimed(metrics(tmp_path / "b"))
        summaries = [json.loads((tmp_path / run / "summary.json").read_text())["validation"] for run in "ab"]
        assert summaries[0]["best_step"] == summaries[1]["best_step"]

    shot_at_random([*command, str(tmp_path / "b")], tmp_path / "b", 2, "distil half", 1.0, 5, look)


def test_the_report_draws_both_curves(tmp_path: Path) -> None:
    """A panel a model, with the training loss in few points, and each validation as a dot; a damaged file is named."""
    from flashstill.errors import BadInput
    from flashstill.report.page import write_report
    from tests.finished_runs import write_family

    out = write_family(tmp_path / "family")
    write_report(out)
    assert "<h2>Training</h2>" not in (out / "report.html").read_text(), "of an older version, without metrics"
    for name, loss in {"half": 2.0, "half-control": 5.0}.items():
        folder = out / "training" / name
        folder.mkdir(parents=True)
        made: list[dict[str, float | None]] = [{"step": step, "loss": loss + 1.0 / step} for step in range(1, 601)]
        if name == "half":
            for row, value in zip(made[199::200], (2.5, 2.25, 2.75), strict=True):
                row |= {"validation_loss": value, "validation_bits_per_byte": value / 2.0}
            made[0]["validation_loss"] = None  # as a logger writes what was not measured
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    page = write_report(out).read_text()
    section = page[page.index("<h2>Training</h2>") : page.index("<h2>How it was made</h2>")]
    assert section.count("<polyline") == 3
    assert section.count('class="dot') == 3
    assert "validation, step 400: 2.25" in section
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", section)
    assert cells[:6] == ["half", "loss", "2.2500", "400", "2.7500", "600"]
    assert cells[6:] == ["half", "bits per byte", "1.1250", "400", "1.3750", "600"]
    (out / "training" / "half" / "metrics.jsonl").write_text('{"step": 1, "loss": "much"}\n')
    with pytest.raises(BadInput, match=r"metrics.jsonl.*loss"):
        write_report(out)
