"""Read a config.json from disk: check that it exists, limit its size, and parse it as strict JSON.

Names and files are untrusted, so every failure raises an error of one sentence.
Architectures are cached by the content of the file, not by its path, so a changed file is read anew.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flashstill.arch.adapter import from_hf, name_of
from flashstill.arch.adapter.edit import with_quantization
from flashstill.arch.adapter.sizes import is_quantised
from flashstill.arch.model import Architecture
from flashstill.bounded import DEEPEST_JSON, is_deeper, read_bounded
from flashstill.errors import BadInput, UnsupportedArchitecture, shortened

MOST_BYTES = 8 * 2**20
"""the largest published files, which list all quantised modules, have one to two million bytes"""
BESIDE = "hf_quant_config.json"
"""where NVIDIA's Model Optimizer states formats that config.json does not: older files have them here alone"""
DRAFT = "flashstill_draft"
"""the table of a drafting head's config.json, which is otherwise that of a Llama of one block"""
_REMEMBERED = 256
_built: dict[tuple[bytes, str], Architecture] = {}


def existing(name: str) -> Path | None:
    """The path if it exists; None if it does not or if `name` is not a valid path."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # name too long, NUL byte, or home directory of an unknown user
        return None


def read_config(path: Path, name: str) -> Architecture:
    """The architecture in a config.json. Raises BadInput for an invalid file, UnsupportedArchitecture."""
    import hashlib  # imported here: it would add milliseconds to every start

    content = _content(path)
    beside = _beside(path)
    key = (b"".join(hashlib.sha256(each).digest() for each in (content, beside) if each is not None), name)
    known = _built.get(key)
    if known is None:
        config = parsed(content, path)
        about = config.pop(DRAFT, None)
        known = _of_both(config, beside, path, name)
        if isinstance(about, dict) and about.get("kind") == "eagle":
            known = drafting_head(known)
        if len(_built) >= _REMEMBERED:
            _built.clear()
        _built[key] = known
    return known


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The architecture of the content of a config.json. Raises BadInput for what JSON does not hold,
    UnsupportedArchitecture."""
    name = name_of(config)
    try:
        content = json.dumps(dict(config)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"the configuration is not what a config.json holds: {shortened(str(error))}") from error
    return from_hf(parsed(content, Path(name)), name)


def _of_both(config: dict[str, Any], beside: bytes | None, path: Path, name: str) -> Architecture:
    """The architecture of a config.json, with the formats in the file beside it unless it states formats itself."""
    if beside is None or is_quantised(config):
        return from_hf(config, name)
    stated = {"quant_method": "modelopt", **parsed(beside, path.with_name(BESIDE))}
    try:
        return from_hf(with_quantization(config, stated), name)
    except UnsupportedArchitecture as error:
        raise UnsupportedArchitecture(str(error).replace("(quantization_config)", f"({BESIDE})")) from error


def drafting_head(block: Architecture) -> Architecture:
    """A head on a target's hidden states (EAGLE): a block and the 2d x d matrix that joins the target's hidden state to
    the embedding of the next token; embedding and LM head are the target's."""
    joined = replace(block.layers[0], side_weights=block.layers[0].side_weights + 2 * block.width**2)
    return replace(block, layers=(joined, *block.layers[1:]), tied=True, shares_ends=True, final_norm_parameters=0)


def _content(path: Path) -> bytes:
    try:
        return read_bounded(path, MOST_BYTES)
    except BadInput as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise BadInput(f"there is no config.json at {shortened(str(path), 200)}") from error
        raise


def _beside(path: Path) -> bytes | None:
    """The file of formats beside a directory's config.json; None if there is none."""
    other = path.with_name(BESIDE)
    return read_bounded(other, MOST_BYTES) if path.name == "config.json" and other.is_file() else None


def parsed(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON object of a configuration; a byte order mark is skipped."""
    shown, broken = shortened(str(path), 200), "the model's configuration is broken"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown} is not UTF-8 text at byte {error.start}; {broken}") from error
    deepest = BadInput(f"{shown} nests its brackets deeper than {DEEPEST_JSON} levels; {broken}")
    try:
        config = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise deepest from error
    except _Twice as error:
        raise BadInput(f"{shown} sets {shortened(str(error))!r} twice; {broken}") from error
    except ValueError as error:
        raise BadInput(f"{shown} is not JSON ({shortened(str(error))}); {broken}") from error
    if not isinstance(config, dict):
        raise BadInput(f"{shown} is not a JSON object; {broken}")
    if is_deeper(config):
        raise deepest
    return config


class _Twice(Exception):
    """A JSON object has a duplicate key."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _Twice(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return fields
