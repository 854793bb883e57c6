"""Files that a user names: written through links, into fifos and devices, and never in place of what is no file."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flashstill.cli import main
from flashstill.errors import DiskTrouble
from flashstill.files import replacing, replacing_directory
from flashstill.outputs import written_out

CASES = "model,chip,tp\nqwen3-32b,h100-sxm,2\n"


def write(path: Path, text: str = "new\n") -> None:
    with written_out(path) as stream:
        stream.write(text)


class TestWrittenOut:
    """One function for all of them."""

    def test_a_link_stays_and_its_target_is_written(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        target, link, chain = tmp_path / "there" / "target.csv", tmp_path / "link.csv", tmp_path / "chain.csv"
        link.symlink_to(Path("there") / "target.csv")
        chain.symlink_to(link)
        write(chain)  # where it leads nowhere yet
        target.chmod(0o640)
        write(link, "newer\n")
        assert chain.is_symlink()
        assert link.is_symlink()
        assert not target.is_symlink()
        assert target.read_text() == "newer\n"
        assert target.stat().st_mode & 0o777 == 0o640
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["chain.csv", "link.csv", "target.csv", "there"]

    def test_a_hard_link_stays_one(self, tmp_path: Path) -> None:
        first, second = tmp_path / "a", tmp_path / "b"
        first.write_text("a long old text\n")
        os.link(first, second)
        write(first)
        assert second.read_text() == "new\n"
        assert first.stat().st_ino == second.stat().st_ino

    def test_a_fifo_is_written_into(self, tmp_path: Path) -> None:
        fifo, read = tmp_path / "fifo", []
        os.mkfifo(fifo)
        reader = threading.Thread(target=lambda: read.append(fifo.read_text()), daemon=True)
        reader.start()
        write(fifo)
        reader.join(60)
        assert read == ["new\n"]
        assert fifo.is_fifo()

    def test_devices(self, capfd: pytest.CaptureFixture[str]) -> None:
        write(Path("/dev/null"))
        assert Path("/dev/null").is_char_device()
        write(Path("/dev/stdout"))
        write(Path("/dev/fd/2"), "err\n")
        assert tuple(capfd.readouterr()) == ("new\n", "err\n")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
    def test_a_full_device_is_a_sentence(self) -> None:
        with pytest.raises(DiskTrouble, match="cannot write /dev/full: no space left"):
            write(Path("/dev/full"))

    def test_standard_output(self, capsys: pytest.CaptureFixture[str]) -> None:
        write(Path("-"), "é\n")
        print("still open")
        assert capsys.readouterr().out == "é\nstill open\n"

    def test_what_cannot_be_written_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(DiskTrouble, match=f"there is no directory {tmp_path}/no/where; make it first"):
            write(tmp_path / "no" / "where" / "x.csv")
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(DiskTrouble, match="it is a directory; name a file"):
            write(tmp_path)
        (tmp_path / "round").symlink_to("round")
        for path in (tmp_path / "round", tmp_path / ("x" * 300), Path("/proc/no-such-file"), tmp_path / "a\0b"):
            with pytest.raises(DiskTrouble, match="cannot write"):
                write(path)
        assert [path.name for path in tmp_path.iterdir()] == ["round"]

    def test_an_error_leaves_what_was_there(self, tmp_path: Path) -> None:
        first, second = tmp_path / "a", tmp_path / "b"
        first.write_text("old\n")
        for _ in range(2):  # a file by itself, and one with a hard link
            with pytest.raises(KeyboardInterrupt), written_out(first) as stream:
                stream.write("half")
                raise KeyboardInterrupt
            assert first.read_text() == "old\n"
            if not second.exists():
                os.link(first, second)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    long = "é" * 120  # 240 bytes
    write(tmp_path / f"{long}.csv")
    with replacing(tmp_path / f"{long}.txt") as temporary:
        temporary.write_text("new")
    with replacing_directory(tmp_path / f"{long}.dir") as temporary:
        (temporary / "file").write_text("new")
    assert len(list(tmp_path.iterdir())) == 3


class TestPredict:
    """`predict --cases` reads and writes whatever a shell can name."""

    def test_from_standard_input_to_standard_output(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(CASES.encode())))
        main(["predict", "--cases", "-", "--out", "-"])
        captured = capsys.readouterr()
        (row,) = csv.DictReader(captured.out.splitlines())
        assert row["fits"] == "true"
        assert "1 of 1 cases answered" in captured.err

    @pytest.mark.slow
    def test_a_shells_own_fifo_and_a_reader_that_leaves(self, tmp_path: Path) -> None:
        source = tmp_path / "cases.csv"
        source.write_text(CASES + ",h100-sxm,1\n" * 5000)
        command = f"{sys.executable} -m flashstill predict --cases <(cat {source}) --out - | head -1"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, timeout=600
        )
        assert done.stdout.startswith("model,chip,tp,fits")
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("place", ["cases.csv", "link.csv"])
    def test_over_its_own_source(self, tmp_path: Path, place: str) -> None:
        source = tmp_path / "cases.csv"
        source.write_text(CASES)
        (tmp_path / "link.csv").symlink_to(source)
        main(["predict", "--cases", str(source), "--out", str(tmp_path / place)])
        (row,) = csv.DictReader(source.read_text().splitlines())
        assert row["fits"] == "true"

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--out", "-", "--json"), "both write to standard output"),
            ((), "needs --out"),
            (("--out", "nowhere/x.csv"), "there is no directory"),
            (("--out", "."), "is a directory"),
        ],
    )
    def test_refusals(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: tuple[str, ...],
        sentence: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("cases.csv").write_text(CASES)
        with pytest.raises(SystemExit) as stop:
            main(["predict", "--cases", "cases.csv", *arguments])
        captured = capsys.readouterr()
        assert stop.value.code == 2
        assert sentence in captured.err
        assert captured.out == ""
        assert [path.name for path in tmp_path.iterdir()] == ["cases.csv"]
