"""The models of an evaluation: located on disk, named, and grouped by tokenizer.

Which metrics can be compared depends on the tokenizers:

    bits per byte, gap closed         always: every model predicts the same bytes
    perplexity, accuracy, calibration of models with identical tokenisation of the text: tokens of different
                                      vocabularies differ in difficulty
    KL to the teacher, agreement      of models with the teacher's vocabulary: compared token by token
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashstill.arch.lora_base import is_adapter
from flashstill.bounded import named_path
from flashstill.distill.data.saved import SUFFIXES
from flashstill.distill.models import load_tokenizer
from flashstill.distill.teachers import resolve_teacher
from flashstill.errors import BadInput, shortened, unknown
from flashstill.evaluate.calibration import CALIBRATION_ERROR
from flashstill.evaluate.gap import GAP_CLOSED
from flashstill.evaluate.span_scores import NAMES
from flashstill.progress import Progress

TEACHER, CONTROL, STUDENT = "teacher", "control", "student"
ANY_TOKENIZER, ONE_TOKENIZER = ("bits_per_byte",), ("perplexity", "accuracy", CALIBRATION_ERROR)
OF_TEACHER = ("kl_to_teacher", "agreement")
METRICS = (*ANY_TOKENIZER, *ONE_TOKENIZER, *OF_TEACHER, GAP_CLOSED)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrant:
    """A model to be evaluated. role: teacher, control or student."""

    name: str
    role: str
    directory: Path
    tokenizer: Any


def split_name(text: str) -> tuple[str, str]:
    """(NAME, PATH) of "NAME=PATH"; for a path alone the name is its last part, without a file suffix."""
    name, mark, rest = text.partition("=")
    if mark and rest and _NAME.fullmatch(name) and not _is_there(text):
        return name, rest
    path = Path(text)
    is_file = path.suffix.lower() in (".gguf", *SUFFIXES)
    return (path.stem if is_file else path.absolute().name) or text, text


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # not a valid file name
        return False


def named(sources: Sequence[str] | Mapping[str, str], kind: str) -> dict[str, str]:
    """name -> path or built-in name; BadInput if names repeat or there are none. kind: "model" or "text"."""
    pairs = list(sources.items()) if isinstance(sources, Mapping) else [split_name(each) for each in sources]
    if not pairs:
        raise BadInput(f"give at least one {kind}")
    paths: dict[str, str] = {}
    for name, path in pairs:
        if name in paths:
            raise BadInput(f"two {kind}s are called {name!r}; name them apart, as first={shortened(paths[name])}")
        paths[name] = path
    return paths


def find_entrants(
    models: Mapping[str, str], teacher: str, control: str, progress: Progress, base: str = ""
) -> list[Entrant]:
    """Every model with its directory and tokenizer, the teacher first. Raises BadInput for a missing model.

    base: the base model of all LoRA adapters among them, if not the ones that they name.
    """
    named_models = [(TEACHER, TEACHER, teacher)] if teacher else []
    named_models += [(CONTROL, CONTROL, control)] if control else []
    for name, path in models.items():
        if name in (role for role, _, _ in named_models):
            raise BadInput(f"a model is called {name!r}, as the {name} is; name it, as other={shortened(path)}")
        named_models.append((name, STUDENT, path))
    paths = [named_path(path) for _, _, path in named_models]
    if base and not any(path.is_dir() and is_adapter(path) for path in paths):
        raise BadInput(f"base is {shortened(base)!r}, but none of the models is an adapter (adapter_config.json)")
    return [
        _entrant(name, role, path, progress, base if place.is_dir() and is_adapter(place) else "")
        for (name, role, path), place in zip(named_models, paths, strict=True)
    ]


def _entrant(name: str, role: str, path: str, progress: Progress, base: str) -> Entrant:
    directory = resolve_teacher(path, progress, "model" if role == STUDENT else role, base)
    return Entrant(name=name, role=role, directory=directory, tokenizer=load_tokenizer(directory))


def check_metrics(asked: Collection[str]) -> None:
    """Raise BadInput for the first name that is not a metric's."""
    for metric in asked:
        if metric not in METRICS:
            raise BadInput(unknown("metric", metric, (*METRICS, *NAMES.values())))


def choose_metrics(
    entrants: Sequence[Entrant], asked: Collection[str], hashes: Sequence[Mapping[str, str]]
) -> tuple[list[str], dict[str, str]]:
    """The metrics that can be compared, and for the others the reason: metric -> reason.

    hashes: for each text, model name -> digest of its tokens.  Raises BadInput if a requested metric cannot be
    compared, for example KL or agreement for a model whose vocabulary differs from the teacher's.
    """
    check_metrics(asked)
    reasons = dict(_reasons(entrants, hashes))
    for metric in asked:
        if metric in reasons:
            raise BadInput(f"{metric} cannot be computed: {reasons[metric]}")
    has_teacher = any(entrant.role == TEACHER for entrant in entrants)
    wants_kl = has_teacher and (not asked or set(asked) & set(OF_TEACHER))
    if wants_kl and OF_TEACHER[0] in reasons:
        raise BadInput(
            f"{reasons[OF_TEACHER[0]]}; leave --teacher out, or ask for --metric bits_per_byte or for --metric"
            " kl_on_spans"
        )
    chosen = [metric for metric in METRICS if metric not in reasons and (not asked or metric in asked)]
    return chosen, {} if asked else {metric: reason for metric, reason in reasons.items() if metric in ONE_TOKENIZER}


def _reasons(entrants: Sequence[Entrant], hashes: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """(metric, why it cannot be compared)"""
    first = entrants[0]
    other = next((each for each in entrants[1:] if not _cut_alike(first, each, hashes)), None)
    if other is not None:
        for metric in ONE_TOKENIZER:
            yield metric, f"{_apart(first, other)}, whose tokens are not equally hard to predict"
    roles = {entrant.role for entrant in entrants}
    for metric in OF_TEACHER:
        if TEACHER not in roles:
            yield metric, "it compares with a teacher; give --teacher"
        elif other is not None:
            yield metric, f"{_apart(first, other)}, and KL and agreement compare token by token"
    if not {TEACHER, CONTROL} <= roles:
        yield GAP_CLOSED, "it compares with a teacher and a control; give --teacher and --control"


def _cut_alike(first: Entrant, other: Entrant, hashes: Sequence[Mapping[str, str]]) -> bool:
    is_same_text = all(each[first.name] == each[other.name] for each in hashes)
    return is_same_text and bool(first.tokenizer.get_vocab() == other.tokenizer.get_vocab())


def _apart(first: Entrant, other: Entrant) -> str:
    sizes = f"{len(first.tokenizer):,} and {len(other.tokenizer):,} tokens"
    return f"{first.name} and {other.name} have different vocabularies ({sizes})"
