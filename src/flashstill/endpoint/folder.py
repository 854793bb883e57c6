"""What an engine is given to load: links to a checked model directory's files, and a configuration that runs no code.

An engine reads a directory by itself, so the checks of distill/models come before it: complete safetensors, no pickles,
no files of unbounded size.  Keys of config.json that would fetch or run other code are left out, and so is every file
that is neither weights nor JSON, text or a tokenizer's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flashstill.errors import BadInput, shortened

LINKED = {".safetensors", ".json", ".txt", ".model", ".jinja"}
HUB, REVISION = ".hub", "0" * 40
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def checked_model(directory: Path) -> dict[str, Any]:
    """The config.json of a model directory that an engine may load; BadInput says what is wrong with another."""
    from flashstill.distill.models.checksums import verify_checksums
    from flashstill.distill.models.configuration import without_switches
    from flashstill.distill.models.directories import check_directory, check_small_files, shapes

    config = check_directory(directory)
    verify_checksums(directory)
    check_small_files(directory)
    shapes(directory)
    if not (directory / "tokenizer.json").is_file():
        raise BadInput(f"model directory {directory} has no tokenizer.json, which a server needs")
    plain = without_switches(config)
    assert isinstance(plain, dict)
    return plain


def served_name(directory: Path, name: str | None) -> str:
    """The name by which requests call the model: as given, or the directory's."""
    if name is None:
        own = re.sub(r"[^A-Za-z0-9._-]+", "-", directory.resolve().name).strip("-._")
        return own[:100] or "student"
    if not NAME.fullmatch(name):
        raise BadInput(f"name is {shortened(name)!r}; write letters, digits, '.', '_' and '-', as student-1")
    return name


@contextmanager
def linked(directory: Path, config: dict[str, Any], name: str) -> Iterator[Path]:
    """A temporary directory that holds the model as `name`, and a cache of models, `HUB`, that lists only this one."""
    with TemporaryDirectory(prefix="flashstill-serve-", ignore_cleanup_errors=True) as text:
        work = Path(text)
        model = work / name
        model.mkdir()
        _listed(work / HUB, name, config)
        for file in sorted(directory.resolve().iterdir()):
            if file.suffix in LINKED and file.is_file() and file.name != "config.json":
                (model / file.name).symlink_to(file)
        (model / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        yield work


def _listed(hub: Path, name: str, config: dict[str, Any]) -> None:
    """A Hugging Face cache with one model of this name, as transformers tells its clients what is in its cache."""
    if "--" in name:  # would be read as owner--model
        hub.mkdir()
        return
    repository = hub / f"models--{name}"
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION, encoding="ascii")
    (snapshot / "config.json").write_text(json.dumps(config), encoding="utf-8")
