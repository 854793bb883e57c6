"""A sweep of simulations on the command line: rows as they are done, kept when interrupted."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flashstill.errors import BadInput, FlashstillError

if TYPE_CHECKING:
    from flashstill.console import Console
    from flashstill.simulate.sweep import Job, Row

LONG, TRIED = 200_000.0, 20_000
"""requests of a sweep from which on an estimate is told before it, and those of the run that it is made by"""
SHOWN = (
    "label",
    "load",
    "seed",
    "output_tokens_per_s",
    "ttft_p50_s",
    "ttft_p95_s",
    "tpot_p50_s",
    "tpot_p95_s",
    "goodput_ratio",
)


def loads_of(text: str) -> list[float]:
    """Numbers between commas, as 1,2,4. BadInput names the one that is none."""
    from flashstill.units import parse_amount

    loads = [parse_amount(part.strip(), "1") for part in text.split(",")]
    if any(load is None or not 0.0 < load < math.inf for load in loads):
        raise BadInput(f"--rates takes numbers above 0 between commas, as 1,2,4, not {text!r}")
    return [load for load in loads if load is not None]


def check_sweep(rates: str | None, seeds: int, workers: int | None, dask: str | None, cases: Path | None) -> None:
    """BadInput for a setting of a sweep without one."""
    given = {"--seeds": seeds != 1, "--workers": workers is not None, "--dask": dask is not None}
    name = next((name for name, is_given in given.items() if is_given), None)
    if rates is None and cases is None and name is not None:
        raise BadInput(f"{name} is of a sweep; give --rates or --cases")


def jobs_asked(
    make: Callable[..., Job], asked: Mapping[str, Any], cases: Path | None, loads: list[float] | None, seeds: int
) -> list[Job | Row]:
    """The runs of a sweep, or in place of one that cannot be a row with the reason.

    make: the run that options ask for, and the columns of a row; asked: the options of the command line; cases: rows
    of options that take their place.
    """
    from flashstill.cli.simulation_cases import Case, read_cases
    from flashstill.simulate.sweep import jobs_of, label_of, seeded

    jobs: list[Job | Row] = []
    command = click.get_current_context().command
    for case in [Case({}, {}, "")] if cases is None else read_cases(cases, command):
        try:
            if case.reason:
                raise BadInput(case.reason)
            base = make({**asked, **case.values}, case.cells)
            jobs += seeded(base, seeds) if loads is None else jobs_of(base, loads, seeds)
        except FlashstillError as error:
            if cases is None:
                raise
            jobs.append({"label": label_of(case.cells), **case.cells, "fits": False, "reason": str(error)})
    return jobs


def chips_asked(flags: Mapping[str, Any], cases: Path | None) -> list[str | None]:
    """The chips of all runs, those of prefill instances as well."""
    from flashstill.cli.simulation_cases import read_cases

    rows = [{}] if cases is None else [case.values for case in read_cases(cases, click.get_current_context().command)]
    return [{**flags, **row}[name] for row in rows for name in ("chip", "prefill_chip")]


def swept(runs: Sequence[Job | Row], workers: int | None, dask: str | None, out: Path | None) -> list[Row]:
    """The rows of all runs, in order; progress on standard error. Interrupted, what is done is written to `out`."""
    from flashstill.console import Console
    from flashstill.simulate.sweep import Job, each_row
    from flashstill.simulate.workers import cores

    rows: dict[int, Row] = {}
    jobs = sum(isinstance(each, Job) for each in runs)
    where = dask or f"{max(min(workers or cores(), jobs), 1)} processes"
    console, done = Console(), 0
    foretell([each for each in runs if isinstance(each, Job)], None if dask else workers or cores(), console)
    begun = time.monotonic()
    try:
        with console.task(f"sweep on {where}", jobs, "runs") as advance:
            for place, row in each_row(runs, workers, dask):
                rows[place] = row
                if not isinstance(runs[place], Job):
                    continue
                done += 1
                if done == 1 and jobs > 1:
                    each_s = time.monotonic() - begun
                    rounds = math.ceil(jobs / (1 if dask else min(workers or cores(), jobs)))
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


def foretell(jobs: Sequence[Job], workers: int | None, console: Console) -> None:
    """Before a long sweep, say how many requests it has and about how long they take, by a short run of its middle one.

    workers: how many runs go on at a time, None if nobody knows.
    """
    from flashstill.cli.patience import requests_expected
    from flashstill.console import duration
    from flashstill.simulate.sweep import row_of

    expected = [requests_expected(job.traffic) for job in jobs]
    total = sum(each for each in expected if each is not None)
    if None in expected or total < LONG:
        return
    told, job = f"{len(jobs):,} runs have {total:,.0f} requests in all", jobs[len(jobs) // 2]
    if job.traffic.rate is None and job.traffic.concurrency is None:
        console.say(f"{told}; Ctrl-C ends them")
        return
    tried = max(TRIED, 4 * (job.traffic.concurrency or 0))
    short = replace(job, traffic=replace(job.traffic, requests=tried))
    row_of(short)  # prepares the fleet and the event loop
    begun = time.monotonic()
    if not row_of(short)["fits"]:
        return
    each_s, many = (time.monotonic() - begun) / tried, min(workers or 1, len(jobs))
    where = "one core" if workers is None else f"{many} processes" if many > 1 else "one process"
    console.say(f"{told}, about {duration(total * each_s / many)} on {where}; Ctrl-C ends them")


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

    several = len({row.get("label") for row in rows}) > 1
    names = [name for name in SHOWN if any(name in row for row in rows) and (several or name != "label")]
    headings = [name.removesuffix("_s").replace("_", " ") for name in names]
    print_table([headings, *([cell(row.get(name)) for name in names] for row in rows)])
    for row in rows:
        if not row["fits"]:
            where = f" at {row['load']:g}" if "load" in row else ""
            click.echo(f"{row['label']}{where}: {row['reason']}", err=True)
