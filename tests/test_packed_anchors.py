"""The measurements in anchors/: complete, small, and read as the plain tables would be."""

from __future__ import annotations

import gzip
import runpy
from pathlib import Path

import pytest

from flashstill.errors import BadInput
from flashstill.validation.anchors.packed import SHIPPED, unpacked
from flashstill.validation.anchors.tables import read_rows
from tests.commands import refuse

ROW = (
    "model,gpu,backend,isl,osl,concurrency,tp_size,pp_size,precision,tpot_ms\n"
    "qwen3-8b,h100_sxm,vllm,1024,1024,8,1,1,bf16,8\n"
)


def test_those_of_the_repository_are_read_and_take_little_room() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 5 * 2**20
    listed = (SHIPPED / "README.md").read_text(encoding="utf-8")
    with unpacked(SHIPPED) as directory:
        names = {path.stem for path in directory.iterdir()}
        assert len(read_rows(directory / "serving_gpu.csv")) == 1500
    assert {"serving_gpu", "serving_public", "kernels_h100_sxm_trtllm_gemm"} <= names
    for name in names:
        assert f"`{name}`" in listed or (name.startswith("kernels_") and "`kernels_*`" in listed)


def test_compressed_and_plain_tables_of_one_directory(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("a\n1\n", encoding="utf-8")
    (tmp_path / "two.csv.gz").write_bytes(gzip.compress(b"a\n2\n"))
    with unpacked(tmp_path) as directory:
        assert [read_rows(directory / f"{name}.csv")[0]["a"] for name in ("one", "two")] == ["1", "2"]
    assert not directory.exists()
    (tmp_path / "two.csv.gz").unlink()
    with unpacked(tmp_path) as directory:
        assert directory == tmp_path


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"a\n1\n", mtime=0)[:-9]], ids=["other", "cut"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "serving_gpu.csv.gz").write_bytes(content)
    with pytest.raises(BadInput, match=r"serving_gpu\.csv\.gz cannot be unpacked"), unpacked(tmp_path):
        pass


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "serving_gpu.csv.gz").write_bytes(65 * gzip.compress(b"0" * 2**20))
    with pytest.raises(BadInput, match="unpacks to more than 64 MiB"), unpacked(tmp_path):
        pass


def test_validate_reads_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from flashstill.cli import main

    (tmp_path / "serving_gpu.csv.gz").write_bytes(gzip.compress(ROW.encode()))
    main(["validate", "--anchors", str(tmp_path)])
    assert "serving_gpu" in capsys.readouterr().out
    assert "--golden takes no --anchors" in refuse(capsys, "validate", "--golden", "--anchors", tmp_path)


def _pack(source: Path, target: Path, **chosen: bool) -> None:
    runpy.run_path(str(SHIPPED.parent / "scripts" / "pack-anchors"))["pack"](source, target, **chosen)


def test_packing_keeps_the_rows_of_other_devices(tmp_path: Path) -> None:
    source, target = tmp_path / "new", tmp_path / "own"
    source.mkdir()
    for content in ("device,m\nA,1\nB,2\n", "device,m\nB,3\n"):
        (source / "gemm.csv").write_text(content)
        _pack(source, target, keep_others=True)
    assert gzip.decompress((target / "gemm.csv.gz").read_bytes()).decode().split() == ["device,m", "A,1", "B,3"]
    (source / "gemm.csv").write_text("device,n\nB,3\n")
    with pytest.raises(SystemExit, match="other columns"):
        _pack(source, target, keep_others=True)


def test_rows_of_a_rehearsal_are_not_packed(tmp_path: Path) -> None:
    source, target = tmp_path / "new", tmp_path / "own"
    source.mkdir()
    (source / "a.csv").write_text("device,m\nNVIDIA H200,1\n")
    (source / "gemm.csv").write_text("device,m\nNVIDIA H200 (rehearsal),1\n")
    with pytest.raises(SystemExit, match="rehearsal"):
        _pack(source, target)
    assert not target.exists()
