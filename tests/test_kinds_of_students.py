"""A family of five kinds of students of one teacher: one front, and the same weights whatever stops the run."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flashstill.arch.catalogue import read_config
from flashstill.errors import BadInput
from flashstill.measure.rates import Rates
from flashstill.recipes import FamilyRecipe, StudentRecipe, built_in, read_recipe, to_toml
from flashstill.recipes.regime import RegimeRecipe
from flashstill.recipes.signals import SignalRecipe
from flashstill.records import CostRecord, ModelRecord, QualityRecord, Record, read_records
from flashstill.report.points import points
from flashstill.runs.costs import COMPENSATE_READS, COMPENSATE_ROUNDINGS, Costs
from flashstill.runs.shares import Share, share_of
from flashstill.runs.sharing import least_layers, signals_keys, workdir_of
from tests.tiny import FIVE_KINDS

KINDS = ("shallow", "narrow", "experts", "int4", "writer")
KILLS = 10


def five_kinds(folder: Path, teacher: object) -> Path:
    path = folder / "family.toml"
    path.write_text(FIVE_KINDS.format(teacher=teacher, data="corpus.txt", other="other.txt"), encoding="utf-8")
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> FamilyRecipe:
    return read_recipe(five_kinds(tmp_path, "somewhere"))


def edited(folder: Path, old: str, new: str) -> Path:
    path = five_kinds(folder, "somewhere")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def student_of(recipe: FamilyRecipe, name: str) -> StudentRecipe:
    return next(student for student in recipe.students if student.name == name)


class TestRecipes:
    def test_tables_of_the_family_and_of_a_student(self, recipe: FamilyRecipe) -> None:
        """[train] goes key by key, [signals] as a whole; what was resolved is read back as it is."""
        int4 = student_of(recipe, "int4")
        assert (int4.train.learning_rate, int4.train.tokens, int4.train.windows_per_step) == (1e-4, 512, 2)
        assert (recipe.train.learning_rate, recipe.signals.kind) == (1e-3, "hidden")
        writer = recipe.distillation(student_of(recipe, "writer"))
        assert (writer.signals.kind, writer.regime.kind, writer.losses[0].divergence) == (
            "none",
            "on-policy",
            "jsd:0.5",
        )
        assert writer.teachers == recipe.teachers

    def test_the_resolved_recipe_means_the_same(self, recipe: FamilyRecipe, tmp_path: Path) -> None:
        again = tmp_path / "again.toml"
        again.write_text(to_toml(recipe), encoding="utf-8")
        assert read_recipe(again) == recipe

    def test_a_control_learns_the_text_as_it_is(self, recipe: FamilyRecipe) -> None:
        for student in recipe.students:
            own, control = recipe.distillation(student), recipe.control_of(student)
            assert control is not None
            assert (control.losses, control.hard_weight, control.regime.kind) == ((), 1.0, "offline")
            assert (control.student, control.train, control.name) == (own.student, own.train, f"{student.name}-control")
        for weight in (1.0, 0.5):  # of the only loss there is
            labels = dataclasses.replace(recipe.students[0], losses=(), hard_weight=weight)
            assert recipe.control_of(labels) is None, "it is its own"
        assert dataclasses.replace(recipe, control=False).control_of(recipe.students[0]) is None

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("[train]", "[distil]", "write [train]"),
            ('teacher = "somewhere"', 'teacher = "a"\nteachers = [{ model = "b" }]', "both teacher and [[teachers]]"),
            ('teacher = "somewhere"', 'teacher = "http://x/v1"', "is behind a server; name a model on this disk"),
            ("keep_layers = 3", "hidden = 3", "students[0].keep_layers is 0; it must be at least 1"),
            ("keep_layers = 3", "keep_layer = 3", "unknown key 'students[0].keep_layer'; the nearest known: keep"),
            ('signals = { kind = "none" }', "", "student writer: signals.kind must be none in an on-policy regime"),
            ("group = 16", "group = 16\ncompensate_windows = 2", ""),
            ("group = 16", "group = 16\nkeep_layers = 1", "student int4: keep_layers is 1, but it is for students of"),
            (
                'quantise = "int4"', 'quantise = "fp8"\ncompensate_windows = 2',
                "student int4: compensate_windows is for students of kind copy",
            ),
            ("learning_rate = 1e-4", 'arithmetic = "bf16"', "ask for different arithmetic"),
            ("keep_layers = 4", 'keep_layers = 4\nteachers = [{ model = "x", data = "y" }]', "makes text that belongs"),
            (
                "keep_layers = 3", 'keep_layers = 3\nteachers = [{ model = "x", data = "y" }]',
                "students shallow and narrow have other texts",
            ),
        ],
    )  # fmt: skip
    def test_what_a_family_may_not_say(self, tmp_path: Path, old: str, new: str, said: str) -> None:
        path = edited(tmp_path, old, new)
        if not said:
            read_recipe(path)
            return
        with pytest.raises(BadInput) as refused:
            read_recipe(path)
        assert said in str(refused.value)


class TestSharing:
    def test_students_that_begin_alike(self, recipe: FamilyRecipe, tmp_path: Path) -> None:
        """The same cut from the same model shares first weights; shallower and deeper ones share their search."""
        shallow, writer = student_of(recipe, "shallow"), student_of(recipe, "writer")
        twin = dataclasses.replace(shallow, name="twin", tokens=64, quantise="int4")
        family = dataclasses.replace(recipe, students=(*recipe.students, twin))
        places = {each.name: workdir_of(family, each, tmp_path, each.name) for each in family.students}
        assert places["twin"].initial == places["shallow"].initial == tmp_path / "starts" / "shallow"
        assert places["writer"].initial == tmp_path / "starts" / "writer"
        assert places["writer"].search == places["shallow"].search == tmp_path / "search.json"
        assert least_layers(family, writer) == 3
        assert len({place.student for place in places.values()}) == 6
        assert workdir_of(family, twin, tmp_path, "twin-control").initial == places["twin"].initial
        other = dataclasses.replace(writer, search=dataclasses.replace(writer.search, method="influence"))
        family = dataclasses.replace(recipe, students=(*recipe.students[:-1], other))
        assert workdir_of(family, other, tmp_path, "writer").search == tmp_path / "search-writer.json"
        assert least_layers(family, other) == 4

    def test_signals_are_kept_once(self, recipe: FamilyRecipe) -> None:
        kept = [signals_keys(recipe, student) for student in recipe.students]
        assert kept[0] == kept[1] == kept[2] == kept[3] != set()
        assert kept[4] == set(), "an on-policy student asks the teacher on the way"


def test_shares_of_the_work(tiny_teacher: Path) -> None:
    """A block of the tiny teacher: 3,072 weights of attention, 6,144 of the feed-forward layer, 64 of norms."""
    teacher = read_config(tiny_teacher / "config.json", "teacher")
    family = read_recipe_of(tiny_teacher)
    share = {each.name: share_of(each.shape, teacher, teacher) for each in family.students}
    assert share["shallow"].blocks == pytest.approx(3 / 6)
    attention, neurons = 3072 + 64, 6144
    assert share["narrow"].blocks == pytest.approx((attention / 2 + neurons / 2) / (attention + neurons))
    assert share["narrow"].head == share["int4"].blocks == share["int4"].weights == 1.0
    assert share["experts"].weights == pytest.approx((attention + neurons * 112 / 64) / (attention + neurons))
    demo = built_in("demo")
    assert {share_of(each.shape, teacher, teacher).blocks for each in demo.students if each.kind == "copy"} == {1.0}


def read_recipe_of(teacher: Path) -> FamilyRecipe:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return read_recipe(five_kinds(Path(folder), teacher))


class TestCosts:
    """Seconds of a machine that reads a token of the teacher in 1 ms and judges one in half of that."""

    @pytest.fixture
    def costs(self, recipe: FamilyRecipe) -> Costs:
        rates = Rates(read_s=1e-3, head_s=5e-4, at_zero_s=0.2, rounding_s=0.1)
        shares = {each.name: Share(blocks=0.5, head=1.0, weights=0.5) for each in recipe.students}
        return Costs(rates=rates, depth=6, shares=shares, overhead=1.0)

    def test_signals_are_paid_once(self, recipe: FamilyRecipe, costs: Costs) -> None:
        once = 1e-3 * (1024 + 256 + 256)
        assert costs.signals_s(recipe) == pytest.approx(once)
        ids = dataclasses.replace(recipe.students[0], signals=SignalRecipe(kind="topk"))
        other = dataclasses.replace(recipe, students=(*recipe.students[1:], ids))
        assert costs.signals_s(other) == pytest.approx(once + (1e-3 + 2 * 5e-4) * 1024)

    def test_text_that_a_teacher_writes(self, recipe: FamilyRecipe, costs: Costs) -> None:
        """24 new tokens after 8 of each of 32 windows, 64 rows at a time, and no signals of what is learned as text."""
        regime = RegimeRecipe(kind="sequence", prompt_tokens=8, new_tokens=24)
        writer = dataclasses.replace(recipe.students[0], regime=regime)
        family = dataclasses.replace(recipe, students=(writer,))
        assert costs.signals_s(family) == pytest.approx(1e-3 * (512 + 32 * 24))

    def test_a_step(self, recipe: FamilyRecipe, costs: Costs) -> None:
        """Two windows of 32 tokens: 0.5 x 0.2 s for the optimiser, and 3 x 1 ms x 0.5 + 2 x 0.5 ms a token."""
        plain = 0.1 + 64 * 2.5e-3
        step = {each.name: costs.step_s(recipe, each, soft=True) for each in recipe.students}
        assert step["shallow"] == pytest.approx(plain)
        assert step["int4"] == pytest.approx(plain + 0.05), "rounding half of the weights"
        drawn = 0.5 * 0.75 * 64 * 25 / 32  # of the windows, fresh ones, of their tokens those after the prompt
        rows = 0.5 * 0.75 * 2 * 2
        assert step["writer"] == pytest.approx(plain + 1e-3 * 64 + drawn * 0.5e-3 * 24 / rows), "its teacher is run"
        assert costs.step_s(recipe, student_of(recipe, "writer"), soft=False) == pytest.approx(plain - 64 * 0.5 * 5e-4)

    def test_students_that_begin_alike_are_cut_once(self, recipe: FamilyRecipe, costs: Costs) -> None:
        twin = dataclasses.replace(recipe.students[0], name="twin")
        more = dataclasses.replace(costs, shares={**costs.shares, "twin": costs.shares["shallow"]})
        family = dataclasses.replace(recipe, students=(*recipe.students, twin))
        assert more.search_s(family) == costs.search_s(recipe)
        rounded = dataclasses.replace(twin, kind="copy", quantise="int4", compensate_windows=2)
        family = dataclasses.replace(recipe, students=(*recipe.students, rounded))
        windows = {count: dataclasses.replace(rounded, compensate_windows=count) for count in (2, 4, 32, 64)}
        seconds = {
            count: more.search_s(dataclasses.replace(recipe, students=(*recipe.students, each)))
            for count, each in windows.items()
        }
        columns = COMPENSATE_ROUNDINGS * 0.1 * 0.5  # of half of the weights
        reading = COMPENSATE_READS * 0.5 * 1e-3 * 2 * 32  # of two windows of 32 tokens, by half of the blocks
        assert more.search_s(family) == pytest.approx(costs.search_s(recipe) + 1.0 + columns + reading)
        assert seconds[4] - seconds[2] == pytest.approx(reading), "the more text, the longer"
        assert seconds[64] == seconds[32], "the training text has no more windows"


# ---- a whole run ----


def command(folder: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "flashstill", "run", str(folder / "family.toml"), "--out", str(out)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path, sample_text: str, other_text: str) -> Path:
    """The folder of one run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "corpus.txt").write_text(sample_text, encoding="utf-8")
    (folder / "other.txt").write_text(other_text, encoding="utf-8")
    five_kinds(folder, tiny_teacher)
    subprocess.run(command(folder, folder / "out"), check=True, capture_output=True)
    return folder


def weights_of(out: Path) -> dict[str, bytes]:
    files = [*(out / "students").rglob("*.safetensors"), *(out / "packed").rglob("*.safetensors")]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def priced(records: list[Record], model: str) -> CostRecord:
    found = [record for record in records if isinstance(record, CostRecord) and record.model == model]
    return next(each for each in found if (each.chip, each.phase, each.batch) == ("h100-sxm", "decode", 1))


@pytest.mark.slow
def test_all_five_stand_on_one_front(finished: Path) -> None:
    out = finished / "out"
    records = read_records(out / "records.jsonl")
    models = {record.model: record for record in records if isinstance(record, ModelRecord)}
    assert {name for name, record in models.items() if record.role == "student"} == set(KINDS)
    found = {
        each.model: each for each in points(records, "h100-sxm", 1, "heldout", "kl_to_teacher", "joules_per_token")
    }
    for name in KINDS:
        assert {name, f"{name}-control", f"{name}-untrained"} <= set(found)
        assert found[name].cost > 0
        assert sum(isinstance(record, QualityRecord) and record.model == name for record in records) == 8
        assert models[f"{name}-control"].training_tokens == models[name].training_tokens == 512
    assert [models[name].kind for name in KINDS] == ["depth", "width", "upcycle", "copy", "depth"]
    assert (models["int4"].number_format, models["writer"].regime) == ("int4", "on-policy")
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("fewer layers", "narrower", "experts", "copy, int4", "fewer layers, on-policy"):
        assert f">{words}<" in page


@pytest.mark.slow
def test_each_is_priced_as_what_it_is(finished: Path) -> None:
    """Rounded weights move fewer bytes; a token meets only some of the experts; a narrower model has fewer weights."""
    out = finished / "out"
    records = read_records(out / "records.jsonl")
    moved = {name: priced(records, name).joules_per_token["weights"] for name in ("teacher", *KINDS)}
    assert moved["int4"] < 0.75 * moved["teacher"]
    assert moved["narrow"] < moved["teacher"]
    assert moved["shallow"] < moved["writer"] < moved["teacher"]
    assert read_config(out / "students" / "experts" / "config.json", "experts").routed
    assert (out / "packed" / "int4" / "config.json").is_file()


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_ends_with_the_same_weights(finished: Path, tmp_path: Path) -> None:
    """Some lines after each start, and a little later: every stage is hit, since each run goes on from the last."""
    out, draw, hits, longest_s = tmp_path / "out", random.Random(18), 0, 0.5
    while hits < KILLS:
        process = subprocess.Popen(
            command(finished, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert process.stderr is not None
        for _ in range(draw.randint(6, 16)):
            if not process.stderr.readline():
                break
        time.sleep(draw.uniform(0.0, longest_s))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:  # on a fast machine: what it left is right as well, and it begins anew
            assert weights_of(out) == weights_of(finished / "out")
            shutil.rmtree(out)
            longest_s /= 2.0
        else:
            assert process.returncode == -signal.SIGKILL
            hits += 1
        process.stderr.close()
    subprocess.run(command(finished, out), check=True, capture_output=True)
    assert weights_of(out) == weights_of(finished / "out")
    assert not list(out.rglob("*.part"))
