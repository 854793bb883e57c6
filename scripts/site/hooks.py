"""What mkdocs calls while it builds the site: pages that are made from other files, and links that leave docs/.

README.md is the home page; CONTRIBUTING.md, CHANGELOG.md and SECURITY.md are pages; tables of facts are made from the
CSV files of the package (facts_pages.py), the command line's page from its own help (command_pages.py), and the pages
of the examples from what they printed (example_pages.py).
A link to a file of the repository that is no page becomes its path in code type, and must exist.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import command_pages
import example_pages
import facts_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
FROM_THE_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples/index.md",
}
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^(```.*?^```[ \t]*$)", re.DOTALL | re.MULTILINE)
PLACES = {"EXAMPLES": example_pages, "FACTS": facts_pages, "COMMANDS": command_pages}
"""entries of the navigation in mkdocs.yml whose pages are made here"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages where the navigation names them."""
    for section in config.nav or []:
        _fill(section)
    return config


def _fill(entries: dict[str, Any]) -> None:
    """One level of the navigation: titles and, for each, a page, a place to fill, or entries of its own."""
    for title, entry in entries.items():
        if isinstance(entry, list):
            for inner in entry:
                _fill(inner)
        elif entry in PLACES:
            entries[title] = PLACES[entry].navigation()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from files outside docs/."""
    for source, target in FROM_THE_ROOT.items():
        if source.startswith("examples/"):
            continue  # example_pages.py makes it
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    for module in PLACES.values():
        for target, content in module.pages().items():
            files.append(File.generated(config, target, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that point outside docs/, or from the root into it, made to fit the site."""
    source = {target: name for name, target in FROM_THE_ROOT.items()}.get(page.file.src_uri)
    folder = PurePosixPath(source).parent if source else PurePosixPath("docs") / PurePosixPath(page.file.src_uri).parent
    depth = len(PurePosixPath(page.file.src_uri).parts) - 1

    def fitted(match: re.Match[str]) -> str:
        words, target = match[1], match[2]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        repository_path = _normal(folder / path)
        if not (ROOT / repository_path).exists():
            if files.get_file_from_path(_normal(PurePosixPath(page.file.src_uri).parent / path)):
                return match[0]  # a generated page
            raise PluginError(f"{source or page.file.src_uri}: there is no {repository_path} to link to")
        page_of_root = FROM_THE_ROOT.get(repository_path)
        if page_of_root is None and not repository_path.startswith("docs/"):
            plain = words.strip("`")
            return f"`{plain}`" if plain == repository_path else f"{words} (`{repository_path}`)"
        inside = page_of_root or repository_path.removeprefix("docs/")
        return f"[{words}]({'../' * depth}{inside}{'#' + anchor if anchor else ''})"

    if not re.search(r"^##+ ", markdown, re.MULTILINE):
        page.meta["hide"] = ["toc"]  # room for wide tables
    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(fitted, part).replace("](docs/", "](") for part in parts[::2]]
    return "".join(parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Figures of the examples go into their pages."""
    path = PurePosixPath(page.file.src_uri)
    return example_pages.with_figures(html, path.stem) if path.parent.name == "examples" else html


def _normal(path: PurePosixPath) -> str:
    """The path without `..`."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/".join(parts)
