"""Adapter directories (adapter_config.json, adapter_model.safetensors): which base model they are made for.

An adapter changes weights, not shapes: merged, it is priced and run as its base.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flashstill.arch.config_file import MOST_BYTES, existing, parsed
from flashstill.bounded import read_bounded
from flashstill.errors import BadInput, shortened

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE = "base_model_name_or_path"


def is_adapter(path: Path) -> bool:
    """Whether a directory holds an adapter and no model of its own (some trainers copy the base's config.json)."""
    if not (path / CONFIG).is_file():
        return False
    others = [file for file in path.glob("*.safetensors") if file.name != WEIGHTS]
    return (path / WEIGHTS).is_file() or not others


def read_adapter_config(path: Path) -> dict[str, Any]:
    """The parsed adapter_config.json of a directory; BadInput unless it is a JSON object within limits."""
    return parsed(read_bounded(path / CONFIG, MOST_BYTES), path / CONFIG)


def stated_base(path: Path) -> str:
    """The base that the adapter's configuration names: a path or an id of a hub; BadInput if it names none."""
    named = read_adapter_config(path).get(BASE)
    if not isinstance(named, str) or not named or not named.isprintable() or len(named) > 4096:
        raise BadInput(f"adapter {path} names no base model ({BASE}); name it with `base`")
    return named


def local_base(path: Path) -> Path | None:
    """The stated base as a path on this disk, relative to the adapter or the working directory; None if not there."""
    named = stated_base(path)
    inside = existing(str(path / named))
    base = inside if inside is not None and inside.resolve() != path.resolve() else existing(named)
    if base is not None and base.is_dir() and is_adapter(base):
        raise BadInput(f"adapter {path} is made for {shortened(named)!r}, which is an adapter itself; merge that first")
    return base
