"""Pages of the examples for the site, made from what scripts/examples kept when it ran them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "out" / "examples"
PLACE = "FLASHSTILL-SHOWN-{}-{}"
"""what stands in the Markdown for the HTML that a cell showed, until the page is HTML"""


def navigation() -> list[Any]:
    """Entries of the navigation."""
    return ["examples/index.md", *({_title(path): f"examples/{path.stem}.md"} for path in _notebooks())]


def pages() -> dict[str, str]:
    """Markdown of each page by its path."""
    overview = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    made = {"examples/index.md": re.sub(r"\]\((\w+)\.py\)", r"](\1.md)", overview)}
    return made | {f"examples/{path.stem}.md": _page(path) for path in _notebooks()}


def with_figures(html: str, stem: str) -> str:
    """The page's HTML with what the cells of the notebook showed as HTML."""
    if not (RESULTS / f"{stem}.json").is_file():
        return html
    for number, output in enumerate(_shown(stem)):
        place = PLACE.format(stem, number)
        html = html.replace(f"<p>{place}</p>", output)
    return html


def _notebooks() -> list[Path]:
    """In the order of the overview, which must list all of them."""
    overview = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    listed = [ROOT / "examples" / f"{name}.py" for name in re.findall(r"\]\((\w+)\.py\)", overview)]
    unlisted = {*(ROOT / "examples").glob("*.py")} - {*listed}
    if unlisted:
        raise FileNotFoundError(f"examples/README.md does not list {', '.join(sorted(path.name for path in unlisted))}")
    return listed


def _cells(stem: str) -> list[dict[str, Any]]:
    path = RESULTS / f"{stem}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path.relative_to(ROOT)} is not there: scripts/examples makes it")
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return cells


def _title(path: Path) -> str:
    first = _cells(path.stem)[0]["text"].splitlines()[0]
    return str(first).removeprefix("# ")


def _shown(stem: str) -> list[str]:
    return [output["body"] for cell in _cells(stem) for output in cell["outputs"] if output["kind"] != "text"]


def _page(path: Path) -> str:
    parts, number = [], 0
    for cell in _cells(path.stem):
        parts.append(cell["text"] if cell["kind"] == "markdown" else f"```python\n{cell['text']}\n```")
        for output in cell["outputs"]:
            if output["kind"] == "text":
                parts.append(f"```text\n{output['body']}\n```")
            else:
                parts.append(PLACE.format(path.stem, number))
                number += 1
    parts.append(f"*This page is what `examples/{path.name}` showed when it was run for it.*")
    return "\n\n".join(parts) + "\n"
