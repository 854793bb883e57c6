"""The house: who may import whom, and what the cost arm costs to import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "flashstill"
STEM = {"errors", "units", "records", "files", "outputs", "bounded", "progress", "facts", "tables"}
COST_ARM = {"arch", "hardware", "workload", "parallel", "cost", "economics", "plan", "validation"}
LEARNING_ARM = {"distill", "evaluate", "measure"}
# What each room may import of the package, beside itself, errors, units, files and progress.
MAY_IMPORT = {
    "errors": set(),
    "units": set(),
    "files": set(),
    "bounded": set(),
    "outputs": set(),
    "progress": set(),
    "facts": set(),
    "records": {"checked"},
    "arch": set(),
    "hardware": {"facts"},
    "workload": {"arch"},
    "parallel": {"workload", "arch"},
    "cost": {"hardware", "parallel", "workload", "arch"},
    "validation": {"plan", "cost", "parallel", "workload", "arch", "hardware", "facts"},
    "economics": {"facts", "workload"},
    "plan": {"economics", "cost", "parallel", "workload", "arch", "hardware", "facts", "records"},
    "distill": {"arch", "records"},
    "evaluate": {"distill", "arch", "records"},
    "measure": {"distill", "arch", "records", "facts"},
    "checked": set(),
    "recipes": {"checked"},
    "frontier": {"records"},
    "report": {"checked", "frontier", "records"},
    "console": set(),
    "tables": set(),
    "printing": {"tables", "facts", "hardware", "plan"},
    "runs": {
        "checked",
        "report",
        "plan",
        "distill",
        "evaluate",
        "measure",
        "recipes",
        "records",
        "facts",
        "arch",
        "hardware",
        "economics",
    },
    "studies": {
        "runs",
        "plan",
        "facts",
        "checked",
        "report",
        "distill",
        "evaluate",
        "measure",
        "recipes",
        "records",
        "arch",
    },
}
EVERYWHERE = {"errors", "units", "files", "outputs", "bounded", "progress"}
THIRD_PARTY_IN_COST_ARM = {"numpy", "scipy"}


def rooms() -> list[str]:
    return sorted({path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in SOURCE.rglob("*.py")})


def imports_of(room: str) -> set[str]:
    """Absolute module names that the room's files import."""
    place = SOURCE / room
    files = list(place.rglob("*.py")) if place.is_dir() else [SOURCE / f"{room}.py"]
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: write absolute imports"
                assert node.module is not None
                found.add(node.module)
                if node.module == "flashstill":
                    found.update(f"flashstill.{alias.name}" for alias in node.names if alias.name != "__version__")
    return found


@pytest.mark.parametrize("room", [room for room in rooms() if room not in ("cli", "__init__", "__main__")])
def test_import_order(room: str) -> None:
    ours = {name.split(".")[1] for name in imports_of(room) if name.startswith("flashstill.")}
    assert ours - {room} <= MAY_IMPORT[room] | EVERYWHERE, f"{room} imports {sorted(ours - {room})}"


def test_every_room_is_in_the_plan() -> None:
    assert set(rooms()) - {"cli", "__init__", "__main__"} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", sorted(STEM))
def test_the_stem_needs_only_the_standard_library(room: str) -> None:
    outside = {name.split(".")[0] for name in imports_of(room)} - set(sys.stdlib_module_names) - {"flashstill"}
    assert not outside


@pytest.mark.parametrize("room", sorted(COST_ARM))
def test_the_cost_arm_needs_only_numpy(room: str) -> None:
    outside = {name.split(".")[0] for name in imports_of(room)} - set(sys.stdlib_module_names) - {"flashstill"}
    assert outside <= THIRD_PARTY_IN_COST_ARM


HEAVY = {
    "plan": {"torch", "transformers", "scipy", "plotly", "jinja2", "rich", "click", "pydantic"},
    "cli": {"torch", "transformers", "scipy", "plotly", "jinja2", "rich", "numpy", "pydantic"},
}
"""what must not be loaded by an import, since it takes long; the seconds themselves are in benchmarks/start.py"""


@pytest.mark.parametrize("module", sorted(HEAVY))
def test_an_import_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, flashstill.{module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY[module] & set(done.stdout.split()) == set()


def test_modules_stay_readable() -> None:
    long = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > 280} == {}


def test_no_test_module_imports_another() -> None:
    """What tests share is in helper modules, so that a file is read and run by itself; code that they start as well."""
    named = re.compile(
        r"\b(?:tests\.|from tests import .*\b)((?:test_|conftest)\w*)|^from (\.\S*) import", re.MULTILINE
    )
    folder = Path(__file__).parent
    found = {
        str(path.relative_to(folder)): sorted({word for pair in named.findall(text) for word in pair if word})
        for path in folder.rglob("*.py")
        for text in [path.read_text(encoding="utf-8")]
        if path != Path(__file__) and named.search(text)
    }
    assert found == {}, "move what is shared into a module of tests/ that holds no tests"
