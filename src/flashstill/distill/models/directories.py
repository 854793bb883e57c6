"""A model directory, looked at before anything of it is loaded.

What is read of a stranger's directory is bounded and its own:

* JSON files are regular files of a bounded size and depth;
* weights are safetensors in the directory itself, and what their headers promise is there (safetensors checks that);
* an index names nothing but them, and each tensor is where it says;
* the model that the configuration describes is no larger than the weights are, so that building it is safe.

Whether names and shapes fit is known when transformers has sorted them in (`check_loaded`): it renames, splits and
stacks the tensors of many families.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from flashstill.arch.adapter.sizes import KIND, is_quantised, kind, value
from flashstill.bounded import DEEPEST_JSON, check_regular, is_deeper, read_bounded
from flashstill.errors import BadInput, first_line

MOST_JSON_BYTES = 64 * 2**20
MOST_TOKENIZER_BYTES = 256 * 2**20
"""the largest published ones have some thirty million"""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGER, LARGER_PACKED = 2, 16
"""elements of a model for each one on the disk: a tied head may be stored once; eight 4-bit values are one int32"""
SWITCHES = re.compile(
    r"_?(attn|experts)_implementation(_internal|_autoset)?|auto_map|trust_remote_code|custom_(generate|pipelines)"
    r"|transformers_weights"
)
"""keys that make transformers fetch, run or read something else than its own classes and the usual files"""
_LAYERS = re.compile(r"(num|n)_(\w+_)?layers?|num_\w*blocks|\w*depths?")
Shapes = Mapping[str, tuple[int, ...]]


def check_directory(path: Path) -> dict[str, Any]:
    """The parsed config.json of a model directory that is safe to load, else BadInput."""
    if not path.is_dir():
        raise BadInput(f"model {path} is not a directory; give a Hugging Face directory or a .gguf file")
    if not (path / "config.json").exists():
        raise BadInput(f"model directory {path} has no config.json")
    config = read_json(path / "config.json")
    if (path / "adapter_config.json").exists():
        raise BadInput(f"model directory {path} holds an adapter (adapter_config.json); merge it into its model first")
    if not list(path.glob("*.safetensors")):
        pickles = [file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in path.glob(pattern)]
        instead = f", only {pickles[0]}, and pickles can run code" if pickles else ""
        raise BadInput(f"model directory {path} has no safetensors weights{instead}; convert it to safetensors first")
    return config


def read_json(path: Path, most_bytes: int = MOST_JSON_BYTES) -> dict[str, Any]:
    """The object in a JSON file of a model directory."""
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
    """Whatever else transformers reads there (tokenizer, generation, chat templates): regular files, not too large."""
    for file in sorted(path.iterdir()):
        if file.suffix in (".json", ".jinja", ".model", ".txt") and not file.is_dir():
            check_regular(file, MOST_TOKENIZER_BYTES)


def shapes(path: Path) -> Shapes:
    """The shapes of all tensors of a model directory by name, from the headers of its files; BadInput."""
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


def _header(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    check_regular(file)
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a dictionary
                yield name, tuple(opened.get_slice(name).get_shape())
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{file} is not a whole safetensors file ({first_line(error)})") from error


def plain_config(path: Path) -> Any:
    """transformers' configuration of the directory, without anything that would fetch or run other code."""
    from transformers import CONFIG_MAPPING

    fields = without_switches(read_json(path / "config.json"))
    name = kind(fields)
    if name not in CONFIG_MAPPING:
        named = str(value(fields, KIND))[:80]
        raise BadInput(f"model directory {path} cannot be loaded: transformers has no {KIND} {named!r}")
    try:
        return CONFIG_MAPPING[name].from_dict(fields)
    except Exception as error:  # transformers raises many kinds for fields that do not fit together
        raise BadInput(f"model directory {path} cannot be loaded: {first_line(error)}") from error


def without_switches(value: Any) -> Any:
    """The same configuration less the keys of `SWITCHES`, at any depth."""
    if isinstance(value, dict):
        return {key: without_switches(inner) for key, inner in value.items() if not SWITCHES.fullmatch(str(key))}
    return [without_switches(inner) for inner in value] if isinstance(value, list) else value


def check_size(path: Path, config: Any, stored: Shapes) -> None:
    """BadInput where the configuration describes a model that is larger than its weights."""
    for key, layers in numbers(config.to_dict()):
        if _LAYERS.fullmatch(key) and layers > max(len(stored), 64):
            raise BadInput(f"model directory {path}: {key} is {layers}, but its weights are {len(stored)} tensors")
    on_disk = sum(math.prod(shape) for shape in stored.values())
    largest = max((max(shape, default=1) for shape in stored.values()), default=1)
    for key, number in numbers(config.to_dict()):
        if "experts" in key and "per_tok" not in key and number > max(largest, len(stored)):
            raise BadInput(f"model directory {path}: {key} is {number}, more than its weights hold")
    described = parameters(path, config)
    more = LARGER_PACKED if is_quantised(config) else LARGER
    if described > more * on_disk:
        raise BadInput(
            f"model directory {path}: its config.json describes {described:,} parameters, its weights hold {on_disk:,};"
            " tensors are missing"
        )


def parameters(path: Path, config: Any) -> int:
    """Number of parameters of the model that a configuration describes, counted on the meta device."""
    from transformers import AutoModelForCausalLM

    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # transformers raises many kinds for fields that do not fit together
        raise BadInput(f"model directory {path} cannot be loaded: {first_line(error)}") from error
    return sum(parameter.numel() for parameter in model.parameters())


def numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number of a configuration with its key, and the length of every list."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers(inner, str(name))
    elif isinstance(value, list):
        yield key, len(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value


def check_loaded(path: Path, model: Any, info: Mapping[str, Any]) -> None:
    """BadInput where tensors were missing, not wanted or of another shape, or hold what is no number.

    path: of the directory or file; info: as from_pretrained gives it with output_loading_info.
    """
    for key, what in (("missing_keys", "missing"), ("unexpected_keys", "more than it has"),
                       ("mismatched_keys", "of another shape")):  # fmt: skip
        names = [str(each[0] if isinstance(each, tuple) else each) for each in info.get(key) or ()]
        if names:
            raise BadInput(
                f"model {path}: its weights do not match its configuration; {len(names)} tensors are {what},"
                f" the first {min(names, key=_in_order)}"
            )
    for name, parameter in model.named_parameters():
        is_plain = parameter.is_floating_point() and parameter.dtype.itemsize > 1 and parameter.device.type != "meta"
        if is_plain and not torch.isfinite(parameter.detach().sum(dtype=torch.float32)):
            raise BadInput(f"model {path}: {name} holds values that are not finite numbers")


def _in_order(name: str) -> list[tuple[bool, int, str]]:
    """Names with numbers in them as people sort them: layer 9 before layer 10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
