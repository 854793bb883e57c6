"""Pools against `predict`, failures and scaling from Python and the command line, daily curves and lengths."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.cli.simulated import print_simulation
from flashstill.errors import BadInput, joined_notes
from flashstill.facts import load
from flashstill.hardware.software import software_on
from flashstill.printing import print_notes
from flashstill.simulate.daily import arrival_times, read_day, read_lengths
from flashstill.simulate.hours import schedule_of
from tests.commands import refuse

POOLS: dict[str, Any] = {
    "model": "llama-3.1-70b", "chip": "h100-sxm", "tp": 4, "precision": "fp8", "prefill_tp": 4, "prefill_chips": 4,
    "prefill_instances": 1,
}  # fmt: skip
SMALL: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm", "osl": 20, "requests": 60}


class TestPools:
    def test_predict_agrees_where_nothing_waits(self) -> None:
        """One request in flight: time per token, time to first token, energy, and the transfer.

        `predict` lets a request wait for others by the formula of a queue, T r / (2 (1 - r)), even if none come,
        and what engines add to the kernels of prompts (first_ratio) counts for it as waiting, not as busy.
        """
        form = fs.predict(**POOLS, batch=1, isl=2048, osl=200, burst_share=0.0)
        found = fs.simulate(**POOLS, concurrency=1, requests=5, isl=2048, osl=200)
        software = software_on(load(), "vllm", "gpu-nvidia")
        assert form.tpot_s is not None
        assert form.ttft_s is not None
        assert form.kv_transfer_s is not None
        outside = software.first_s + form.kv_transfer_s
        busy = form.prefill_busy_share
        assert busy is not None
        prefill_s = (form.ttft_s - outside) / (1.0 + busy / (2.0 * (1.0 - busy)))
        assert found.latencies["transfer_s"].mean_s == pytest.approx(form.kv_transfer_s, rel=1e-6)
        assert found.latencies["tpot_s"].mean_s == pytest.approx(form.tpot_s, rel=2e-3)
        assert found.latencies["ttft_s"].mean_s - outside == pytest.approx(prefill_s, rel=2e-3)
        assert form.usd_per_million_output_tokens is not None
        assert found.usd_per_million_output_tokens == pytest.approx(form.usd_per_million_output_tokens, rel=0.03)
        assert found.joules_per_output_token == pytest.approx(form.joules_per_output_token, rel=0.05)
        assert set(found.roles) == {"prefill", "decode"}
        assert found.roles["prefill"].utilisation == pytest.approx(busy * software.first_ratio, rel=0.03)

    def test_replicas_scale_both_pools(self) -> None:
        asked = POOLS | {"prefill_instances": 2, "rate": 1.0, "requests": 5, "osl": 5}
        assert {name: role.replicas for name, role in fs.simulate(**asked, replicas=3).roles.items()} == {
            "prefill": 6, "decode": 3,
        }  # fmt: skip
        explicit = fs.simulate(**asked, replicas=3, prefill_replicas=4)
        assert explicit.roles["prefill"].replicas == 4
        assert explicit.finished == 5

    def test_replicas_of_a_dense_model_are_apart(self) -> None:
        asked = POOLS | {"chips": 8, "dp": 2, "prefill_chips": 8, "prefill_dp": 2, "rate": 1.0, "requests": 5}
        roles = fs.simulate(**asked, osl=5).roles
        assert [(role.replicas, role.chips) for role in roles.values()] == [(2, 4), (2, 4)]


class TestOperations:
    def test_failures_are_counted_and_paid_for(self) -> None:
        asked = SMALL | {"rate": 2.0, "requests": 400, "replicas": 2}
        calm, stormy = fs.simulate(**asked), fs.simulate(**asked, chip_mtbf_s=30.0, repair_s=5.0, cold_start_s=2.0)
        assert (calm.failures, calm.retries, calm.failed) == (0, 0, 0)
        assert calm.replica_hours == pytest.approx(2 * calm.seconds / 3600.0)
        assert stormy.failures > 0
        assert stormy.requests == stormy.finished + stormy.failed
        assert stormy.replica_hours < 2 * stormy.seconds / 3600.0
        assert stormy.as_dict()["operations"]["chip_mtbf_s"] == 30.0
        assert not stormy.notes

    def test_a_cold_start_is_estimated_and_said(self) -> None:
        found = fs.simulate(**SMALL, rate=2.0, replicas_by_hour=[(0, 1), (0.001, 2)])
        assert "a replica is taken to serve" in found.notes[-1]

    def test_replicas_by_hour(self, tmp_path: Path) -> None:
        """Two copies for 6 s, one from then on; from a file and from a sequence."""
        path = tmp_path / "hours.csv"
        path.write_text("hour,replicas\n0,2\n0.00166666667,1\n", encoding="utf-8")
        asked = SMALL | {"rate": 4.0, "cold_start_s": 1.0}
        one, two = (fs.simulate(**asked, replicas_by_hour=each) for each in (path, [(0, 2), (0.00166666667, 1)]))
        assert one.replica_hours == two.replica_hours
        assert one.replica_hours * 3600.0 == pytest.approx(one.seconds + 6.0, abs=1.0)
        assert one.as_dict()["operations"]["replicas_by_hour"] == [[0.0, 2], [0.00166666667, 1]]
        assert schedule_of([3, 2]) == ((0.0, 3), (1.0, 2))
        assert sum(one.timeline["replicas_paid"]) * one.moment_s == pytest.approx(one.replica_hours * 3600.0)

    @pytest.mark.slow
    def test_an_autoscaler(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Twenty requests a second need more than the one replica that it begins with; the seed decides."""
        asked = SMALL | {"osl": 200, "requests": 200, "rate": 20.0, "autoscale": "requests", "scale_target": 4.0}
        asked |= {"max_replicas": 6, "scale_interval_s": 1.0, "cold_start_s": 1.0}
        one, two = (fs.simulate(**asked) for _ in range(2))
        assert one == two
        assert max(one.timeline["replicas_paid"]) > 1.5
        assert one.roles["serve"].replicas == 6
        print_simulation("qwen3-8b", one)
        assert "replica-hours" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("flags", "sentence"),
        [
            (("--chip-mtbf", "1h"), "failures need both times"),
            (("--scale-target", "2"), "scale_target is of an autoscaler"),
            (("--autoscale", "request"), "unknown value to scale on 'request'; the nearest known: requests"),
            (("--autoscale", "busy"), "an autoscaler needs scale_target and max_replicas"),
            (("--autoscale", "busy", "--scale-target", "0.5", "--max-replicas", "0"), "max_replicas"),
            (
                ("--autoscale", "busy", "--scale-target", "0.5", "--max-replicas", "2", "--replicas", "3"),
                "begins with 3",
            ),
            (("--cold-start", "1e9"), "cold_start_s must lie between 0 and 1e+07"),
            (("--prefill-replicas", "2"), "prefill_replicas are of a prefill pool"),
            (("--replicas-by-hour", "nowhere.csv"), "nowhere.csv cannot be read"),
            (("--knee", "--chip-mtbf", "1h", "--repair", "1h"), "the knee is that of replicas that always serve"),
        ],
    )
    def test_mistakes(self, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], sentence: str) -> None:
        asked = ("simulate", "--model", "qwen3-8b", "--chip", "h100-sxm", "--rate", "1", "--requests", "5")
        assert sentence in refuse(capsys, *asked, *flags)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("hour\n0\n", "has no column 'replicas'"),
            ("hour,replicas\n1,2\n", "the first row must be of hour 0"),
            ("hour,replicas\n0,0\n", "there are never any replicas"),
            ("hour,replicas\n0,2\n0,3\n", "line 3: hour 0 does not come after 0"),
            ("hour,replicas\n0,1.5\n", "line 2: replicas is '1.5', not a whole number"),
            ("hour,replicas\nnan,1\n", "line 2: hour is 'nan'"),
            ("hour,replicas\n0\n", "line 2: 1 of 2 columns"),
        ],
    )
    def test_a_mistake_in_a_schedule_names_its_line(self, tmp_path: Path, text: str, sentence: str) -> None:
        path = tmp_path / "hours.csv"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(fs.BadInput, match=sentence):
            schedule_of(path)


class TestDaily:
    CURVE = "window_start_s,total_rate_req_per_s,rate_weighted_cv\n600,2,1.0\n700,0,1\n800,10,2.0\n"

    def test_windows_have_their_rates(self, tmp_path: Path) -> None:
        """In order, none where the rate is 0, and the mean rates within four standard errors; pieces change nothing."""
        path = tmp_path / "day.csv"
        path.write_text(self.CURVE, encoding="utf-8")
        day = read_day(path, 1.0, 10.0)
        times = np.concatenate(list(arrival_times(day, np.random.default_rng(1), 1 << 16)))
        assert (np.diff(times) >= 0).all()
        counts = np.histogram(times, [0.0, 100.0, 200.0, 300.0])[0]
        assert counts[1] == 0
        assert abs(counts[0] - 2_000) < 4 * 2_000**0.5
        assert abs(counts[2] - 10_000) < 4 * 2.0 * 10_000**0.5
        assert len(times) == counts.sum()

    def test_a_constant_curve_is_the_open_loop(self, tmp_path: Path) -> None:
        """The variance of the counts of a Poisson process is their mean; of cv 3, nine times that."""
        for cv in (1.0, 3.0):
            path = tmp_path / "day.csv"
            path.write_text(f"window_start_s,rate,cv\n0,50,{cv}\n1000,50,{cv}\n", encoding="utf-8")
            times = np.concatenate(list(arrival_times(read_day(path, 1.0), np.random.default_rng(2), 1000)))
            counts = np.histogram(times, np.arange(0.0, 2001.0, 10.0))[0]
            assert counts.var() / counts.mean() == pytest.approx(cv**2, rel=0.35)

    def test_thinking_traffic(self, tmp_path: Path) -> None:
        """Lengths are those of the file, and the number of requests follows from the curve."""
        day, lengths = tmp_path / "day.csv", tmp_path / "lengths.csv"
        day.write_text("window_start_s,rate\n0,1\n20,2\n", encoding="utf-8")
        lengths.write_text("input_tokens,output_tokens,reason_ratio\n100,30,0.5\n50,7,0.1\n", encoding="utf-8")
        found = fs.simulate(model="qwen3-8b", chip="h100-sxm", daily=day, lengths=str(lengths))
        assert 30 <= found.finished == found.requests <= 95
        long = (found.output_tokens - 7 * found.finished) / 23
        assert long == int(long)
        assert found.input_tokens == 50 * found.finished + 50 * int(long)
        assert found.as_dict()["traffic"]["daily"] == str(day)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("window_start_s,rates\n", "has no column 'rate'"),
            ("window_start_s,rate\n0,1\n", "needs at least two windows"),
            ("window_start_s,rate\n0,0\n1,0\n", "no window has any requests"),
            ("window_start_s,rate\n0,-1\n1,0\n", "line 2: rate is '-1'"),
            ("window_start_s,rate\n5,1\n5,1\n", "line 3: window_start_s does not rise"),
        ],
    )
    def test_mistakes_of_a_curve(self, tmp_path: Path, text: str, sentence: str) -> None:
        path = tmp_path / "day.csv"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(fs.BadInput, match=sentence):
            read_day(path, 1.0)

    def test_mistakes_of_lengths(self, tmp_path: Path) -> None:
        path = tmp_path / "lengths.csv"
        path.write_text("input_tokens,output_tokens\n5,0\n", encoding="utf-8")
        with pytest.raises(fs.BadInput, match="line 2: output_tokens is '0', not a whole number of at least 1"):
            read_lengths(path)
        with pytest.raises(fs.BadInput, match="a trace has lengths of its own"):
            fs.simulate(**SMALL, trace=path, lengths=path)


def test_nothing_is_decoded_for_answers_of_one_token() -> None:
    """The first token comes with its prompt; sums of steps once left $1.9e-11 a million for what rounded."""
    found = fs.simulate(**{**SMALL, "osl": 1}, rate=5, isl=100)
    assert found.usd_per_million is not None
    assert found.usd_per_million["output"] == 0.0
    assert found.joules_per_million["output"] == 0.0
    paid = found.usd_per_million_output_tokens
    assert paid is not None
    assert found.usd_per_million["input"] == pytest.approx(paid / 100)


@pytest.mark.parametrize("seed", [-1, 2**70])
def test_a_seed_that_no_machine_word_holds_is_refused(seed: int) -> None:
    with pytest.raises(BadInput, match="seed must lie between 0 and"):
        fs.simulate(**SMALL, rate=5, seed=seed)
    with pytest.raises(BadInput, match="seed must lie between 0 and"):
        fs.knee(**{name: SMALL[name] for name in ("model", "chip", "osl")}, seed=seed)


def test_a_note_with_a_semicolon_is_one_note(capsys: pytest.CaptureFixture[str]) -> None:
    """Notes of several are printed as they are; where they are one text, semicolons only stand between them."""
    print_notes(["memory holds 3 of 8; the others wait", "second"])
    assert capsys.readouterr().out == "note: memory holds 3 of 8; the others wait\nnote: second\n"
    print_notes(joined_notes(["memory holds 3 of 8; the others wait", "", "second"]))
    assert capsys.readouterr().out == "note: memory holds 3 of 8, the others wait\nnote: second\n"
    waiting = fs.predict(model="llama-3.1-70b", chip="h100-sxm", tp=2, batch=512, isl=4096, osl=512)
    assert any("requests at a time, the others wait" in note for note in waiting.note.split("; "))


ASKED: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm", "requests": 3, "rate": 1}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"model": None}, "model is None, not a name"),
        ({"model": 5}, "model is 5, not a name"),
        ({"chip": ["h100-sxm"]}, "chip is .'h100-sxm'., not a text"),
        ({"prefix_cache": 0}, "prefix_cache is 0, not a text"),
        ({"router": 3}, "router is 3, not a text"),
        ({"scheduler": 3}, "a scheduler is a name or a function, not 3"),
        ({"scheduler": "none.py:x"}, "none.py is not a file with Python code"),
    ],
)
def test_values_of_another_kind_are_told_in_python(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        fs.simulate(**{**ASKED, **wrong})
    if "router" not in wrong and "prefix_cache" not in wrong:
        with pytest.raises(BadInput, match=sentence):
            fs.knee(**{"model": "qwen3-8b", "chip": "h100-sxm", **wrong})


LEAVES = """import sys
import flashstill as fs
def leaves(view):
    sys.exit(0)
def serves(view):
    return fs.Decision()
"""


def test_a_scheduler_that_leaves_is_a_mistake_and_no_end_of_the_command(tmp_path: Path) -> None:
    """sys.exit(0) in a user's file ended `simulate` with nothing printed and the status of success."""
    file = tmp_path / "own.py"
    file.write_text(LEAVES)
    with pytest.raises(BadInput, match=r"the scheduler leaves .* failed at .*own.py:4 .* SystemExit"):
        fs.simulate(**ASKED, scheduler=f"{file}:leaves")
    assert fs.simulate(**ASKED, scheduler=f"{file}:serves").seconds == fs.simulate(**ASKED).seconds
    file.write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(BadInput, match=r"own.py:2 cannot be run: SystemExit"):
        fs.simulate(**ASKED, scheduler=f"{file}:leaves")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"arrival_s;input_tokens;output_tokens\n0;1;1\n", "has semicolons between its columns, where commas are"),
        (b"arrival_s\tinput_tokens\toutput_tokens\n0\t1\t1\n", "has tabs between its columns"),
        (
            gzip.compress(b"arrival_s,input_tokens,output_tokens\n0,1,1\n", mtime=0),
            "compressed by gzip; give it the suffix .gz",
        ),
        ("arrival_s,input_tokens,output_tokens\n0,1,1\n".encode("utf-16"), "UTF-16 text; convert it to UTF-8"),
        (b"PAR1\xff\xff\xff", "it is Parquet; give it the suffix .parquet"),
        (b"arrival_s,input_tokens,output_tokens\n0,1,\xe9\n", "it is not UTF-8 text"),
    ],
)
def test_traces_with_another_name_or_separator(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "trace.csv").write_bytes(content)
    with pytest.raises(BadInput, match=sentence):
        fs.simulate(model="qwen3-8b", chip="h100-sxm", trace=tmp_path / "trace.csv")
