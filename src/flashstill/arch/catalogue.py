"""Models by name: the catalogue of well-known ones, or any config.json on the disk.

The catalogue (facts/models.toml) holds the shape of each model in the terms of its published configuration, with the
published parameter count beside it as a check; it goes through the same adapter as a file would.
"""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from flashstill.arch.adapter import from_hf
from flashstill.arch.model import Architecture
from flashstill.errors import BadInput, MissingFact, unknown

_FILE = Path(__file__).parent.parent / "facts" / "models.toml"


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Short name -> title, published parameters, source, config."""
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def known_models() -> list[str]:
    """The short names, sorted."""
    return sorted(catalogue())


def load_architecture(model: str) -> Architecture:
    """The architecture of a known name (any case), a Hugging Face id in the catalogue, a config.json or a directory.

    Raises MissingFact for a name that is none of these, BadInput for a broken file, UnsupportedArchitecture.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return read_config(path / "config.json", path.name)
    if path.is_file():
        return read_config(path, path.parent.name if path.name == "config.json" else path.stem)
    short = _short_name(model)
    if short is None:
        raise MissingFact(
            unknown("model", model, _aliases()) + ", or give the path of a config.json or model directory"
        )
    return from_hf(catalogue()[short]["config"], short)


def _short_name(model: str) -> str | None:
    return _aliases().get(model) or {alias.lower(): short for alias, short in _aliases().items()}.get(model.lower())


@cache
def _aliases() -> dict[str, str]:
    names = {short: short for short in catalogue()}
    names.update({alias: short for short, row in catalogue().items() for alias in row.get("aliases", ())})
    return names


def read_config(path: Path, name: str) -> Architecture:
    """The architecture in a config.json."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"there is no config.json at {path}") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is not JSON; the model's configuration is broken") from error
    if not isinstance(config, dict):
        raise BadInput(f"{path} is not a JSON object; the model's configuration is broken")
    return from_hf(config, name)
