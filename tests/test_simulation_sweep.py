"""Sweeps of simulations: the same rows whatever runs them, refusals as rows, and what is done is kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flashstill.cli.sweeping import loads_of, swept, write_rows
from flashstill.errors import BadInput
from flashstill.plan.deployment import Deployment
from flashstill.simulate import workers
from flashstill.simulate.policy import Policy
from flashstill.simulate.sweep import Job, jobs_of, row_of
from flashstill.simulate.traffic import Traffic
from flashstill.simulate.workers import each_done
from tests.commands import Cli, refuse

ASKED = ("simulate", "--model", "qwen3-8b", "--chip", "h100-sxm", "--isl", "64", "--osl", "8", "--requests", "40")


def base(**more: Any) -> Job:
    asked: dict[str, Any] = {
        "label": "h100", "load": 0.0, "model": "qwen3-8b", "deployment": Deployment(chip="h100-sxm"),
        "traffic": Traffic(rate=1.0, isl=64, osl=8, requests=40), "policy": Policy(), "seed": 5, "price": "rented",
        "facts": ((), ()), **more,
    }  # fmt: skip
    return Job(**asked)


def square(number: int) -> int:
    return number * number


def test_every_load_with_every_seed() -> None:
    jobs = jobs_of(base(), [2.0, 4.0], 3)
    assert [(job.load, job.seed, job.traffic.rate) for job in jobs] == [
        (load, seed, load) for load in (2.0, 4.0) for seed in (5, 6, 7)
    ]
    with pytest.raises(BadInput, match="leave --concurrency out"):
        jobs_of(base(traffic=Traffic(concurrency=4)), [1.0], 1)
    with pytest.raises(BadInput, match="at least one seed, not 0"):
        jobs_of(base(), [1.0], 0)


def test_a_run_without_an_answer_is_a_row_with_its_reason() -> None:
    row = row_of(base(deployment=Deployment(chip="h100-sxm", tp=3)))
    assert row["fits"] is False
    assert "tp does not divide the heads" in row["reason"]


def test_loads_are_numbers_above_0() -> None:
    assert loads_of("1, 2.5,4k") == [1.0, 2.5, 4000.0]
    for text in ("1,,2", "1,x", "0", "-1", "inf"):
        with pytest.raises(BadInput, match="--rates takes numbers above 0"):
            loads_of(text)


def test_what_is_done_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        yield 1, {"load": 2.0, "fits": True}
        yield 0, {"load": 1.0, "fits": True}
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "each_done", interrupted)
    out = tmp_path / "rows.csv"
    with pytest.raises(KeyboardInterrupt):
        swept(jobs_of(base(), [1.0, 2.0, 3.0], 1), 1, None, out)
    with out.open(encoding="utf-8", newline="") as text:
        assert [row["load"] for row in csv.DictReader(text)] == ["1.0", "2.0"]


def test_a_scheduler_of_the_users_stays_in_this_process() -> None:
    def own(view: Any) -> Any:
        raise AssertionError

    with pytest.raises(BadInput, match="runs in one process; leave --dask and --workers out"):
        swept(jobs_of(base(policy=Policy(scheduler=own)), [1.0], 1), 2, None, None)


def test_rows_as_files(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"load": 1.0, "fits": True}, {"load": 2.0, "fits": False, "reason": "a, b"}]
    write_rows(tmp_path / "rows.json", rows)
    assert json.loads((tmp_path / "rows.json").read_text(encoding="utf-8")) == rows
    write_rows(tmp_path / "page.html", rows)
    assert (tmp_path / "page.csv").read_text(encoding="utf-8").splitlines()[0] == "load,fits,reason"


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "give --rate or --rates, not both" in refuse(capsys, *ASKED, "--rate", "1", "--rates", "1,2")
    assert "--rates takes numbers above 0" in refuse(capsys, *ASKED, "--rates", "1,two")


@pytest.mark.slow
def test_the_rows_are_the_same_whatever_the_number_of_workers(cli: Cli, tmp_path: Path) -> None:
    found = []
    for count in ("1", "2"):
        out = tmp_path / f"rows{count}.json"
        cli(*ASKED, "--rates", "2,8", "--seeds", "2", "--workers", count, "--out", str(out))
        found.append(json.loads(out.read_text(encoding="utf-8")))
    assert found[0] == found[1]
    assert [(row["load"], row["seed"]) for row in found[0]] == [(2.0, 0), (2.0, 1), (8.0, 0), (8.0, 1)]
    alone = json.loads(cli(*ASKED, "--rate", "8", "--seed", "1", "--json").stdout)
    assert found[0][3]["ttft_p95_s"] == alone["latencies"]["ttft_s"]["p95"]["value"]
    page = tmp_path / "page.html"
    document = json.loads(cli(*ASKED, "--rates", "2,8", "--workers", "1", "--out", str(page), "--json").stdout)
    assert [row["load"] for row in document["rows"]] == [2.0, 8.0]
    assert "Over the load" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_results() -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert sorted(each_done(square, range(5), dask=address)) == [(n, n * n) for n in range(5)]
        jobs = jobs_of(base(), [2.0, 8.0], 1)
        assert sorted(each_done(row_of, jobs, dask=address)) == sorted(each_done(row_of, jobs, 1))
