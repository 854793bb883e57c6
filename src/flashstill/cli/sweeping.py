"""A sweep of simulations on the command line: rows as they are done, kept when interrupted."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flashstill.errors import BadInput

if TYPE_CHECKING:
    from flashstill.simulate.sweep import Job

SHOWN = ("load", "seed", "output_tokens_per_s", "ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s", "goodput_ratio")


def loads_of(text: str) -> list[float]:
    """Numbers between commas, as 1,2,4. BadInput names the one that is none."""
    from flashstill.units import parse_amount

    loads = [parse_amount(part.strip(), "1") for part in text.split(",")]
    if any(load is None or not 0.0 < load < math.inf for load in loads):
        raise BadInput(f"--rates takes numbers above 0 between commas, as 1,2,4, not {text!r}")
    return [load for load in loads if load is not None]


def check_sweep(rates: str | None, seeds: int, workers: int | None, dask: str | None) -> None:
    """BadInput for a setting of a sweep without one."""
    given = {"--seeds": seeds != 1, "--workers": workers is not None, "--dask": dask is not None}
    name = next((name for name, is_given in given.items() if is_given), None)
    if rates is None and name is not None:
        raise BadInput(f"{name} is of a sweep; give --rates")


def swept(jobs: Sequence[Job], workers: int | None, dask: str | None, out: Path | None) -> list[dict[str, Any]]:
    """The rows of all runs, in order; progress on standard error. Interrupted, what is done is written to `out`."""
    from flashstill.console import Console
    from flashstill.simulate.sweep import row_of
    from flashstill.simulate.workers import cores, each_done

    if jobs and jobs[0].policy.function is not None:  # other processes do not know a function of the user's file
        if dask is not None or (workers or 1) > 1:
            raise BadInput("a scheduler of your own runs in one process; leave --dask and --workers out")
        workers = 1
    rows: dict[int, dict[str, Any]] = {}
    where = dask or f"{min(workers or cores(), len(jobs))} processes"
    console, begun = Console(), time.monotonic()
    try:
        with console.task(f"sweep on {where}", len(jobs), "runs") as advance:
            for number, row in each_done(row_of, jobs, workers, dask):
                rows[number] = row
                if len(rows) == 1 and len(jobs) > 1:
                    each_s = time.monotonic() - begun
                    rounds = math.ceil(len(jobs) / (1 if dask else min(workers or cores(), len(jobs))))
                    console.say(
                        f"the first run took {each_s:.1f} s; all of them take at most about {each_s * rounds:.0f} s"
                    )
                advance(1.0)
    except KeyboardInterrupt:
        if out is not None and rows:
            write_rows(out, _in_order(rows))
            console.say(f"interrupted; the {len(rows)} rows that were done are in {out}")
        raise
    return _in_order(rows)


def _in_order(rows: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [rows[number] for number in sorted(rows)]


def write_rows(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as CSV or as JSON, by the file's name; anything else, and a page, as CSV beside it."""
    from flashstill.outputs import written_out

    path = out.with_suffix(".csv") if out.suffix.lower() in (".html", ".htm") else out
    with written_out(path) as stream:
        if path.suffix.lower() == ".json":
            json.dump(rows, stream, indent=1)
            return
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = csv.DictWriter(stream, names)
        table.writeheader()
        table.writerows(rows)


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """The main columns as a table."""
    from flashstill.printing import print_table
    from flashstill.tables import cell

    names = [name for name in SHOWN if any(name in row for row in rows)]
    headings = [name.removesuffix("_s").replace("_", " ") for name in names]
    print_table([headings, *([cell(row.get(name)) for name in names] for row in rows)])
    for row in rows:
        if not row["fits"]:
            click.echo(f"{row['load']:g}: {row['reason']}", err=True)
