"""Server-sent events of a streamed answer, read piece by piece in bounded memory.

A stream is lines, which end with LF, CR LF or CR; `data: {...}` lines up to an empty one make an event (WHATWG HTML,
section 9.2).  A line or a body beyond its limit, or something that is no event, raises `Broken` with the kind of
failure it is counted as.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from flashstill.errors import one_line

LONGEST_LINE = 2**20
"""bytes of one line; an event with one token has a few hundred"""
BODY_BYTES, BYTES_PER_TOKEN = 4 * 2**20, 8 * 2**10
"""most bytes of an answer: a constant, and so many per token that was asked for"""
END = b"[DONE]"
MARK = b"\xef\xbb\xbf"
"""the byte order mark that a stream may begin with"""

ANSWERS = ("content", "tool_calls", "function_call", "refusal")
"""fields of a delta that carry tokens of the answer"""


class Broken(Exception):
    """An answer that cannot be used. kind: the key of `failures.KINDS` it is counted as."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


class EventReader:
    """Cuts a stream of bytes into the data of its events, however the pieces are cut."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._line, self._data, self._is_first = b"", [b""][:0], True
        self._after_cr = False
        self.began = False
        """whether anything but comments came"""

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that this piece completes."""
        self._left -= len(piece)
        if self._left < 0:
            raise Broken("too_large", "the body has more bytes than such an answer can have")
        if self._after_cr and piece.startswith(b"\n"):  # the rest of CR LF
            piece = piece[1:]
        if piece:
            self._after_cr = piece.endswith(b"\r")
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._line = (self._line + piece).split(b"\n")
        if len(self._line) > LONGEST_LINE or any(len(line) > LONGEST_LINE for line in lines):
            raise Broken("long_line", f"a line has more than {LONGEST_LINE:,} bytes")
        return [data for line in lines for data in self._ended(line)]

    def _ended(self, line: bytes) -> list[bytes]:
        """The event that an empty line ends, if it does."""
        if not line:
            data, self._data = b"\n".join(self._data), []
            return [data] if data else []
        if self._is_first:
            line, self._is_first = line.removeprefix(MARK), False
        field, _, value = line.partition(b":")
        if field == b"data":
            self.began = True
            self._data.append(value.removeprefix(b" "))
        elif field not in (b"", b"event", b"id", b"retry"):
            raise Broken("garbage", f"a line is no event: {one_line(line[:80].decode('utf-8', 'replace'))}")
        return []

    def rest(self) -> bool:
        """Whether the stream ended inside an event or a line."""
        return bool(self._line or self._data)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """What one event says. text, thinking: it carries answer text, or reasoning text that precedes the answer; words:
    the answer text.

    tokens: prompt and output tokens by the server's count, None if the event has none.
    """

    text: bool = False
    thinking: bool = False
    tokens: tuple[int, int] | None = None
    finish: str = ""
    words: str = ""


def event_of(data: bytes, key: str = "") -> Event:
    """Parse an event of /v1/completions or /v1/chat/completions. Broken: garbage, or an error that the server sends.

    key: masked in messages.
    """
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Broken("garbage", f"an event is no JSON: {one_line(data[:80].decode('utf-8', 'replace'))}") from error
    if not isinstance(tree, dict):
        raise Broken("garbage", "an event is no JSON object")
    if tree.get("error") or (tree.get("object") == "error"):
        from flashstill.servers import message_in

        raise Broken("server_error", message_in(data, key))
    choices = tree.get("choices")
    tokens = _tokens(tree.get("usage"))
    if choices is None and tokens is None:
        raise Broken("garbage", "an event has neither choices nor usage")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    if not isinstance(choice, dict):
        raise Broken("garbage", "a choice is no JSON object")
    delta = choice.get("delta")
    said: dict[str, Any] = delta if isinstance(delta, dict) else {}
    words = choice.get("text") or said.get("content")
    return Event(
        words=words if isinstance(words, str) else "",
        text=bool(choice.get("text") or any(said.get(name) for name in ANSWERS)),
        thinking=bool(said.get("reasoning_content") or said.get("reasoning")),
        tokens=tokens,
        finish=str(choice.get("finish_reason") or ""),
    )


def _tokens(usage: object) -> tuple[int, int] | None:
    if not isinstance(usage, dict):
        return None
    prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(prompt) is not int or type(output) is not int or not (0 <= prompt < 2**40 and 0 <= output < 2**40):
        return None
    return prompt, output
