"""checksums.json: the SHA-256 of every file in a model directory, written on saving and verified on loading.

Only directories written by this program have one; others are not verified.
"""

from __future__ import annotations

import json
from pathlib import Path

from flashstill.bounded import check_regular
from flashstill.distill.models.directories import read_json
from flashstill.errors import BadInput
from flashstill.files import sha256

FILE = "checksums.json"


def write_checksums(directory: Path) -> None:
    """Write the SHA-256 of every file of the directory into checksums.json."""
    checksums = {
        file.name: sha256(file) for file in sorted(directory.iterdir()) if file.is_file() and file.name != FILE
    }
    (directory / FILE).write_text(json.dumps(checksums, indent=1), encoding="utf-8")


def verify_checksums(directory: Path) -> None:
    """BadInput, naming the file, if one has changed or is missing, or if a weight file was added since writing."""
    if not (directory / FILE).exists():
        return
    written = read_json(directory / FILE)
    mend = f"remove {directory} and run again, or remove its {FILE} where the change is meant"
    for name, digest in written.items():
        if Path(name).name != name:
            raise BadInput(f"{directory / FILE} names {name!r}, which is no file beside it; {mend}")
        if not (directory / name).exists():
            raise BadInput(f"{directory / name} is gone; {mend}")
        check_regular(directory / name)
        if sha256(directory / name) != digest:
            raise BadInput(f"{directory / name} is not what was written there (its checksum differs); {mend}")
    for file in sorted(directory.glob("*.safetensors")):
        if file.name not in written:
            raise BadInput(f"{file} was not there when the model was written; {mend}")
