"""A server under load: figures by their definitions, hostile servers, a killed measurement, saturation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.load_test.failures import KINDS
from flashstill.load_test.measurement import measure_server
from flashstill.load_test.question import LoadTest
from flashstill.progress import Silent
from tests.fake_stream import FAULTS, FakeStream


@pytest.fixture
def server() -> Iterator[FakeStream]:
    fake = FakeStream()
    yield fake
    fake.close()


def asked(server: FakeStream, **more: Any) -> LoadTest:
    usual: dict[str, Any] = {
        "concurrency": (2,), "requests": 6, "runs": 1, "isl": 12, "osl": 5, "time_limit_s": 1.0, "stall_s": 0.3,
    }  # fmt: skip
    if "rates" in more or "trace" in more:
        usual.pop("concurrency")
    return LoadTest(base=server.base, **{**usual, **more})


def test_figures_and_counts(server: FakeStream, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ("--isl", "12", "--osl", "5", "--requests", "6", "--runs", "2")
    main(["measure", "--server", server.base, "--concurrency", "1,3", *shape, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert [level["concurrency"] for level in document["levels"]] == [1, 3]
    for level in document["levels"]:
        assert (level["requests"], level["ok"], level["failures"]) == (12, 12, {})
        assert (level["prompt_tokens"], level["output_tokens"], level["tokens_per_event"]) == (12, 5, 1)
        assert level["latencies"]["inter_token_s"]["n"] == 12 * 4
        assert level["latencies"]["ttft_s"]["p99"]["value"] is None, "the 99th percentile of 12 is their maximum"
    assert server.most_in_flight == 3
    assert document["schema"] == "flashstill.measure/1"
    assert {"ttft_s", "tpot_s", "tpot_with_first_s", "inter_token_s"} <= set(document["definitions"])


EXPECTED = {
    "dies": "cut_off", "reset": "cut_off", "silent": "stalled", "half a head": "cut_off", "no http": "cut_off",
    "429": "busy", "503": "busy", "500": "server_failed", "400": "refused", "redirect": "redirect",
    "another type": "wrong_type", "dies in a stream": "cut_off", "half a line": "cut_off", "stalls": "stalled",
    "drips": "timeout", "garbage": "garbage", "no json": "garbage", "no object": "garbage", "deep": "garbage",
    "nonsense": "garbage", "error": "server_error", "endless line": "long_line", "endless": "too_large",
    "nothing in it": "no_token",
}  # fmt: skip


def test_every_fault_is_tried_and_told() -> None:
    assert set(EXPECTED) == set(FAULTS)
    assert set(EXPECTED.values()) <= set(KINDS)


def test_hostile_servers_are_counted(server: FakeStream) -> None:
    server.faults = ["", *(each for fault in FAULTS for each in (fault, ""))]  # the probe is answered well
    requests = 2 * len(FAULTS)
    found = measure_server(asked(server, concurrency=(8,), requests=requests, runs=5, warm_up=False), Silent())
    level = found.levels[0]
    assert level.failures == Counter(EXPECTED.values())
    assert (level.requests, level.ok) == (5 * requests, 5 * requests - len(FAULTS))


def test_a_server_that_dies_ends_soon(server: FakeStream) -> None:
    class Watch(Silent):
        def say(self, text: str) -> None:
            server.always = "reset"

    found = measure_server(asked(server, concurrency=(1, 2, 3), requests=50, warm_up=False, runs=5), Watch())
    assert [level.ok for level in found.levels] == [250, 0], "no higher load after one that failed"
    assert found.levels[1].failures == {"cut_off": 5 * 9, "not_sent": 5 * 41}
    with pytest.raises(BadInput, match="cannot be measured: the connection was closed"):
        measure_server(asked(server), Silent())
