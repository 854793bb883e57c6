"""Percentiles, medians over runs and the warm-up's test: against brute force and by their properties."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.load_test.events import Broken, EventReader, event_of
from flashstill.load_test.statistics import (
    PERCENTILES,
    WarmUp,
    distribution,
    is_stationary,
    over_runs,
    ranks,
)
from flashstill.servers import proxy_of

SECONDS = st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=200)


def at_most(k: int, n: int, share: float) -> float:
    """P(Binomial(n, share) <= k), term by term."""
    return sum(math.comb(n, i) * share**i * (1.0 - share) ** (n - i) for i in range(k + 1))


@given(st.integers(1, 120), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_ranks_are_the_narrowest_with_a_fortieth_on_each_side(n: int, share: float) -> None:
    low, high = ranks(n, share)
    below = [at_most(k - 1, n, share) for k in range(1, n + 1)]  # that the k-th value lies above the quantile
    assert low == max((k for k in range(1, n + 1) if below[k - 1] <= 0.025), default=None)
    assert high == min((k for k in range(1, n + 1) if 1.0 - below[k - 1] <= 0.025), default=None)


@pytest.mark.parametrize(("share", "fewest"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368)])
def test_the_fewest_values_that_tell_a_percentile(share: float, fewest: int) -> None:
    """1 - share^n >= 0.975; a p99 of 71 requests is their maximum."""
    assert ranks(fewest - 1, share)[1] is None
    assert ranks(fewest, share)[1] == fewest


@given(SECONDS)
def test_distributions(values: list[float]) -> None:
    found = distribution(values)
    assert found is not None
    assert found.n == len(values)
    assert found.mean == pytest.approx(float(np.mean(values)))
    told = [end for end in found.percentiles.values() if end.value is not None]
    assert [end.value for end in told] == sorted(end.value or 0.0 for end in told)
    for end in told:
        assert end.high is not None
        assert end.value is not None
        assert (end.low or min(values)) <= end.value * (1 + 1e-12)
        assert end.value <= end.high * (1 + 1e-12)
        assert end.high in values
    shuffled = distribution(values[::-1])
    assert shuffled == found
    twice = distribution([2.0 * value for value in values])
    assert twice is not None
    assert [twice.percentiles[each].value is None for each in PERCENTILES] == [
        found.percentiles[each].value is None for each in PERCENTILES
    ]


@pytest.mark.slow
def test_an_interval_covers_what_it_says() -> None:
    """The 90th percentile of an exponential distribution, in at least 95 % of samples, to three standard errors."""
    numbers, true, inside = np.random.default_rng(1), math.log(10.0), 0
    for _ in range(1000):
        found = distribution(numbers.exponential(size=60))
        assert found is not None
        end = found.percentiles[90]
        inside += (end.low or 0.0) <= true <= (end.high or math.inf)
    assert inside / 1000 > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 1000)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40))
def test_medians_over_runs(values: list[float]) -> None:
    found = over_runs(values)
    assert found is not None
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    if len(values) <= 5:
        assert found.confidence == pytest.approx(1.0 - 2.0 ** (1 - len(values)))
        assert (found.low, found.high) == (min(values), max(values))
    else:
        assert found.confidence >= 0.95
    assert distribution([]) is None
    assert over_runs([]) is None


def test_a_warm_up_ends_when_its_windows_agree() -> None:
    watch = WarmUp(4)
    falling = [10.0 * 0.8**k + 0.001 * (k % 2) for k in range(200)]
    ended = next((k for k, value in enumerate(falling + [1.0] * 40) if watch.add(value)), None)
    assert ended is not None
    assert ended >= 3 * watch.window, "it does not end while times still fall"
    assert (ended + 1) % watch.window == 0
    assert watch.most_requests == 10 * watch.window
    assert is_stationary(np.full(8, 1.0), np.full(8, 1.09))
    assert not is_stationary(np.full(8, 1.0), np.full(8, 1.2))
    noisy = np.array([0.5, 1.5] * 4)
    assert is_stationary(noisy, noisy + 0.2), "a change that noise explains"


STREAM = (
    b': hello\n\ndata: {"choices":[{"text":"a"}]}\n\nevent: x\r\ndata: {"choices":[]}\r\n\r\n'
    b'data: {"usage":\ndata: {"prompt_tokens":3,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=30), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_events_do_not_depend_on_how_a_stream_is_cut_or_its_lines_end(cuts: list[int], end: bytes) -> None:
    """Lines end with LF, CR LF or CR alone (WHATWG HTML, 9.2.5), also where a cut is within the two."""
    stream = STREAM.replace(b"\r\n", b"\n").replace(b"\n", end)
    ends = [0, *(min(cut, len(stream)) for cut in sorted(cuts)), len(stream)]
    reader = EventReader(10_000)
    found = [data for a, b in itertools.pairwise(ends) for data in reader.feed(stream[a:b])]
    assert found == EventReader(10_000).feed(STREAM)
    assert not reader.rest()
    assert event_of(found[0]).text
    assert event_of(found[2]).tokens == (3, 2)
    assert len(found) == 4


@given(st.binary(max_size=300))
def test_any_bytes_are_events_or_are_broken(data: bytes) -> None:
    kinds = {"garbage", "server_error", "too_large", "long_line"}
    for read in (event_of, EventReader(200).feed):
        try:
            read(data)
        except Broken as error:
            kinds.add(error.kind)
    assert len(kinds) == 4, "no other kind"


def test_a_byte_order_mark_before_a_stream_is_no_part_of_it() -> None:
    """As the specification of event streams has it (WHATWG HTML, 9.2.5), however the mark is cut."""
    reader = EventReader(10_000)
    marked = b"\xef\xbb\xbfdata: [DONE]\n\n"
    assert [data for byte in marked for data in reader.feed(bytes([byte]))] == [b"[DONE]"]
    with pytest.raises(Broken, match="a line is no event"):
        EventReader(10_000).feed(b"data: 1\n\n" + marked)


@pytest.mark.parametrize("field", ["content", "tool_calls", "function_call", "refusal"])
def test_tokens_of_an_answer_are_in_several_fields(field: str) -> None:
    filled = event_of(json.dumps({"choices": [{"delta": {field: "a"}}]}).encode())
    empty = event_of(json.dumps({"choices": [{"delta": {field: ""}}]}).encode())
    assert (filled.text, empty.text) == (True, False)


def test_a_proxy_of_the_environment_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_of("http://127.0.0.1:8000/v1") == ""
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@proxy.example:3128/")
    assert proxy_of("http://127.0.0.1:8000/v1") == "proxy.example:3128"
    assert proxy_of("https://127.0.0.1:8000/v1") == ""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert proxy_of("http://127.0.0.1:8000/v1") == ""
