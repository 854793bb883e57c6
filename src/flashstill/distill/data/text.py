"""Load documents from a text source, remove duplicates, and remove paragraphs that leak from the training text.

A source is a path (a file of text, JSON, CSV, Parquet or Arrow, or a directory: saved.py, layouts.py) or one of two
built-in corpora.  `cpython-docs`: Python's language reference and the docstrings of its standard library,
which every Python installation has.  `cpython-code`, meant as its out-of-domain counterpart: the source code of the
standard library without docstrings and comments.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from flashstill.distill.data.layouts import Columns, Document
from flashstill.distill.data.rows import Tally
from flashstill.distill.data.saved import located_source
from flashstill.distill.data.text_files import PLAIN_TEXT_DOCUMENT_CHARACTERS, from_path
from flashstill.errors import BadInput, shortened, unknown

BUILT_IN = ("cpython-docs", "cpython-code")
MOST_CHARACTERS = 2**30
"""limit for text that is held in memory"""
_PARTS = re.compile(r"\n\s*\n")
SHORTEST_DOCSTRING_CHARACTERS = 200
SHORTEST_PARAGRAPH_CHARACTERS = 80
_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}


def load_documents(source: str, tally: Tally | None = None, columns: Columns | None = None) -> list[Document]:
    """All documents of `source` in a deterministic order, without duplicates (compared up to white space).

    tally: counts the records, bad ones included; columns: names of the entries of a record (layouts.py).
    Raises BadInput if the source is missing, empty or unreadable, has too many bad records, or exceeds the memory.
    """
    counts = tally or Tally()
    documents = _without_duplicates(_within_memory(read_documents(source, counts, columns), source))
    counts.check()
    if not documents and counts.bad:
        raise BadInput(f"{counts.first}; no record of data {source!r} can be used ({counts.counted})")
    if not documents:
        raise no_text(source)
    return documents


def check_source(source: str) -> tuple[Path, str] | None:
    """Where a source lies and its split, None for a built-in one; BadInput if there is no such source."""
    if source in BUILT_IN:
        return None
    located = located_source(source)
    if located is None:
        unlike = unknown("source", source, BUILT_IN)
        raise BadInput(f"data {shortened(source)!r} is neither a file nor a directory, and {unlike}")
    return located


def no_text(source: str) -> BadInput:
    """The error for a source without a single document."""
    return BadInput(f"data {source!r} holds no text; give a file of text, JSON, CSV, Parquet or Arrow with some")


def read_documents(source: str, tally: Tally, columns: Columns | None = None) -> Iterator[Document]:
    """The documents of `source` that are not blank, one at a time; `tally.check()` must follow at the end."""
    if source in BUILT_IN:
        built_in = cpython_docs() if source == "cpython-docs" else cpython_code()
        tally.good += len(built_in)
        documents: Iterable[Document] = built_in
    else:
        located = check_source(source)
        assert located is not None
        documents = from_path(located[0], tally, columns, located[1])
    return (document for document in documents if document.text.strip())


def _within_memory(documents: Iterable[Document], source: str) -> Iterator[Document]:
    size = 0
    for document in documents:
        size += len(document.text)
        if size > MOST_CHARACTERS:
            raise BadInput(f"data {source!r} holds more than {MOST_CHARACTERS // 2**20} MiB of text; give a part of it")
        yield document


def _without_duplicates(documents: Iterable[Document]) -> list[Document]:
    seen: dict[str, Document] = {}
    for document in documents:
        seen.setdefault(_digest(" ".join(document.text.split())), document)
    return list(seen.values())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def shuffled(documents: Iterable[Document], seed: int) -> list[Document]:
    """The documents in a pseudo-random order that depends only on their names and the seed."""
    return sorted(documents, key=lambda document: _digest(f"{seed}:{document.name}"))


def without_paragraphs(documents: Iterable[Document], known: set[str]) -> list[Document]:
    """`documents` without the paragraphs whose digests are known.

    A conversation cannot lose a part: it is left out if an answer in it has such a paragraph.
    """
    kept = []
    for document in documents:
        if document.is_whole:
            if not any(digest in known for answer in document.learned for digest, _ in _paragraphs(answer)):
                kept.append(document)
            continue
        parts = [part for digest, part in _paragraphs(document.text, everything=True) if digest not in known]
        if any(part.strip() for part in parts):
            kept.append(Document(name=document.name, text="\n\n".join(parts)))
    return kept


def common_paragraphs(documents: Iterable[Document], training: Iterable[Document]) -> set[str]:
    """Digests of the paragraphs of `documents` that are in `training` too, of which one document is read at a time."""
    texts = [text for document in documents for text in [document.text, *document.learned]]
    wanted = {digest for text in texts for digest, _ in _paragraphs(text)}
    beginnings = {tuple(part.split(None, 3)[:3]) for text in texts for part in _PARTS.split(text)}
    found: set[str] = set()
    for document in training:
        for part in _PARTS.split(document.text):
            if tuple(part.split(None, 3)[:3]) in beginnings:  # most paragraphs need no digest
                found.update(digest for digest, _ in _paragraphs(part) if digest in wanted)
    return found


def _paragraphs(text: str, everything: bool = False) -> Iterator[tuple[str, str]]:
    for part in _PARTS.split(text):
        plain = " ".join(part.split())
        if len(plain) >= SHORTEST_PARAGRAPH_CHARACTERS:
            yield _digest(plain), part
        elif everything:
            yield "", part


def _library_modules() -> Iterator[tuple[str, ast.Module]]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _SKIPPED_FOLDERS.intersection(relative.parts[:-1]) or relative.parts[0].startswith("config-"):
            continue
        try:
            yield relative.as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, OSError):  # a template, or a file in another encoding: skipped
            continue


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def cpython_docs() -> list[Document]:
    """One document per reference topic, and one per library module with its docstrings of 200 or more characters."""
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
    """One document per library module: its code without docstrings and comments."""
    documents = []
    for name, tree in _library_modules():
        for node in ast.walk(tree):
            while isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]  # a second leading string would now be the docstring
        text = ast.unparse(tree)
        if len(text) >= PLAIN_TEXT_DOCUMENT_CHARACTERS:
            documents.append(Document(name=f"code:{name}", text=text))
    return documents


def corpus_label() -> str:
    """The Python version, on which the built-in corpora depend; recorded with each run."""
    return f"CPython {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
