"""Mistakes with drafts are told before any work: recipes of heads, and `acceptance` of models, outputs and amounts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import flashstill as fs
from flashstill.distill.drafts import save_eagle
from flashstill.distill.models import load_model
from flashstill.evaluate.drafts import command
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.runs.limits import check_limits
from tests.commands import refuse
from tests.small_models import head_of

AMOUNTS = ("--documents", 2, "--prompt-tokens", 8, "--new-tokens", 8, "--draft-tokens", 2, "--arithmetic", "fp32")


@pytest.fixture
def fails_at_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights may be read: what is asked is refused before."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("weights are read before the mistake is told")

    monkeypatch.setattr(command, "load_model", never)


@pytest.fixture
def draft(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A copy of the target, which may be changed."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "draft"))


def acceptance(capsys: pytest.CaptureFixture[str], target: Path, draft: object, text: Path, *more: object) -> str:
    return refuse(capsys, "acceptance", target, draft, "--data", text, *AMOUNTS, *more)


@pytest.mark.usefixtures("fails_at_weights")
class TestAcceptanceIsRefusedBeforeWeightsAreRead:
    def test_for_a_draft_of_another_vocabulary(
        self, capsys: pytest.CaptureFixture[str], tiny_teacher: Path, draft: Path, text_file: Path
    ) -> None:
        tokenizer = json.loads((draft / "tokenizer.json").read_text())
        words = tokenizer["model"]["vocab"]
        words["!"], words["?"] = words["?"], words["!"]
        (draft / "tokenizer.json").write_text(json.dumps(tokenizer))
        said = acceptance(capsys, tiny_teacher, draft, text_file)
        assert "their vocabularies differ (as many tokens, but other ones)" in said

    def test_for_a_draft_with_fewer_positions(
        self, capsys: pytest.CaptureFixture[str], tiny_teacher: Path, draft: Path, text_file: Path
    ) -> None:
        config = json.loads((draft / "config.json").read_text())
        (draft / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 12}))
        assert "are 16 together, but draft has 12 positions" in acceptance(capsys, tiny_teacher, draft, text_file)

    def test_for_a_head_of_another_target_or_as_the_target(
        self, capsys: pytest.CaptureFixture[str], tiny_teacher: Path, tmp_path: Path, text_file: Path
    ) -> None:
        save_eagle(head_of(load_model(tiny_teacher)), tmp_path / "head", {"target": "another"})
        said = acceptance(capsys, tiny_teacher, tmp_path / "head", text_file)
        assert "hidden states of another model" in said
        assert "is a drafting head; the target is the model" in acceptance(
            capsys, tmp_path / "head", tiny_teacher, text_file
        )

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (("--out", "nowhere/records.jsonl"), "cannot write nowhere/records.jsonl: there is no directory"),
            (("--documents", "1"), "documents is 1, and the intervals are over documents; give at least 2"),
            (("--temperature", "1", "--temperature", "1"), "one is named twice"),
            (("--new-tokens", "250"), "but the target has 256 positions"),
        ],
    )
    def test_for_amounts_and_outputs(
        self, capsys: pytest.CaptureFixture[str], tiny_teacher: Path, draft: Path, text_file: Path,
        more: tuple[str, ...], said: str,
    ) -> None:  # fmt: skip
        assert said in acceptance(capsys, tiny_teacher, draft, text_file, *more)

    def test_for_two_drafts_of_one_name(
        self, capsys: pytest.CaptureFixture[str], tiny_teacher: Path, draft: Path, text_file: Path
    ) -> None:
        assert "two drafts are called 'draft'" in acceptance(capsys, tiny_teacher, draft, text_file, draft)


def test_bytes_that_are_no_text_are_told_with_their_line(
    capsys: pytest.CaptureFixture[str], tiny_teacher: Path, tmp_path: Path
) -> None:
    text = tmp_path / "latin.txt"
    text.write_bytes(b"a line\n\nanother\n" + "d\u00e9j\u00e0 vu\n".encode("latin-1"))
    assert "is not UTF-8 (line 4); convert it first" in acceptance(capsys, tiny_teacher, tiny_teacher, text)


RECIPE = """
name = "draft"
data = "cpython-docs"
[[teachers]]
model = "{teacher}"
[student]
kind = "eagle"
{more}
[text]
window_tokens = 64
[draft]
{draft}
"""


def recipe(folder: Path, teacher: Path, more: str = "", draft: str = "") -> Path:
    path = folder / "draft.toml"
    path.write_text(RECIPE.format(teacher=teacher, more=more, draft=draft))
    return path


def test_more_tokens_than_the_target_has_positions_are_refused_before_work(tmp_path: Path, tiny_teacher: Path) -> None:
    asked = read_distillation(recipe(tmp_path, tiny_teacher, draft="new_tokens = 225"))
    with pytest.raises(fs.BadInput, match="are 257 together, but the teacher tiny-teacher was made for 256 tokens"):
        check_limits(asked, [tiny_teacher], Silent())


@pytest.mark.parametrize(
    ("more", "draft", "said"),
    [
        ("keep_layers = 2", "", "student.keep_layers is 2, but it is for students of kind depth, not eagle"),
        ("hidden = 8", "", "student.hidden is 8, but it is for students of kind width, not eagle"),
        ("into = 'mixtral'", "", "is for students of kind upcycle or dense, not eagle"),
        ("", "temperatures = [1.0, 0.0, 1.0]", "one of them is named twice"),
    ],
)
def test_keys_that_would_be_ignored_are_refused(
    tmp_path: Path, tiny_teacher: Path, more: str, draft: str, said: str
) -> None:
    with pytest.raises(fs.BadInput, match=said.replace("[", r"\[")):
        read_distillation(recipe(tmp_path, tiny_teacher, more, draft))
