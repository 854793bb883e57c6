"""The published hour of Azure's conversation traffic: no request and no token is lost on the way through replicas."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashstill.simulate.engine import run
from flashstill.simulate.tally import DONE, REFUSED, TOKENS_IN, TOKENS_OUT
from flashstill.simulate.traces import pieces_of
from flashstill.traces.reader import Trace
from tests.batching import limits, tables
from tests.commands import SHARED

HOUR = {"requests": 19_366, "input_tokens": 22_361_870, "output_tokens": 4_088_665}


def hour() -> Path:
    """The trace; a test without it is skipped, as it is not part of the repository."""
    path = SHARED / "traces" / "azure_llm_2023_conv.csv"
    if not path.exists():
        pytest.skip("the Azure trace lies beside the project in its workplace only")
    return path


def test_the_trace_is_whole() -> None:
    pieces = list(pieces_of(Trace(hour())))
    assert sum(len(piece.prompt) for piece in pieces) == HOUR["requests"]
    assert sum(int(piece.prompt.sum()) for piece in pieces) == HOUR["input_tokens"]
    assert sum(int(piece.output.sum()) for piece in pieces) == HOUR["output_tokens"]


@pytest.mark.slow
def test_the_hour_is_conserved_on_eight_replicas() -> None:
    chosen = limits(sequences=64, tokens=8192, blocks=20_000)
    outcome = run(tables(longest=65_536.0), chosen, pieces_of(Trace(hour())), 8)
    totals = outcome.tally.totals
    assert (totals[DONE], totals[REFUSED]) == (HOUR["requests"], 0)
    assert (totals[TOKENS_IN], totals[TOKENS_OUT]) == (HOUR["input_tokens"], HOUR["output_tokens"])
