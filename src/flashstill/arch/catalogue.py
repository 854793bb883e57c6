"""Models by name: from the catalogue of well-known models, or from any config.json on disk.

The catalogue (facts/models.toml) has the configuration fields of each model, and its published parameter count as a
check; entries pass through the same adapter as files.  The catalogue is read once per process and only the requested
model is built; a user's file is read again on every call.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from flashstill.arch import lora_base
from flashstill.arch.adapter import from_hf
from flashstill.arch.adapter.edit import with_quantization
from flashstill.arch.config_file import existing, read_config
from flashstill.arch.model import Architecture
from flashstill.errors import BadInput, MissingFact, shortened, unknown

__all__ = ["catalogue", "hub_id", "known_models", "load_architecture", "read_config", "with_heads"]

_FILE = Path(__file__).parent.parent / "facts" / "models.toml"
SHAPE_OF = "shape_of"
"""key of an entry, in place of its configuration: the short name of a model with the same one"""


@cache
def _rows() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """(models by short name, quantisation schemes by name)."""
    rows = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    schemes = rows.pop("quantization")
    for row in rows.values():
        if SHAPE_OF in row:
            row["config"] = rows[row[SHAPE_OF]]["config"]
    return rows, schemes


@lru_cache(maxsize=64)
def _of_one(short: str) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """As `_rows`, but parses only this model if the catalogue has not been read yet."""
    return _rows() if _rows.cache_info().currsize else read_one(_FILE.read_text(encoding="utf-8"), short)


def read_one(text: str, short: str) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Parse only the model `short` (empty if unknown) and the schemes, which is faster than the whole catalogue.

    A TOML table extends from its line in brackets to the next such line.  A model of another's shape needs both.
    """
    own = (f'["{short}"]', f'["{short}".', f"[{short}]", f"[{short}.", "[quantization.")
    kept, is_own = [], False
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            is_own = line.startswith(own)
        if is_own:
            kept.append(line)
    rows = tomllib.loads("".join(kept))
    schemes = rows.pop("quantization")
    if SHAPE_OF in rows.get(short, {}):
        other = rows[short][SHAPE_OF]
        rows[short]["config"] = read_one(text, other)[0][other]["config"]
    return rows, schemes


def catalogue() -> dict[str, dict[str, Any]]:
    """Short name -> title, aliases, published parameters, source, config and stored format."""
    return _rows()[0]


def known_models() -> list[str]:
    """The short names, sorted."""
    return sorted(catalogue())


def load_architecture(model: str) -> Architecture:
    """The architecture of a catalogue name, a catalogued Hugging Face id, a config.json or a model directory.

    Names are case-insensitive, the organisation of an id is optional: qwen3-32b, Qwen/Qwen3-32B-FP8, Qwen3-32B-FP8.
    Raises MissingFact for an unknown name, BadInput for an invalid file, UnsupportedArchitecture.
    """
    path = existing(model)
    if path is not None and path.is_dir() and lora_base.is_adapter(path):
        return _of_base(path)
    if path is not None and path.is_dir():
        return read_config(path / "config.json", path.name)
    if path is not None:
        return read_config(path, path.parent.name if path.name == "config.json" else path.stem)
    if re.fullmatch(r"[a-z0-9][a-z0-9.-]*", model) and model in _of_one(model)[0]:
        return _build(model, None)
    meaning = _names().get(model.lower()) or _release(model)
    if meaning is None and (model.startswith(("/", "~", ".")) or model.endswith(".json")):
        raise BadInput(f"there is no file or directory {shortened(model)!r}")
    if meaning is None:
        raise MissingFact(
            unknown("model", model, _spellings()) + ", or give the path of a config.json or model directory"
        )
    short, variant = meaning
    return _build(short, variant)


def _of_base(adapter: Path) -> Architecture:
    """The architecture of an adapter's base model, which is that of both merged, under the adapter's name."""
    base = lora_base.local_base(adapter)
    named = lora_base.stated_base(adapter)
    try:
        architecture = load_architecture(str(base) if base is not None else named)
    except (MissingFact, BadInput) as error:
        if base is not None:
            raise
        raise BadInput(
            f"adapter {adapter} is made for {shortened(named)!r}, which is neither on this disk nor in the catalogue;"
            " give the directory of its base model instead"
        ) from error
    return dataclasses.replace(architecture, name=adapter.name)


def hub_id(model: str) -> str:
    """The Hugging Face id of a catalogue name; a path or an id is returned unchanged."""
    meaning = None if "/" in model or existing(model) is not None else _names().get(model.lower())
    if meaning is None:
        return model
    short, variant = meaning
    return variant or next(iter(catalogue()[short].get("aliases", ())), model)


def _release(model: str) -> tuple[str, str | None] | None:
    """(short name, variant) of a catalogued model's release, such as -Instruct-2507 or -FP8, with the same shape.

    A number format in the name selects the quantisation scheme of the weights.
    """
    words, scheme = _tail(model).lower().replace("_", "-").removeprefix("meta-").split("-"), None
    while len(words) > 1:
        known = _names().get("-".join(words))
        if known:
            return known[0], f"{_tail(model)}={scheme}" if scheme else known[1]
        word = words.pop()
        if word in _FORMATS:
            scheme = _FORMATS[word]
        elif word not in _SAME_SHAPE and not re.fullmatch(r"\d{4}|v\d+(\.\d+)*", word):
            return None
    return None


_SAME_SHAPE = ("instruct", "chat", "it", "base", "hf", "thinking", "preview", "kv", "dynamic", "bf16", "latest")
_FORMATS = {
    "fp8": "fp8",
    "fp4": "nvfp4",
    "nvfp4": "nvfp4",
    "mxfp4": "mxfp4",
    "awq": "awq-int4",
    "gptq": "gptq-int4",
}


@cache
def _build(short: str, variant: str | None) -> Architecture:
    """The architecture of a catalogue entry. variant: repository with other number formats, used as the model's name.

    A release without an entry of its own has the variant NAME=SCHEME.
    """
    rows, schemes = _of_one(short)
    row = rows[short]
    if variant and "=" in variant:
        name, _, named = variant.partition("=")
        scheme = row["stored"] if str(row.get("stored", "")).startswith(named) else named
        return from_hf(with_quantization(row["config"], schemes[scheme]), name.lower(), whole=True)
    scheme = row["variants"][variant] if variant else row.get("stored")
    config = with_quantization(row["config"], schemes[scheme]) if scheme else row["config"]
    return from_hf(config, _tail(variant).lower() if variant else short, whole=True)


def _tail(repository: str) -> str:
    return repository.rsplit("/", 1)[-1]


@cache
def _spellings() -> dict[str, tuple[str, str | None]]:
    """Name as written in the catalogue -> (short name, variant)."""
    meanings: dict[str, tuple[str, str | None]] = {}
    for short, row in catalogue().items():
        for alias in row.get("aliases", ()):
            meanings[alias] = (short, None)
        for alias in row.get("variants", {}):
            meanings[alias] = (short, alias)
    return {**meanings, **{short: (short, None) for short in catalogue()}}


@cache
def _names() -> dict[str, tuple[str, str | None]]:
    """As `_spellings`, in lower case, with and without the organisation; short names take precedence."""
    written = _spellings()
    tails = {_tail(name).lower(): meaning for name, meaning in written.items()}
    return {**tails, **{name.lower(): meaning for name, meaning in written.items()}}


def with_heads() -> list[str]:
    """Short names of the first few models with multi-token prediction modules."""
    names = (short for short in catalogue() if _build(short, None).mtp_layers)
    return list(islice(names, 4))
