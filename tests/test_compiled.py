"""What Numba keeps on disk is used for the sources that it was made from, and for no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashstill.simulate import compiled
from flashstill.simulate.loop import advance


def _kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_code_of_other_sources_is_removed(tmp_path: Path) -> None:
    for name in ("loop.advance-1.py311.nbi", "loop.advance-1.py311.1.nbc", "loop.cpython-311.pyc"):
        (tmp_path / name).write_text("code")
    compiled.discard_stale(tmp_path, "first")
    assert _kept(tmp_path) == ["flashstill-sources.txt", "loop.cpython-311.pyc"], "of unknown sources"
    (tmp_path / "loop.advance-1.py311.nbi").write_text("code")
    compiled.discard_stale.cache_clear()
    compiled.discard_stale(tmp_path, "first")
    assert "loop.advance-1.py311.nbi" in _kept(tmp_path), "of the same sources"
    compiled.discard_stale(tmp_path, "second")
    assert _kept(tmp_path) == ["flashstill-sources.txt", "loop.cpython-311.pyc"]
    assert (tmp_path / "flashstill-sources.txt").read_text() == "second"
    compiled.discard_stale(tmp_path / "not yet there", "second")
    assert _kept(tmp_path / "not yet there") == ["flashstill-sources.txt"]


def test_any_module_of_the_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    digests = []
    for name, text in (("loop.py", "a"), ("loop.py", "b"), ("ties.py", "b"), ("loop.py", "a")):
        (tmp_path / name).write_text(text)
        digests.append(compiled.sources.__wrapped__())
    assert len(set(digests)) == 4


@pytest.mark.skipif(not compiled.IS_COMPILED, reason="Numba is not installed")
def test_the_cache_in_use_is_of_these_sources() -> None:
    folder = Path(advance.stats.cache_path)  # type: ignore[attr-defined]
    assert (folder / "flashstill-sources.txt").read_text() == compiled.sources()
