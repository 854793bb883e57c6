"""The examples of the README and the docs print what they say."""

from __future__ import annotations

import dataclasses
import functools
import re
import runpy
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LONG = re.compile(
    r"flashstill (simulate|asic|capacity|cascade|economics) |plan [^\n]*--(trace|quality-target)|fs\.simulate\("
    r"|predict [^\n]*--simulated|trends [^\n]*--model|codesign --search|fs\.chip_search\("
)
"""examples that take a compiled event loop, or seconds"""
MANY = ("docs/codesign.md", "docs/drafts.md", "docs/asic-design.md")
"""pages of many examples"""


def pages() -> list[Any]:
    """README and all pages of docs/; those with long examples are slow."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in MANY or is_long(path) else [])
        for name, path in zip(names, paths, strict=True)
    ]


def is_long(path: Path) -> bool:
    """Whether an example of the page, of whatever language is run, takes long."""
    blocks = re.findall(r"(?ms)^```(?:console|python)\n(.*?)^```$", path.read_text(encoding="utf-8"))
    return any(LONG.search(block) for block in blocks)


RENEWED = runpy.run_path(str(ROOT / "scripts" / "docs"))["renewed"]


@pytest.mark.parametrize("page", pages())
def test_examples_print_what_they_say(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert RENEWED(text) == text, f"{page} is stale: scripts/docs renews it"


def test_the_python_of_the_interface_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for block in re.findall(r"(?ms)^```python\n(.*?)^```$", text):
        exec(compile(block, "docs/api.md", "exec"), {})
    assert "6 rows for pandas.DataFrame" in capsys.readouterr().out


@functools.cache
def headings(page: Path) -> list[str]:
    """Of all levels; what stands in a block of code is none."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    return re.findall(r"(?m)^#+ (.*)$", text)


def fragment(heading: str) -> str:
    """What a link to a heading ends with."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_index_of_the_log_names_every_section() -> None:
    index = (ROOT / "docs" / "log.md").read_text(encoding="utf-8").splitlines()
    for page in sorted((ROOT / "docs" / "log").glob("*.md")):
        place = f"log/{page.name}"
        sections = re.findall(r"(?m)^## (.*)$", page.read_text(encoding="utf-8"))
        assert [line for line in index if line.startswith("- [") and f"]({place}#" in line] == [
            f"- [{section}]({place}#{fragment(section)})" for section in sections
        ], "docs/log.md has a line for each section of a topic, in their order"


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), ROOT / "examples" / "README.md", *(ROOT / "docs").rglob("*.md")]
    lost = []
    for page in pages:
        text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", text):
            path, _, part = target.partition("#")
            other = page.parent / path if path else page
            if not other.exists() or (part and part not in map(fragment, headings(other))):
                lost.append(f"{page.relative_to(ROOT)}: {target}")
    assert lost == []


def test_every_command_is_documented() -> None:
    from flashstill.cli import cli

    text = "".join(page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    for name in cli.commands:
        assert f"flashstill {name}" in text, f"flashstill {name} is not documented"


def test_every_key_of_a_distillation_is_documented() -> None:
    from flashstill.recipes import DistillRecipe

    pages = ("distill", "run", "chat", "adapters", "drafts", "cross-tokenizer", "classifiers")
    text = "".join((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in pages)
    assert [key for key in keys_of(DistillRecipe) if not re.search(rf"\b{key.rpartition('.')[2]}\b", text)] == []


def keys_of(recipe: type[Any], path: str = "") -> Iterator[str]:
    """Paths of all keys, those of tables and lists of tables included."""
    for name, kind in typing.get_type_hints(recipe).items():
        inner = next((each for each in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(each)), None)
        yield f"{path}{name}"
        if inner is not None:
            yield from keys_of(typing.cast("type[Any]", inner), f"{path}{name}.")
