"""What a model card tells, gathered from the files of a finished run; nothing is computed again.

Paths of this machine are not told: of each only its last part stands in a card, and of a server only that there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flashstill.arch.adapter.sizes import counts_no_predictors
from flashstill.arch.catalogue import read_config
from flashstill.bounded import read_bounded
from flashstill.checked import json_object, toml_tree
from flashstill.errors import BadInput, UnsupportedArchitecture
from flashstill.files import sha256
from flashstill.recipes.teachers import is_address
from flashstill.records import CostRecord, ModelRecord, QualityRecord, Record, read_records

MOST_BYTES = 2**22
ADDED = "cards.jsonl"
"""records that were given to the command `card`, beside the run's own"""
OF_ITS_WEIGHTS = ("depth", "width", "copy", "upcycle", "dense")
"""kinds of students that start from another model's weights"""


@dataclass(frozen=True, kw_only=True, slots=True)
class CardContent:
    """The content of one student's card.

    compared: names of other models in `quality`; teachers: display names; has_no_predictors: whether its configuration
    says that it has no layers for multi-token prediction, which its teacher may have had.
    """

    name: str
    directory: Path
    kind: str
    regime: str
    quantised: str
    teachers: tuple[str, ...]
    parameters: int
    layers: int
    has_no_predictors: bool
    steps: int
    tokens: int
    training_s: float
    arithmetic: str
    data: tuple[str, ...]
    documents: Mapping[str, int]
    quality: tuple[QualityRecord, ...]
    compared: tuple[str, ...]
    prices: tuple[CostRecord, ...]
    recipe_file: str
    recipe_text: str
    recipe_sha256: str


def contents(run: Path) -> list[CardContent]:
    """The content of the card of each trained model of a run; BadInput for a directory that is no finished run."""
    if (run / "distill.toml").is_file() and (run / "summary.json").is_file():
        return [_of_distillation(run)]
    if (run / "family.toml").is_file() and (run / "records.jsonl").is_file():
        return _of_family(run)
    raise BadInput(f"{run} is no finished run of distill or run (no recipe with records); give its --out directory")


def added(run: Path) -> list[Record]:
    """Records that were given to `card` before."""
    return read_records(run / ADDED) if (run / ADDED).is_file() else []


def _of_distillation(run: Path) -> CardContent:
    recipe, summary = toml_tree(run / "distill.toml"), json_object(run / "summary.json")
    student, train = recipe.get("student", {}), recipe.get("train", {})
    steps = int(summary.get("steps", 0))
    records = json_object(run / "data" / "records.json") if (run / "data" / "records.json").is_file() else {}
    return _content(
        run, run / "student", recipe, str(recipe.get("name", run.name)), "student", student, [*_own(run), *added(run)],
        "distill.toml",
        steps=steps,
        tokens=steps * int(train.get("windows_per_step", 0)) * int(recipe.get("text", {}).get("window_tokens", 0)),
        training_s=float(summary.get("training_s", 0.0)), arithmetic=_arithmetic(summary.get("arithmetic", {})),
        regime=str(recipe.get("regime", {}).get("kind", "")),
        documents={str(name): int(records[name]) for name in ("read", "used", "skipped") if name in records},
    )  # fmt: skip


def _of_family(run: Path) -> list[CardContent]:
    recipe, records = toml_tree(run / "family.toml"), [*_own(run), *added(run)]
    students = {str(each.get("name")): each for each in recipe.get("students", ())}
    return [
        _content(
            run, run / model.path, recipe, model.model, model.model, students.get(model.of, {}), records, "family.toml",
            steps=model.training_steps, tokens=model.training_tokens, training_s=model.training_s,
            arithmetic=model.arithmetic, regime="control: text alone" if model.role == "control" else model.regime,
            documents={}, others=("teacher", f"{model.of}-control", f"{model.of}-untrained"),
        )
        for model in records
        if isinstance(model, ModelRecord) and model.role in ("student", "control") and (run / model.path).is_dir()
    ]  # fmt: skip


def _own(run: Path) -> list[Record]:
    return read_records(run / "records.jsonl")


def _content(
    run: Path,
    directory: Path,
    recipe: Mapping[str, Any],
    name: str,
    known_as: str,
    student: Mapping[str, Any],
    records: Sequence[Record],
    file: str,
    others: tuple[str, ...] = ("teacher", "initial"),
    **more: Any,
) -> CardContent:
    """known_as: the student's name in the run's records; others: those of the models that it is compared with."""
    parameters, layers = _size(directory, name)
    names = (known_as, name)
    quality = [each for each in records if isinstance(each, QualityRecord) and each.model in (*names, *others)]
    return CardContent(
        name=name, directory=directory, kind=str(student.get("kind", "")), quantised=str(student.get("quantise", "")),
        teachers=tuple(_teachers(recipe, student)), parameters=parameters, layers=layers,
        has_no_predictors=counts_no_predictors(json_object(directory / "config.json")), data=tuple(_data(recipe)),
        quality=tuple(_latest(quality, known_as, name)),
        compared=tuple(each for each in others if any(record.model == each for record in quality)),
        prices=tuple(
            each for each in records
            if isinstance(each, CostRecord) and each.phase == "decode" and each.usd_per_million_tokens is not None
            and each.model in (*names, "teacher")
        ),
        recipe_file=file, recipe_sha256=sha256(run / file),
        recipe_text=without_paths(read_bounded(run / file, MOST_BYTES).decode("utf-8", "replace")), **more,
    )  # fmt: skip


def _size(directory: Path, name: str) -> tuple[int, int]:
    """Parameters and layers of a model: from its configuration, or counted if the adapter does not read it."""
    try:
        shape = read_config(directory / "config.json", name)
    except UnsupportedArchitecture:
        from flashstill.distill.models.directories import blocks_of, check_directory, shapes
        from flashstill.distill.models.host_memory import parameters_of

        return parameters_of(check_directory(directory), name), blocks_of(shapes(directory))
    return shape.parameters, shape.depth


def _latest(records: Iterable[QualityRecord], known_as: str, name: str) -> list[QualityRecord]:
    """One record of each model, text and metric: the last; the student under its own name."""
    last: dict[tuple[str, str, str], QualityRecord] = {}
    for record in records:
        own = name if record.model == known_as else record.model
        last[own, record.domain, record.metric] = replace(record, model=own)
    return list(last.values())


def _teachers(recipe: Mapping[str, Any], student: Mapping[str, Any]) -> list[str]:
    listed = student.get("teachers") or recipe.get("teachers") or [{"model": recipe.get("teacher", "")}]
    return [shown_place(str(each.get("name") or each.get("model", ""))) for each in listed if isinstance(each, dict)]


def _data(recipe: Mapping[str, Any]) -> list[str]:
    sources = [str(each.get("data", "")) for each in recipe.get("mixture") or () if isinstance(each, dict)]
    return [shown_place(each) for each in sources or [str(recipe.get("data", ""))] if each]


def _arithmetic(used: Any) -> str:
    named = used if isinstance(used, dict) else {}
    return f"{named.get('precision', '')} arithmetic, {named.get('threads', '?')} threads" if named else ""


def shown_place(place: str) -> str:
    """A path's last part; other names as they are, and of addresses only what they are."""
    if is_address(place):
        return "a model behind a server"
    return Path(place).name if place.startswith(("/", "~", "./", "../")) else place


def without_paths(recipe: str) -> str:
    """The text of a recipe with absolute paths and addresses shortened."""

    def shortened(found: re.Match[str]) -> str:
        return f'"{shown_place(found[1])}"'

    return re.sub(r'"((?:/|~|\.\.?/|https?://)(?:\\.|[^"\\\n])*)"', shortened, recipe)
