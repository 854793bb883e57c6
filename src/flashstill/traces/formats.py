"""The formats of traces and logs, and how a file's columns tell which it is.

Each was looked up where it is published (docs/simulate.md has the addresses).  Of two that share their columns the one
with more of its own is taken; where nothing tells the unit of time (GuideLLM writes `timestamp` in seconds, Mooncake in
milliseconds), it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flashstill.errors import BadInput, nearest, shortened, unknown
from flashstill.traces.spans import ERROR, INPUT, OUTPUT

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
DATE, ASK, WHOLE_MS = "date", "", "whole ms"
"""units of a time besides UNITS: ISO 8601, open until the user says it, and milliseconds if they are whole numbers"""
HASH_COLUMN, HIT_COLUMN = (
    re.compile(r"block_hashes([1-9][0-9]{0,8})"),
    re.compile(r"prefix_hit_blocks([1-9][0-9]{0,8})"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """Columns by role. In JSON a name with dots goes one level down for each.

    time: names of the arrival's column, the first that is there counts; unit: one of UNITS, DATE, ASK and WHOLE_MS.
    cached: tokens found in a prefix cache; hits, hit_block: the same as blocks of so many tokens.  hashes: names of the
    prompt's blocks, of `block` tokens; 0 asks.  own, parent: names of the request and of the one that it follows, with
    a value of NO_PARENT for none; or session: of the conversation, whose requests follow each other.  end: when the
    answer was complete, as `time`; or lasts: how long that took, in lasts_unit.  marks: columns beside time, prompt and
    output by which the format is known.
    delay: milliseconds that a turn comes after the answer before it, in place of a time of its own or beside it.
    failed: a column whose value says that a request failed.  skips: requests without output tokens are failures.
    may_lack: requests may have no counts of tokens, and are left out.  sorts: a log in order of completion.
     relative: times count from the first request.  is_document: one JSON document.
    """

    name: str
    title: str
    time: tuple[str, ...]
    unit: str
    prompt: str
    output: str
    cached: str = ""
    hits: str = ""
    hit_block: int = 0
    hashes: str = ""
    block: int = 0
    own: str = ""
    parent: str = ""
    session: str = ""
    end: str = ""
    lasts: str = ""
    lasts_unit: str = "s"
    delay: str = ""
    marks: tuple[str, ...] = ()
    failed: str = ""
    warm_up: str = ""
    skips: bool = True
    may_lack: bool = False
    sorts: bool = False
    relative: bool = False
    is_document: bool = False

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether a file with these columns is of this format."""
        needed = (self.prompt, self.output, *self.marks)
        return all(is_among(name, columns) for name in needed) and any(is_among(name, columns) for name in self.time)


def is_among(name: str, columns: Sequence[str]) -> bool:
    """Whether a column may hold a name: it is called so, or as what stands before one of its dots."""
    if name in columns:
        return True
    return "." in name and is_among(name.rpartition(".")[0], columns)


NO_PARENT = ("", "-1", -1, None)
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_PROMPT, _ANSWER = "input_length", "output_length"
FORMATS = {
    each.name: each
    for each in (
        Format(
            name="flashstill", title="flashstill's own", time=("arrival_s",), unit="s", prompt="input_tokens",
            output="output_tokens", session="session_id", lasts="answer_s", skips=False,
        ),
        Format(
            name="azure", title="Azure 2023 and 2024", time=("TIMESTAMP",), unit=DATE, prompt="ContextTokens",
            output="GeneratedTokens", relative=True,
        ),
        Format(
            name="burstgpt", title="BurstGPT", time=("Timestamp",), unit="s", prompt="Request tokens",
            output="Response tokens", session="Session ID", lasts="Elapsed time",
        ),
        Format(
            name="aiperf-turns", title="AIPerf's multi-turn trace", time=("timestamp",), unit="ms", prompt=_PROMPT,
            output=_ANSWER, hashes="hash_ids", block=512, session="session_id", delay="delay",
            marks=("session_id", "delay"),
        ),
        Format(
            name="bailian", title="Qwen-Bailian", time=("timestamp",), unit="s", prompt=_PROMPT, output=_ANSWER,
            hashes="hash_ids", block=16, own="chat_id", parent="parent_chat_id", marks=("chat_id",),
        ),
        Format(
            name="mooncake", title="Mooncake", time=("timestamp",), unit=WHOLE_MS, prompt=_PROMPT, output=_ANSWER,
            hashes="hash_ids", block=512, session="session_id", marks=("hash_ids",),
        ),
        Format(
            name="guidellm-trace", title="GuideLLM's trace_synthetic", time=("timestamp",), unit=ASK, prompt=_PROMPT,
            output=_ANSWER, session="session_id", relative=True,
        ),
        Format(
            name="aiperf", title="AIPerf's profile_export.jsonl", time=("metadata.request_start_ns",), unit="ns",
            prompt="metrics.input_sequence_length", output="metrics.output_sequence_length", failed="error",
            session="metadata.x_correlation_id", end="metadata.request_end_ns", warm_up="metadata.benchmark_phase",
            sorts=True, relative=True,
        ),
        Format(
            name="baseten", title="Baseten's completions", time=("timestamp_start_unix_ms",), unit="ms",
            prompt="input_tokens", output="output_tokens", session="provided_session_id", lasts="duration_e2e_ms",
            lasts_unit="ms", sorts=True, relative=True,
        ),
        Format(
            name="splitwise", title="Splitwise's", time=("arrival_timestamp",), unit="s", prompt="prompt_size",
            output="token_size",
        ),
        Format(
            name="otel", title="OpenTelemetry's spans", time=("startTimeUnixNano",), unit="ns",
            prompt=f"attributes.{INPUT}", output=f"attributes.{OUTPUT}", session="attributes.gen_ai.conversation.id",
            end="endTimeUnixNano", failed=f"attributes.{ERROR}", may_lack=True, sorts=True, relative=True,
        ),
        Format(
            name="inference-perf", title="inference-perf's requests", time=("start_time",), unit="s",
            prompt="info.request_metrics.text.input_tokens", output="info.response_metrics.output_tokens",
            session="session_id", end="end_time", failed="error", marks=("end_time",), sorts=True, relative=True,
        ),
        Format(
            name="vllm-bench", title="vllm bench serve --save-detailed", time=("start_times",), unit="s",
            prompt="input_lens", output="output_lens", failed="errors", sorts=True, relative=True, is_document=True,
        ),
        Format(
            name="guidellm", title="GuideLLM's report", time=("request_start_time", "start_time"), unit="s",
            prompt="prompt_tokens", output="output_tokens", sorts=True, relative=True, is_document=True,
        ),
    )
}  # fmt: skip


def named(name: str) -> Format:
    """The format of this name; BadInput with the nearest otherwise."""
    if name not in FORMATS:
        raise BadInput(unknown("format of a trace", name, FORMATS))
    return FORMATS[name]


def found_in(shown: str, columns: Sequence[str], is_document: bool, name: str | None = None) -> Format:
    """The format of a file with these columns, or the named one, with what its columns say of blocks."""
    if name is None:
        known = [each for each in FORMATS.values() if is_document or not each.is_document]
        fitting = [each for each in known if each.fits(columns)]
    else:
        fitting = [named(name)]
    if not fitting:
        raise _no_format(shown, columns)
    form = fitting[0]
    if name is not None:
        check_columns(shown, columns, form)
    return _with_blocks(shown, columns, form) if form.name == "flashstill" else form


def _with_blocks(shown: str, columns: Sequence[str], form: Format) -> Format:
    """The own format with its columns of blocks, whose names say their size."""
    hashes = [each for each in columns if each.startswith("block_hashes")]
    hits = [each for each in columns if HIT_COLUMN.fullmatch(each)]
    if hashes and (len(hashes) > 1 or not HASH_COLUMN.fullmatch(hashes[0])):
        raise BadInput(
            f"{shown} names blocks in {', '.join(hashes)}; one column such as block_hashes512 says the block's size"
        )
    also = [*(["cached_tokens"] if "cached_tokens" in columns else []), *hits]
    if len(hashes) + len(also) > 1:
        first, second = [*hashes, *also][:2]
        raise BadInput(f"{shown} has {first} and {second}; what is found in a cache follows from one of them")
    if hashes:
        return replace(form, hashes=hashes[0], block=int(hashes[0].removeprefix("block_hashes")))
    if hits:
        return replace(form, hits=hits[0], hit_block=int(hits[0].removeprefix("prefix_hit_blocks")))
    return replace(form, cached=also[0]) if also else form


def check_columns(shown: str, columns: Sequence[str], form: Format) -> None:
    """BadInput where a file lacks a column that a format needs."""
    for names in (form.time, (form.prompt,), (form.output,)):
        if not any(is_among(name, columns) for name in names):
            close = nearest(names[0], columns)[:1]
            hint = f"; is it {close[0]!r}?" if close else ""
            raise BadInput(f"{shown} has no column {names[0]!r}, which {form.title} has{hint}")


def _no_format(shown: str, columns: Sequence[str]) -> BadInput:
    if "window_start_s" in columns:
        return BadInput(f"{shown} is a curve of rates and no trace of requests; give it as --daily")
    if {"id", "requests"} <= set(columns):
        return BadInput(f"{shown} has whole sessions without times of arrival; write a line for each request")
    if {"conversation", "conversations", "messages"} & set(columns) and not any("tok" in name for name in columns):
        return BadInput(
            f"{shown} has texts of conversations and no counts of tokens; count those of each prompt and answer with"
            " the model's tokenizer first"
        )
    if {"resourceMetrics", "resourceLogs"} & set(columns):
        return BadInput(f"{shown} is an OTLP export of metrics or logs; requests are in that of traces (resourceSpans)")
    if {"session_id", "delay"} <= set(columns):
        return BadInput(
            f"{shown} does not say when its conversations begin; give the first turn of each a timestamp in ms,"
            " or take its lengths alone: --lengths beside --concurrency"
        )
    if "request_id" in columns and "input_length" in columns:
        return BadInput(
            f"{shown} has requests of a batch without times of arrival; give it as --lengths beside --concurrency"
        )
    form = max(
        FORMATS.values(), key=lambda each: sum(name in columns for name in (*each.time, each.prompt, each.output))
    )
    for sign, what in SEPARATORS.items():
        if len(columns) == 1 and sign in columns[0]:
            return BadInput(f"{shown} has {what} between its columns, where commas are expected")
    missing = [name for name in (form.time[0], form.prompt, form.output) if not is_among(name, columns)]
    close = nearest(missing[0], columns)[:1]
    hint = f"; is it {shortened(close[0])!r}?" if close else ""
    return BadInput(
        f"{shown} has no column {missing[0]!r}{hint} Or say which column is which, as"
        " --trace-columns time=ts,input=prompt_tokens,output=completion_tokens"
    )
