"""Sweeps of simulations: the same rows whatever runs them, refusals as rows, and what is done is kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flashstill.cli import main, sweeping
from flashstill.cli.sweeping import foretell, loads_of, swept, write_rows
from flashstill.errors import BadInput
from flashstill.plan.deployment import Deployment
from flashstill.simulate import workers
from flashstill.simulate.policy import Policy
from flashstill.simulate.sweep import Job, jobs_of, row_of, seeded
from flashstill.simulate.traffic import Traffic
from flashstill.simulate.workers import each_done
from tests.commands import Cli, refuse
from tests.recorded_progress import RecordedProgress

Caps = pytest.CaptureFixture[str]
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


def test_a_long_sweep_says_before_it_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a short run of the middle one; nothing of a short sweep, or where nobody knows how many requests there are."""
    ran: list[Job] = []

    def row(job: Job) -> dict[str, Any]:
        ran.append(job)
        return {"fits": True}

    monkeypatch.setattr("flashstill.simulate.sweep.row_of", row)
    clock = iter([100.0, 140.0])
    monkeypatch.setattr(sweeping, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    jobs, console = jobs_of(base(traffic=Traffic(rate=1.0, requests=100_000)), [2.0, 4.0, 8.0], 2), RecordedProgress()
    foretell(jobs, 4, console)  # type: ignore[arg-type]
    assert [(job.load, job.traffic.requests) for job in ran] == [(4.0, 20_000)] * 2
    assert console.lines == ["6 runs have 600,000 requests in all, about 5 minutes on 4 processes; Ctrl-C ends them"]
    foretell(jobs_of(base(), [2.0, 4.0], 9), 4, console)  # type: ignore[arg-type]
    agents = base(traffic=Traffic(agents=100_000))
    foretell([agents, agents], None, console)  # type: ignore[arg-type]
    foretell([*jobs, base(traffic=Traffic(trace=Path("trace.csv")))], 4, console)  # type: ignore[arg-type]
    assert console.lines[1:] == ["2 runs have 2,000,000 requests in all; Ctrl-C ends them"]
    assert len(ran) == 2


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

    with pytest.raises(BadInput, match="runs in one process; leave dask and workers out"):
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


@pytest.mark.slow
def test_a_dask_cluster_without_workers_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        monkeypatch.setattr("flashstill.simulate.workers.WAIT_S", 5)
        with pytest.raises(BadInput, match="has no worker; 0 of 3 answers came"):
            list(each_done(square, range(3), dask=cluster.scheduler_address))


class TestCases:
    def table(self, tmp_path: Path, text: str) -> Path:
        path = tmp_path / "cases.csv"
        path.write_text(text, encoding="utf-8")
        return path

    def test_rows_take_the_place_of_options(self, capsys: Caps, tmp_path: Path) -> None:
        path = self.table(tmp_path, "tp,--scheduler,max-ttft\n1,,\n2,prefill-first,50ms\n3,,\nx,,\n1,nope,\n1\n")
        main([*ASKED, "--rate", "2", "--cases", str(path), "--workers", "1", "--json"])
        rows = json.loads(capsys.readouterr().out)["rows"]
        assert [row["fits"] for row in rows] == [True, True, False, False, False, False]
        assert (rows[1]["tp"], rows[1]["max_ttft_s"], rows[1]["load"]) == ("2", "50ms", 2.0)
        assert rows[0]["goodput_ratio"] == 1.0
        reasons = [row["reason"] for row in rows[2:]]
        for part, reason in zip(
            ("does not divide", "'x' is not", "unknown scheduler", "1 cells"), reasons, strict=True
        ):
            assert part in reason

    def test_every_row_at_every_load_and_seed(self, capsys: Caps, tmp_path: Path) -> None:
        path = self.table(tmp_path, "tp\n1\n2\n")
        main([*ASKED, "--cases", str(path), "--rates", "2,4", "--seeds", "2", "--workers", "1", "--json"])
        rows = json.loads(capsys.readouterr().out)["rows"]
        assert [(row["tp"], row["load"], row["seed"]) for row in rows] == [
            (tp, load, seed) for tp in ("1", "2") for load in (2.0, 4.0) for seed in (0, 1)
        ]

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "no cases"),
            ("tp\n", "no cases"),
            ("tpp\n1\n", "unknown option of a run 'tpp'; the nearest known: tp"),
            ("tp,tp\n1,1\n", "two columns for tp"),
            ("workers\n1\n", "unknown option of a run 'workers'"),
        ],
    )
    def test_a_table_that_is_none(self, capsys: Caps, tmp_path: Path, text: str, sentence: str) -> None:
        assert sentence in refuse(capsys, *ASKED, "--rate", "2", "--cases", str(self.table(tmp_path, text)))

    def test_in_python_lists_are_axes(self) -> None:
        import flashstill as fs

        told: list[tuple[int, int]] = []
        rows = fs.simulate_sweep(
            model="qwen3-8b", chip="h100-sxm", tp=[1, 3], rate=[2.0, 4.0], isl=64, osl=8, requests=40, seeds=2,
            workers=1, told=lambda done, runs: told.append((done, runs)),
        )  # fmt: skip
        assert [(row["tp"], row["rate"], row["seed"], row["fits"]) for row in rows] == [
            (tp, rate, seed, tp == 1) for tp in (1, 3) for rate in (2.0, 4.0) for seed in (0, 1)
        ]
        assert told[-1] == (8, 8)
        with pytest.raises(BadInput, match="unknown keyword of simulate_sweep 'tpp'"):
            fs.simulate_sweep(model="qwen3-8b", chip="h100-sxm", tpp=1, rate=1.0)


def test_the_load_of_any_traffic() -> None:
    assert [job.load for job in seeded(base(traffic=Traffic(concurrency=4)), 2)] == [4.0, 4.0]
    assert seeded(base(traffic=Traffic(agents=3)), 1)[0].load == 3.0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--percentile", "90"), "--percentile is of the knee"),
        (("--acceptance", "0.9"), "acceptance is of speculative decoding"),
        (("--draft-tokens", "5"), "--draft-tokens is of speculative decoding"),
        (("--retries", "9"), "retries are of failures"),
    ],
)
def test_a_setting_without_what_it_is_of(capsys: Caps, flags: tuple[str, ...], sentence: str) -> None:
    assert sentence in refuse(capsys, *ASKED, "--rate", "2", *flags)
