"""Render conversations with a chat template and find what the assistant wrote: the child's side of templates.py.

A template is untrusted code and may not end, so this module runs in a sandboxed process (isolated/).  Rendering is that
of transformers.  What the assistant wrote is found in one of two ways:

    by tags    {% generation %} in the template marks it (return_assistant_tokens_mask of transformers)
    by spans   answer i of the conversation m is what render(m[:i+1]) adds to the prompt render(m[:i]) + the beginning
               of an answer, which must be the beginning of that text

An answer found by spans must also stand in the text of the whole conversation at the same place; the end-of-text
tokens that some templates append are not compared.  Where a template rewrites earlier turns (Qwen3 drops their
thinking) it does not, and each answer becomes a text of its own, as a model reads the conversation when it writes it.

What a template leaves out would be trained on in silence, as a call of a tool that becomes an empty answer: without
the text of a message, its calls or the tools, the rendered text must be another (`_left_out`).

Input: a line of JSON, the job; then a conversation per line.  Output: {"texts": [{"text", "spans"}], "apart", "note"},
with spans as pairs of characters, or {"refused": why}.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any

from flashstill.errors import first_line

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
UNTHOUGHT = "their thoughts (reasoning_content) are left out by the chat template"
PROBE = "a probe of the template"
MOST_TRIMMED = 4
"""special tokens at the end of a text that are not compared"""
Messages = Sequence[dict[str, Any]]
Span = tuple[int, int]


class Refused(Exception):
    """A conversation that the template does not render in a way that can be learned from."""


class Renderer:
    """A chat template. job: template; tokens: special tokens by name; specials: all of them; arguments: variables."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._plain, self._with_tools = job["template"], job["with_tools"] or job["template"]
        self._variables = {**job["tokens"], **job["arguments"]}
        self._specials = sorted((each for each in job["specials"] if each), key=len, reverse=True)
        self._as_parts: bool | None = None

    def texts(self, chat: dict[str, Any]) -> dict[str, Any]:
        """The texts of a conversation with the spans to learn; Refused if there are none."""
        messages = chat["messages"]
        if self._as_parts is None:
            self._as_parts = self._needs_parts()
        if chat["prompt"]:
            return {"texts": [{"text": self._prompt(messages, chat), "spans": []}], "apart": False}
        whole, tagged = self._render(messages, chat)[0], bool(GENERATION.search(self._template(chat)))
        if left_out := self._left_out(messages, chat, whole):
            raise Refused(f"has {left_out} that the chat template leaves out")
        made = self._by_tags(messages, chat["answers"], chat) if tagged else None
        return {**(made or self._by_spans(messages, chat["answers"], chat, whole)), "note": self._note(messages, chat)}

    def _by_tags(self, messages: Messages, answers: Sequence[int], chat: dict[str, Any]) -> dict[str, Any] | None:
        text, spans = self._render(messages, chat, tags=True)
        own = [place for place, each in enumerate(messages) if each["role"] == "assistant"]
        if len(spans) != len(own) and answers != own:
            return None
        kept = [span for place, span in zip(own, spans, strict=False) if place in answers]
        kept = spans if answers == own else kept
        return {"texts": [{"text": text, "spans": kept}], "apart": False} if kept else None

    def _template(self, chat: dict[str, Any]) -> str:
        return str(self._with_tools if chat.get("tools") else self._plain)

    def _left_out(self, messages: Messages, chat: dict[str, Any], whole: str) -> str:
        """What the template renders nothing of; empty if all is there."""
        if chat.get("tools") and self._same(whole, messages, {**chat, "tools": None}):
            return "tools"
        for place, message in enumerate(messages):
            changed = [*messages]
            if message.get("tool_calls"):
                changed[place] = {key: value for key, value in message.items() if key != "tool_calls"}
                if self._same(whole, changed, chat):
                    return f"a call of a tool in message {place + 1}"
            said = message["content"].strip()
            if said and said not in whole:  # it may be written in another way, or be thoughts of an earlier turn
                changed[place] = {**message, "content": PROBE}
                own, other = messages[: place + 1], changed[: place + 1]
                if self._same(whole, changed, chat) and self._same(self._text(own, chat), other, chat, True):
                    return f"the text of message {place + 1} (from {message['role'][:40]!r})"
        return ""

    def _note(self, messages: Messages, chat: dict[str, Any]) -> str:
        """That thoughts are left out of all answers, as the template has no place for them; else empty."""
        thoughts = [place for place in chat["answers"] if any(messages[place].get(key) for key in THOUGHTS)]
        for place in thoughts:
            plain = {key: value for key, value in messages[place].items() if key not in THOUGHTS}
            own = messages[: place + 1]
            if not self._same(self._text(own, chat), [*own[:-1], plain], chat):
                return ""
        return UNTHOUGHT if thoughts else ""

    def _text(self, messages: Messages, chat: dict[str, Any]) -> str | None:
        try:
            return self._render(messages, chat)[0]
        except Exception:  # templates refuse some beginnings of a conversation
            return None

    def _same(self, text: str | None, messages: Messages, chat: dict[str, Any], or_refused: bool = False) -> bool:
        """Whether messages are rendered as `text`; or_refused: also where the template refuses either."""
        other = self._text(messages, chat)
        return or_refused if text is None or other is None else text == other

    def _by_spans(self, messages: Messages, answers: Sequence[int], chat: dict[str, Any], whole: str) -> dict[str, Any]:
        if not answers:
            return {"texts": [{"text": whole, "spans": []}], "apart": False}
        texts, spans = [], []
        for place in answers:
            is_last = place == len(messages) - 1
            text = whole if is_last else self._render(messages[: place + 1], chat)[0]
            begin = self._begin(messages[:place], text, chat)
            if begin >= len(text.rstrip()):
                raise Refused(f"has an answer in message {place + 1} that the chat template leaves out")
            texts.append({"text": text, "spans": [(begin, len(text))]})
            spans.append((begin, self._end(text, whole)))
        if all(begin < end for begin, end in spans) and all(first[1] <= second[0] for first, second in pairwise(spans)):
            return {"texts": [{"text": whole, "spans": spans}], "apart": False}
        return {"texts": texts, "apart": True}

    def _begin(self, before: Messages, text: str, chat: dict[str, Any]) -> int:
        """Where the answer begins in `text`, which ends with it."""
        prompt = self._prompt(before, chat)
        if text.startswith(prompt):
            return len(prompt)
        try:
            plain = self._render(before, chat)[0] if before else ""
        except Exception:  # templates refuse some beginnings of a conversation
            plain = prompt
        least = self._end(plain, text)
        if not least and plain:
            raise Refused("is rendered by a chat template that rewrites the prompt once there is an answer")
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, text, strict=False)))
        return max(least, shared)

    def _prompt(self, before: Messages, chat: dict[str, Any]) -> str:
        try:
            return self._render(before, chat, begins=True)[0]
        except Exception:
            if before and chat["prompt"]:
                raise
            return ""

    def _end(self, text: str, whole: str) -> int:
        """Length of the part of `text` that `whole` begins with, if only special tokens and white space are left out;
        else 0."""
        for _ in range(MOST_TRIMMED + 1):
            if whole.startswith(text):
                return len(text)
            if whole.startswith(text.rstrip()):
                return len(text.rstrip())
            text = text.rstrip()
            ending = next((each for each in self._specials if text.endswith(each)), "")
            if not ending:
                return 0
            text = text.removesuffix(ending)
        return 0

    def _render(
        self, messages: Messages, chat: dict[str, Any], begins: bool = False, tags: bool = False
    ) -> tuple[str, list[Span]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        given = [self._with_parts(each) for each in messages] if self._as_parts else list(messages)
        made = render_jinja_template(
            conversations=[given], tools=chat.get("tools") or None, chat_template=self._template(chat),
            return_assistant_tokens_mask=tags, add_generation_prompt=begins,
            **{**self._variables, **chat.get("arguments", {})},
        )  # fmt: skip
        texts, spans = made if isinstance(made, tuple) else (made, [])
        return texts[0], [tuple(span) for span in spans[0]] if spans else []

    def _needs_parts(self) -> bool:
        """Whether the template reads content as a list of parts only, as some of vision-language models do."""
        chat = {"tools": None}
        for self._as_parts in (False, True):
            try:
                if PROBE in self._render([{"role": "user", "content": PROBE}], chat)[0]:
                    return self._as_parts
            except Exception:  # it may refuse such a conversation for other reasons
                continue
        return False

    def _with_parts(self, message: dict[str, Any]) -> dict[str, Any]:
        return {**message, "content": [{"type": "text", "text": message["content"]}]}


def main() -> None:
    """Main loop of the isolated process: one output line per input line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from transformers.utils.chat_template_utils import render_jinja_template  # noqa: F401  takes seconds; not later

    try:
        renderer = Renderer(json.loads(sys.stdin.readline()))
        print("{}", file=answers, flush=True)
    except Exception as error:
        print(json.dumps({"refused": first_line(error)}), file=answers, flush=True)
        return
    for line in sys.stdin:
        try:
            reply = renderer.texts(json.loads(line))
        except Refused as error:
            reply = {"refused": str(error)}
        except Exception as error:  # a template can raise anything
            reply = {"refused": f"is refused by the chat template: {first_line(error)}"}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
