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
the text of a message, its calls or the tools, the rendered text must be another (left_out.py).

Long conversations of templates that write turn by turn take time in proportion to their length (turns.py); those of
others the square of it, up to a limit of processor time, above which a conversation is refused.

Input: a line of JSON, the job; then a conversation per line.  Output: {"texts": [{"text", "spans"}], "apart", "note"},
with spans as pairs of characters, or {"refused": why}.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any

from flashstill.distill.data.left_out import PROBE, left_out, note_on_thoughts
from flashstill.distill.data.turns import LEAST_ANSWERS, checked_places, spans_in_turn
from flashstill.errors import first_line

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
LONGEST_S = 5.0
"""limit of processor time for a conversation"""
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
        self._until = math.inf

    def texts(self, chat: dict[str, Any]) -> dict[str, Any]:
        """The texts of a conversation with the spans to learn; Refused if there are none."""
        messages = chat["messages"]
        self._until = time.process_time() + LONGEST_S
        if self._as_parts is None:
            self._as_parts = self._needs_parts()
        if chat["prompt"]:
            return {"texts": [{"text": self._prompt(messages, chat), "spans": []}], "apart": False}
        whole, tagged = self._render(messages, chat)[0], bool(GENERATION.search(self._template(chat)))
        if missing := left_out(messages, chat, whole, self._text):
            raise Refused(f"has {missing} that the chat template leaves out")
        made = self._by_tags(messages, chat["answers"], chat) if tagged else None
        return {
            **(made or self._by_spans(messages, chat["answers"], chat, whole)),
            "note": note_on_thoughts(messages, chat, self._text),
        }

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

    def _text(self, messages: Messages, chat: dict[str, Any]) -> str | None:
        """The text of messages; None if the template refuses them, as some do with the beginning of a conversation."""
        try:
            return self._render(messages, chat)[0]
        except Refused:
            raise
        except Exception:
            return None

    def _by_spans(self, messages: Messages, answers: Sequence[int], chat: dict[str, Any], whole: str) -> dict[str, Any]:
        if not answers:
            return {"texts": [{"text": whole, "spans": []}], "apart": False}
        if found := self._in_turn(messages, answers, chat, whole):
            return {"texts": [{"text": whole, "spans": found}], "apart": False}
        texts, spans = [], []
        for place in answers:
            text, begin = self._answer(messages, place, chat, whole)
            texts.append({"text": text, "spans": [(begin, len(text))]})
            spans.append((begin, self._end(text, whole)))
        if all(begin < end for begin, end in spans) and all(first[1] <= second[0] for first, second in pairwise(spans)):
            return {"texts": [{"text": whole, "spans": spans}], "apart": False}
        return {"texts": texts, "apart": True}

    def _answer(self, messages: Messages, place: int, chat: dict[str, Any], whole: str) -> tuple[str, int]:
        """The text of the conversation up to an answer, and where the answer begins in it."""
        text = whole if place == len(messages) - 1 else self._render(messages[: place + 1], chat)[0]
        begin = self._begin(messages[:place], text, chat)
        if begin >= len(text.rstrip()):
            raise Refused(f"has an answer in message {place + 1} that the chat template leaves out")
        return text, begin

    def _in_turn(
        self, messages: Messages, answers: Sequence[int], chat: dict[str, Any], whole: str
    ) -> list[Span] | None:
        """The spans of the answers of a long conversation, if its turns are written one by one."""
        if len(answers) < LEAST_ANSWERS:
            return None
        try:
            spans = spans_in_turn(
                messages, answers, whole, lambda given, begins: self._render(given, chat, begins=begins)[0]
            )
        except Refused:
            raise
        except Exception:  # templates refuse some conversations
            return None
        for place in checked_places(answers) if spans else ():
            text, begin = self._answer(messages, answers[place], chat, whole)
            if spans and spans[place] != (begin, self._end(text, whole)):
                return None
        return spans

    def _begin(self, before: Messages, text: str, chat: dict[str, Any]) -> int:
        """Where the answer begins in `text`, which ends with it."""
        prompt = self._prompt(before, chat)
        if text.startswith(prompt):
            return len(prompt)
        try:
            plain = self._render(before, chat)[0] if before else ""
        except Refused:
            raise
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
        except Refused:
            raise
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

        if time.process_time() > self._until:
            raise Refused(f"takes more than {LONGEST_S:g} s to render with this chat template")
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
