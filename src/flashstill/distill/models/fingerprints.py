"""Identify models and tokenizers by the SHA-256 of their files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flashstill.bounded import check_regular
from flashstill.errors import BadInput
from flashstill.files import sha256


def fingerprint(path: Path) -> str:
    """SHA-256 over a model directory's config.json and weights; identifies the model in signals and run records."""
    names = ["config.json", *sorted(file.name for file in path.glob("*.safetensors"))]
    total = hashlib.sha256()
    for name in names:
        check_regular(path / name)
        total.update(f"{name}:{sha256(path / name)}\n".encode())
    return total.hexdigest()


def tokenizer_fingerprint(path: Path) -> str:
    """SHA-256 of a directory's tokenizer.json; models with equal values share a vocabulary.

    Raises BadInput if there is no tokenizer.json.
    """
    file = path / "tokenizer.json"
    if not file.is_file():
        raise BadInput(f"model directory {path} has no tokenizer.json (a fast tokenizer is needed)")
    return sha256(file)
