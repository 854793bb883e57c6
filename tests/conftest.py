"""Fixtures: a home of its own for every test, and a tiny teacher with a real tokenizer."""

from __future__ import annotations

import copy
import gc
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests import marks
from tests.commands import SHARED, Cli
from tests.tiny import make_other_text, make_sample_text, make_tiny_teacher

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed

# Tiny models are fastest on one thread, and weights that are compared bit for bit come from as many as each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests are collected without the user's own fact rows: what lists all chips would have a measured machine among them.
os.environ["FLASHSTILL_HOME"] = f"{os.devnull}/no-home-while-collecting"

# No example has a time limit, as the machine may be busy. CI tries the same examples every time, so that a change is
# judged by itself; a run by hand tries new ones; HYPOTHESIS_PROFILE=thorough tries many.
_ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", _ANY_MACHINE, max_examples=40)
settings.register_profile("ci", _ANY_MACHINE, max_examples=40, derandomize=True, database=None)
settings.register_profile("thorough", _ANY_MACHINE, max_examples=1000)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
settings.load_profile(PROFILE)
# What a collection makes stays to the end: nobody looks for garbage in it while modules are imported, nor later.
gc.disable()


_LEARNING = re.compile(
    r"(?m)^ *(from|import) (torch|transformers|safetensors|peft|flashstill\.(distill|evaluate|measure|runs|studies))\b"
    r"|tiny_teacher|text_file|\bzoo\b|fs\.(distill|run)\("
)
"""in the text of a file: what loads PyTorch, which takes as long as hundreds of tests of the cost arm"""
_WITHOUT_PYTORCH = {
    "test_api.py", "test_cards.py", "test_damaged_results.py", "test_isolated.py", "test_join.py", "test_records.py",
}  # fmt: skip
"""files that name such rooms and load only what needs no PyTorch of them"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--arm", choices=("learning", "cost"), help="only files that load PyTorch, or only the others")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whether a file belongs to the other arm; each belongs to one."""
    arm = config.getoption("arm")
    if arm is None or not collection_path.name.startswith("test_"):
        return None
    names_it = _LEARNING.search(collection_path.read_text(encoding="utf-8")) is not None
    is_learning = names_it and collection_path.name not in _WITHOUT_PYTORCH
    return True if is_learning != (arm == "learning") else None


def pytest_configure(config: pytest.Config) -> None:
    """The fast suite runs the event loop as plain Python, as compiling it takes longer than its tests, and few examples
    of each property; the slow suite compares both, and runs all examples."""
    if config.option.markexpr != "not slow":
        return
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
    if PROFILE != "thorough":
        marks.FAST = True
        few = settings(settings.get_profile(PROFILE), max_examples=40 // marks.SHARE)
        settings.register_profile("few", few)
        settings.load_profile("few")


def pytest_collection_finish() -> None:
    """From here on only what tests make is looked through; in the fast suite seldom, as little of it stays."""
    gc.freeze()
    if marks.FAST:
        gc.set_threshold(20_000, 10, 5)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Path]]:
    """New directories, one after another: thousands are made, so nobody looks for a name that is still free. What tests
    share is made in a home of its own."""
    folder = tmp_path_factory.mktemp("homes")
    with pytest.MonkeyPatch.context() as patch:
        if marks.FAST:  # no test cuts the power: thousands of files need not reach the disk
            patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setenv("FLASHSTILL_HOME", str(folder))
        yield (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def place_of_home(homes: Iterator[Path]) -> Iterator[Path]:
    """A FLASHSTILL_HOME that no other test and no user shares; made by what is written there."""
    shared, path = os.environ["FLASHSTILL_HOME"], next(homes)
    os.environ["FLASHSTILL_HOME"] = str(path)
    yield path
    os.environ["FLASHSTILL_HOME"] = shared


@pytest.fixture
def home(place_of_home: Path) -> Path:
    """It, made."""
    place_of_home.mkdir()
    return place_of_home


@pytest.fixture(scope="session")
def sample_text() -> str:
    """Some hundred sentences that a tiny tokenizer can learn."""
    return make_sample_text()


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory, sample_text: str) -> Path:
    """A Llama of 6 blocks, 32 wide, with a byte-level tokenizer: a Hugging Face directory."""
    return make_tiny_teacher(tmp_path_factory.mktemp("models") / "tiny-teacher", sample_text)


@pytest.fixture(scope="session")
def loaded_teacher(tiny_teacher: Path) -> Any:
    """The tiny teacher in the format of its weights, bfloat16; read once."""
    from flashstill.distill.models import load_model

    return load_model(tiny_teacher)


@pytest.fixture
def teacher(loaded_teacher: Any) -> Any:
    """The tiny teacher, to do with as a test likes."""
    return copy.deepcopy(loaded_teacher)


@pytest.fixture(scope="session")
def twenty_windows(tiny_teacher: Path, sample_text: str, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    from flashstill.distill.data.packing import pack
    from flashstill.distill.data.text import load_documents
    from flashstill.distill.models import load_tokenizer

    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text(sample_text, encoding="utf-8")
    return pack(load_documents(str(path)), load_tokenizer(tiny_teacher), 32, 20)


@pytest.fixture
def packed(twenty_windows: Packed) -> Packed:
    """Twenty windows of 32 tokens of the sample, to do with as a test likes."""
    return copy.deepcopy(twenty_windows)


@pytest.fixture(scope="session")
def other_text() -> str:
    """Text of another kind, for the out-of-domain set."""
    return make_other_text()


@pytest.fixture
def text_file(tmp_path: Path, sample_text: str) -> Path:
    """The sample as a plain text file."""
    path = tmp_path / "corpus.txt"
    path.write_text(sample_text, encoding="utf-8")
    return path


@pytest.fixture
def cli(home: Path) -> Cli:
    """Run `flashstill` in a process of its own, as a user would."""

    def call(*arguments: object, timeout: float = 1200) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flashstill", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "FLASHSTILL_HOME": str(home)},
            check=False,
        )

    return call


@pytest.fixture
def shared_models() -> Path:
    """The folder of published configurations, which stands beside the project in its workplace only."""
    folder = SHARED / "models"
    if not folder.is_dir():
        pytest.skip("the folder shared/models is not beside this checkout")
    return folder


@pytest.fixture
def shared_cases() -> Path:
    """The folder of inputs that once failed, which stands beside the project in its workplace only."""
    folder = SHARED / "cases"
    if not folder.is_dir():
        pytest.skip("the folder shared/cases is not beside this checkout")
    return folder
