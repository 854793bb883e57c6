"""Students by budget: lines and picks as arithmetic, counts against real models, and one run with its outcome."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from flashstill.cli import main
from flashstill.cli.learning import student_lines
from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import DenseTeacher, Sparse
from flashstill.distill.models.devices import current
from flashstill.distill.signals import Hidden, Kind, Sampled, Signals, TopK, build, signal_key
from flashstill.distill.students import Format, Width, quantise_aware
from flashstill.distill.teachers import Online
from flashstill.distill.training import TrainRecipe, hard
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.measure import trial
from flashstill.measure.budget import (
    STATE_BYTES,
    Bounds,
    Forecast,
    Line,
    Speed,
    Training,
    fit_line,
    forecast,
    pick,
)
from flashstill.measure.candidates import Candidate, cut, fields_of, narrower, shallower
from flashstill.measure.memory import Peak, kept_bytes, resident_bytes
from flashstill.measure.training import CachedTeacher, first_batch, time_steps
from flashstill.measure.trial import to_try
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.runs.distillation import run_distillation
from tests.distillations import torchrun
from tests.marks import examples, slow
from tests.packing import both
from tests.ties import same_but_for_ties

SILENT = Silent()
SMOLLM = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
    "max_position_embeddings": 2048, "hidden_act": "silu", "rms_norm_eps": 1e-5,
}  # fmt: skip
BLOCK = 576 * (576 + 192 + 192 + 576) + 3 * 576 * 1536


class TestCandidates:
    def test_every_depth_of_a_known_model(self) -> None:
        found = shallower(SMOLLM)
        assert [each.keep_layers for each in found] == list(range(29, 0, -1))
        head = 49152 * 576
        for each in found:
            assert each.rounded == each.keep_layers * BLOCK
            assert each.multiplied == head + each.keep_layers * (BLOCK + 2 * 576)
            assert each.parameters == each.multiplied + 576
        assert [each.keep_layers for each in shallower(SMOLLM, 12)] == [12]
        with pytest.raises(BadInput, match="keeps 31 layers, but the teacher has 30"):
            shallower(SMOLLM, 31)

    @pytest.mark.slow
    @pytest.mark.parametrize("group", [1, 16])
    def test_they_are_the_models_that_are_cut(self, teacher: Any, group: int) -> None:
        fields = fields_of(teacher)
        for candidate in [*shallower(fields), *narrower(fields, None, group)]:
            student = cut(teacher, candidate)
            assert sum(weight.numel() for weight in student.parameters()) == candidate.parameters
            with torch.inference_mode():
                student(input_ids=torch.zeros(1, 4, dtype=torch.int64))
            if group > 1:
                quantise_aware(student, Format(name="int4", group=group))

    def test_a_ladder_of_widths(self, teacher: Any) -> None:
        found = narrower(SMOLLM)
        assert len(found) >= 6
        assert [each.parameters for each in found] == sorted((each.parameters for each in found), reverse=True)
        for each in found:
            assert each.hidden % (3 * each.key_heads) == 0
            assert each.feed_forward % 8 == 0
        (one,) = narrower(SMOLLM, Width(feed_forward=1152))
        assert (one.hidden, one.feed_forward, one.key_heads) == (576, 1152, 3)
        with pytest.raises(BadInput, match="no narrower student has widths that groups of 4096 weights divide"):
            narrower(SMOLLM, None, 4096)

    def test_bytes_as_they_are_served(self) -> None:
        each = Candidate(keep_layers=1, parameters=1000, rounded=640, multiplied=900)
        assert each.weight_bytes("", 64) == 2000
        assert each.weight_bytes("int4", 64) == 720 + 320 + 20
        assert each.weight_bytes("fp8", 64) == 720 + 640
        assert each.weight_bytes("ternary", 64) == 720 + 160 + 20

    @pytest.mark.parametrize("name", ["int4", *slow("fp8", "ternary")])
    @pytest.mark.slow
    def test_they_are_as_large_as_what_is_written(
        self, teacher: Any, tiny_teacher: Path, tmp_path: Path, name: str
    ) -> None:
        (candidate,) = shallower(fields_of(teacher), 3)
        _, packed, _ = both(cut(teacher, candidate), Format(name=name, group=16), tiny_teacher, tmp_path)
        tensors = load_file(packed / "model.safetensors").values()
        written = sum(tensor.nbytes for tensor in tensors if tensor.dtype != torch.int64)  # shapes of packed weights
        assert candidate.weight_bytes(name, 16) == pytest.approx(written, rel=0.04 if name == "fp8" else 1e-6)

    def test_the_two_that_are_tried_can_be_trained(self) -> None:
        found = shallower(SMOLLM)
        assert [each.keep_layers for each in to_try(found, 1e12)] == [4, 15]
        small = to_try(found, 2.2 * STATE_BYTES * found[-4].parameters)
        assert max(each.parameters for each in small) <= found[-4].parameters
        assert to_try(found, 1.0) == found[-1:]


class TestLines:
    def test_worked(self) -> None:
        assert fit_line([1, 3], [5, 9]) == Line(at_zero=3.0, per_unit=2.0)
        assert fit_line([4], [8]) == Line(at_zero=0.0, per_unit=2.0)
        assert fit_line([1, 2], [7, 5]) == Line(at_zero=6.0, per_unit=0.0), "noise: a larger student is not faster"
        assert fit_line([1, 2], [1, 4]) == Line(at_zero=0.0, per_unit=9 / 5), "no step takes less than nothing"

    @given(
        st.floats(0, 1e3),
        st.floats(1e-9, 1e3),
        st.lists(st.integers(1, 10**9), min_size=2, max_size=5, unique=True),
    )
    def test_a_line_is_found_again(self, at_zero: float, per_unit: float, xs: list[int]) -> None:
        found = fit_line(xs, [at_zero + per_unit * x for x in xs])
        for x in xs:
            assert found(x) == pytest.approx(at_zero + per_unit * x, rel=1e-5, abs=1e-6)

    @given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1e-6, 1e6)), min_size=1, max_size=5))
    def test_more_never_takes_less(self, points: list[tuple[float, float]]) -> None:
        line = fit_line([x for x, _ in points], [y for _, y in points])
        assert line.at_zero >= 0
        assert line.per_unit >= 0


SPEED = Speed(
    step_s=Line(at_zero=0.5, per_unit=2e-8),
    decode_s=Line(at_zero=1e-3, per_unit=2e-10),
    kept_bytes=Line(at_zero=1e6, per_unit=1.0),
    signal_s=1e-3,
    held_bytes=4e8,
)
WORK = Training(steps=100, tokens_per_step=1024, signal_tokens=102_400)


DEPTHS = shallower(SMOLLM)


def all_of(bounds: Bounds, work: Training = WORK) -> list[Forecast]:
    return [forecast(each, SPEED, work, bounds) for each in DEPTHS]


class TestPick:
    def test_a_prediction_by_hand(self) -> None:
        (candidate,) = shallower(SMOLLM, 15)
        found = forecast(candidate, SPEED, WORK, Bounds())
        x = 49152 * 576 + 15 * (BLOCK + 1152)
        assert found.tokens_per_s == pytest.approx(1024 / (0.5 + 2e-8 * x))
        assert found.signals_s == pytest.approx(102.4)
        assert found.training_s == pytest.approx(100 * (0.5 + 2e-8 * x))
        assert found.decode_s == pytest.approx(1e-3 + 2e-10 * x)
        assert found.weight_bytes == 2 * (x + 576)
        assert found.training_bytes == pytest.approx(4e8 + 16 * (x + 576) + 1e6 + x)
        assert found.fits

    def test_the_largest_that_fits(self) -> None:
        assert pick(all_of(Bounds())).candidate.keep_layers == 29
        seconds = pick(all_of(Bounds(seconds=102.4 + 100 * (0.5 + 2e-8 * 80e6))))
        assert seconds.candidate.keep_layers == math.floor((80e6 - 49152 * 576) / (BLOCK + 1152))
        assert (
            pick(all_of(Bounds(weight_bytes=2 * (49152 * 576 + 576 + 7 * (BLOCK + 1152))))).candidate.keep_layers == 7
        )
        assert pick(all_of(Bounds(decode_s=1e-3 + 2e-10 * 60e6))).candidate.keep_layers == 8

    def test_a_format_leaves_room_for_layers(self) -> None:
        bounds = Bounds(weight_bytes=1e8)
        plain, rounded = (pick(all_of(bounds, dataclasses.replace(WORK, quantise=format_))) for format_ in ("", "int4"))
        assert rounded.candidate.keep_layers > 2 * plain.candidate.keep_layers

    def test_nothing_fits(self) -> None:
        with pytest.raises(InfeasiblePlan, match="none of 29 students fits the budget") as stopped:
            pick(all_of(Bounds(seconds=10.0, weight_bytes=6.5e7, training_bytes=1e9)))
        assert stopped.value.exit_code == 3
        assert stopped.value.reasons == {
            "signals and training take longer": 29,
            "the weights take more memory": 28,
            "training needs more memory than this machine has": 29 - 1,
        }

    @examples(60)
    @given(
        st.tuples(st.floats(150, 500), st.floats(6e7, 3e8), st.floats(5e-3, 4e-2), st.floats(8e8, 4e9)),
        st.tuples(*[st.floats(1, 3)] * 4),
    )
    def test_a_looser_bound_never_gives_a_smaller_student(
        self, tight: tuple[float, ...], more: tuple[float, ...]
    ) -> None:
        def layers(values: Any) -> int:
            seconds, weight_bytes, decode_s, training_bytes = values
            bounds = Bounds(
                seconds=seconds, weight_bytes=weight_bytes, decode_s=decode_s, training_bytes=training_bytes
            )
            try:
                return pick(all_of(bounds)).candidate.keep_layers
            except InfeasiblePlan:
                return 0

        assert layers(tight) <= layers([bound * factor for bound, factor in zip(tight, more, strict=True)])


class TestMeasuring:
    def test_a_peak_is_seen(self) -> None:
        with Peak() as peak:
            before, until = peak.bytes, time.monotonic() + 60.0
            held = torch.ones(64 * 2**20, dtype=torch.uint8, device=current())
            while peak.bytes - before < 50 * 2**20 and current().type == "cpu" and time.monotonic() < until:
                time.sleep(0.01)  # until the thread that watches has had its turn
            del held
        assert peak.bytes - resident_bytes() > 40 * 2**20

    @pytest.mark.slow
    def test_what_a_pass_keeps_grows_with_blocks_and_tokens(self, teacher: Any) -> None:
        fields = fields_of(teacher)
        tokens = torch.zeros(2, 16, dtype=torch.int64)
        found = [float(kept_bytes(cut(teacher, each), tokens)) for each in shallower(fields)[::2]]
        assert np.diff(found).max() < 0
        assert np.diff(found) == pytest.approx(np.diff(found)[0])
        largest = cut(teacher, shallower(fields)[0])
        assert kept_bytes(largest, torch.zeros(4, 16, dtype=torch.int64)) == pytest.approx(2 * found[0], rel=0.05)

    @pytest.mark.slow
    def test_nothing_is_left_of_a_trial(self, teacher: Any, packed: Packed) -> None:
        """A pass whose saved tensors are looked at must still let go of them."""
        import gc

        def live() -> int:
            gc.collect()
            return sum(type(each) is torch.Tensor for each in gc.get_objects())

        kept_bytes(teacher, torch.zeros(1, 8, dtype=torch.int64))
        before = live()
        for _ in range(3):
            kept_bytes(teacher, torch.zeros(1, 8, dtype=torch.int64))
        assert live() == before

    @pytest.mark.slow
    def test_steps_are_those_that_were_asked_for(self, teacher: Any, packed: Packed, tmp_path: Path) -> None:
        recipe = TrainRecipe(tokens=1, windows_per_step=4, learning_rate=1e-3, checkpoint_every_steps=1)
        began = time.perf_counter()
        seconds = time_steps(cut(teacher, shallower(fields_of(teacher))[0]), first_batch(packed, 4), hard, recipe, 3)
        assert len(seconds) == 3
        assert min(seconds) > 0.0
        assert sum(seconds) < time.perf_counter() - began

    def test_a_step_of_many_passes_is_not_run_whole(
        self, teacher: Any, packed: Packed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second of optimiser and a quarter a pass, sixteen passes, of which two are run."""
        seen: list[int] = []

        def seconds(model: Any, batch: Any, objective: Any, recipe: TrainRecipe, steps: int) -> list[float]:
            seen.append(recipe.windows_per_step)
            assert len(batch.tokens) == recipe.windows_per_step
            return [1.0 + 0.25 * recipe.windows_per_step / recipe.micro_windows] * steps

        monkeypatch.setattr(trial, "time_steps", seconds)
        recipe = TrainRecipe(tokens=1, windows_per_step=32, micro_windows=2, learning_rate=1e-3)
        assert trial.step_seconds(teacher, packed, hard, recipe) == pytest.approx(1.0 + 0.25 * 16)
        assert seen == [2, 4]

    @pytest.mark.parametrize(
        "kind", [TopK(k=16), *slow(Hidden(), Sampled(draws=20, seed=3))], ids=lambda each: each.key["kind"]
    )
    def test_a_remembered_teacher_is_what_signals_will_be(
        self, teacher: Any, packed: Packed, tmp_path: Path, kind: Kind
    ) -> None:
        key = signal_key(kind, "teacher", "tokenizer", packed)
        build(teacher, kind, key, packed, tmp_path, SILENT, "s")
        batch = first_batch(packed, 4)
        source = CachedTeacher(Online(teacher), kind)
        ours, theirs = source(batch), Signals(tmp_path, key)(batch)
        assert source(batch) is ours
        if isinstance(ours, DenseTeacher):
            assert isinstance(theirs, DenseTeacher)
            assert torch.equal(ours.hidden[0], theirs.hidden[0])
        else:
            assert isinstance(theirs, Sparse)
            assert torch.equal(ours.weights, theirs.weights)
            same = same_but_for_ties(ours.ids, theirs.ids, ours.weights) if ours.tail else None
            assert torch.equal(ours.ids, theirs.ids) if same is None else same


RECIPE = """
name = "flash"
seed = 1
data = "{data}"
out_of_domain = "strangers.txt"

[[teachers]]
model = "{teacher}"

[student]
kind = "{kind}"

[budget]
{budget}
context = 16

[text]
window_tokens = 32
train_tokens = 2048
heldout_tokens = 256
out_of_domain_tokens = 256

[train]
tokens = 1024
windows_per_step = 4
learning_rate = 1e-3
arithmetic = "bf16"
"""
FOUR_LAYERS = 2 * (384 * 32 + 32 + 4 * (32 * (32 + 16 + 16 + 32) + 3 * 32 * 64 + 2 * 32)) / 1e9
"""weights of the tiny teacher with four blocks, in gigabytes"""


@pytest.fixture
def write(tmp_path: Path, tiny_teacher: Path, text_file: Path, other_text: str) -> Any:
    (tmp_path / "strangers.txt").write_text(other_text)

    def written(budget: str, kind: str = "depth") -> Path:
        path = tmp_path / "distill.toml"
        path.write_text(RECIPE.format(data=text_file, teacher=tiny_teacher, budget=budget, kind=kind))
        return path

    return written


class TestRuns:
    @pytest.mark.slow
    def test_prediction_beside_outcome(self, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """And the student is the one that the same run without a budget would make, bit for bit."""
        path, out = write(f"memory_gb = {FOUR_LAYERS}\nminutes = 10.0"), tmp_path / "out"
        found = run_distillation(read_distillation(path), out, SILENT)
        assert json.loads((out / "student" / "config.json").read_text())["num_hidden_layers"] == 4
        assert found["budget"]["student"] == "4 layers"
        for name, predicted in found["budget"]["predicted"].items():
            measured = found["budget"]["measured"][name]
            assert predicted > 0
            assert 0.02 < measured / predicted < 50, name  # a toy on a shared machine; the docs show a real one
        lines = student_lines(found)
        assert any(line.startswith("4 layers, picked by budget") for line in lines)
        memory = next(line for line in lines if line.startswith("most memory while training"))
        assert memory.count(" MB") + memory.count(" GB") == 2, memory  # of the whole process, other tests included
        saved = json.loads((out / "budget.json").read_text())
        assert [each["sizes"]["keep_layers"] for each in saved["candidates"]] == [5, 4, 3, 2, 1]
        assert saved["candidates"][0]["reasons"] == ["the weights take more memory"]

        plain = tmp_path / "plain.toml"
        text = path.read_text().replace('kind = "depth"', 'kind = "depth"\nkeep_layers = 4')
        plain.write_text(text[: text.index("[budget]")] + text[text.index("[text]") :])
        run_distillation(read_distillation(plain), tmp_path / "plain", SILENT)
        weights = [(tmp_path / name / "student" / "model.safetensors").read_bytes() for name in ("out", "plain")]
        assert weights[0] == weights[1]

    @pytest.mark.slow
    def test_a_run_that_goes_on_does_not_pick_anew(
        self, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from flashstill.distill.signals import making

        class Killed(Exception):
            pass

        def die(*_: Any) -> None:
            raise Killed

        recipe, out = read_distillation(write(f"memory_gb = {FOUR_LAYERS}")), tmp_path / "out"
        with monkeypatch.context() as patch:
            patch.setattr(making, "check_head", die)
            with pytest.raises(Killed):
                run_distillation(recipe, out, SILENT)
        monkeypatch.setattr(trial, "measured", die)
        saved = json.loads((out / "budget.json").read_text())
        saved["pick"] = saved["candidates"][3]
        (out / "budget.json").write_text(json.dumps(saved))
        run_distillation(recipe, out, SILENT)
        assert json.loads((out / "student" / "config.json").read_text())["num_hidden_layers"] == 2

    @pytest.mark.slow
    def test_a_narrow_one(self, write: Any, tmp_path: Path) -> None:
        found = run_distillation(read_distillation(write("memory_gb = 5e-5", "width")), tmp_path / "out", SILENT)
        config = json.loads((tmp_path / "out" / "student" / "config.json").read_text())
        assert config["num_hidden_layers"] == 6
        assert config["hidden_size"] < 32
        assert 2 * found["parameters"]["student"] <= 5e4

    @pytest.mark.slow
    def test_two_processes_agree_on_one(self, write: Any, tmp_path: Path) -> None:
        ran = torchrun(write(f"memory_gb = {FOUR_LAYERS}"), tmp_path / "out")
        assert ran.returncode == 0, ran.stderr
        assert json.loads((tmp_path / "out" / "student" / "config.json").read_text())["num_hidden_layers"] == 4
        assert ran.stderr.count("<- picked") == 1

    @pytest.mark.slow
    def test_nothing_fits_is_exit_code_3(self, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main(["distill", str(write("memory_gb = 1e-6")), "--out", str(tmp_path / "out")])
        assert stop.value.code == 3
        said = capsys.readouterr().err.splitlines()[-1]
        assert said == "flashstill: none of 5 students fits the budget (the weights take more memory: 5)"
        assert not (tmp_path / "out" / "budget.json").exists()

    @pytest.mark.parametrize(
        ("budget", "kind", "said"),
        [
            ("", "depth", "budget sets no bound"),
            ("usd = 3.0", "depth", "needs budget.usd_per_hour"),
            ("minutes = -1.0", "depth", "budget.minutes is -1; it must be at least 0"),
            ("minuts = 1.0", "depth", "the nearest known: minutes"),
            ("minutes = 1.0", "copy", "students of kind depth or width, not copy"),
        ],
    )
    def test_budgets_that_cannot_be(self, write: Any, budget: str, kind: str, said: str) -> None:
        with pytest.raises(BadInput, match=said):
            read_distillation(write(budget, kind))

    def test_only_the_text_as_it_is_can_be_predicted(self, write: Any) -> None:
        path = write("minutes = 1.0")
        path.write_text(path.read_text() + '\n[regime]\nkind = "sequence"\n')
        with pytest.raises(BadInput, match=r"a budget knows the text as it is only: regime\.kind must be offline"):
            read_distillation(path)

    def test_dollars_are_minutes(self, write: Any) -> None:
        budget = read_distillation(write("usd = 1.5\nusd_per_hour = 3.0\nminutes = 45")).budget
        assert budget.seconds == 1800.0
        assert dataclasses.replace(budget, usd=0.0).seconds == 2700.0
        assert dataclasses.replace(budget, usd=0.0, minutes=0.0).seconds == math.inf

    def test_a_context_that_the_teacher_was_not_made_for(self, write: Any, tmp_path: Path) -> None:
        path = write("minutes = 1.0")
        path.write_text(path.read_text().replace("context = 16", "context = 1000"))
        with pytest.raises(BadInput, match=r"budget.context is 1000, more than"):
            run_distillation(read_distillation(path), tmp_path / "out", SILENT)
