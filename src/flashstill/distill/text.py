"""Text for distillation: documents from a source, split by document, without repeats or leaks.

Sources are `cpython-docs` (the language reference topics and the docstrings of the standard library, which are on
every machine that runs this program) or a path: a text file, JSONL with a "text" field, Parquet with a "text"
column, or a directory of them.  The out-of-domain partner of `cpython-docs` is `cpython-code`: the same library's
source with docstrings and comments removed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flashstill.errors import BadInput, unknown

BUILT_IN = ("cpython-docs", "cpython-code")
SUFFIXES = (".txt", ".md", ".rst", ".jsonl", ".parquet")
SHORTEST_DOCSTRING_CHARACTERS = 200
SHORTEST_PARAGRAPH_CHARACTERS = 80
PLAIN_TEXT_DOCUMENT_CHARACTERS = 2000
_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One piece of text that is never cut between training and held-out."""

    name: str
    text: str


def load_documents(source: str) -> list[Document]:
    """All documents of `source`, exact duplicates removed, in a stable order.

    Raises BadInput for a missing, empty or unreadable source.
    """
    if source == "cpython-docs":
        found = cpython_docs()
    elif source == "cpython-code":
        found = cpython_code()
    else:
        path = Path(source).expanduser()
        if not path.exists():
            raise BadInput(
                f"data {source!r} is neither a file nor a directory, and {unknown('source', source, BUILT_IN)}"
            )
        found = list(_from_path(path))
    documents = _without_duplicates(document for document in found if document.text.strip())
    if not documents:
        raise BadInput(f"data {source!r} holds no text; give a UTF-8 text, JSONL or Parquet file with some")
    return documents


def _without_duplicates(documents: Iterable[Document]) -> list[Document]:
    seen: dict[str, Document] = {}
    for document in documents:
        seen.setdefault(_digest(" ".join(document.text.split())), document)
    return list(seen.values())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def shuffled(documents: Iterable[Document], seed: int) -> list[Document]:
    """The documents in an order that depends on their names and the seed alone."""
    return sorted(documents, key=lambda document: _digest(f"{seed}:{document.name}"))


def without_leaks(documents: Iterable[Document], training: Iterable[Document]) -> list[Document]:
    """`documents` less every paragraph of 80 characters or more that the training text holds as well."""
    known = {digest for document in training for digest, _ in _paragraphs(document.text)}
    kept = []
    for document in documents:
        parts = [part for digest, part in _paragraphs(document.text, everything=True) if digest not in known]
        if any(part.strip() for part in parts):
            kept.append(Document(name=document.name, text="\n\n".join(parts)))
    return kept


def _paragraphs(text: str, everything: bool = False) -> Iterator[tuple[str, str]]:
    for part in re.split(r"\n\s*\n", text):
        plain = " ".join(part.split())
        if len(plain) >= SHORTEST_PARAGRAPH_CHARACTERS:
            yield _digest(plain), part
        elif everything:
            yield "", part


def _from_path(path: Path) -> Iterator[Document]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            raise BadInput(f"data directory {path} holds no {', '.join(SUFFIXES)} file")
        for file in files:
            yield from _from_path(file)
    elif path.suffix.lower() == ".jsonl":
        yield from _from_jsonl(path)
    elif path.suffix.lower() == ".parquet":
        yield from _from_parquet(path)
    else:
        yield from _from_plain(path)


def _read_utf8(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"data file {path} is not UTF-8 (byte {error.start}); convert it first") from error
    except OSError as error:
        raise BadInput(f"data file {path} cannot be read: {error.strerror or error}") from error


def _from_plain(path: Path) -> Iterator[Document]:
    """A plain file is cut at blank lines into documents of about 2,000 characters."""
    pending, size, count = [], 0, 0
    for part in re.split(r"\n\s*\n", _read_utf8(path)):
        pending.append(part)
        size += len(part)
        if size >= PLAIN_TEXT_DOCUMENT_CHARACTERS:
            yield Document(name=f"{path.name}#{count}", text="\n\n".join(pending))
            pending, size, count = [], 0, count + 1
    if pending:
        yield Document(name=f"{path.name}#{count}", text="\n\n".join(pending))


def _from_jsonl(path: Path) -> Iterator[Document]:
    for number, line in enumerate(_read_utf8(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"data file {path}, line {number} is not JSON") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise BadInput(f'data file {path}, line {number} has no "text" string')
        yield Document(name=f"{path.name}:{number}", text=row["text"])


def _from_parquet(path: Path) -> Iterator[Document]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=["text"])
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise BadInput(f'data file {path} is not a Parquet file with a "text" column') from error
    if "text" not in table.column_names:
        raise BadInput(f'data file {path} has no "text" column')
    for number, text in enumerate(table.column("text").to_pylist()):
        if not isinstance(text, str):
            raise BadInput(f'data file {path}, row {number}: the "text" column holds no string')
        yield Document(name=f"{path.name}:{number}", text=text)


def _library_modules() -> Iterator[tuple[str, ast.Module]]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _SKIPPED_FOLDERS.intersection(relative.parts[:-1]) or relative.parts[0].startswith("config-"):
            continue
        try:
            yield relative.as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, OSError):  # a template or a file for another encoding: not text for us
            continue


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def cpython_docs() -> list[Document]:
    """One document a reference topic and one a library module (its docstrings of 200 characters or more)."""
    documents = []
    try:
        from pydoc_data import topics as reference
    except ImportError:  # some distributions strip it; the docstrings remain
        topics: dict[str, str] = {}
    else:
        topics = dict(reference.topics)
    for name, text in sorted(topics.items()):
        documents.append(Document(name=f"topic:{name}", text=text))
    for name, tree in _library_modules():
        strings = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, _DOCUMENTED)]
        kept = dict.fromkeys(text for text in strings if len(text) >= SHORTEST_DOCSTRING_CHARACTERS)
        if kept:
            documents.append(Document(name=f"docstrings:{name}", text="\n\n\n".join(kept)))
    return documents


def cpython_code() -> list[Document]:
    """One document a library module: its code alone, docstrings and comments removed."""
    documents = []
    for name, tree in _library_modules():
        for node in ast.walk(tree):
            while isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]  # a second string takes the first one's place
        text = ast.unparse(tree)
        if len(text) >= PLAIN_TEXT_DOCUMENT_CHARACTERS:
            documents.append(Document(name=f"code:{name}", text=text))
    return documents


def corpus_label() -> str:
    """What the built-in corpus depends on, for the record of a run."""
    return f"CPython {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
