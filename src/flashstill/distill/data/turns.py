"""Where the answers of a long conversation stand, in time that grows with its length and not with its square.

Rendering the beginning of a conversation before and after each answer, as rendering.py does, takes the square of its
length.  Most templates write turn by turn.  So each turn (an answer, or the messages between two) is rendered at the
end of a short conversation: the messages up to the first of the user, the last answer before it and what follows that.
Its text must stand in that of the whole conversation right behind the turn before, and at some answers the slow way
must find the same.  Otherwise the template does more than that, and None is returned: the slow way decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Messages = Sequence[dict[str, Any]]
Span = tuple[int, int]
Render = Callable[[Messages, bool], str]
"""the text of messages, with or without the beginning of an answer"""
LEAST_ANSWERS = 16
"""answers from which a conversation is long"""


def spans_in_turn(messages: Messages, answers: Sequence[int], whole: str, render: Render) -> list[Span] | None:
    """The spans of the answers in the text of the whole conversation; None if turns are not written one by one.

    render: may raise, as templates refuse some conversations.
    """
    head = next((place + 1 for place, each in enumerate(messages) if each["role"] == "user"), len(messages))
    if not answers or answers[0] < head:
        return None
    spans: list[Span] = []
    position = len(begin) if whole.startswith(begin := render(messages[:head], False)) else -1
    for first, last in _turns(messages, head, answers[-1] + 1):
        before = [*messages[:head], *messages[_window(messages, first, head) : first]]
        plain, text = render(before, False), render([*before, *messages[first:last]], False)
        if position < 0 or not text.startswith(plain) or not whole.startswith(text[len(plain) :], position):
            return None
        end = position + len(text) - len(plain)
        if first in answers:
            prompt = render(before, True)
            start = position + len(prompt) - len(plain)
            if not (prompt.startswith(plain) and text.startswith(prompt) and whole[start:end].strip()):
                return None
            spans.append((start, end))
        position = end
    return spans if answers[-1] < len(messages) - 1 or position == len(whole) else None


def checked_places(answers: Sequence[int]) -> tuple[int, ...]:
    """The answers, by their place among all, at which the slow way is asked as well."""
    return 0, len(answers) // 2, len(answers) - 1


def _turns(messages: Messages, first: int, last: int) -> Iterator[Span]:
    """Ranges of messages: each of the assistant alone, others together, as templates join results of several tools."""
    while first < last:
        end = first + 1
        while messages[first]["role"] != "assistant" and end < last and messages[end]["role"] != "assistant":
            end += 1
        yield first, end
        first = end


def _window(messages: Messages, place: int, head: int) -> int:
    """The last answer before a place, from where roles alternate as behind the first message of the user."""
    for is_answer in (True, False):
        while place > head and (messages[place]["role"] == "assistant") == is_answer:
            place -= 1
    return place
