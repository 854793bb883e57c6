"""Check an untrusted model directory before loading it.

* JSON files must be regular files of limited size and nesting depth.
* Weights must be safetensors files in the directory itself, complete according to their headers.
* The index may list only these files, and each tensor must be in the file that the index gives.

What config.json describes is checked next (configuration.py), and after loading whether the tensors match it
(loaded_tensors.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from flashstill.bounded import DEEPEST_JSON, check_regular, is_deeper, read_bounded
from flashstill.distill.data.templates import MOST_TEMPLATE_BYTES
from flashstill.distill.models.quantised import check_settings
from flashstill.errors import BadInput, first_line, shown

MOST_JSON_BYTES = 64 * 2**20
MOST_TOKENIZER_BYTES = 256 * 2**20
"""size limit of tokenizer files; the largest published ones have about 30 MB"""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
GENERATION, TEMPLATE = "generation_config.json", "chat_template.jinja"
SETTINGS = (
    GENERATION,
    TEMPLATE,
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""files whose errors transformers tells without their names, or not at all"""
NUMBERS: Mapping[str, tuple[Any, str]] = {
    "eos_token_id": (int, "a token id or a list of them"),
    **dict.fromkeys(("bos_token_id", "pad_token_id", "top_k"), (int, "a whole number")),
    **dict.fromkeys(("temperature", "top_p", "min_p", "repetition_penalty"), (int | float, "a number")),
}
"""what engines read of GENERATION; a student inherits it"""
POINTER = b"version https://git-lfs"
"""beginning of the text that a clone without git-lfs has in the place of a large file"""
Shapes = Mapping[str, tuple[int, ...]]


def check_directory(path: Path) -> dict[str, Any]:
    """The parsed config.json of a model directory; BadInput if it has no config or safetensors, or is an adapter."""
    if not path.is_dir():
        raise BadInput(f"model {path} is not a directory; give a Hugging Face directory or a .gguf file")
    if not (path / "config.json").exists():
        raise BadInput(f"model directory {path} has no config.json{_instead(path)}")
    config = read_json(path / "config.json")
    check_settings(path, config)
    if (path / "adapter_config.json").exists():
        raise BadInput(f"model directory {path} holds an adapter (adapter_config.json); merge it into its model first")
    if not list(path.glob("*.safetensors")):
        pickles = [file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in path.glob(pattern)]
        instead = f", only {pickles[0]}, and pickles can run code" if pickles else ""
        mend = _instead(path) or "; convert it to safetensors first"
        raise BadInput(f"model directory {path} has no safetensors weights{instead}{mend}")
    return config


def _instead(path: Path) -> str:
    """What to give instead of a directory that holds GGUF files or is the output of a run."""
    files = sorted(file.name for file in path.glob("*.gguf"))
    if files:
        return f"; to use {files[0]} give that file itself"
    student = path / "student"
    return f"; its student is in {student}" if (student / "config.json").is_file() else ""


def read_json(path: Path, most_bytes: int = MOST_JSON_BYTES) -> dict[str, Any]:
    """Parse a JSON file of a model directory; BadInput unless it is an object within the size and depth limits."""
    broken = BadInput(f"{path} is not a JSON object; the model directory is broken")
    try:
        fields = json.loads(read_bounded(path, most_bytes).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise broken from error
    if not isinstance(fields, dict):
        raise broken
    if is_deeper(fields):
        raise BadInput(f"{path} nests deeper than {DEEPEST_JSON} levels; the model directory is broken")
    return fields


def check_small_files(path: Path) -> None:
    """Check the other files that transformers reads (tokenizer, generation, templates).

    They are regular and at most 256 MiB; those of settings are JSON objects, and the chat template is text.
    """
    for file in sorted(path.iterdir()):
        if file.suffix in (".json", ".jinja", ".model", ".txt") and (file.name in SETTINGS or not file.is_dir()):
            check_regular(file, MOST_TOKENIZER_BYTES)
    found = {name: read_json(path / name) for name in SETTINGS if name.endswith(".json") and (path / name).exists()}
    for key, (kinds, what) in NUMBERS.items():
        number = found.get(GENERATION, {}).get(key)
        listed = number if isinstance(number, list) and key == "eos_token_id" else [number]
        if any(each is not None and (isinstance(each, bool) or not isinstance(each, kinds)) for each in listed):
            raise BadInput(f"{path / GENERATION}: {key} is {shown(number)}, not {what}")
    if (template := path / TEMPLATE).exists():
        try:
            read_bounded(template, MOST_TEMPLATE_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"the chat template {template} is not UTF-8") from error


def shapes(path: Path) -> Shapes:
    """Shape of every tensor of a model directory by name, from the safetensors headers.

    Raises BadInput if the index and the files disagree, or if a file is truncated.
    """
    if (path / WEIGHTS).exists():
        return dict(_header(path / WEIGHTS))
    index = read_json(path / INDEX) if (path / INDEX).exists() else None
    if index is None:
        raise BadInput(f"model directory {path} has neither {WEIGHTS} nor {INDEX}; the model directory is broken")
    where = index.get("weight_map")
    if not isinstance(where, dict) or not where or not isinstance(index.get("metadata", {}), dict):
        raise BadInput(f'{path / INDEX} has no "weight_map" of tensors and files; the model directory is broken')
    for name, file in where.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise BadInput(f"{path / INDEX} sends {name} to {str(file)[:80]!r}, which is no safetensors file beside it")
    shape_of: dict[str, tuple[int, ...]] = {}
    for file in sorted(set(where.values())):
        check_regular(path / file)
    for file in sorted(set(where.values())):
        for name, shape in _header(path / file):
            if where.get(name) != file:
                raise BadInput(f"{path / file} holds {name}, which {INDEX} does not list there")
            shape_of[name] = shape
    for name, file in where.items():
        if name not in shape_of:
            raise BadInput(f"{path / INDEX} lists {name} in {file}, which does not hold it")
    return shape_of


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of a directory that `shapes` has checked; others beside them are not read."""
    if (path / WEIGHTS).exists():
        return [path / WEIGHTS]
    return [path / file for file in sorted(set(read_json(path / INDEX)["weight_map"].values()))]


def blocks_of(stored: Shapes) -> int:
    """Number of blocks of a model, from the names of its tensors."""
    numbered = [int(found[1]) for name in stored if (found := re.search(r"\.(\d+)\.", name))]
    return 1 + max(numbered, default=0)


def _header(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    check_regular(file)
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a dictionary
                yield name, tuple(opened.get_slice(name).get_shape())
    except (SafetensorError, OSError, ValueError) as error:
        if _is_pointer(file):
            raise BadInput(f"{file} is a pointer of git-lfs, not the file itself; fetch it (git lfs pull)") from error
        raise BadInput(f"{file} is not a whole safetensors file ({first_line(error)})") from error


def _is_pointer(file: Path) -> bool:
    """Whether a file is a pointer of git-lfs; one that cannot be read is none."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(POINTER)) == POINTER
    except OSError:
        return False
