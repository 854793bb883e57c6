"""Context distillation: a teacher with a system prompt that the student does not see, aligned with its text."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.distill.data.chats import Reading, whole_pieces
from flashstill.distill.data.layouts import Columns, Document, document_of
from flashstill.distill.data.packing import Packed
from flashstill.distill.data.rows import Tally
from flashstill.distill.data.splits import Sizes, packed_splits
from flashstill.distill.data.views import View, joined_views, learned_places, prompted
from flashstill.distill.data.windows import packed as pack
from flashstill.distill.losses import DenseTeacher, Sparse
from flashstill.distill.losses.logits import as_head
from flashstill.distill.models import load_model
from flashstill.distill.signals import Hidden, Signals, TopK, build, signal_key
from flashstill.distill.teachers import Online
from flashstill.distill.teachers.served import Server, build_from_server
from flashstill.distill.training import take
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from tests.chatting import CHATML, RECIPE, TURNS, chatting_model, conversations, reading_of, write_lines
from tests.fake_server import FakeServer

SYSTEM = "You are a chip."
MERGED = (
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{% if loop.last or loop.index == "
    "messages | length - 1 %}{% if messages[0].role == 'system' %}{{ messages[0].content }}\n{% endif %}{% endif %}"
    "{{ m.content }}<|im_end|>\n{% elif m.role == 'assistant' %}<|im_start|>assistant\n{{ m.content }}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""the system prompt stands in the last user's message, as in Mistral's"""


def packed_with_views(given: list[Document], reading: Reading, length: int, windows: int) -> tuple[Packed, list[View]]:
    """A packing with its views."""
    views: list[View] = []
    return pack(given, reading, length, windows, views=views), views


def documents(count: int = 12) -> list[Document]:
    """Conversations, and a text between them."""
    made = [document_of(row, str(place), Columns()) for place, row in enumerate(conversations(count))]
    text = document_of(
        {"text": "A text that is longer than a window of the student's, of several sentences. " * 4}, "t", Columns()
    )
    return [*made[:2], text, *made[2:]]


@pytest.mark.parametrize("template", [CHATML, MERGED])
def test_every_learned_target_is_predicted_by_the_same_words_of_the_teacher(template: str) -> None:
    reading = reading_of(template, systems=(SYSTEM, "Be kind."), tally=Tally(most=1, good=99))
    packed, views = packed_with_views(documents(), reading, 128, 100)
    assert len(views) == 2
    for view, system in zip(views, reading.systems, strict=True):
        learned = packed.mask
        assert ((view.place >= 0) == learned).all()
        window, _ = np.nonzero(learned)
        after = view.tokens[window, view.place[learned] + 1]
        assert (after == packed.tokens[:, 1:][learned]).all(), "the teacher predicts the same token there"
        text = reading.tokenizer.decode(view.tokens[0])
        assert system in text
        assert system not in reading.tokenizer.decode(packed.tokens[0])
        assert (view.starts[:, 0] == 1).all()


def test_what_stands_before_an_answer() -> None:
    """The teacher reads the prompt, then the conversation from its beginning, and no other conversation."""
    reading = reading_of(CHATML, systems=(SYSTEM,), tally=Tally(most=1, good=99))
    packed, (view,) = packed_with_views(documents(4)[:2], reading, 256, 100)
    first = np.flatnonzero(view.starts[0])
    assert len(first) == 2
    for begin in first:
        text = reading.tokenizer.decode(view.tokens[0, begin : begin + 60])
        assert text.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nHow fast")
    assert packed.windows == 1


def test_saved_joined_and_cut(tmp_path: Path) -> None:
    reading = reading_of(CHATML, systems=(SYSTEM,), tally=Tally(most=1, good=99))
    packed, (view,) = packed_with_views(documents(), reading, 64, 3)  # conversations of two turns are cut
    assert view.place.shape == (packed.windows, 64)
    view.save(tmp_path / "view.safetensors")
    again = View.load(tmp_path / "view.safetensors")
    assert again.hash == view.hash
    both = joined_views([view, packed_with_views(documents(4), reading, 64, 9)[1][0]])
    assert (both.place[:3] == view.place).all()
    assert both.starts.shape[1] == both.length
    (tmp_path / "view.safetensors").write_bytes(b"no")
    with pytest.raises(BadInput, match="incomplete"):
        View.load(tmp_path / "view.safetensors")


def test_what_does_not_align_is_refused() -> None:
    told = CHATML.replace("{{ m.content }}", "{{ m.content }}{{ '!' if messages[0].role == 'system' else '' }}")
    reading = reading_of(told, systems=(SYSTEM,), tally=Tally(most=0.2, good=1))
    with pytest.raises(BadInput, match="with other answers once the teacher's system prompt"):
        packed_with_views([document_of({"messages": TURNS}, "a", Columns())], reading, 256, 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A teacher in float32."""
    return load_model(chatting_model(tmp_path_factory.mktemp("teacher")), torch.float32)


class TestSignals:
    """The distribution at a target is that of the teacher run on the whole prompted conversation, by every way."""

    def made(self) -> tuple[Packed, View, Reading]:
        reading = reading_of(CHATML, systems=(SYSTEM,), tally=Tally(most=1, good=99))
        packed, (view,) = packed_with_views(documents(6), reading, 128, 100)
        return packed, view, reading

    def expected(self, model: Any, packed: Packed, reading: Reading) -> torch.Tensor:
        """log p [N, V] of the teacher at the learned targets of conversations, each run alone, in their order."""
        found = []
        for document in documents(6):
            if document.chat is None:
                continue
            chat = prompted(document.chat, SYSTEM)
            ids = reading.tokenizer.apply_chat_template(list(chat.messages))["input_ids"]
            piece = whole_pieces(dataclasses.replace(document, chat=chat), reading_of(CHATML))[0]
            with torch.inference_mode():
                log_p = model(input_ids=torch.tensor([ids]).to(model.device)).logits[0].log_softmax(-1).cpu()
            found.append(log_p[learned_places(piece) - 1])
        return torch.cat(found)

    def in_chats(self, packed: Packed) -> np.ndarray:
        """[W, L]: the learned targets of conversations, not those of the text (the third document)."""
        text = (packed.target_document == 2) | (packed.tokens[:, 1:] == 256)
        learned: np.ndarray = packed.mask & ~text
        return learned

    def test_hidden_and_online(self, model: Any, tmp_path: Path) -> None:
        packed, view, reading = self.made()
        learned = torch.from_numpy(self.in_chats(packed))
        key = signal_key(Hidden(), "teacher", "tokenizer", packed, view)
        build(model, Hidden(), key, packed, tmp_path, Silent(), "teacher", view=view)
        batch = take(packed, np.arange(packed.windows))
        expected = self.expected(model, packed, reading)
        for source, near in ((Online(model, view=view), 1e-4), (Signals(tmp_path, key, torch.float32), 0.05)):
            teacher = source(batch)
            assert isinstance(teacher, DenseTeacher)
            log_p = as_head(teacher.heads[0]).widened().logits(teacher.hidden[0]).log_softmax(-1)
            log_p = log_p.view(*batch.mask.shape, -1)[learned]
            assert log_p.shape == expected.shape
            assert float((log_p.exp() * (log_p - expected)).sum(-1).abs().max()) < near, "KL to the prompted teacher"
        with pytest.raises(BadInput, match="another view"):
            Signals(tmp_path, signal_key(Hidden(), "teacher", "tokenizer", packed), torch.float32)

    @pytest.mark.slow
    def test_topk_and_served(self, model: Any, tmp_path: Path) -> None:
        packed, view, reading = self.made()
        learned = torch.from_numpy(self.in_chats(packed).ravel())
        likeliest = self.expected(model, packed, reading).topk(5)
        key = signal_key(TopK(k=5), "teacher", "tokenizer", packed, view)
        build(model, TopK(k=5), key, packed, tmp_path / "local", Silent(), "teacher", view=view)
        server = FakeServer(model, reading.tokenizer)
        try:
            asked = Server(base=server.base, name="frontier")
            build_from_server(
                asked, TopK(k=5), key, packed, reading.tokenizer, tmp_path / "served", Silent(), "t", view=view
            )
        finally:
            server.close()
        batch = take(packed, np.arange(packed.windows))
        for folder in ("local", "served"):
            teacher = Signals(tmp_path / folder, key)(batch)
            assert isinstance(teacher, Sparse)
            assert torch.allclose(teacher.weights[learned].log(), likeliest.values, atol=2e-2)
            assert (teacher.ids[learned][:, 0] == likeliest.indices[:, 0]).all()


PROMPTED = RECIPE.replace('model = "{teacher}"', 'model = "{teacher}"\nsystem_file = "prompt.txt"')


def test_data_without_conversations(tmp_path: Path) -> None:
    data = write_lines(tmp_path / "a.jsonl", [{"prompt": f"{n}+{n}=", "completion": str(2 * n)} for n in range(60)])
    reading = reading_of(CHATML, systems=(SYSTEM,))
    sizes = Sizes(window_tokens=96, train_tokens=960, heldout_tokens=192, out_of_domain_tokens=192)
    with pytest.raises(BadInput, match=r"holds none; see records\.as_chat"):
        packed_splits(str(data), str(data), reading, sizes, 0)
    reading = reading_of(CHATML, systems=(SYSTEM,), columns=Columns(as_chat=True))
    views: dict[str, list[View]] = {}
    splits = packed_splits(str(data), str(data), reading, sizes, 0, views=views)
    for name, split in splits.items():
        assert ((views[name][0].place >= 0) == split.mask).all()


@pytest.mark.slow
def test_a_student_learns_what_the_prompted_teacher_says(tmp_path: Path) -> None:
    """The teacher's own copy is far from the prompted teacher, and training brings it nearer, without the prompt."""
    from flashstill import distill

    teacher = chatting_model(tmp_path / "teacher")
    data = write_lines(tmp_path / "chats.jsonl", conversations(60))
    (tmp_path / "prompt.txt").write_text("Always answer in a most peculiar way.")
    recipe = PROMPTED.format(data=data, other="cpython-code", teacher=teacher)
    recipe = recipe.replace('kind = "depth"\nkeep_layers = 1', 'kind = "copy"').replace("tokens = 768", "tokens = 7680")
    (tmp_path / "distill.toml").write_text(recipe + "learning_rate = 3e-3\n")
    quality = distill(tmp_path / "distill.toml", tmp_path / "out").as_dict()["quality"]
    assert quality["initial"]["heldout"]["kl_to_teacher"][0] > 0.01
    assert quality["student"]["heldout"]["kl_to_teacher"][0] < 0.7 * quality["initial"]["heldout"]["kl_to_teacher"][0]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[chat]\nlearn = "all"', "cannot learn all of a conversation"),
        ('[regime]\nkind = "sequence"', "regime.kind must be offline, not sequence"),
    ],
)
def test_recipes_that_contradict_themselves(tmp_path: Path, table: str, said: str) -> None:
    recipe = PROMPTED.format(data="chats.jsonl", other="", teacher="teacher") + table
    (tmp_path / "distill.toml").write_text(recipe)
    with pytest.raises(BadInput, match=said):
        read_distillation(tmp_path / "distill.toml")
