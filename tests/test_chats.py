"""Conversations: which tokens are learned, by tags and by spans; whole in their windows; distilled and evaluated."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from flashstill.cli import cli
from flashstill.cli.data import marked
from flashstill.distill.data import templates
from flashstill.distill.data.chats import APART, CUT, DROPPED, ENDLESS, Reading, pieces_of, whole_pieces
from flashstill.distill.data.layouts import Chat, Columns, Document, document_of
from flashstill.distill.data.packing import pack_pieces
from flashstill.distill.data.pieces import NO_TEXT, Piece
from flashstill.distill.data.rows import Tally, Unusable
from flashstill.distill.data.showing import Part, Shown, survey
from flashstill.distill.data.splits import Sizes, packed_splits
from flashstill.distill.data.templates import renderer_of, template_of
from flashstill.distill.data.windows import whole_in_windows
from flashstill.errors import BadInput
from flashstill.recipes.distillation import ShapeRecipe
from flashstill.runs.ends import add_ends, inherit_settings
from tests.chatting import (
    CHATML,
    RECIPE,
    SPECIALS,
    TAGGED,
    TURNS,
    InThisProcess,
    byte_tokenizer,
    chatting_model,
    conversations,
    learned,
    reading_of,
    runs,
    write_lines,
)

REWRITES = CHATML.replace("{{ m.content }}", "{{ m.content if loop.last else m.content.split('</think>')[-1] }}")
"""drops the thinking of earlier turns, as Qwen3's does"""
ENDS_TEXT = CHATML.replace("{% endif %}", "{% else %}<|end|>{% endif %}")
"""an end-of-text token behind the last turn, as Phi-3's"""
PROMPT_OPENS = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
"""the prompt opens a thought that earlier answers do not have, as DeepSeek-R1's"""
PARTS = CHATML.replace("{{ m.content }}", "{% for part in m.content %}{{ part.text }}{% endfor %}")
"""content must be a list of parts, as in templates of vision-language models"""


class TestWhatIsLearned:
    """Loss on what the assistant wrote, with the token that ends its turn."""

    @pytest.mark.parametrize("template", [CHATML, TAGGED, PARTS, PROMPT_OPENS])
    def test_answers(self, template: str) -> None:
        answers = [f"{each['content']}<|im_end|>\n" for each in TURNS if each["role"] == "assistant"]
        if template == PROMPT_OPENS:  # the prompt has opened the thought
            answers[0] = answers[0].removeprefix("<think>")
        assert learned(template) == [answers]

    def test_answers_that_never_end_are_told(self) -> None:
        reading = reading_of("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
                             "{% if add_generation_prompt %}assistant: {% endif %}")  # fmt: skip
        whole_pieces(document_of({"messages": TURNS}, "x", Columns()), reading)
        assert reading.tally.notes == {ENDLESS: 1}

    def test_end_of_text(self) -> None:
        found = learned(ENDS_TEXT)
        assert found == [["<think>hm</think>This.<|im_end|>\n", "Yes, ça va.<|im_end|>\n<|end|>"]]

    def test_turns_that_are_rewritten_stand_apart(self) -> None:
        """No span of the whole would be what the model read and wrote: each answer is a piece of its own."""
        assert learned(REWRITES) == [["<think>hm</think>This.<|im_end|>\n"], ["Yes, ça va.<|im_end|>\n"]]
        assert len(learned(REWRITES, TURNS[:2])) == 1

    def test_all_and_last(self) -> None:
        for template in (CHATML, TAGGED):
            assert learned(template, learn="last") == [["Yes, ça va.<|im_end|>\n"]]
            assert "".join(learned(template, learn="all")[0]).startswith("<|im_start|>user\nWhat?")

    def test_transformers_renders(self) -> None:
        """The tokens are those of apply_chat_template, and its masks where the template has tags."""
        tokenizer = byte_tokenizer(template=TAGGED)
        expected = tokenizer.apply_chat_template(TURNS, return_dict=True, return_assistant_tokens_mask=True)
        piece = whole_pieces(document_of({"messages": TURNS}, "x", Columns()), reading_of(TAGGED))[0]
        assert piece.tokens.tolist() == expected["input_ids"]
        assert piece.counts is not None
        assert piece.counts.astype(int).tolist() == expected["assistant_masks"]

    def test_bytes_are_those_of_the_answers(self) -> None:
        document = document_of({"messages": TURNS}, "x", Columns())
        piece = whole_pieces(document, reading_of(CHATML))[0]
        assert piece.counts is not None
        text = (piece.target_bytes != NO_TEXT) & piece.counts
        assert piece.target_bytes[text].sum() == sum(len(answer.encode()) for answer in document.learned)

    def test_prompt_and_completion(self) -> None:
        document = document_of({"prompt": "1 + 1 = ", "completion": "2"}, "x", Columns())
        piece = whole_pieces(document, Reading(tokenizer=byte_tokenizer(template="")))[0]
        assert runs(piece, byte_tokenizer()) == ["2<|end|>"]

    def test_tools_thinking_and_arguments_reach_the_template(self) -> None:
        template = (
            "{{ tools[0].name }}{% for m in messages %}{{ m.reasoning_content }}{{ m.content }}"
            "{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}{{ mood }}"
            "{{ eos_token }}"
        )
        call = {"function": {"name": "f", "arguments": '{"a": 1}'}}
        record = {
            "messages": [{"role": "user", "content": "?"},
                         {"role": "assistant", "reasoning_content": "hm ", "content": "", "tool_calls": [call]}],
            "tools": [{"name": "add"}], "chat_template_kwargs": {"mood": "glad"},
        }  # fmt: skip
        chat = document_of(record, "x", Columns()).chat
        assert chat is not None
        renderer = reading_of(template).renderer
        assert renderer is not None
        assert renderer.texts(chat, "all")[0][0].text == 'add?hm {"a": 1}glad<|end|>'


class TestBadConversations:
    """What a template refuses is a bad record; a template that fails altogether is refused."""

    def read(self, template: str, record: dict[str, Any]) -> None:
        whole_pieces(document_of(record, "x", Columns()), reading_of(template))

    def test_refused(self) -> None:
        with pytest.raises(Unusable, match="refused by the chat template: no questions"):
            self.read("{{ raise_exception('no questions') }}", {"messages": TURNS})
        with pytest.raises(Unusable, match="leaves out"):
            self.read("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", {"messages": TURNS})
        with pytest.raises(Unusable, match="rewrites the prompt"):
            self.read("{{ messages | length }}{{ messages[-1].content }}", {"messages": TURNS})

    def test_no_template(self) -> None:
        with pytest.raises(BadInput, match=r"no chat template; name a file with one as chat\.template"):
            self.read("", {"messages": TURNS})
        with pytest.raises(Unusable, match="refused by the chat template: unexpected 'end of template'"):
            self.read("{% if", {"messages": TURNS})

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("template", "said"),
        [
            ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "refused by the chat template: access to attribute"),
            ("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", "does not end within"),
        ],
    )
    def test_templates_are_kept_in_a_sandbox(self, template: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
        longest_s = 2.0 if said == "does not end within" else 600.0  # whose answer a busy machine gives late
        monkeypatch.setattr(templates, "LONGEST_S", longest_s)
        document = document_of({"messages": TURNS}, "x", Columns())
        tokenizer = byte_tokenizer(template=template)
        with renderer_of(template_of(tokenizer)) as renderer, pytest.raises((BadInput, Unusable), match=said):
            whole_pieces(document, Reading(tokenizer=tokenizer, renderer=renderer))


def test_long_conversations() -> None:
    documents = [document_of({"messages": TURNS[:2]}, "a", Columns()), document_of({"messages": TURNS}, "b", Columns())]
    for long, count, notes in (("cut", 2, CUT), ("drop", 1, DROPPED)):
        reading = reading_of(CHATML, long=long, tally=Tally(most=1, good=2))
        pieces = list(pieces_of(documents, reading, 80))
        assert [len(piece.tokens) <= 80 for piece in pieces] == [True] * count
        assert reading.tally.notes == {notes: 1}
        assert list(pieces_of(documents, reading, 10)) == []
    assert APART not in reading.tally.notes


def test_bad_records_are_judged_by_source(tmp_path: Path) -> None:
    """A large text of another domain does not make the bad share of the data small, and is not counted as its own."""
    rows = [*conversations(60), *[{"messages": [{"role": "user", "content": f"only asked {n}"}]} for n in range(3)]]
    data = write_lines(tmp_path / "chats.jsonl", rows)
    other = write_lines(tmp_path / "other.jsonl", [{"text": f"{n} and {n * n}, " * 9} for n in range(900)])
    sizes = Sizes(window_tokens=128, train_tokens=10**6, heldout_tokens=128, out_of_domain_tokens=128)
    refuses = "{% if 'TPU' in messages[0].content %}{{ raise_exception('no') }}{% endif %}" + CHATML
    for template, most in ((CHATML, 0.04), (refuses, 0.3)):
        with pytest.raises(BadInput, match="records cannot be used"):
            packed_splits(str(data), str(other), reading_of(template, tally=Tally(most=most)), sizes, 0)
    reading = reading_of(CHATML, tally=Tally(most=0.05))
    assert set(packed_splits(str(data), str(other), reading, sizes, 0)) == {"train", "heldout", "out-of-domain"}
    assert (reading.tally.good, reading.tally.bad) == (60, 3)


def test_data_that_fills_no_window_says_why(tmp_path: Path) -> None:
    data = write_lines(tmp_path / "chats.jsonl", conversations(60))
    sizes = Sizes(window_tokens=16, train_tokens=512, heldout_tokens=128, out_of_domain_tokens=128)
    for long, why in (("drop", "conversations: longer than a window: left out"), ("cut", "before its first answer")):
        with pytest.raises(BadInput, match=why):
            packed_splits(str(data), str(data), reading_of(CHATML, long=long), sizes, 0)
    (tmp_path / "blank.jsonl").write_text("\n\n")
    with pytest.raises(BadInput, match="holds no text"):
        survey(str(tmp_path / "blank.jsonl"), reading_of(CHATML), 1, 9)


@pytest.mark.slow
def test_windows_cut_no_conversation() -> None:
    """Pieces of random lengths and tokens stand each in one window, unchanged, for any length of windows."""
    draws = np.random.default_rng(0)
    for _ in range(300):
        length = int(draws.integers(3, 9))
        sizes = draws.integers(2, length + 2, draws.integers(1, 12))
        pieces = [
            Piece(tokens=draws.integers(0, 3, size).astype(np.int32), target_bytes=np.ones(size, dtype=np.int32),
                  counts=np.ones(size, dtype=np.bool_))
            for size in sizes
        ]  # fmt: skip
        packed = pack_pieces(whole_in_windows(pieces, length, (7, 8, 9)), length, 10**6, whole=True)
        for index, piece in enumerate(pieces):
            window, place = np.nonzero(packed.target_document == index)
            assert set(window) == {window[0]}
            assert packed.tokens[window[0], place[0] : place[-1] + 2].tolist() == piece.tokens.tolist()
        assert packed.mask.sum() == sum(len(piece.tokens) - 1 for piece in pieces)


@pytest.mark.slow
def test_a_student_of_conversations(tmp_path: Path) -> None:
    """From messages to a student: only answers are learned and scored, and the summary counts the records."""
    from flashstill import distill
    from flashstill.distill.data.packing import Packed

    teacher = chatting_model(tmp_path / "teacher", layers=2)
    rows = conversations(60)
    data = write_lines(tmp_path / "chats.jsonl", [*rows, {"messages": [{"role": "user", "content": "only asked"}]}])
    other = write_lines(
        tmp_path / "other.jsonl", [{"prompt": f"{n} + {n} = ", "completion": str(2 * n)} for n in range(40)]
    )
    (tmp_path / "distill.toml").write_text(RECIPE.format(data=data, other=other, teacher=teacher))
    summary = distill(tmp_path / "distill.toml", tmp_path / "out").as_dict()
    assert summary["records"]["skipped"] == 1
    assert summary["records"]["reasons"] == {"has no assistant message to learn from": 1}
    packed = Packed.load(tmp_path / "out" / "data" / "train.safetensors")
    tokenizer = byte_tokenizer()
    text = tokenizer.decode(packed.tokens[:, 1:][packed.mask])
    assert "How fast" not in text
    assert "t/s.<|im_end|>" in text
    assert summary["quality"]["student"]["heldout"]["kl_to_teacher"][0] > 0
    settings = json.loads((tmp_path / "out" / "student" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [256, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert json.loads((tmp_path / "out" / "data" / "records.json").read_text())["used"] == 60


def test_a_document_knows_what_is_learned() -> None:
    chat = Chat(messages=({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}), answers=(1,))
    assert Document(name="x", text="a\n\nb", chat=chat).learned == ["b"]
    assert SPECIALS[0] == "<|end|>"


class TestShowing:
    """`flashstill data` counts what is read and marks what is learned."""

    def test_survey(self, tmp_path: Path) -> None:
        rows = [*conversations(30), {"text": "plain"}, {"prompt": "1+1=", "completion": "2"}]
        found = survey(str(write_lines(tmp_path / "a.jsonl", rows)), reading_of(CHATML), 1, 10**6)
        assert found.documents == {"conversation": 30, "text": 1, "prompt and completion": 1}
        assert found.records["used"] == 32
        answers = sum(
            len(f"{m['content']}<\n") for row in rows[:30] for m in row["messages"] if m["role"] == "assistant"
        )
        assert found.learned == answers + len("plain<") + len("2<")
        assert [(part.text, part.learned) for part in found.shown[0].parts] == [
            ("<|im_start|>user\nHow fast is GPU 0?<|im_end|>\n<|im_start|>assistant\n", False),
            ("It does 0 t/s.<|im_end|>\n", True),
        ]
        assert marked(found.shown[0], False).endswith("assistant\n[[It does 0 t/s.<|im_end|>\n]]")
        assert sum(part.tokens for part in found.shown[0].parts) <= found.longest

    def test_text_sends_no_commands_to_a_terminal(self) -> None:
        shown = Shown(name="x", kind="text", parts=(Part(text="a\x1b]0;title\x07\n\x9bb\té", learned=False, tokens=3),))
        assert marked(shown, True) == "a\\x1b]0;title\\x07\n\\x9bb\té"

    @pytest.mark.slow
    def test_command(self, tmp_path: Path) -> None:
        byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
        data = write_lines(tmp_path / "a.jsonl", conversations(3))
        words = ["data", str(data), "--tokenizer", str(tmp_path / "tokenizer"), "--show", "1"]
        plain = CliRunner().invoke(cli, words)
        assert plain.exit_code == 0, plain.output
        assert "3 records: 3 x conversation" in plain.output
        assert "[[It does 0 t/s.<|im_end|>\n]]" in plain.output
        found = json.loads(CliRunner().invoke(cli, [*words, "--json"]).output)
        assert found["documents"] == {"conversation": 3}
        assert found["shown"][0]["parts"][1]["learned"] is True


@pytest.mark.slow
def test_evaluation_scores_answers_alone(tmp_path: Path) -> None:
    """Bits per byte of the answers of two tokenizers' models: the bytes are those of the answers."""
    import torch

    from flashstill import evaluate
    from flashstill.distill.models import load_model
    from flashstill.records import QualityRecord

    chatting_model(tmp_path / "one")
    rows = conversations(16)[1::2]
    data = write_lines(tmp_path / "chats.jsonl", rows)
    found = evaluate(str(tmp_path / "one"), {"chats": str(data)}, tokens=400, window_tokens=150, arithmetic="fp32")
    by_metric = {each.metric: each for each in found.records if isinstance(each, QualityRecord)}
    tokenizer, model = byte_tokenizer(), load_model(tmp_path / "one", torch.float32)
    nll = tokens = 0.0
    for row in rows:
        ids = torch.tensor(tokenizer.apply_chat_template(row["messages"])["input_ids"])[None]
        log_p = model(input_ids=ids[:, :-1]).logits[0].log_softmax(-1).detach()
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        place, answers = 0, [each["content"] for each in row["messages"] if each["role"] == "assistant"]
        for answer in answers:
            place = text.index(answer, place)
            first = len(tokenizer(text[:place])["input_ids"])
            for target in range(first, first + len(answer)):
                nll -= float(log_p[target - 1, ids[0, target]])
                tokens += 1
    assert by_metric["bits_per_byte"].tokens == tokens
    assert by_metric["bits_per_byte"].documents == 8
    assert by_metric["bits_per_byte"].value == pytest.approx(nll / tokens / np.log(2), rel=1e-4)


def student_that_ends_at(ends: Any, rows: int = 300) -> Any:
    """What is looked at of a student: its settings of generation, and how many tokens it has rows for."""
    embedding = SimpleNamespace(weight=np.zeros((rows, 1)))
    settings = SimpleNamespace(eos_token_id=ends)
    return SimpleNamespace(generation_config=settings, get_input_embeddings=lambda: embedding)


@pytest.mark.parametrize("before", [256, [256, 7], None])
def test_a_student_stops_where_its_answers_end(tmp_path: Path, before: Any) -> None:
    """modelscope/ms-swift#9526: made from a base model that ends texts with another token, it would never stop."""
    tokenizer, turn = byte_tokenizer(), byte_tokenizer().convert_tokens_to_ids("<|im_end|>")
    pieces = [
        piece
        for row in conversations(8)
        for piece in whole_pieces(document_of(row, "x", Columns()), reading_of(CHATML))
    ]
    packed = pack_pieces(pieces, 64, 4)
    student = student_that_ends_at(before)
    add_ends(student, tokenizer, packed, ShapeRecipe(kind="copy"))
    known = [] if before is None else before if isinstance(before, list) else [before]
    assert student.generation_config.eos_token_id == [*known, *([] if 256 in known else [256]), turn]
    plain = dataclasses.replace(packed, target_mask=None)
    student = student_that_ends_at(256)
    add_ends(student, tokenizer, plain, ShapeRecipe(kind="copy"))
    assert student.generation_config.eos_token_id == 256
    student = student_that_ends_at([7, 256], rows=256)
    add_ends(student, tokenizer, plain, ShapeRecipe(kind="copy"))
    assert student.generation_config.eos_token_id == 7, "a token without a row is never written"


@pytest.mark.parametrize(("more", "ends"), [({}, 256), ({"eos_token_id": 7}, [7, 256])])
def test_a_student_from_scratch_stops_at_its_tokenizers_end(tmp_path: Path, more: Any, ends: Any) -> None:
    """And not at the token that the class of its configuration assumes, which is another tokenizer's."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama", **more}))
    student = student_that_ends_at(more.get("eos_token_id", 2))
    packed = pack_pieces(
        [Piece(tokens=np.arange(9, dtype=np.int32), target_bytes=np.ones(9, dtype=np.int32), name="a")], 8, 1
    )
    add_ends(student, byte_tokenizer(), packed, ShapeRecipe(kind="scratch", config=str(path)))
    assert student.generation_config.eos_token_id == ends


def test_a_student_generates_as_its_origin() -> None:
    origin, student = (SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=each)) for each in ([1, 2], 1))
    inherit_settings(student, origin)
    assert student.generation_config.eos_token_id == [1, 2]
    assert student.generation_config is not origin.generation_config
    inherit_settings(student, None)
    assert student.generation_config.eos_token_id == [1, 2]


def test_one_beginning_of_text() -> None:
    """huggingface/open-r1#462, sgl-project/sglang#888: the template writes it, and so does the tokenizer."""
    from tokenizers.processors import TemplateProcessing

    specials = ("<|end|>", "<s>", "<|im_start|>", "<|im_end|>")
    tokenizer = byte_tokenizer(specials, template="{{ bos_token }}" + CHATML, bos="<s>")
    begin = tokenizer.bos_token_id
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    assert tokenizer("a")["input_ids"][0] == begin
    found = template_of(tokenizer)
    assert found is not None
    reading = Reading(tokenizer=tokenizer, renderer=InThisProcess(found))
    (piece,) = whole_pieces(document_of({"messages": TURNS}, "x", Columns()), reading)
    assert piece.tokens.tolist().count(begin) == 1
