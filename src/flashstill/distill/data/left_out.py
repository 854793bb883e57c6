"""What a chat template leaves out of a conversation: tools, calls of tools, texts, thoughts.

Without the text of a message, its calls or the tools, the text of the conversation must be another.  Messages are
tried one by one; where there are many, those that certainly have a place in the text are found together, by names of
their own in a conversation where all of them have such names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Chat = dict[str, Any]
Messages = Sequence[dict[str, Any]]
Text = Callable[[Messages, Chat], str | None]
"""renders messages; None if the template refuses them"""
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
UNTHOUGHT = "their thoughts (reasoning_content) are left out by the chat template"
PROBE = "a probe of the template"
LEAST_PROBED = 8
"""messages from which they are probed together"""
MOST_NOTED = 8
"""answers of which it is asked whether their thoughts are written: that is a matter of the template"""


def left_out(messages: Messages, chat: Chat, whole: str, text_of: Text) -> str:
    """What the template renders nothing of; empty if all is there. whole: the text of the conversation."""
    if chat.get("tools") and text_of(messages, {**chat, "tools": None}) == whole:
        return "tools"
    # a text that is not there may be written in another way, or be thoughts of an earlier turn
    unsaid = [place for place, each in enumerate(messages) if each["content"].strip() not in whole]
    called = [place for place, each in enumerate(messages) if each.get("tool_calls")]
    written = _written(messages, called, unsaid, chat, text_of)
    for place in sorted({*called, *unsaid} - written):
        message, changed = messages[place], [*messages]
        if place in called:
            changed[place] = {key: value for key, value in message.items() if key != "tool_calls"}
            if text_of(changed, chat) == whole:
                return f"a call of a tool in message {place + 1}"
        if place in unsaid:
            changed[place] = {**message, "content": PROBE}
            own, other = text_of(messages[: place + 1], chat), text_of(changed[: place + 1], chat)
            if text_of(changed, chat) == whole and (own is None or other is None or own == other):
                return f"the text of message {place + 1} (from {message['role'][:40]!r})"
    return ""


def _written(messages: Messages, called: Sequence[int], unsaid: Sequence[int], chat: Chat, text_of: Text) -> set[int]:
    """Messages of which the template certainly writes the calls and the text."""
    if len(called) + len(unsaid) < LEAST_PROBED:
        return set()
    changed = [dict(each) for each in messages]
    for place in called:
        changed[place]["tool_calls"] = [_renamed(each, _name(place, "call")) for each in messages[place]["tool_calls"]]
    for place in unsaid:
        changed[place]["content"] = _name(place, "text")
    text = text_of(changed, chat) or ""
    missing = {place for place in called if _name(place, "call") not in text}
    missing |= {place for place in unsaid if _name(place, "text") not in text}
    return {*called, *unsaid} - missing


def _name(place: int, what: str) -> str:
    return f"{PROBE.replace(' ', '_')}_{what}_{place}_"


def _renamed(call: Any, name: str) -> Any:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": {**call["function"], "name": name}}
    return {**call, "name": name} if "name" in call else call


def note_on_thoughts(messages: Messages, chat: Chat, text_of: Text) -> str:
    """That thoughts are left out of all answers, as the template has no place for them; else empty."""
    thoughts = [place for place in chat["answers"] if any(messages[place].get(key) for key in THOUGHTS)]
    half = MOST_NOTED // 2
    for place in thoughts if len(thoughts) <= MOST_NOTED else (*thoughts[:half], *thoughts[-half:]):
        plain = {key: value for key, value in messages[place].items() if key not in THOUGHTS}
        own = messages[: place + 1]
        with_thoughts, without = text_of(own, chat), text_of([*own[:-1], plain], chat)
        if with_thoughts is None or without is None or with_thoughts != without:
            return ""
    return UNTHOUGHT if thoughts else ""
