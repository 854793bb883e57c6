"""Chat templates: a conversation as the text that a model reads, and the parts of it that the assistant wrote.

Templates are rendered by transformers in a sandboxed process (rendering.py).
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from flashstill.bounded import read_bounded
from flashstill.distill.data.layouts import Chat
from flashstill.distill.data.rows import Unusable
from flashstill.distill.isolated import Flooded, Isolated, start
from flashstill.errors import BadInput, shortened, shown

START_S, LONGEST_S = 60.0, 30.0
"""time limits: to import the renderer on a busy machine, and to render one conversation, which normally takes 1 ms; a
long one gives up by itself after a shorter time of the processor (rendering.py), unless the template loops"""
MOST_TEMPLATE_BYTES = 2**20
MOST_ANSWER_BYTES = 2**28
LEARN = ("assistant", "last", "all")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A text with the spans [first, last) of characters that the assistant wrote, in order. note: what is worth telling
    about the conversation."""

    text: str
    spans: tuple[tuple[int, int], ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """A chat template with what it reads. source: Jinja; with_tools: for conversations with tools, if that is another;
    tokens: special tokens by name; specials: all special tokens; arguments: further variables, as
    {"enable_thinking": False}."""

    source: str
    with_tools: str = ""
    tokens: Mapping[str, Any] = field(default_factory=dict)
    specials: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)


def template_of(tokenizer: Any, file: str = "", arguments: Mapping[str, Any] | None = None) -> Template | None:
    """The chat template in `file`, or that of a tokenizer, None if it has none; BadInput if the file is unreadable."""
    with_tools = ""
    if file:
        try:
            source = read_bounded(Path(file), MOST_TEMPLATE_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"the chat template {file} is not UTF-8") from error
    elif not tokenizer.chat_template:
        return None
    else:
        source, with_tools = _own_templates(tokenizer)
    specials = tuple(dict.fromkeys([*special_ids(tokenizer).values(), *tokenizer.all_special_tokens]))
    tokens = {name: value for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str | list)}
    return Template(
        source=source, with_tools=with_tools, tokens=tokens, specials=specials, arguments=dict(arguments or {})
    )


def _own_templates(tokenizer: Any) -> tuple[str, str]:
    """The tokenizer's own template, and the one for tools if it has another, as transformers chooses among several."""
    own = tokenizer.chat_template
    named = own if isinstance(own, dict) else {"default": own}
    if not all(isinstance(source, str) for source in named.values()):
        raise BadInput(f"the chat template of the tokenizer is {shown(own)}, not a text; name a file as chat.template")
    if "default" not in named and len(named) > 1:
        raise BadInput(
            f"the tokenizer has several chat templates ({', '.join(sorted(named))}) and none is the default; name a"
            " file with one as chat.template"
        )
    return named.get("default", next(iter(named.values()))), named.get("tool_use", "")


@functools.lru_cache(maxsize=8)
def special_ids(tokenizer: Any) -> dict[int, str]:
    """Id and text of every special token."""
    added = {place: str(token) for place, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {**added, **dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))}


class Renderer:
    """Renders conversations with one template, in a process that is started when it is first needed."""

    def __init__(self, template: Template) -> None:
        self._job = json.dumps(
            {
                "template": template.source, "with_tools": template.with_tools, "tokens": dict(template.tokens),
                "specials": list(template.specials), "arguments": dict(template.arguments),
            }
        )  # fmt: skip
        if len(self._job) > 2 * MOST_TEMPLATE_BYTES:
            raise BadInput(f"the chat template has more than {MOST_TEMPLATE_BYTES // 1024} KiB, the limit")
        self._process: Isolated | None = None

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def texts(self, chat: Chat, learn: str = "assistant") -> tuple[list[Rendered], bool]:
        """The conversation as one text, or one text for each answer (True) if the template rewrites earlier turns.

        learn: "assistant" for all answers, "last" for the last one, "all" for everything.  Raises Unusable for a
        conversation that the template refuses, BadInput for a template that fails or exceeds the limits.
        """
        answers = {"last": chat.answers[-1:], "all": ()}.get(learn, chat.answers)
        reply = self._ask(chat, answers)
        note = str(reply.get("note", ""))
        texts = [
            Rendered(text=each["text"], spans=tuple(map(tuple, each["spans"])), note=note) for each in reply["texts"]
        ]
        if learn == "all":
            whole = texts[-1].text
            return [Rendered(text=whole, spans=((0, len(whole)),), note=note)], False
        return texts, bool(reply["apart"])

    def prompt(self, chat: Chat) -> str:
        """The conversation up to its last answer to learn, and the beginning of an answer."""
        before = Chat(
            messages=chat.messages[: chat.answers[-1]], answers=(), tools=chat.tools, arguments=chat.arguments
        )
        text: str = self._ask(before, (), prompt=True)["texts"][0]["text"]
        return text

    def _ask(self, chat: Chat, answers: tuple[int, ...], prompt: bool = False) -> dict[str, Any]:
        question = {
            "messages": chat.messages, "answers": answers, "tools": chat.tools, "arguments": chat.arguments,
            "prompt": prompt,
        }  # fmt: skip
        reply = self._reply(json.dumps(question).encode())
        if "refused" in reply:
            refused = shortened(reply["refused"], 160)
            raise Unusable(refused, refused)
        return reply

    def _reply(self, question: bytes) -> dict[str, Any]:
        try:
            if self._process is None:
                self._process = start("flashstill.distill.data.rendering")
                begun = json.loads(self._process.ask(self._job.encode(), START_S))
                if "refused" in begun:
                    raise BadInput(f"the chat template cannot be used: {begun['refused']}")
            reply: dict[str, Any] = json.loads(self._process.ask(question, LONGEST_S, MOST_ANSWER_BYTES))
        except (TimeoutError, Flooded, EOFError) as error:
            self.end()
            raise BadInput(
                f"the chat template does not end within {LONGEST_S:g} s, or takes more memory or makes more text than a"
                " conversation is worth; it may loop"
            ) from error
        return reply


@contextlib.contextmanager
def renderer_of(template: Template | None) -> Iterator[Renderer | None]:
    """A renderer that ends with the block; None without a template."""
    if template is None:
        yield None
        return
    with Renderer(template) as renderer:
        yield renderer
