"""Prompts of conversations: student and teacher continue what stands before an answer, up to the end of a turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flashstill.distill.data.layouts import Columns, document_of
from flashstill.distill.data.packing import Packed
from flashstill.distill.data.prompts import chat_prompts_in, digest_of, ends_of_turns, prompt_for, prompts_of
from flashstill.distill.data.windows import packed
from flashstill.distill.generate import continued
from tests.chatting import (
    CHATML,
    RECIPE,
    byte_tokenizer,
    chatting_model,
    conversations,
    reading_of,
    write_lines,
)

TOKENIZER = byte_tokenizer()


def chats(count: int = 6, length: int = 200) -> Packed:
    documents = [document_of(row, str(place), Columns()) for place, row in enumerate(conversations(count))]
    return packed(documents, reading_of(CHATML), length, 100)


def texts(count: int = 6) -> Packed:
    documents = [document_of({"text": f"text number {n} " * 5}, str(n), Columns()) for n in range(count)]
    return packed(documents, reading_of(CHATML), 32, 100)


def test_a_prompt_is_all_before_the_last_answer() -> None:
    found = prompts_of(chats(), 8, 200)
    expected = [
        TOKENIZER.apply_chat_template(row["messages"][:-1], add_generation_prompt=True)["input_ids"]
        for row in conversations(6)
    ]
    assert [prompt.tolist() for prompt in found] == expected
    shorter = prompts_of(chats(), 8, 60)
    assert [prompt.tolist() for prompt in shorter] == [prompt for prompt in expected if len(prompt) <= 60]
    assert digest_of(found) != digest_of(shorter)


def test_text_is_continued_from_the_beginning_of_windows() -> None:
    packing = texts()
    assert np.array_equal(prompts_of(packing, 8, 32), packing.tokens[:, :8])
    assert chat_prompts_in(packing, 0, 32) == []
    assert prompt_for(packing, 1, 5, 8, 32).tolist() == packing.tokens[1, :8].tolist()
    turns = [prompt_for(chats(), 0, turn, 8, 200).tolist() for turn in range(3)]
    assert turns[0] == turns[2] != turns[1], "the conversations of a window take turns"


def test_answers_end_at_the_token_that_ends_a_turn() -> None:
    special = [256, 257, 258]
    assert ends_of_turns(chats(), special) == (258,)
    assert ends_of_turns(texts(), special) == (), "the end of a text always stops a continuation"
    assert ends_of_turns(chats(1, 60), special) in ((258,), ())


def test_prompts_of_several_lengths() -> None:
    prompts = [np.array([5, 6, 7], dtype=np.int32), np.array([8], dtype=np.int32)]
    tokens, mask = continued(prompts, np.array([[1, 2, -1], [3, 4, 2]]), 4)
    assert tokens.tolist() == [[5, 6, 7, 1, 2], [8, 3, 4, 2, 0]]
    assert mask.astype(int).tolist() == [[0, 0, 1, 1], [1, 1, 1, 0]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sequence", "on-policy"])
def test_regimes_of_conversations(tmp_path: Path, kind: str) -> None:
    """The teacher's own answers replace those of the data; a student continues prompts of conversations."""
    from flashstill import distill

    teacher = chatting_model(tmp_path / "teacher")
    data = write_lines(tmp_path / "chats.jsonl", conversations(60))
    more = '[signals]\nkind = "none"\n' if kind == "on-policy" else ""
    recipe = (
        RECIPE.format(data=data, other=data, teacher=teacher) + more + f'[regime]\nkind = "{kind}"\nnew_tokens = 12\n'
    )
    (tmp_path / "distill.toml").write_text(recipe)
    assert distill(tmp_path / "distill.toml", tmp_path / "out").summary["steps"] > 0
    if kind == "sequence":
        text = Packed.load(tmp_path / "out" / "data" / "sequence.safetensors")
        first = TOKENIZER.decode(text.tokens[0])
        assert first.startswith("<|im_start|>user\nHow fast")
        assert (text.mask.sum(-1) <= 12).all()
        before = TOKENIZER.decode(text.tokens[0, : int(np.flatnonzero(text.mask[0])[0]) + 1])
        assert before.endswith("<|im_start|>assistant\n")
