"""What a chat template leaves out of a conversation is refused or told, and which of several templates is used."""

from __future__ import annotations

from typing import Any

import pytest

from flashstill.distill.data.chats import EMPTY, whole_pieces
from flashstill.distill.data.layouts import Columns, document_of
from flashstill.distill.data.left_out import UNTHOUGHT
from flashstill.distill.data.rows import Unusable
from flashstill.distill.data.templates import template_of
from flashstill.errors import BadInput
from tests.chatting import CHATML, TAGGED, byte_tokenizer, reading_of

CALL = {"type": "function", "function": {"name": "add", "arguments": {"x": 2}}}
ADD = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {}}}
WITH_CALLS = CHATML.replace("{{ m.content }}", "{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}")
WITH_TOOLS = "{{ tools | tojson if tools }}" + WITH_CALLS
NO_SYSTEM = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
ASKED: dict[str, Any] = {"role": "user", "content": "2 + 2?"}
CALLED: list[dict[str, Any]] = [
    ASKED,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "4"},
    {"role": "assistant", "content": "It is 4."},
]


def pieces(template: str, messages: list[dict[str, Any]], **more: Any) -> tuple[str, dict[str, int]]:
    """What is learned, and what is told."""
    reading = reading_of(template)
    (piece,) = whole_pieces(document_of({"messages": messages, **more}, "x", Columns()), reading)
    assert piece.counts is not None
    return reading.tokenizer.decode(piece.tokens[piece.counts]), dict(reading.tally.notes)


@pytest.mark.parametrize(
    ("template", "messages", "more", "said"),
    [
        (CHATML, CALLED, {}, "has a call of a tool in message 2 that the chat template leaves out"),
        (TAGGED, CALLED, {}, "has a call of a tool in message 2 that the chat template leaves out"),
        (WITH_CALLS, CALLED, {"tools": [ADD]}, "has tools that the chat template leaves out"),
        (
            NO_SYSTEM,
            [{"role": "system", "content": "Be brief."}, *CALLED[::3]],
            {},
            r"has the text of message 1 \(from 'system'\) that the chat template leaves out",
        ),
    ],
)
def test_what_would_be_lost_is_refused(
    template: str, messages: list[dict[str, Any]], more: dict[str, Any], said: str
) -> None:
    with pytest.raises(Unusable, match=said):
        pieces(template, messages, **more)


@pytest.mark.parametrize("more", [{"images": ["cat.png"]}, {"image": "cat.png"}])
def test_pictures_beside_a_conversation_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Unusable, match=r'has "images?" beside its messages, and only text is learned'):
        pieces(CHATML, CALLED[::3], **more)
    assert pieces(CHATML, CALLED[::3], images=[])


def test_what_is_rendered_otherwise_is_not_lost() -> None:
    learned, notes = pieces(WITH_TOOLS, CALLED, tools=[ADD])
    assert '"name": "add"' in learned
    assert "It is 4." in learned
    assert not notes
    capitals = CHATML.replace("{{ m.content }}", "{{ m.content | upper }}")
    assert pieces(capitals, CALLED[::3])[0].startswith("IT IS 4.")
    drops_thoughts = CHATML.replace(
        "{{ m.content }}", "{{ m.content if loop.last else m.content.split('</think>')[-1] }}"
    )
    thought = [ASKED, {"role": "assistant", "content": "<think>hm</think>"}, ASKED, CALLED[-1]]
    reading = reading_of(drops_thoughts)
    assert len(whole_pieces(document_of({"messages": thought}, "x", Columns()), reading)) == 2


def test_empty_answers_and_lost_thoughts_are_told() -> None:
    assert pieces(CHATML, [ASKED, {"role": "assistant", "content": " "}, *CALLED[::3]])[1] == {EMPTY: 1}
    thought = [ASKED, {**CALLED[-1], "reasoning_content": "hm"}]
    assert pieces(CHATML, thought)[1] == {UNTHOUGHT: 1}
    shown = CHATML.replace("{{ m.content }}", "{{ m.reasoning_content }}{{ m.content }}")
    assert pieces(shown, thought) == ("hmIt is 4.<|im_end|>\n", {})


def test_one_of_several_templates() -> None:
    """As transformers chooses: the default one, and for conversations with tools the one for tools."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"default": CHATML, "tool_use": WITH_TOOLS}
    found = template_of(tokenizer)
    assert found is not None
    assert (found.source, found.with_tools) == (CHATML, WITH_TOOLS)
    reading = reading_of(CHATML)
    renderer = type(reading.renderer)(found)  # type: ignore[misc]
    both = [document_of({"messages": CALLED[::3], **more}, "x", Columns()) for more in ({}, {"tools": [ADD]})]
    texts = [renderer.texts(each.chat)[0][0].text for each in both if each.chat]
    assert texts[0].startswith("<|im_start|>user")
    assert texts[1].startswith('[{"type": "function"')
    tokenizer.chat_template = {"rag": CHATML, "tool_use": WITH_TOOLS}
    with pytest.raises(BadInput, match=r"several chat templates \(rag, tool_use\) and none is the default"):
        template_of(tokenizer)
    tokenizer.chat_template = 5
    with pytest.raises(BadInput, match="chat template of the tokenizer is 5, not a text"):
        template_of(tokenizer)
