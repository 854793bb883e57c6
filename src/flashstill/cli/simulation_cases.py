"""Cases of a simulation: a CSV file whose columns are named as the options, and whose rows take their place."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from flashstill.bounded import read_bounded
from flashstill.errors import BadInput, unknown

MOST_BYTES, MOST_ROWS = 16 * 2**20, 100_000
NOT_OF_A_RUN = {
    "with_knee", "percentile", "rates", "cases", "seeds", "workers", "dask", "out", "price", "facts_directories",
    "edits", "as_json", "help",
}  # fmt: skip


class Case(NamedTuple):
    """A row: its cells by option, their values, and why they have none ("" if they have)."""

    cells: dict[str, str]
    values: dict[str, Any]
    reason: str


def read_cases(path: Path, command: click.Command) -> Iterator[Case]:
    """The rows of a file; an empty cell leaves the option as the command line has it.

    Raises BadInput for a file that is not such a table: its heading names an option that the command does not have,
    or one twice, or it has no rows.
    """
    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is not CSV in UTF-8") from error
    heading, *rest = [row for row in rows if any(cell.strip() for cell in row)] or [[]]
    if not rest:
        raise BadInput(f"{path} has no cases; its first line names options, as tp,scheduler, and each other is a run")
    if len(rest) > MOST_ROWS:
        raise BadInput(f"{path} has more than {MOST_ROWS:,} cases")
    options = _options(command)
    columns = [name.strip().lower().removeprefix("--").replace("_", "-") for name in heading]
    for column in columns:
        if column not in options:
            raise BadInput(f"{path}: {unknown('option of a run', column, options)}")
        if [options[each].name for each in columns if each in options].count(options[column].name) > 1:
            raise BadInput(f"{path} has two columns for {column}; give every option one")
    for row in rest:
        yield _case(columns, row, options)


def _options(command: click.Command) -> dict[str, click.Parameter]:
    """The options of a run by their names in a heading: as on the command line, and as in Python."""
    of_a_run = [each for each in command.params if each.name not in NOT_OF_A_RUN]
    names = [(option.removeprefix("--"), each) for each in of_a_run for option in each.opts]
    return dict(names) | {(each.name or "").replace("_", "-"): each for each in of_a_run}


def _case(columns: list[str], row: list[str], options: dict[str, click.Parameter]) -> Case:
    cells = {
        options[column].name or column: cell.strip() for column, cell in zip(columns, row, strict=False) if cell.strip()
    }
    if any(cell.strip() for cell in row[len(columns) :]) or len(row) < len(columns):
        return Case(cells, {}, f"the row has {len(row)} cells for {len(columns)} columns")
    by_name = {each.name: each for each in options.values()}
    values: dict[str, Any] = {}
    for name, cell in cells.items():
        try:
            values[name] = by_name[name].type.convert(cell, by_name[name], None)
        except click.UsageError as error:
            return Case(cells, {}, f"{name}: {error.message}")
    return Case(cells, values, "")
