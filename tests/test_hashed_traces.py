"""Traces that name the blocks of their prompts: Mooncake's JSON lines, and a column of a CSV file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.simulate import traces
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.traces import pieces_of
from flashstill.traces.reader import Trace

ASKED: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm"}


def mooncake(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def request(time: float, prompt: int, output: int, names: list[Any]) -> dict[str, Any]:
    return {"timestamp": time, "input_length": prompt, "output_length": output, "hash_ids": names}


def keys(piece: Arrivals, at: int) -> list[int]:
    first = piece.key_ends[at - 1] if at else 0
    return [int(key) for key in piece.keys[first : piece.key_ends[at]]]


def test_mooncakes_lines(tmp_path: Path) -> None:
    """Milliseconds; the last name of a prompt that ends within a block is left out; keys depend on all names before."""
    rows = [
        request(0, 6755, 500, list(range(14))),
        request(500, 7319, 490, [0, *range(14, 28)]),
        request(27482, 1024, 1, [7, 1]),
        request(27482, 600, 600, [0, 99]),
    ]
    path = mooncake(tmp_path / "trace.jsonl", rows)
    (piece,) = pieces_of(Trace(path), 2.0)
    assert Trace(path).hash_block == 512
    assert piece.arrival_s.tolist() == [0.0, 0.25, 13.741, 13.741]
    assert piece.prompt.tolist() == [6755, 7319, 1024, 600]
    assert [len(keys(piece, at)) for at in range(4)] == [13, 14, 2, 1]
    assert keys(piece, 0)[0] == keys(piece, 1)[0] == keys(piece, 3)[0]
    assert keys(piece, 0)[1] not in keys(piece, 2)


def test_names_may_cover_the_answer(tmp_path: Path) -> None:
    path = mooncake(tmp_path / "trace.jsonl", [request(0, 600, 500, ["a", "b", "c"])])
    (piece,) = pieces_of(Trace(path))
    assert len(keys(piece, 0)) == 2


def test_a_column_of_a_table_is_the_same_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(
        "arrival_s,input_tokens,output_tokens,block_hashes16\n0,40,2,a b c\n1,40,2,a b d\n2,9,1,\n", encoding="utf-8"
    )
    (piece,) = pieces_of(Trace(path))
    assert Trace(path).hash_block == 16
    assert keys(piece, 0) == keys(piece, 1)
    assert keys(piece, 2) == []


def test_pieces_are_bounded_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mooncake(tmp_path / "trace.jsonl", [request(i, 1024, 1, [0, i]) for i in range(20)])
    (whole,) = pieces_of(Trace(path))
    monkeypatch.setattr(traces, "MOST_KEYS", 10)
    pieces = list(pieces_of(Trace(path)))
    assert [len(piece.prompt) for piece in pieces] == [5, 5, 5, 5]
    assert np.concatenate([piece.keys for piece in pieces]).tolist() == whole.keys.tolist()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 2: not a JSON object"),
        ("[1]", "line 2: not a JSON object"),
        ("[" * 100_000, "line 2: not a JSON object"),
        ('{"timestamp": -1}', "line 2: timestamp is '-1', not a number of at least 0"),
        ('{"timestamp": NaN}', "line 2: timestamp is 'nan', not a number"),
        ('{"timestamp": 1, "input_lenght": 5}', "line 2: input_length is missing"),
        ('{"timestamp": 1, "input_length": 0, "output_length": 5}', "input_length is '0', not a whole number"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": 7}', "hash_ids is '7', not a list"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": [1.5]}', "not a list of numbers"),
        (
            '{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": [1, 2]}',
            "line 2: 2 names of blocks of 512 tokens for 10 tokens; is the block of another size?",
        ),
        ('{"timestamp": 0, "input_length": 5, "output_length": 5}', "line 2: arrives before the request above it"),
    ],
)  # fmt: skip
def test_mistakes_name_the_line(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(json.dumps(request(1, 600, 5, [1])) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(fs.BadInput) as raised:
        list(pieces_of(Trace(path)))
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("heading", "sentence"),
    [
        ("block_hashes", "names blocks in block_hashes; one column such as block_hashes512 says the block's size"),
        ("block_hashes16,block_hashes512", "names blocks in block_hashes16, block_hashes512"),
        ("block_hashes512,cached_tokens", "has block_hashes512 and cached_tokens"),
    ],
)
def test_columns_that_contradict(tmp_path: Path, heading: str, sentence: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(f"arrival_s,input_tokens,output_tokens,{heading}\n", encoding="utf-8")
    with pytest.raises(fs.BadInput, match=sentence):
        list(pieces_of(Trace(path)))


class TestSimulate:
    def test_what_is_shared_is_not_computed_again(self, tmp_path: Path) -> None:
        """Two texts that begin with the same two blocks: a hit of two, and none with the cache off."""
        rows = [request(0, 1200, 4, [1, 2, 3]), request(9000, 1200, 4, [1, 2, 4]), request(18000, 1200, 4, [])]
        path = mooncake(tmp_path / "trace.jsonl", rows)
        on = fs.simulate(**ASKED, trace=path)
        off = fs.simulate(**ASKED, trace=path, prefix_cache="off")
        assert (on.cached_tokens, off.cached_tokens) == (1024, 0)
        assert on.latencies["ttft_s"].mean_s < off.latencies["ttft_s"].mean_s
        assert on.output_tokens == off.output_tokens == 12
        assert max(on.timeline["prefix_blocks"]) > 0 == max(off.timeline["prefix_blocks"])

    def test_the_prefix_router_keeps_texts_together(self, tmp_path: Path) -> None:
        """Two texts in turn on two replicas: each goes where it is, unless that replica has too many requests."""
        rows = [request(3000 * i, 1100, 4, [i % 2, 2 + i % 2]) for i in range(9)]
        path = mooncake(tmp_path / "trace.jsonl", rows)
        found = fs.simulate(**ASKED, trace=path, replicas=2, router="prefix")
        assert found.cached_tokens == 7 * 1024
        burst = mooncake(
            tmp_path / "burst.jsonl", [request(0, 1100, 4, [0, 1]), *[request(9000, 1100, 400, [0, 1])] * 7]
        )
        shared, spread = (
            fs.simulate(**ASKED, trace=burst, replicas=2, router="prefix", prefix_margin=margin) for margin in (9, 0)
        )
        assert shared.cached_tokens == spread.cached_tokens + 1024

    @pytest.mark.parametrize(("burst", "margin", "found"), [(2, 0, 1), (2, 1, 2), (3, 1, 2), (3, 2, 3)])
    def test_a_replica_may_have_as_many_more_requests_as_the_margin(
        self, tmp_path: Path, burst: int, margin: int, found: int
    ) -> None:
        """One replica holds the text of a burst: as many find it there as it may have more than the other, and one."""
        text = [0, 1]
        rows = [request(0, 1100, 4, text), *[request(9000, 1100, 400, text) for _ in range(burst)]]
        path = mooncake(tmp_path / "trace.jsonl", rows)
        answer = fs.simulate(**ASKED, trace=path, replicas=2, router="prefix", prefix_margin=margin)
        assert answer.cached_tokens == found * 1024

    def test_texts_that_nobody_has_go_where_fewer_requests_are(self, tmp_path: Path) -> None:
        """Though the margin would allow to leave one replica idle: two at a time take no longer than one."""
        apart, together = (
            mooncake(tmp_path / f"{gap}.jsonl", [request(gap * i, 1100, 300, [2 * i, 2 * i + 1]) for i in range(2)])
            for gap in (60_000, 0)
        )
        alone, both = (
            fs.simulate(**ASKED, trace=path, replicas=2, router="prefix", prefix_margin=9) for path in (apart, together)
        )
        assert both.latencies["tpot_s"].mean_s == pytest.approx(alone.latencies["tpot_s"].mean_s, rel=1e-6)

    @pytest.mark.parametrize(
        ("more", "sentence"),
        [
            ({"rate": 1.0, "router": "prefix"}, "the router prefix needs a prefix cache and requests"),
            ({"rate": 1.0, "prefix_cache": "lru"}, "prefix_cache lru needs a prefix cache"),
            ({"rate": 1.0, "prefix_cache": "lri"}, "unknown prefix_cache 'lri'"),
            ({"rate": 1.0, "prefix_margin": 3}, "prefix_margin is of the router prefix"),
            ({"rate": 1.0, "hash_block": 16}, "hash_block says how a trace is read; give a trace"),
        ],
    )  # fmt: skip
    def test_mistakes(self, more: dict[str, Any], sentence: str) -> None:
        with pytest.raises(fs.BadInput, match=sentence):
            fs.simulate(**ASKED, **more)

    def test_blocks_that_do_not_divide(self, tmp_path: Path) -> None:
        path = mooncake(tmp_path / "trace.jsonl", [request(0, 600, 5, [1])])
        with pytest.raises(fs.BadInput, match="48 tokens and hash blocks of 512 do not divide each other"):
            fs.simulate(**ASKED, trace=path, block_tokens=48)
        assert fs.simulate(**ASKED, trace=path, block_tokens=1024).finished == 1
