"""Model cards of the students of a run: README.md in each student's directory.

A README.md that was not written here, or was changed since, is kept; whoever asked is told.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from flashstill.bounded import read_bounded
from flashstill.errors import BadInput, shortened, unknown
from flashstill.files import write_text
from flashstill.progress import Progress
from flashstill.records import CostRecord, QualityRecord, Record, read_records, write_records
from flashstill.runs.cards.content import ADDED, MOST_BYTES, CardContent, added, contents
from flashstill.runs.cards.writing import card, is_unchanged_card, stated

FILE = "README.md"
BATCHES, CONTEXT = (1, 16, 64, 256), 1024


def leave_cards(run: Path, progress: Progress) -> None:
    """Write the cards of a finished run; a README.md of others is kept, and said."""
    for content in contents(run):
        if not _write(content, "", "", replace=False):
            progress.say(f"{content.directory / FILE} is not a card of this run as it was written; it is kept")


def renew_cards(
    directory: Path,
    *,
    records: Sequence[Path] = (),
    model: str = "",
    chips: Sequence[str] = (),
    base_model: str = "",
    license_id: str = "",
    replace: bool = False,
) -> list[Path]:
    """Write the cards of a run, or of one student's directory in it, again; returns their paths.

    records: files of more results, such as those of `evaluate --out`, of the model that is called `model` there; chips:
    to predict prices on.  Both are kept in the run's directory, for later cards.  base_model, license_id: for the
    metadata; kept from the last card if they are not given.  BadInput, before anything is written, for a README.md that
    is not a card as it was written, unless `replace`.
    """
    run, only = _run_of(directory)
    chosen = [each for each in contents(run) if only is None or each.directory.resolve() == only]
    if not chosen:
        raise BadInput(f"{directory} is not the directory of a student of {run}")
    if (records or model) and len(chosen) > 1:
        raise BadInput(f"{run} has {len(chosen)} models; give the directory of the one that the records are of")
    for content in chosen:
        place = content.directory / FILE
        if place.exists() and not replace and not is_unchanged_card(_read(place)):
            raise BadInput(f"{place} is not a card as it was written here; --replace writes over it")
    more = [each for file in records for each in _of_model(file, model, chosen[0])]
    more += [price for content in chosen for price in _priced(content, chips)]
    if more:
        write_records(run / ADDED, _merged([*added(run), *more]))
    again = {content.directory: content for content in contents(run)}
    for content in chosen:
        _write(again[content.directory], base_model, license_id, replace=True)
    return [content.directory / FILE for content in chosen]


def _run_of(directory: Path) -> tuple[Path, Path | None]:
    """The run's directory, and the student's in it if that is what was given."""
    if not (directory / "config.json").is_file():
        return directory, None
    whole = directory.resolve()
    runs = [place for place in (whole.parent, whole.parent.parent) if list(place.glob("*.toml"))]
    if not runs:
        raise BadInput(f"{directory} is a model outside of a run's directory; a card tells what a run recorded")
    return runs[0], whole


def _write(content: CardContent, base_model: str, license_id: str, replace: bool) -> bool:
    """Write one card; False if a README.md is there that may not be replaced."""
    place = content.directory / FILE
    before = _read(place) if place.exists() else ""
    if before and not replace and not is_unchanged_card(before):
        return False
    known = before if is_unchanged_card(before) else ""
    base, licence = base_model or stated(known, "base_model"), license_id or stated(known, "license")
    text = card(content, base_model=base, license_id=licence)
    if text != before:
        write_text(place, text)
    return True


def _read(place: Path) -> str:
    return read_bounded(place, MOST_BYTES).decode("utf-8", "replace")


def _of_model(file: Path, model: str, content: CardContent) -> list[Record]:
    """The quality records of one model in a file, under the student's name."""
    found = [each for each in read_records(file) if isinstance(each, QualityRecord)]
    names = [model] if model else [content.name, content.directory.name]
    own = [dataclasses.replace(each, model=content.name) for each in found if each.model in names]
    if not own:
        raise BadInput(
            f"{file}: {unknown('model', shortened(names[0]), {each.model for each in found})}; name it with --as"
        )
    return list(own)


def _priced(content: CardContent, chips: Sequence[str]) -> list[Record]:
    """Prices of a student on chips, at the deployment that `predict` takes by default."""
    if not chips:
        return []
    from flashstill.arch.catalogue import read_config
    from flashstill.facts import load
    from flashstill.plan.grid import price_grid

    shape = read_config(content.directory / "config.json", content.name)
    context = min(CONTEXT, shape.context)
    return list(price_grid(load(), [shape], list(chips), BATCHES, context))


def _merged(records: Sequence[Record]) -> list[Record]:
    """Of records about the same thing the last."""
    last: dict[tuple[object, ...], Record] = {}
    for record in records:
        if isinstance(record, QualityRecord):
            last[record.model, record.domain, record.metric] = record
        elif isinstance(record, CostRecord):
            last[record.model, record.chip, record.phase, record.batch, record.context] = record
    return list(last.values())
