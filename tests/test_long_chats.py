"""Long conversations of agents: the same masks as the slow way, in time that grows with their length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flashstill.distill.data import left_out, rendering
from tests.chat_formats import FORMATS
from tests.chatting import CHATML

TOOLS = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}"
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}"
    "\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls %}\n<tool_call>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool_call>"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""as Qwen writes calls and results of tools: those of one turn together"""
THINKING = CHATML.replace(
    "{{ m.content }}",
    "{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}",
)
"""with thoughts in the last answer only, as Qwen3 does: earlier turns are rewritten"""


def agent(calls: int, results: int = 1) -> list[dict[str, Any]]:
    """A question, so many calls of a tool with results, and an answer; every third call comes with a text."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "?"}]
    for number in range(calls):
        call = {"type": "function", "function": {"name": "look", "arguments": {"at": number % 7}}}
        said = f"I look at {number}." if number % 3 == 0 else ""
        messages.append({"role": "assistant", "content": said, "tool_calls": [call] * results})
        messages += [{"role": "tool", "content": f"result {number * 7 % 5} of {place}"} for place in range(results)]
    return [*messages, {"role": "assistant", "content": "Done."}]


def talk(turns: int, system: bool) -> list[dict[str, Any]]:
    first = [{"role": "system", "content": "Be kind."}] if system else []
    pairs = [
        ({"role": "user", "content": f"What is {n % 5}?"}, {"role": "assistant", "content": f"It is {n % 3}."})
        for n in range(turns)
    ]
    return [*first, *(message for pair in pairs for message in pair)]


def chat_of(messages: list[dict[str, Any]], answers: list[int] | None = None, tools: Any = None) -> dict[str, Any]:
    own = [place for place, each in enumerate(messages) if each["role"] == "assistant"]
    return {"messages": messages, "answers": own if answers is None else answers, "tools": tools, "arguments": {},
            "prompt": False}  # fmt: skip


def renderer_of(template: str, specials: tuple[str, ...] = (), bos: str = "") -> rendering.Renderer:
    tokens = {"bos_token": bos, "eos_token": specials[0] if specials else "<|end|>"}
    return rendering.Renderer(
        {"template": template, "with_tools": "", "tokens": tokens, "specials": list(specials), "arguments": {}}
    )


@contextmanager
def slowly() -> Iterator[None]:
    """Every beginning of a conversation is rendered, and messages are tried one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "LEAST_ANSWERS", 10**9)
        patch.setattr(left_out, "LEAST_PROBED", 10**9)
        yield


def both(renderer: rendering.Renderer, chat: dict[str, Any]) -> dict[str, Any]:
    """What both ways find, which must be the same."""
    quick = renderer.texts(chat)
    with slowly():
        assert quick == renderer.texts(chat)
    return quick


@pytest.mark.parametrize("name", FORMATS)
def test_formats_of_well_known_families(name: str) -> None:
    form = FORMATS[name]
    both(renderer_of(form.template, form.specials, form.bos), chat_of(talk(17, form.system)))


@pytest.mark.parametrize("template", [TOOLS, CHATML, THINKING], ids=["tools", "chatml", "thinking"])
@pytest.mark.parametrize("results", [1, 3])
def test_calls_of_tools(template: str, results: int) -> None:
    messages = agent(18, results)
    if template != TOOLS:  # these templates write no calls
        messages = [{**{key: each[key] for key in ("role",)}, "content": each["content"] or "-"} for each in messages]
    found = both(renderer_of(template, ("<|im_end|>",)), chat_of(messages))
    assert found["apart"] == (template == THINKING)
    if template == TOOLS:
        text, spans = found["texts"][0]["text"], found["texts"][0]["spans"]
        assert text[slice(*spans[1])] == '<tool_call>look {"at": 1}</tool_call>' * results + "<|im_end|>\n"


def test_some_answers_only() -> None:
    messages = agent(24)
    answers = [place for place, each in enumerate(messages) if each["role"] == "assistant"][3:-2]
    both(renderer_of(TOOLS), chat_of(messages, answers))


def test_a_call_that_is_left_out_among_many_is_found() -> None:
    """Where there is a text this template writes no calls; it is one of forty."""
    template = TOOLS.replace("{% for c in m.tool_calls %}", "{% for c in m.tool_calls if not m.content %}")
    messages = [{**each, "content": ""} if each["role"] == "assistant" else each for each in agent(40)[:-1]]
    assert not renderer_of(template).texts(chat_of(messages))["apart"]
    messages[42]["content"] = "Now I look."
    with pytest.raises(rendering.Refused, match="a call of a tool in message 43"):
        renderer_of(template).texts(chat_of(messages))


def test_the_work_grows_with_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the calls are at most 2.2 times the messages rendered."""
    rendered: list[int] = []
    plain = rendering.Renderer._render

    def counted(self: Any, messages: Any, *arguments: Any, **more: Any) -> Any:
        rendered.append(len(messages))
        return plain(self, messages, *arguments, **more)

    monkeypatch.setattr(rendering.Renderer, "_render", counted)
    work = []
    for calls in (50, 100):
        rendered.clear()
        renderer_of(TOOLS).texts(chat_of(agent(calls), tools=[{"name": "look"}]))
        work.append(sum(rendered))
    assert work[1] < 2.2 * work[0]


def test_a_conversation_that_takes_too_long_is_a_bad_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "LONGEST_S", 0.0)
    with pytest.raises(rendering.Refused, match="takes more than 0 s to render with this chat template"):
        renderer_of(THINKING).texts(chat_of(talk(20, True)))
