"""What a record of a data file means: a text, a prompt with its completion, or a conversation.

    {"text": "..."}                                                        text
    {"messages": [{"role": "user", "content": "..."}, ...], "tools": [..]}  a conversation
    {"prompt": ..., "completion": ...}                                     two strings, or two lists of messages
    {"conversations": [{"from": "human", "value": "..."}, ...]}            ShareGPT
    {"instruction": "...", "input": "...", "output": "..."}                Alpaca

`Columns` gives the names that a data file uses instead.  A record that is none of these raises Unusable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flashstill.distill.data.messages import decoded, message_of, valid
from flashstill.distill.data.rows import Unusable
from flashstill.errors import shown

PAIRS = (("prompt", "completion"), ("prompt", "response"), ("query", "response"))
EXTRA = ("tools", "system", "chat_template_kwargs", "input", "history")
MEDIA = ("image", "images", "video", "videos", "audio", "audios")
"""what a conversation may be about, in the layouts of LLaVA, TRL and LLaMA-Factory"""
NO_LAYOUT = (
    'has no "text" string, and none of "messages", "conversations", "prompt" with "completion", or "instruction" with'
    ' "output"'
)
NO_ANSWER = "has no assistant message to learn from"
MOST_NAMES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Names of the entries of a record, empty for those above. as_chat: a prompt and a completion that are strings are
    a user's message and the assistant's answer, not one text."""

    text: str = ""
    messages: str = ""
    prompt: str = ""
    completion: str = ""
    as_chat: bool = False

    @property
    def given(self) -> set[str]:
        """The names that stand in place of the usual ones."""
        return {self.text, self.messages, self.prompt, self.completion} - {""}

    @property
    def names(self) -> set[str]:
        """Every name that a record may use."""
        known = {name for pair in PAIRS for name in pair}
        return self.given | known | {"text", "messages", "conversations", "instruction", "output", *EXTRA}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chat:
    """A conversation. answers: indices of the messages that can be learned from; tools: their JSON schemas;
    arguments: further variables of the chat template."""

    messages: tuple[Mapping[str, Any], ...]
    answers: tuple[int, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A text or a conversation, which goes as a whole into either the training or the held-out set.

    text: of a conversation all that was said in it; prompt_characters: the beginning of the text that is read but not
    learned.
    """

    name: str
    text: str
    prompt_characters: int = 0
    chat: Chat | None = None

    @property
    def is_whole(self) -> bool:
        """Whether no part of it can be left out: a conversation, or a prompt with its completion."""
        return self.chat is not None or self.prompt_characters > 0

    @property
    def learned(self) -> list[str]:
        """The texts that are learned: the answers of a conversation, a completion, or all of a text."""
        if self.chat is None:
            return [self.text[self.prompt_characters :]]
        return [str(self.chat.messages[place]["content"]) for place in self.chat.answers]


def document_of(record: Any, name: str, columns: Columns) -> Document:
    """The document of a record; Unusable says what is wrong with it."""
    if not isinstance(record, Mapping):
        raise Unusable(NO_LAYOUT)
    if not columns.given & set(record):  # another source of the same recipe may have the usual names
        columns = Columns(as_chat=columns.as_chat)
    if columns.messages or _is_listed(record.get("messages")):
        return _conversation(record, columns.messages or "messages", name)
    if _is_listed(record.get("conversations")) and not columns.text and not columns.prompt:
        return _conversation(record, "conversations", name)
    for prompt, completion in ((columns.prompt or "prompt", columns.completion or "completion"), *PAIRS[1:]):
        if prompt in record and completion in record and not columns.text:
            return _completed(record, prompt, completion, name, columns.as_chat or prompt == "query")
    if "instruction" in record and "output" in record and not columns.text:
        return _instructed(record, name)
    return _plain_text(record, columns.text or "text", name)


def _plain_text(record: Mapping[str, Any], column: str, name: str) -> Document:
    text = record.get(column)
    if not isinstance(text, str):
        if column != "text" or column in record or len(record) == 0:
            raise Unusable(f'has no "{column}" string')
        names = ", ".join(list(map(str, record))[:MOST_NAMES])
        raise Unusable(f"{NO_LAYOUT}; it has {names}", NO_LAYOUT)
    return Document(name=name, text=valid(text))


def _is_listed(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))


def _conversation(record: Mapping[str, Any], column: str, name: str) -> Document:
    messages = [message_of(each, place) for place, each in enumerate(_list(record, column), 1)]
    messages = [*_system(record, messages), *messages]
    return _chat(record, messages, 0, name)


def _completed(record: Mapping[str, Any], prompt: str, completion: str, name: str, as_chat: bool) -> Document:
    """A prompt and its completion, both strings, or one or both lists of messages."""
    asked, answered = record[prompt], record[completion]
    if isinstance(asked, str) and isinstance(answered, str) and not _is_messages(asked) and not as_chat:
        if not answered:
            raise Unusable(f'has an empty "{completion}"')
        return Document(name=name, text=valid(asked + answered), prompt_characters=len(asked))
    messages = [*_turns(record, prompt, "user")]
    messages = [*_system(record, messages), *messages]
    return _chat(record, [*messages, *_turns(record, completion, "assistant")], len(messages), name)


def _is_messages(text: str) -> bool:
    return text.lstrip().startswith('[{"role"')


def _turns(record: Mapping[str, Any], column: str, role: str) -> list[dict[str, Any]]:
    value = record[column]
    if isinstance(value, str) and not _is_messages(value):
        return [{"role": role, "content": valid(value)}]
    return [message_of(each, place) for place, each in enumerate(_list(record, column), 1)]


def _instructed(record: Mapping[str, Any], name: str) -> Document:
    """Alpaca: an instruction, to which an input may belong, and earlier turns [question, answer] in its history."""
    parts = [record["instruction"], record.get("input") or ""]
    if not all(isinstance(each, str) for each in (*parts, record["output"])):
        raise Unusable('has no strings in "instruction", "input" and "output"')
    turns = []
    for pair in record.get("history") or ():
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(each, str) for each in pair)):
            raise Unusable('has a "history" that is no list of pairs of strings')
        turns += [("user", pair[0]), ("assistant", pair[1])]
    turns += [("user", "\n\n".join(part for part in parts if part)), ("assistant", record["output"])]
    messages = [{"role": role, "content": valid(text)} for role, text in turns]
    return _chat(record, [*_system(record, messages), *messages], 0, name)


def _system(record: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The system prompt that stands beside a conversation, unless it has one."""
    system = record.get("system")
    if not isinstance(system, str) or not system or (messages and messages[0]["role"] == "system"):
        return []
    return [{"role": "system", "content": valid(system)}]


def _list(record: Mapping[str, Any], column: str) -> list[Any]:
    """A list of objects, or the JSON text of one."""
    value = decoded(record.get(column))
    if not isinstance(value, list) or not value:
        raise Unusable(f'has no list of messages in "{column}"')
    return value


def _chat(record: Mapping[str, Any], messages: list[dict[str, Any]], begin: int, name: str) -> Document:
    """begin: messages before it are the prompt. A message of an assistant with weight 0 is not learned from."""
    answers = tuple(
        place for place, each in enumerate(messages)
        if place >= begin and each["role"] == "assistant" and each.get("weight", 1) != 0
    )  # fmt: skip
    if not answers:
        roles = list(dict.fromkeys(each["role"] for each in messages[begin:]))
        seen = "" if "assistant" in roles else f"; its roles are {shown(roles)}"
        raise Unusable(NO_ANSWER + seen, NO_ANSWER)
    if media := next((name for name in MEDIA if record.get(name)), ""):
        raise Unusable(f'has "{media}" beside its messages, and only text is learned')
    tools, arguments = decoded(record.get("tools")) or (), decoded(record.get("chat_template_kwargs")) or {}
    if not isinstance(tools, list | tuple) or not all(isinstance(each, Mapping) for each in tools):
        raise Unusable('has "tools" that are no list of objects')
    if not isinstance(arguments, Mapping):
        raise Unusable('has "chat_template_kwargs" that are no object')
    plain = tuple({key: value for key, value in each.items() if key != "weight"} for each in messages)
    said = "\n\n".join(each["content"] for each in messages if each["content"])
    return Document(
        name=name,
        text=said or name,
        chat=Chat(messages=plain, answers=answers, tools=tuple(tools), arguments=arguments),
    )
