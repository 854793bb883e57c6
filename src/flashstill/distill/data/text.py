"""Text for distillation: documents from a source, split by document, without repeats or leaks.

Sources are `cpython-docs` (the language reference topics and the docstrings of the standard library, which are on
every machine that runs this program) or a path: a text file, JSONL with a "text" field, Parquet with a "text"
column, or a directory of them.  The out-of-domain partner of `cpython-docs` is `cpython-code`: the same library's
source with docstrings and comments removed.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from flashstill.arch.config_file import existing
from flashstill.distill.data.text_files import PLAIN_TEXT_DOCUMENT_CHARACTERS, Document, from_path
from flashstill.errors import BadInput, shortened, unknown

BUILT_IN = ("cpython-docs", "cpython-code")
SHORTEST_DOCSTRING_CHARACTERS = 200
SHORTEST_PARAGRAPH_CHARACTERS = 80
_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}


def load_documents(source: str) -> list[Document]:
    """All documents of `source`, exact duplicates removed, in a stable order.

    Raises BadInput for a missing, empty or unreadable source.
    """
    if source == "cpython-docs":
        documents = cpython_docs()
    elif source == "cpython-code":
        documents = cpython_code()
    else:
        path = existing(source)
        if path is None:
            unlike = unknown("source", source, BUILT_IN)
            raise BadInput(f"data {shortened(source)!r} is neither a file nor a directory, and {unlike}")
        documents = list(from_path(path))
    documents = _without_duplicates(document for document in documents if document.text.strip())
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
                node.body = node.body[1:] or [ast.Pass()]  # a string after it is the docstring now
        text = ast.unparse(tree)
        if len(text) >= PLAIN_TEXT_DOCUMENT_CHARACTERS:
            documents.append(Document(name=f"code:{name}", text=text))
    return documents


def corpus_label() -> str:
    """What the built-in corpus depends on, for the record of a run."""
    return f"CPython {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
