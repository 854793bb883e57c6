"""What models and vocabularies are known by: digests of what lies in their directories."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flashstill.errors import BadInput
from flashstill.files import sha256


def fingerprint(path: Path) -> str:
    """SHA-256 over a model directory's config and weights; what signals and records are keyed by."""
    names = ["config.json", *sorted(file.name for file in path.glob("*.safetensors"))]
    total = hashlib.sha256()
    for name in names:
        total.update(f"{name}:{sha256(path / name)}\n".encode())
    return total.hexdigest()


def tokenizer_fingerprint(path: Path) -> str:
    """SHA-256 of a model directory's tokenizer.json: two models share a vocabulary where it is the same."""
    file = path / "tokenizer.json"
    if not file.is_file():
        raise BadInput(f"model directory {path} has no tokenizer.json (a fast tokenizer is needed)")
    return sha256(file)
