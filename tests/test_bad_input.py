"""Mistakes of a user: one clear sentence, exit code 2, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flashstill import files
from flashstill.cli import main
from flashstill.errors import BadInput, DiskTrouble, nearest
from flashstill.recipes import built_in, read_recipe, to_toml
from flashstill.simulate.csv_rows import rows_of
from tests.commands import refuse
from tests.tiny import family_text

EXAMPLES = Path(__file__).parents[1] / "examples"
NO_DIRECTORY = "there is no directory /nowhere; make it first"
"""told before any work, whatever else is wrong"""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("explain", "--model", "llama-3.1-70", "--chip", "h100-sxm", "--batch", "1"), "llama-3.1-70b"),
        (("explain", "--model", "llama-3.1-70b", "--chip", "h101", "--batch", "1"), "unknown chip 'h101'"),
        (("explain", "--model", "llama-3.1-70b", "--chip", "h100-sxm", "--batch", "0"), "batch must be at least 1"),
        (("explain", "--model", "llama-3.1-70b", "--chip", "h100-sxm", "--batch", "one"), "not a valid integer"),
        (
            ("explain", "--model", "qwen3-8b", "--chip", "b200", "--batch", "1", "--context", "99999"),
            "beyond the 40960 tokens",
        ),
        (
            ("explain", "--model", "qwen3-8b", "--chip", "b200", "--batch", "1", "--precision", "bf8"),
            "unknown precision 'bf8'",
        ),
        (
            ("explain", "--model", "qwen3-8b", "--chip", "b200", "--batch", "1", "--memory", "sram"),
            "no memory called 'sram'",
        ),
        (("explain", "--model", "qwen3-8b", "--batch", "1"), "Missing option '--chip'"),
        (("explian",), "the nearest known: explain"),
        (("chips", "tpu-v66"), "tpu-v6e"),
        (("chips", "--facts", "/nowhere"), "does not exist"),
        (("demo", "--minutes", "-3"), "-3"),
        (("report", "/nowhere"), "holds no records.jsonl"),
        (("predict", "--model", "qwen3-8b", "--chip", "l4", "--batch", "8"), "the nearest known: --concurrency"),
        (("capacity", str(EXAMPLES / "capacity.toml"), "--price", "owne"), "unknown price basis 'owne'"),
        (("validate", "--case", "chip=l4"), "--case fills cells of --measured"),
        (("validate", "--golden", "--out", "/nowhere/x.md"), NO_DIRECTORY),
        (("evaluate", "teacher", "--data", "text", "--out", "/nowhere/x.jsonl"), NO_DIRECTORY),
        (("export", "student", "--format", "gguf", "--out", "/nowhere/x.gguf"), NO_DIRECTORY),
        (("simulate", "--model", "qwen3-8b", "--chip", "l4", "--rate", "1", "--out", "/nowhere/x.html"), NO_DIRECTORY),
        (("codesign", "--model", "qwen3-8b", "--chip", "l4", "--out", "/nowhere/x.html"), NO_DIRECTORY),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refuse(capsys, *arguments)


def test_what_does_not_fit_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["explain", "--model", "llama-3.1-405b", "--chip", "h100-sxm", "--batch", "1", "--chips", "2"])
    assert stop.value.code == 3
    assert "take 16 chips (does not fit in memory: 1)" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--model", "deepseek-v3", "--chip", "l4", "--chips", "1"])
    assert stop.value.code == 3
    told = "deepseek-v3 on 1 x l4: does not fit in memory; without --chips the fewest chips that do are taken"
    assert told in capsys.readouterr().err


def write_family(folder: Path, teacher: object, data: object, edit: tuple[str, str] = ("", "")) -> Path:
    path = folder / "family.toml"
    (folder / "other.txt").write_text("Out-of-domain text.\n", encoding="utf-8")
    text = family_text(teacher, data)
    assert edit[0] in text
    path.write_text(text.replace(*edit, 1) if edit[0] else text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (("seed = 3", "sede = 3"), "unknown key 'sede'; the nearest known: seed"),
        (("windows_per_step", "window_per_step"), "unknown key 'train.window_per_step'"),
        (("seed = 3", 'seed = "three"'), "'seed' is 'three', not a whole number"),
        (("keep_layers = 3", "keep_layers = 0"), "students[0].keep_layers is 0; it must be at least 1"),
        (("learning_rate = 1e-3", "learning_rate = 7"), "train.learning_rate is 7; it must lie between 0 and 1"),
        (('name = "most"', 'name = "half"'), "two students have the same name"),
        (('name = "most"', 'name = "../most"'), "students[1].name is '../most'; it must be a name of up to 64 letters"),
        (('name = "tiny"', "name = tiny"), "is not TOML"),
        (('name = "most"', ""), "'students[1].name' is missing"),
        (
            ("[measure]", '[search]\nmethod = "greed"\n[measure]'),
            "unknown search.method 'greed'; the nearest known: greedy",
        ),
        (('"tpu-v5e"', '"tpu-v5"'), "unknown chip 'tpu-v5'"),
        (
            ("keep_layers = 3", "keep_layers = 9"),
            "student half: keep_layers is 9, but the teacher tiny-teacher has 6 layers",
        ),
        (("context = 128", "context = 512"), "cost.context is 512, but the teacher was made for 256 tokens"),
    ],
)
def test_wrong_recipes(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tiny_teacher: Path,
    text_file: Path,
    edit: tuple[str, str],
    sentence: str,
) -> None:
    recipe = write_family(tmp_path, tiny_teacher, text_file, edit)
    assert sentence in refuse(capsys, "run", recipe, "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "students").exists()


def test_missing_teachers_and_data(capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_teacher: Path) -> None:
    out = tmp_path / "out"
    recipe = write_family(tmp_path, "smollm2-135m-instruc", "x.txt")
    assert "the nearest known: smollm2-135m-instruct" in refuse(capsys, "run", recipe, "--out", out)
    recipe = write_family(tmp_path, "HuggingFaceTB/SmolLM2-135M", "x.txt")  # the same --out: nothing was made in it
    assert "hf download HuggingFaceTB/SmolLM2-135M --local-dir DIR" in refuse(capsys, "run", recipe, "--out", out)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    recipe = write_family(tmp_path, broken, "x.txt")
    assert "is not a JSON object" in refuse(capsys, "run", recipe, "--out", tmp_path / "out2")
    recipe = write_family(tmp_path, tiny_teacher, tmp_path / "none.txt")
    assert "neither a file nor a directory" in refuse(capsys, "run", recipe, "--out", tmp_path / "out3")
    (tmp_path / "empty.txt").write_bytes(b"")
    recipe = write_family(tmp_path, tiny_teacher, tmp_path / "empty.txt")
    assert "holds no text" in refuse(capsys, "run", recipe, "--out", tmp_path / "out4")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    recipe = write_family(tmp_path, tiny_teacher, tmp_path / "latin.txt")
    assert "not UTF-8" in refuse(capsys, "run", recipe, "--out", tmp_path / "out5")
    (tmp_path / "model.gguf").write_bytes(b"GGUF but not really")
    recipe = write_family(tmp_path, tmp_path / "model.gguf", "x.txt")
    assert "cannot be read as a GGUF model" in refuse(capsys, "run", recipe, "--out", tmp_path / "out6")


def test_directories_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_teacher: Path, text_file: Path
) -> None:
    recipe = write_family(tmp_path, tiny_teacher, text_file)
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "thesis.txt").write_text("precious")
    assert "is not empty and holds no family.toml" in refuse(capsys, "run", recipe, "--out", occupied)
    assert [path.name for path in occupied.iterdir()] == ["thesis.txt"]
    assert "is a file" in refuse(capsys, "run", recipe, "--out", recipe)
    assert "cannot write" in refuse(capsys, "run", recipe, "--out", "/proc/flashstill")
    assert "there is no recipe" in refuse(capsys, "run", tmp_path / "none.toml", "--out", tmp_path / "o")


def test_two_runs_in_one_directory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_teacher: Path, text_file: Path
) -> None:
    from flashstill.runs.run_lock import lock

    recipe, out = write_family(tmp_path, tiny_teacher, text_file), tmp_path / "out"
    out.mkdir()
    (out / "family.toml").write_text(to_toml(read_recipe(recipe)))
    with lock(out):
        assert "another run is at work" in refuse(capsys, "run", recipe, "--out", out)


class TestSafety:
    """An untrusted model directory runs no code."""

    def test_pickles_are_refused(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_teacher: Path) -> None:
        import pickle

        model = tmp_path / "pickled"
        model.mkdir()
        for file in tiny_teacher.iterdir():
            if file.suffix != ".safetensors":
                (model / file.name).write_bytes(file.read_bytes())
        proof = tmp_path / "owned"

        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (proof,)

        (model / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
        recipe = write_family(tmp_path, model, "x.txt")
        assert "pickles can run code" in refuse(capsys, "run", recipe, "--out", tmp_path / "out")
        assert not proof.exists()

    @pytest.mark.parametrize("known", [True, False])
    def test_remote_code_is_not_run(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_teacher: Path, known: bool
    ) -> None:
        model, proof = tmp_path / "remote", tmp_path / "owned"
        model.mkdir()
        for file in tiny_teacher.iterdir():
            (model / file.name).write_bytes(file.read_bytes())
        config = json.loads((model / "config.json").read_text())
        config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
        if not known:
            config["model_type"] = "evil"
        (model / "config.json").write_text(json.dumps(config))
        tokenizer = json.loads((model / "tokenizer_config.json").read_text())
        tokenizer["auto_map"] = {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
        (model / "tokenizer_config.json").write_text(json.dumps(tokenizer))
        (model / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass Config: pass\nModel = Tokenizer = Config\n")
        from flashstill.distill.models import load_model, load_tokenizer

        if known:  # transformers' own class for the family is used instead
            load_model(model)
        else:
            with pytest.raises(BadInput, match="cannot be loaded"):
                load_model(model)
        load_tokenizer(model)
        assert not proof.exists()


class TestFiles:
    def test_all_or_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        files.write_text(path, "old")
        with pytest.raises(RuntimeError), files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]
        with pytest.raises(RuntimeError), files.replacing_directory(tmp_path / "d") as temporary:
            (temporary / "x").write_text("half")
            raise RuntimeError
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("kind", ["file", "directory"])
    def test_what_a_killed_writer_left_goes_with_the_next_one(self, tmp_path: Path, kind: str) -> None:
        code = (
            "import os, signal, sys; from pathlib import Path; from flashstill import files\n"
            f"writing = files.replacing if {kind!r} == 'file' else files.replacing_directory\n"
            "with writing(Path(sys.argv[1]) / 'x') as temporary:\n"
            "    (temporary if temporary.name.count('.') == 3 else temporary / 'y').write_text('half')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
        (left,) = tmp_path.iterdir()
        assert left.name.endswith(".part")
        (tmp_path / f".alive.{files._writer()}.part").write_text("at work")
        (tmp_path / ".other.elsewhere@1.part").write_text("of another machine")
        files.write_text(tmp_path / "new", "whole")
        assert not left.exists()
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            f".alive.{files._writer()}.part", ".other.elsewhere@1.part", "new",
        ]  # fmt: skip

    def test_leftovers_of_a_killed_writer_go(self, tmp_path: Path) -> None:
        (tmp_path / "a" / ".model.xyz.part").mkdir(parents=True)
        (tmp_path / "a" / ".model.xyz.part" / "w").write_text("half")
        (tmp_path / ".r.jsonl.99.part").write_text("half")
        (tmp_path / "kept.part").write_text("a user's own")
        files.remove_leftovers(tmp_path, older_than_s=100.0)
        assert len(list(tmp_path.rglob("*.part"))) == 3
        files.remove_leftovers(tmp_path)
        assert [path.name for path in tmp_path.rglob("*.part")] == ["kept.part"]

    def test_a_full_disk_is_a_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DiskTrouble, match="the disk is full"):
            files.write_text(tmp_path / "a.txt", "text")
        assert list(tmp_path.iterdir()) == []


def test_the_built_in_recipe_survives_its_own_toml(tmp_path: Path) -> None:
    recipe = built_in("demo")
    (tmp_path / "family.toml").write_text(to_toml(recipe))
    assert read_recipe(tmp_path / "family.toml") == recipe
    assert recipe.minutes == 10


def test_nearest_names() -> None:
    assert nearest("h100", ["h100-sxm", "tpu-v4", "h200-sxm"])[0] == "h100-sxm"
    assert nearest("zzz", ["a"]) == ["a"]
    assert nearest("x", []) == []


def test_a_sentence_is_short_and_harmless_on_a_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sentence = refuse(capsys, "explain", "--model", "x\x1b[31m" * 2000, "--chip", "b200", "--batch", "1")
    assert len(sentence) < 1100
    assert "\x1b" not in sentence
    assert "\\x1b[31m" in sentence
    assert "File name too long" in refuse(capsys, "chips", "--facts", tmp_path / ("y" * 300)).replace("file", "File")


def test_a_message_that_goes_on_after_a_colon_is_not_cut_there() -> None:
    from flashstill.errors import first_line

    assert first_line(ValueError("Validation error for field 'x':\n    TypeError: a str\nmore")) == (
        "Validation error for field 'x': TypeError: a str"
    )
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError("  ")) == "ValueError"
    assert first_line(KeyError("su")) == "nothing is known as 'su'"
    assert first_line(KeyError("Missing required keys: x")) == "'Missing required keys: x'"


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    """As editors of Windows write it before TOML, JSON and JSONL."""
    from flashstill.checked import json_object, json_rows, toml_tree

    path = tmp_path / "file"
    path.write_text('name = "x"\n', encoding="utf-8-sig")
    assert toml_tree(path) == {"name": "x"}
    path.write_text('{"a": 1}\n{"b": 2}\n', encoding="utf-8-sig")
    assert [row for _, row in json_rows(path)] == [{"a": 1}, {"b": 2}]
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert json_object(path) == {"a": 1}


def test_tables_of_a_spreadsheet_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Rates and replicas by hour, as the facts and cases beside them."""
    path = tmp_path / "hours.csv"
    path.write_text("hour,replicas\n0,2\n", encoding="utf-8-sig", newline="\r\n")
    assert list(rows_of(path, [["hour"], ["replicas"]])) == [[f"{path}, line 2", "0", "2"]]
