"""The Python face of measuring: a server under load, and the steps of a model on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.distilling import progress_of, says_what_is_missing
from flashstill.errors import BadInput, unknown
from flashstill.progress import Progress

if TYPE_CHECKING:
    from flashstill.load_test.answer import Measurement
    from flashstill.runs.speed import ModelSpeed

__all__ = ["measure_model", "measure_server"]


@says_what_is_missing
def measure_server(
    server: str,
    *,
    concurrency: int | Sequence[int] | None = None,
    rate: float | Sequence[float] | None = None,
    trace: str | Path | None = None,
    agents: int | Sequence[int] | None = None,
    case: Mapping[str, str] | None = None,
    out: str | Path | None = None,
    progress: bool | Progress = False,
    **more: Any,
) -> Measurement:
    """Load an OpenAI-compatible server, and measure what its users would see.

    server: its address, as http://127.0.0.1:8000/v1. Give one of concurrency (requests in flight, one or several
    levels), rate (requests per second that arrive by themselves), trace (a file, as for `simulate`) and agents
    (sessions of turns, as there).
    out: a directory that keeps every request as it ends; the same call goes on where it was.  case: columns of a case
    that a server does not tell, such as chip, for the rows of out/measured.csv.
    more: name, api, speeds, replay, turns, think_s, fan_out, shared_prefix, requests, isl, osl, least_ratio, runs,
    warm_up, until_saturation, ignore_eos, temperature, seed, tokenizer, time_limit_s, stall_s, most_in_flight; and how
    the trace is read, as in `simulate` (hash_block, trace_format, time_unit, trace_columns, trace_only, trace_sort,
    turn_lengths, skip_failed, trace_from_s, trace_until_s).
    Raises BadInput for invalid values or a server that cannot be asked, and InfeasiblePlan, with the failures counted,
    if no request ended well.
    """
    from flashstill.load_test.question import LoadTest
    from flashstill.load_test.written import measure_server as measured
    from flashstill.traces.reading import READING, Reading

    own = ("base", "concurrency", "rates", "trace", "agents", "reading")
    known = [*(field.name for field in fields(LoadTest) if field.name not in own), *READING]
    for name in more:
        if name not in known:
            raise BadInput(unknown("keyword of measure_server", name, known))
    if isinstance(more.get("tokenizer"), str):
        more["tokenizer"] = Path(more["tokenizer"])
    reading = Reading(**{name: more.pop(name) for name in READING if name in more})
    asked = LoadTest(
        base=server,
        concurrency=_levels(concurrency),
        rates=_levels(rate),
        trace=None if trace is None else Path(trace),
        agents=_levels(agents),
        reading=reading,
        **more,
    )
    return measured(asked, progress_of(progress), None if out is None else Path(out), case)


def _levels(given: Any) -> tuple[Any, ...]:
    """One value or several as levels."""
    if given is None:
        return ()
    levels = (given,) if isinstance(given, (Real, str)) else tuple(given)
    for level in levels:
        if not isinstance(level, Real):
            raise BadInput(f"{level!r} is no number; give one number or a list of them")
    return levels


@says_what_is_missing
def measure_model(
    model: str | Path,
    *,
    batch: int | Sequence[int] = (1, 2, 4, 8),
    context: int | Sequence[int] = (128, 512),
    repeats: int = 5,
    arithmetic: str = "auto",
    out: str | Path | None = None,
    progress: bool | Progress = False,
) -> ModelSpeed:
    """Time prefill and decode of a model directory in torch on this machine, predicted beside measured.

    out: a directory for the records and the rows of measured cases.  This machine is measured first if that has not
    been done.  Raises BadInput for invalid values, and InfeasiblePlan if the largest batch does not fit.
    """
    from flashstill.runs.speed import measure_model as measured

    place = None if out is None else Path(out)
    return measured(Path(model), _levels(batch), _levels(context), repeats, progress_of(progress), arithmetic, place)
