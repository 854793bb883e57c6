"""One decision for all that runs models: which arithmetic and how many threads, kept, recorded, and followed."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor

from flashstill.cli.measuring import measure
from flashstill.distill import models
from flashstill.distill.classifiers.nets import Nets
from flashstill.distill.models import arithmetic, load_model, load_tokenizer, product_speed, save_model
from flashstill.distill.models.arithmetic import AUTO, FILE, Arithmetic, decided, settled, shape_of
from flashstill.distill.models.product_speed import Shape, machine_key
from flashstill.distill.models.threads import THREAD_VARIABLES
from flashstill.distill.students import Format, quantise_aware, round_model
from flashstill.distill.students.compressed import rounded_weights
from flashstill.distill.training import checkpoints, loop
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import DistillRecipe, read_distillation, read_recipe
from flashstill.recipes.arithmetic import with_arithmetic
from flashstill.recipes.studies import read_study, recipe_file
from flashstill.runs.distillation import run_distillation
from tests.marks import slow
from tests.tiny import family_text

SOURCE = Path(__file__).parents[1] / "src" / "flashstill"
USUAL = Shape()


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    """Threads as they were, and nothing remembered of what a test made up."""
    threads = torch.get_num_threads()
    product_speed._precision_seconds.cache_clear()
    yield
    product_speed._precision_seconds.cache_clear()
    torch.set_num_threads(threads)


def pretend(monkeypatch: pytest.MonkeyPatch, faster: str, threads: int = 1) -> list[str]:
    """A machine on which one arithmetic is five times as fast, and so many threads are best; the list of what it was
    asked."""
    asked: list[str] = []

    def seconds(shape: Shape, precision: str) -> float:
        asked.append(precision)
        at = torch.get_num_threads()
        return (1.0 if precision == faster else 5.0) * (1.0 + abs(at - threads))

    monkeypatch.setattr(product_speed, "product_seconds", seconds)
    monkeypatch.setattr(arithmetic, "current", lambda: torch.device("cpu"))  # a GPU is not measured
    monkeypatch.setattr(product_speed, "ARITHMETIC_S", 60.0)
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return asked


class TestDecision:
    @pytest.mark.parametrize("faster", ["bf16", "fp32"])
    @pytest.mark.parametrize("threads", [1, 2, 4])
    def test_the_faster_one(self, monkeypatch: pytest.MonkeyPatch, faster: str, threads: int) -> None:
        pretend(monkeypatch, faster, threads)
        monkeypatch.setattr(product_speed, "available_cores", lambda: 4)
        assert decided() == Arithmetic(precision=faster, threads=threads)
        other = "fp32" if faster == "bf16" else "bf16"
        assert decided(other).precision == other, "what is wanted is done"

    def test_a_tie_is_bf16_on_one_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(product_speed, "product_seconds", lambda *_: 1.0)
        monkeypatch.setattr(product_speed, "available_cores", lambda: 4)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert decided() == Arithmetic(precision="bf16", threads=1)

    def test_threads_of_the_environment_are_respected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend(monkeypatch, "fp32", threads=4)
        monkeypatch.setattr(product_speed, "available_cores", lambda: 4)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        torch.set_num_threads(3)  # as torch does when it is started with this variable
        assert decided().threads == 3

    def test_a_gpu_is_not_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = pretend(monkeypatch, "fp32")
        monkeypatch.setattr(arithmetic, "current", lambda: torch.device("cuda", 0))
        monkeypatch.setattr(arithmetic, "multiplies_bf16", lambda device: True)
        assert decided().precision == "bf16"
        assert decided("fp32").precision == "fp32"
        monkeypatch.setattr(arithmetic, "multiplies_bf16", lambda device: False)
        assert decided().precision == "fp32"
        assert asked == []

    def test_an_unknown_one(self) -> None:
        with pytest.raises(BadInput, match="the nearest known: fp32"):
            decided("fp23")

    def test_what_is_far_too_slow_is_not_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = pretend(monkeypatch, "fp32")
        monkeypatch.setattr(product_speed, "ARITHMETIC_S", 0.6)
        assert product_speed.fastest_precision(USUAL) == "fp32"
        assert asked == ["bf16", "fp32"] * 2

    def test_shapes(self, tiny_teacher: Path, tmp_path: Path) -> None:
        assert shape_of(tiny_teacher) == Shape(width=32, feed_forward=64, vocabulary=384)
        assert shape_of(tiny_teacher).measured == Shape(width=256, feed_forward=512, vocabulary=1024)
        large = Shape(width=8192, feed_forward=28_672, vocabulary=128_256)
        assert large.measured == Shape(width=1024, feed_forward=2048, vocabulary=4096)
        assert shape_of(tmp_path) == Shape(), "a model that the cost arm does not know"


class TestKept:
    def test_once_a_machine(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        asked = pretend(monkeypatch, "fp32")
        assert decided().precision == "fp32"
        entry = json.loads((home / FILE).read_text())[machine_key(USUAL.measured)]
        assert entry["precision"] == "fp32"
        assert set(entry["seconds"]) == {"bf16", "fp32"}
        assert len(entry["measured"].split("-")) == 3, "a date"
        asked.clear()
        product_speed._precision_seconds.cache_clear()  # as another process would be
        assert product_speed.fastest_precision(USUAL.measured) == "fp32"
        assert asked == []

    @pytest.mark.parametrize("damage", ["", "{", "[]", '{"KEY": 3}', '{"KEY": {"precision": "fp8"}}'])
    def test_a_damaged_file_is_measured_again(self, monkeypatch: pytest.MonkeyPatch, home: Path, damage: str) -> None:
        pretend(monkeypatch, "fp32")
        key = machine_key(USUAL.measured)
        (home / FILE).write_text(damage.replace("KEY", key))
        assert decided().precision == "fp32"
        assert json.loads((home / FILE).read_text())[key]["precision"] == "fp32"

    def test_another_setting_is_another_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = machine_key(USUAL)
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        assert machine_key(USUAL) != plain
        assert machine_key(Shape(width=64)) != machine_key(USUAL)

    def test_a_home_that_cannot_be_written(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        pretend(monkeypatch, "fp32")
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("FLASHSTILL_HOME", str(tmp_path / "file" / "below"))
        assert decided().precision == "fp32"


class TestRuns:
    def test_a_run_goes_on_as_it_was_begun(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Also where another arithmetic, or another number of threads, would be faster by now."""
        record = tmp_path / FILE
        pretend(monkeypatch, "bf16", threads=2)
        monkeypatch.setattr(product_speed, "available_cores", lambda: 2)
        first = settled(AUTO, Shape, record)
        assert first == Arithmetic(precision="bf16", threads=2)
        assert torch.get_num_threads() == 2
        pretend(monkeypatch, "fp32")
        torch.set_num_threads(1)
        assert settled(AUTO, Shape, record) == first
        assert torch.get_num_threads() == 2

    def test_another_one_is_refused(self, tmp_path: Path) -> None:
        settled("fp32", Shape, tmp_path / FILE)
        with pytest.raises(BadInput, match="was begun in fp32 arithmetic, not bf16"):
            settled("bf16", Shape, tmp_path / FILE)

    @pytest.mark.parametrize("damage", ["", "{}", "[]", '{"precision": "fp8", "threads": 1}'])
    def test_a_damaged_record(self, tmp_path: Path, damage: str) -> None:
        (tmp_path / FILE).write_text(damage)
        with pytest.raises(BadInput, match="does not say in which arithmetic"):
            settled(AUTO, Shape, tmp_path / FILE)


RECIPE = """
name = "half"
data = "{data}"
out_of_domain = "{other}"

[[teachers]]
model = "{teacher}"

[student]
kind = "depth"
keep_layers = 3

[text]
window_tokens = 32
train_tokens = 512
heldout_tokens = 128
out_of_domain_tokens = 128

[train]
tokens = 256
checkpoint_every_steps = 1
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_teacher: Path, text_file: Path, other_text: str) -> DistillRecipe:
    path, other = tmp_path / "distill.toml", tmp_path / "other.txt"
    other.write_text(other_text)
    path.write_text(RECIPE.format(data=text_file, other=other, teacher=tiny_teacher))
    return read_distillation(path)


class TestFollowed:
    @pytest.mark.slow
    @pytest.mark.parametrize("faster", [*slow("bf16"), "fp32"])
    def test_by_signals_training_and_evaluation(
        self, monkeypatch: pytest.MonkeyPatch, recipe: DistillRecipe, tmp_path: Path, faster: str
    ) -> None:
        from flashstill.distill.signals import making
        from flashstill.evaluate import readers

        pretend(monkeypatch, faster)
        seen: dict[str, set[torch.dtype]] = {}

        def watched(place: Any, name: str, what: str) -> None:
            before = getattr(place, name)

            def look(model: Any, *more: Any, **named: Any) -> Any:
                seen.setdefault(what, set()).add(models.parts(model).head.dtype)
                return before(model, *more, **named)

            monkeypatch.setattr(place, name, look)

        watched(making, "hidden_states", "signals")
        watched(readers, "hidden_states", "evaluation")
        watched(loop, "_Student", "training")
        found = run_distillation(recipe, tmp_path / "out", Silent())
        dtype = product_speed.DTYPES[faster]
        assert seen == {"signals": {dtype}, "evaluation": {dtype}, "training": {dtype}}
        assert found["arithmetic"] == {"precision": faster, "threads": 1}
        written = load_file(tmp_path / "out" / "student" / "model.safetensors")
        assert {each.dtype for each in written.values()} == {torch.bfloat16}, "whatever they were multiplied in"

    @pytest.mark.slow
    def test_a_resumed_run_on_another_machine_reaches_the_same_weights(
        self, monkeypatch: pytest.MonkeyPatch, recipe: DistillRecipe, tmp_path: Path
    ) -> None:
        pretend(monkeypatch, "fp32")
        run_distillation(recipe, tmp_path / "whole", Silent(), judged=False)

        class Killed(Exception):
            pass

        with monkeypatch.context() as patch:

            def once(*given: Any) -> None:
                checkpoints.write(*given)
                raise Killed

            patch.setattr(loop, "write", once)
            with pytest.raises(Killed):
                run_distillation(recipe, tmp_path / "cut", Silent(), judged=False)
        pretend(monkeypatch, "bf16")
        product_speed._precision_seconds.cache_clear()
        run_distillation(recipe, tmp_path / "cut", Silent(), judged=False)
        whole, cut = ((tmp_path / name / "student" / "model.safetensors").read_bytes() for name in ("whole", "cut"))
        assert whole == cut

    @pytest.mark.slow
    def test_a_checkpoint_of_another_arithmetic_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, recipe: DistillRecipe, tmp_path: Path
    ) -> None:
        from flashstill.runs import engine

        out = tmp_path / "out"
        with monkeypatch.context() as patch:
            patch.setattr(engine, "leave_student", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                run_distillation(with_arithmetic(recipe, "fp32"), out, Silent(), judged=False)
        with pytest.raises(BadInput, match="belongs to another recipe"):
            run_distillation(with_arithmetic(recipe, "bf16"), out, Silent(), judged=False)
        (out / FILE).write_text('{"precision": "bf16", "threads": 1}')  # as if nobody had looked
        recipe_of_it = (out / "distill.toml").read_text().replace('"fp32"', '"bf16"')
        (out / "distill.toml").write_text(recipe_of_it)
        with pytest.raises(BadInput, match="belongs to a run with another arithmetic"):
            run_distillation(with_arithmetic(recipe, "bf16"), out, Silent(), judged=False)

    @pytest.mark.parametrize("faster", ["bf16", *slow("fp32")])
    @pytest.mark.slow
    def test_by_measure(self, monkeypatch: pytest.MonkeyPatch, faster: str, home: Path) -> None:
        pretend(monkeypatch, faster)
        from flashstill.measure import machine

        for name, value in (("MATMUL_EDGES", (64,)), ("BANDWIDTH_BYTES", 2**20), ("REPEATS", 1), ("LEAST_REPEATS", 1)):
            monkeypatch.setattr(machine, name, value)
        done = CliRunner().invoke(measure, ["--json"])
        assert done.exit_code == 0, done.output
        document = json.loads(done.stdout)
        assert document["arithmetic"] == {"precision": faster, "threads": 1}
        sources = {row["quantity"]: row["source"] for row in document["facts"]}
        assert f"{faster} matrix-vector product" in sources["memory_bytes_per_s"]
        rates = [row["condition"] for row in document["facts"] if row["quantity"] == "flops_per_s"]
        assert rates == ["bf16 dense", "fp32 dense"], "both, whichever is used"

    def test_by_everything_that_loads_a_model(self) -> None:
        """Whoever loads one in the package says in which format: none runs in the disk's by forgetting it."""
        for path in SOURCE.rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)) if "load_model" in text else ():
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_model":
                    assert len(node.args) == 2, f"{path}:{node.lineno}: load_model without a format"


class TestWeights:
    @pytest.mark.slow
    def test_saving_leaves_the_model_in_its_format(self, tiny_teacher: Path, tmp_path: Path) -> None:
        model = load_model(tiny_teacher, torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1e-5)
        save_model(model, load_tokenizer(tiny_teacher), tmp_path / "saved")
        again = load_model(tmp_path / "saved", torch.float32)
        assert model.dtype == torch.float32
        for name, weight in again.state_dict().items():
            assert torch.equal(weight, model.state_dict()[name]), name
        assert json.loads((tmp_path / "saved" / "config.json").read_text())["dtype"] == "bfloat16"

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["int4", *slow("fp8", "ternary")])
    def test_rounding_is_that_of_the_disk(self, tiny_teacher: Path, name: str) -> None:
        """In fp32 arithmetic a quantised weight is the one that bf16 arithmetic has, bit for bit."""
        format_, held = Format(name=name, group=16), {}
        for dtype in (torch.bfloat16, torch.float32):
            plain = round_model(load_model(tiny_teacher, dtype), format_)
            aware = quantise_aware(load_model(tiny_teacher, dtype), format_)
            key = "model.layers.0.mlp.up_proj"
            held[dtype] = (
                plain.get_submodule(key).weight.float(),
                aware.get_submodule(key).weight.float(),
                *(each.float() for each in rounded_weights(aware, format_)[f"{key}.weight"]),
            )
        for ours, theirs in zip(held[torch.float32], held[torch.bfloat16], strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(*held[torch.float32][:2])

    def test_classifiers(self) -> None:
        """Begun alike in either; what goes on in memory is what will be read back."""
        narrow, wide = (Nets(4, (8,), 3, [0], dtype) for dtype in (torch.bfloat16, torch.float32))
        images = torch.randn(1, 5, 4).to(torch.bfloat16)
        assert torch.equal(narrow.weights[0].float(), wide.weights[0])
        assert torch.allclose(narrow(images), wide(images), atol=0.05)
        with torch.no_grad():
            wide.weights[0].add_(1e-4)
        stored = wide.as_stored().weights[0]
        assert stored.dtype == torch.float32
        assert torch.equal(stored, stored.to(torch.bfloat16).float())


class TestRecipes:
    def test_a_flag_reaches_every_kind(self, recipe: DistillRecipe, tmp_path: Path, tiny_teacher: Path) -> None:
        (tmp_path / "family.toml").write_text(family_text(tiny_teacher, "x.txt"))
        assert with_arithmetic(recipe, "fp32").train.arithmetic == "fp32"
        family = with_arithmetic(read_recipe(tmp_path / "family.toml"), "bf16")
        assert {student.train.arithmetic for student in family.students} == {family.train.arithmetic} == {"bf16"}
        for name in ("rounding", "kd-against-labels", "kd-by-size", "hinton-2015", "deep-think", "moe-to-dense"):
            study = with_arithmetic(read_study(recipe_file(name)), "fp32")
            assert study.arithmetic == "fp32"
            for arm in study.arms(0).values() if hasattr(study, "arms") else ():
                assert arm.train.arithmetic == "fp32"

    def test_a_wrong_word(self, tmp_path: Path, tiny_teacher: Path) -> None:
        path = tmp_path / "family.toml"
        text = family_text(tiny_teacher, "x.txt").replace('"fp32"', '"bf61"')
        path.write_text(text)
        with pytest.raises(BadInput, match="bf61"):
            read_recipe(path)


class TestMeasured:
    """On a clock that only matrix products move."""

    @pytest.fixture
    def spent(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.dtype, int]]:
        """The dtype and the multiplications of every product; one in bf16 takes a tenth of one in fp32."""
        products: list[tuple[torch.dtype, int]] = []

        def linear(rows: Tensor, weight: Tensor) -> None:
            assert rows.dtype == weight.dtype
            assert rows.shape[1] == weight.shape[1]
            products.append((rows.dtype, rows.shape[0] * weight.numel()))

        def clock() -> float:
            return sum(size * (1e-12 if dtype == torch.bfloat16 else 1e-11) for dtype, size in products)

        monkeypatch.setattr(torch.nn.functional, "linear", linear)
        monkeypatch.setattr(product_speed, "time", SimpleNamespace(perf_counter=clock))
        return products

    @pytest.mark.parametrize(("precision", "each"), [("bf16", 1e-12), ("fp32", 1e-11)])
    def test_a_pass_is_all_products_with_many_tokens_and_with_few(
        self, spent: list[tuple[torch.dtype, int]], precision: str, each: float
    ) -> None:
        """(256 + 4) tokens x (2 x 300 x 700 + 300 x 1,000) weights."""
        seconds = product_speed.product_seconds(Shape(width=300, feed_forward=700, vocabulary=1000), precision)
        assert seconds == pytest.approx(260 * 720_000 * each)
        assert len(spent) == 6

    def test_precisions_take_turns_and_their_medians_keep_their_names(
        self, spent: list[tuple[torch.dtype, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(arithmetic, "current", lambda: torch.device("cpu"))
        assert decided(shape=USUAL).precision == "bf16"
        found = product_speed._precision_seconds(machine_key(USUAL), USUAL)
        assert found["fp32"] == pytest.approx(10.0 * found["bf16"])
        turns = [dtype for dtype, _ in spent[::6]]
        assert turns[:4] == [torch.bfloat16, torch.float32] * 2
        assert turns.count(torch.float32) >= 1 + product_speed.ROUNDS, "a warm-up, and rounds"

    def test_the_median_of_rounds_after_a_warm_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(product_speed, "time", SimpleNamespace(perf_counter=lambda: 0.0))
        slow_start, jitter = iter([100.0, 3.0, 1.0, 2.0, 9.0, 1.5]), iter([7.0, 5.0, 5.0, 6.0, 1.0, 4.0])
        works = [lambda: next(slow_start), lambda: next(jitter)]
        assert product_speed._interleaved(works, 1000.0) == [2.0, 5.0]
