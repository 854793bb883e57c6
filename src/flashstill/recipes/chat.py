"""The [records] and [chat] of a recipe: how records of data files are read, and what of a conversation is learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from flashstill.checked import one_of
from flashstill.recipes.ranges import Share, Source

LEARN, LONG = ("assistant", "last", "all"), ("cut", "drop")


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordsRecipe:
    """Records of data files. bad_share: of those that cannot be used and are skipped, before the data is refused; text,
    messages, prompt, completion: names of their entries, if they are not the usual ones; as_chat: prompts and
    completions that are strings are conversations."""

    bad_share: Share = 0.01
    text: Source = ""
    messages: Source = ""
    prompt: Source = ""
    completion: Source = ""
    as_chat: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRecipe:
    """Conversations. template: a file, if not the tokenizer's own; arguments: further variables of the template; learn:
    "assistant" for what the assistant wrote, "last" for its last answer, "all" for every token; long: whether a
    conversation that is longer than a window is cut at its end or left out."""

    template: Source = ""
    arguments: dict[str, str | bool | int | float] = field(default_factory=dict, hash=False)
    learn: Annotated[str, one_of(LEARN)] = "assistant"
    long: Annotated[str, one_of(LONG)] = "cut"


def records_problems(records: RecordsRecipe) -> Iterator[str]:
    """Errors in combinations of values that are each in range."""
    if bool(records.prompt) != bool(records.completion):
        yield "records.prompt and records.completion name the two entries of a record together; give both"
    if sum(map(bool, (records.text, records.messages, records.prompt))) > 1:
        yield "records names entries of several layouts; give text, messages, or prompt with completion"
    if records.as_chat and (records.text or records.messages):
        yield "records.as_chat is for records of a prompt and a completion"
