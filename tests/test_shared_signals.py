"""Signals that runs share by their key, and tokenizers that are alike although their files differ."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from flashstill.distill.models import load_tokenizer
from flashstill.distill.models.alike import first_difference
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import DistillRecipe, read_distillation, read_recipe
from flashstill.runs.distillation import build_signals, run_distillation
from flashstill.runs.shared_signals import one_builder, shared_place
from tests.distillations import metrics, written
from tests.recorded_progress import RecordedProgress
from tests.tiny import family_text

SILENT = Silent()


class TestRecipes:
    def test_a_directory_alone_names_it(self, tmp_path: Path, tiny_teacher: Path, text_file: Path) -> None:
        """Relative to the recipe, before it exists: the recipe that a resumed run compares is the same afterwards."""
        path = written(tmp_path / "distill.toml", tiny_teacher, text_file)
        table = '[signals]\nkind = "hidden"\n'
        assert table in path.read_text()
        path.write_text('signals = "../kept"\n' + path.read_text().replace(table, ""))
        first = read_distillation(path)
        assert first.signals.dir == str(tmp_path.parent / "kept")
        assert first.signals.kind == "hidden"
        (tmp_path.parent / "kept").mkdir(exist_ok=True)
        assert read_distillation(path) == first

    def test_what_it_cannot_be(self, tmp_path: Path, tiny_teacher: Path, text_file: Path) -> None:
        path = written(tmp_path / "distill.toml", tiny_teacher, text_file)
        plain = path.read_text()
        for kind, place, said in (("hidden", text_file, "which is not a directory"), ("none", "a", "means nothing")):
            path.write_text(plain.replace('kind = "hidden"', f'kind = "{kind}"\ndir = "{place}"'))
            with pytest.raises(BadInput, match=said):
                read_distillation(path)

    def test_of_a_family(self, tmp_path: Path, tiny_teacher: Path, text_file: Path) -> None:
        path = tmp_path / "family.toml"
        path.write_text('signals = "kept"\n' + family_text(tiny_teacher, text_file, text_file))
        recipe = read_recipe(path)
        assert {student.signals.dir for student in recipe.students} == {str(tmp_path / "kept")}


class TestRuns:
    @pytest.fixture
    def recipe(self, tmp_path: Path, tiny_teacher: Path, text_file: Path) -> DistillRecipe:
        path = written(tmp_path / "distill.toml", tiny_teacher, text_file, tokens=512)
        path.write_text(path.read_text().replace('kind = "hidden"', 'kind = "hidden"\ndir = "kept"'))
        return read_distillation(path)

    def test_the_second_finds_those_of_the_first(self, recipe: DistillRecipe, tmp_path: Path) -> None:
        """Whatever else differs: the student, its training."""
        (first,) = build_signals(recipe, tmp_path / "a", SILENT, (0, 1)).values()
        assert first["tokens_per_s"] is not None
        other = dataclasses.replace(
            recipe,
            student=dataclasses.replace(recipe.student, keep_layers=2),
            train=dataclasses.replace(recipe.train, learning_rate=0.01),
        )
        (second,) = build_signals(other, tmp_path / "b", SILENT, (0, 1)).values()
        assert second["tokens_per_s"] is None, "nothing was made"
        assert not (tmp_path / "a" / "signals").exists()

    @pytest.mark.slow
    def test_another_kind_has_a_place_of_its_own(self, recipe: DistillRecipe, tmp_path: Path) -> None:
        build_signals(recipe, tmp_path / "a", SILENT, (0, 1))
        sampled = dataclasses.replace(recipe, signals=dataclasses.replace(recipe.signals, kind="sampled", draws=9))
        build_signals(sampled, tmp_path / "c", SILENT, (0, 1))
        assert {path.name.split("-")[0] for path in (tmp_path / "kept").iterdir()} == {"hidden", "sampled"}

    @pytest.mark.slow
    def test_they_teach_as_a_runs_own_do(self, recipe: DistillRecipe, tmp_path: Path) -> None:
        alone = dataclasses.replace(recipe, signals=dataclasses.replace(recipe.signals, dir=""))
        summaries = [run_distillation(each, tmp_path / name, SILENT) for name, each in (("a", alone), ("b", recipe))]
        assert summaries[0]["quality"] == summaries[1]["quality"]
        assert [row["loss"] for row in metrics(tmp_path / "a")] == [row["loss"] for row in metrics(tmp_path / "b")]
        # the directory may be another one when the run goes on
        moved = dataclasses.replace(recipe, signals=dataclasses.replace(recipe.signals, dir=str(tmp_path / "moved")))
        assert run_distillation(moved, tmp_path / "b", SILENT) == summaries[1]

    @pytest.mark.slow
    def test_two_at_once(self, recipe: DistillRecipe, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            arguments = [(recipe, tmp_path / name, SILENT, (0, 1)) for name in ("a", "b")]
            built = [next(iter(each.values())) for each in pool.starmap(build_signals, arguments)]
        made = [each["tokens_per_s"] is not None for each in built]
        assert sorted(made) == [False, True], "one makes them, the other waits and finds them"

    def test_a_lock_is_waited_for(self, tmp_path: Path) -> None:
        place, progress = shared_place(tmp_path, {"kind": "topk", "k": 3}), RecordedProgress()
        assert place.name.startswith("topk-")
        order: list[str] = []

        def second() -> None:
            with one_builder(place, (0, 1), progress):
                order.append("second")

        with one_builder(place, (0, 1), SILENT):
            thread = threading.Thread(target=second)
            thread.start()
            while not progress.lines:
                thread.join(0.01)
            with one_builder(place, (1, 2), SILENT):  # another share does not wait
                order.append("first")
        thread.join()
        assert order == ["first", "second"]
        assert "another run makes the signals" in progress.lines[0]


class TestTokenizers:
    @pytest.fixture
    def other(self, tmp_path: Path, tiny_teacher: Path) -> Path:
        """The tokenizer of the tiny teacher in a file with other bytes."""
        folder = tmp_path / "other"
        shutil.copytree(tiny_teacher, folder)
        self.change(folder, lambda tree: tree.update(version=tree.pop("version")))
        return folder

    def change(self, folder: Path, change: Any) -> None:
        tree = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        change(tree)
        (folder / "tokenizer.json").write_text(json.dumps(tree, indent=3, ensure_ascii=False), encoding="utf-8")

    def difference(self, tiny_teacher: Path, other: Path, *texts: str) -> str:
        return first_difference(load_tokenizer(tiny_teacher), load_tokenizer(other), texts)

    def test_other_bytes_are_no_difference(self, tiny_teacher: Path, other: Path) -> None:
        assert (tiny_teacher / "tokenizer.json").read_bytes() != (other / "tokenizer.json").read_bytes()
        assert self.difference(tiny_teacher, other) == ""

    def test_two_ids_exchanged(self, tiny_teacher: Path, other: Path) -> None:
        def exchange(tree: Any) -> None:
            vocabulary = tree["model"]["vocab"]
            first, second = (next(token for token, place in vocabulary.items() if place == at) for at in (300, 301))
            vocabulary[first], vocabulary[second] = 301, 300

        self.change(other, exchange)
        assert self.difference(tiny_teacher, other).startswith("id 300 is ")

    def test_another_end(self, tiny_teacher: Path, other: Path) -> None:
        path = other / "tokenizer_config.json"
        path.write_text(path.read_text().replace("<|end|>", "!"))
        assert self.difference(tiny_teacher, other).startswith(
            "eos_token is '<|end|>' in the first and '!' in the other"
        )

    def test_merges_in_another_order(self, tiny_teacher: Path, other: Path, sample_text: str) -> None:
        """The same vocabulary, and text that is cut otherwise."""
        self.change(other, lambda tree: tree["model"]["merges"].reverse())
        assert "cut text differently: token" in self.difference(tiny_teacher, other, sample_text)

    def test_a_beginning_of_text(self, tiny_teacher: Path, other: Path) -> None:
        single = [{"SpecialToken": {"id": "<|end|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        template = {
            "type": "TemplateProcessing", "single": single, "pair": single + single[1:],
            "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [0], "tokens": ["<|end|>"]}},
        }  # fmt: skip
        self.change(other, lambda tree: tree.update(post_processor=template))
        assert "differently" in self.difference(tiny_teacher, other)

    @pytest.mark.slow
    def test_an_ensemble(self, tiny_teacher: Path, other: Path, text_file: Path, tmp_path: Path) -> None:
        """It is accepted where only the files differ, and refused, with the difference, where more does."""
        path = written(tmp_path / "distill.toml", tiny_teacher, text_file, tokens=512)
        path.write_text(path.read_text().replace("\n[student]", f'\n[[teachers]]\nmodel = "{other}"\n\n[student]'))
        recipe = read_distillation(path)
        assert run_distillation(recipe, tmp_path / "out", SILENT)["quality"]["student"]
        self.change(other, lambda tree: tree["model"]["merges"].reverse())
        with pytest.raises(
            BadInput, match=r"tiny-teacher and other differ on the text: they cut text differently: token"
        ):
            run_distillation(recipe, tmp_path / "again", SILENT)
