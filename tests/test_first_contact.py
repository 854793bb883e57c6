"""What a newcomer meets: help, lists, completion, tables on a terminal, and an installation without the extras."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.cli import cli, main
from flashstill.extras import missing_package
from flashstill.recipes.logs import LOGGERS
from flashstill.tables import table_lines
from tests.marks import slow

WITHOUT_EXTRAS = """
import importlib.abc, importlib.metadata, re, sys
named = {re.match(r"[A-Za-z0-9._-]+", line)[0]: "extra" in line for line in importlib.metadata.requires("flashstill")}
blocked = {name.replace("-", "_").lower() for name, extra in named.items() if extra}
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from flashstill.cli import main
main(sys.argv[1:])
"""
DISTILL = """
name = "tiny"
data = "{text}"
[[teachers]]
source = "{teacher}"
"""


def without_extras(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line where the packages of the extras cannot be imported, as after a plain `pip install .`."""
    command = [sys.executable, "-c", WITHOUT_EXTRAS, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints on standard output."""
    main_or_exit(*arguments)
    return capsys.readouterr().out


def main_or_exit(*arguments: str) -> int:
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


class TestHelp:
    def test_nothing_but_the_name_prints_the_help_as_it_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main_or_exit() == 2
        shown = capsys.readouterr().err
        assert shown.startswith("Usage: flashstill")
        assert shown.count("\n") > 15

    def test_no_summary_is_cut_off(self, capsys: pytest.CaptureFixture[str]) -> None:
        shown = said(capsys, "--help")
        assert "..." not in shown.partition("Commands:")[2]
        assert all(name in shown for name in cli.commands)

    def test_the_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert importlib.metadata.version("flashstill") in said(capsys, "--version")


class TestChips:
    @pytest.mark.parametrize(
        ("arguments", "among", "not_among"),
        [
            (["nvidia"], "h100-sxm", "tpu-v5p"),
            (["--maker", "NVIDIA"], "h100-sxm", "mi300x"),
            (["--class", "TPU"], "tpu-v5p", "h100-sxm"),
            (["MI3"], "mi300x", "h100-sxm"),
            (["google", "--class", "tpu"], "tpu-v5p", "trainium2"),
        ],
    )
    def test_filters(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], among: str, not_among: str
    ) -> None:
        names = [line.split()[0] for line in said(capsys, "chips", *arguments).splitlines() if line.strip()]
        assert among in names
        assert not_among not in names

    def test_a_name_is_one_chip(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert said(capsys, "chips", "H100-SXM").startswith("h100-sxm: ")

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["h1000"], "unknown chip 'h1000'; the nearest known: b100, h100-sxm"),
            (["--class", "gpus"], "unknown class 'gpus'; the nearest known: gpu"),
            (["--maker", "nvida"], "unknown maker 'nvida'; the nearest known: NVIDIA"),
            (["--maker", "amd", "--class", "tpu"], "no chip of the class tpu is made by amd"),
        ],
    )
    def test_nothing_found(self, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
        assert main_or_exit("chips", *arguments) == 2
        assert sentence in capsys.readouterr().err


class TestCompletion:
    @pytest.mark.parametrize(
        ("words", "wanted"),
        [
            ("flashstill explain --chip tpu-v5", {"tpu-v5e", "tpu-v5p"}),
            ("flashstill chips tpu-v5", {"tpu-v5e", "tpu-v5p"}),
            ("flashstill plan --chips-from h100-sxm,tpu-v5", {"h100-sxm,tpu-v5e", "h100-sxm,tpu-v5p"}),
            ("flashstill predict --model llama-3.1-7", {"llama-3.1-70b"}),
        ],
    )
    def test_names(
        self, words: str, wanted: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("_FLASHSTILL_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        assert {line.removeprefix("plain,") for line in said(capsys).split()} == wanted


class TestTables:
    ROWS = (
        ("name", "what", "rate", "price"),
        ("a-chip-with-a-long-name", "words about it", "12 TB/s", "$3"),
        ("b", "more words about this one", "7 TB/s", "$4.25"),
    )

    def test_wide_enough_it_stays_whole(self) -> None:
        assert table_lines(self.ROWS, 200, ("what",)) == table_lines(self.ROWS)
        assert len({len(line) for line in table_lines(self.ROWS)}) == 1

    def test_what_matters_least_goes_first_then_words_are_cut(self) -> None:
        lines = table_lines(self.ROWS, 30, ("what",))
        assert "words" not in "".join(lines)
        assert "$4.25" in lines[2]
        assert "a-chip-wi…" in lines[1].replace(" ", "") or "a-chip" in lines[1]
        assert lines[-1] == "left out, as the terminal is narrow: what"

    @given(st.integers(20, 120), st.lists(st.text("abc ", max_size=30), min_size=4, max_size=4))
    def test_it_fits_or_keeps_two_columns_and_cuts_no_number(self, width: int, words: list[str]) -> None:
        rows = [("name", "one", "two", "three"), tuple(word or "-" for word in words)]
        *lines, last = table_lines(rows, width, ("two",))
        if last.startswith("left out"):
            kept = [name for name in rows[0] if name not in last.partition(": ")[2].split(", ")]
        else:
            lines, kept = [*lines, last], list(rows[0])
        assert "name" in kept
        assert len(kept) >= 2
        assert all(len(line) <= width for line in lines) or len(kept) == 2
        for name, cell in zip(rows[0][1:], rows[1][1:], strict=True):
            assert name not in kept or cell.strip() in lines[1]

    @pytest.mark.slow
    @pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
    def test_on_a_terminal_of_60_characters(self) -> None:
        import fcntl
        import struct
        import termios

        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        command = [sys.executable, "-m", "flashstill", "chips", "--class", "tpu"]
        running = subprocess.Popen(command, stdout=theirs, stdin=theirs, env=environment)
        os.close(theirs)
        shown = b""
        try:
            while block := os.read(ours, 65536):
                shown += block
        except OSError:  # Linux says EIO when the other end is closed
            pass
        os.close(ours)
        assert running.wait() == 0
        table = [line for line in shown.decode().splitlines() if line.startswith("  ")]
        assert len(table) > 5
        assert all(len(line) <= 60 for line in table)


class TestWithoutExtras:
    """A plain installation prices everything and says what learning needs."""

    @pytest.mark.slow
    @pytest.mark.parametrize("arguments", [["demo"], *slow(["measure"], ["run", "deep-think"], ["run", "hinton-2015"])])
    def test_learning_says_what_to_install(self, arguments: list[str], tmp_path: Path) -> None:
        out = [] if arguments == ["measure"] else ["--out", tmp_path / "out"]
        done = without_extras(*arguments, *out)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(
            r"(?m)^flashstill: this needs .*pip install \"flashstill\[learn\]\" brings it\Z", done.stderr.strip()
        )
        assert "Traceback" not in done.stderr

    @pytest.mark.slow
    def test_distil(self, tmp_path: Path) -> None:
        (tmp_path / "text.txt").write_text("words\n" * 100)
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(DISTILL.format(text=tmp_path / "text.txt", teacher=tmp_path))
        done = without_extras("distill", recipe, "--out", tmp_path / "out")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr

    @pytest.mark.slow
    def test_costs_are_answered(self) -> None:
        done = without_extras("explain", "--model", "llama-3.1-8b", "--chip", "h100-sxm", "--batch", 1)
        assert done.returncode == 0
        assert "tokens/s" in done.stdout

    @pytest.mark.parametrize("requirement", importlib.metadata.requires("flashstill") or ())
    def test_every_package_of_an_extra_is_known(self, requirement: str) -> None:
        package = re.split(r"[^A-Za-z0-9._-]", requirement)[0]
        extra = re.search(r'extra == "(\w+)"', requirement)
        sentence = missing_package(ModuleNotFoundError("gone", name=package.replace("-", "_") + ".deep"))
        assert sentence is not None
        assert (f"flashstill[{extra[1]}]" if extra else "pip install flashstill ") in sentence

    def test_a_module_of_our_own_is_a_fault_and_stays_one(self) -> None:
        assert missing_package(ModuleNotFoundError("gone", name="flashstill.plann")) is None


class TestLocks:
    """Every package that is installed has its hashes, and the pins that stand in two places agree."""

    LOCKS = Path(__file__).parents[1] / "locks"

    @pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.stem)
    def test_every_entry_is_one_version_with_hashes(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^#.*\n", "", text).strip())
        for entry in entries:
            first, *hashes = entry.split(" \\\n    ")
            assert re.match(r"[a-z0-9.-]+==[^ ]+( ; .+)?$", first), first
            assert hashes, first
            assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line.strip()) for line in hashes), first
        assert "://" not in text

    def test_the_project_asks_for_nothing_that_is_not_locked(self) -> None:
        project = tomllib.loads((self.LOCKS.parent / "pyproject.toml").read_text(encoding="utf-8"))
        locked = {
            name: set(re.findall(r"(?m)^([a-z0-9.-]+)==", (self.LOCKS / f"{name}.txt").read_text(encoding="utf-8")))
            for name in ("all", "base", "build", "docs")
        }
        build = (self.LOCKS / "build.txt").read_text(encoding="utf-8")
        assert all(f"{requirement} " in build for requirement in project["build-system"]["requires"])
        plain = {re.split(r"[^A-Za-z0-9-]", line)[0] for line in project["project"]["dependencies"]}
        assert plain <= locked["base"] <= locked["all"]
        for extra, lines in project["project"]["optional-dependencies"].items():
            if extra in LOGGERS:  # in no lock, as they are large: pinned where they are asked for
                assert all(re.fullmatch(rf"{extra}==[0-9.]+", line) for line in lines)
                continue
            asked = {re.split(r"[^A-Za-z0-9-]", line)[0] for line in lines}
            assert asked <= locked["docs" if extra == "docs" else "all"]

    def test_locks_of_one_environment_agree(self) -> None:
        versions: list[dict[str, str]] = []
        for name in ("all", "base", "docs"):
            text = (self.LOCKS / f"{name}.txt").read_text(encoding="utf-8")
            versions.append(dict(re.findall(r"(?m)^([a-z0-9.-]+)==([^ ]+) \\$", text)))
        for other in versions[1:]:
            shared = set(versions[0]) & set(other)
            assert shared
            assert {name: other[name] for name in shared} == {name: versions[0][name] for name in shared}
