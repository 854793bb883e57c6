"""What is learned of a conversation is what TRL learns (tests/trl_masks.json, by benchmarks/peers/trl_masks.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flashstill.distill.data.chats import Reading, whole_pieces
from flashstill.distill.data.layouts import Columns, document_of
from flashstill.distill.data.templates import template_of
from tests.chat_formats import FORMATS, conversation
from tests.chatting import InThisProcess, byte_tokenizer

GOLDEN = json.loads(Path(__file__).with_name("trl_masks.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FORMATS)
def test_as_trl(name: str) -> None:
    form, golden = FORMATS[name], GOLDEN["formats"][name]
    tokenizer = byte_tokenizer(form.specials, form.template, form.bos)
    found = template_of(tokenizer)
    assert found is not None
    reading = Reading(tokenizer=tokenizer, renderer=InThisProcess(found))
    messages = conversation(form)
    for record, kind in (
        ({"prompt": messages[:-1], "completion": messages[-1:]}, "completion"),
        ({"messages": messages}, "assistant"),
    ):
        pieces = whole_pieces(document_of(record, "x", Columns()), reading)
        assert len(pieces) == 1
        assert tokenizer.decode(pieces[0].tokens) == golden["text"]
        assert pieces[0].counts is not None
        ours, theirs = "".join(map(str, pieces[0].counts.astype(int))), golden[kind]
        if kind == "assistant" and not theirs:  # TRL knows no template of this family that marks answers
            continue
        if kind == "assistant" and form.wider:
            more = [place for place, (own, other) in enumerate(zip(ours, theirs, strict=True)) if own != other]
            assert more == [
                place - 1 for place, pair in enumerate(zip("0" + ours, ours, strict=False)) if pair == ("0", "1")
            ]
            assert all(theirs[place] == "1" for place in more), "the last token of the header before each answer"
            continue
        assert ours == theirs


def test_the_figures_are_told_with_their_versions() -> None:
    assert GOLDEN["versions"]["trl"] == "1.16.0"
    assert set(GOLDEN["formats"]) == set(FORMATS)
    assert sum(bool(each["assistant"]) for each in GOLDEN["formats"].values()) >= 6
