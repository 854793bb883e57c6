"""Any models on any text: figures against what is computed by hand, a teacher against itself, what cannot be compared,
and an evaluation that was killed."""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.cli import cli, main
from flashstill.distill.data.chats import Reading
from flashstill.distill.data.packing import pack
from flashstill.distill.data.text import load_documents
from flashstill.distill.data.text_files import Document
from flashstill.distill.models import keep_layers, load_model, load_tokenizer, save_model
from flashstill.errors import BadInput
from flashstill.evaluate import evaluate_models, scoring
from flashstill.evaluate.excerpts import choose_excerpts, middle_of, pack_excerpts, smallest_limit
from flashstill.evaluate.gap import gap_closed, has_gap
from flashstill.evaluate.intervals import with_intervals
from flashstill.evaluate.summary import COLUMNS
from flashstill.records import ModelRecord, QualityRecord, Record, read_records
from tests.commands import refuse
from tests.intervals import ends_of
from tests.tiny import make_tiny_teacher

SMALL: dict[str, Any] = {"tokens": 512, "window_tokens": 32, "arithmetic": "fp32"}
LN_2 = math.log(2)


@pytest.fixture(scope="module")
def half(tiny_teacher: Path, loaded_teacher: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the tiny teacher's six blocks."""
    path = tmp_path_factory.mktemp("half") / "half"
    save_model(keep_layers(loaded_teacher, [0, 2, 5]), load_tokenizer(tiny_teacher), path)
    return path


@pytest.fixture(scope="module")
def stranger(other_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model like the tiny teacher with a tokenizer that learned from other text."""
    return make_tiny_teacher(tmp_path_factory.mktemp("stranger") / "stranger", other_text)


def figures(records: tuple[Record, ...] | list[Record], model: str) -> dict[str, QualityRecord]:
    return {each.metric: each for each in records if isinstance(each, QualityRecord) and each.model == model}


def test_the_figures_are_those_computed_by_hand(tiny_teacher: Path, text_file: Path) -> None:
    found = evaluate_models([str(tiny_teacher)], {"plain": str(text_file)}, **SMALL)
    quality = figures(found.records, "tiny-teacher")
    assert list(quality) == ["bits_per_byte", "perplexity", "accuracy", "calibration_error"]
    excerpts = choose_excerpts(load_documents(str(text_file)), 512, 32, 0)
    model, tokenizer = load_model(tiny_teacher, torch.float32), load_tokenizer(tiny_teacher)
    ids = [tokenizer.eos_token_id]
    for excerpt in excerpts:
        ids += [*tokenizer(excerpt.text)["input_ids"], tokenizer.eos_token_id]
    nll, right, count = 0.0, 0, 0
    for first in range(0, len(ids) - 1, 32):
        window = ids[first : first + 33]
        begins = {0, *(place for place, token in enumerate(window[:-1]) if token == tokenizer.eos_token_id)}
        for start, stop in itertools.pairwise([*sorted(begins), len(window) - 1]):  # no document sees another
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([window[start:stop]], device=model.device)).logits
            log_p = logits[0].double().log_softmax(-1)
            for place, target in enumerate(window[start + 1 : stop + 1]):
                if target != tokenizer.eos_token_id:
                    nll -= float(log_p[place, target])
                    right += int(log_p[place].argmax()) == target
                    count += 1
    size = sum(len(excerpt.text.encode()) for excerpt in excerpts)
    assert quality["bits_per_byte"].value == pytest.approx(nll / LN_2 / size, rel=1e-6)
    assert quality["perplexity"].value == pytest.approx(math.exp(nll / count), rel=1e-5)
    assert quality["accuracy"].value == pytest.approx(right / count)
    for record in quality.values():
        assert (record.domain, record.tokens, record.documents) == ("plain", count, len(excerpts))
        low, high = ends_of(record)
        assert low <= record.value <= high
        assert low < high


@pytest.mark.slow
def test_a_teacher_against_itself(tiny_teacher: Path, half: Path, text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "records.jsonl"
    found = evaluate_models(
        {"same": str(tiny_teacher), "half": str(half)}, [str(text_file)], teacher=str(tiny_teacher), out=out, **SMALL
    )
    same, teacher, pruned = (figures(found.records, name) for name in ("same", "teacher", "half"))
    for metric, value in {"kl_to_teacher": 0.0, "agreement": 1.0}.items():
        assert (same[metric].value, same[metric].low, same[metric].high) == (value, value, value)
        assert teacher[metric].value == value
    assert same["bits_per_byte"].value == teacher["bits_per_byte"].value
    assert ends_of(pruned["kl_to_teacher"])[0] > 0
    assert ends_of(pruned["agreement"])[1] < 1
    assert read_records(out) == list(found.records)
    models = {each.model: each for each in found.records if isinstance(each, ModelRecord)}
    assert {name: each.role for name, each in models.items()} == {
        "teacher": "teacher", "same": "student", "half": "student",
    }  # fmt: skip
    assert (models["half"].layers, models["teacher"].layers) == (3, 6)
    assert not (tmp_path / "records.jsonl.unfinished").exists()


@pytest.mark.slow
def test_one_model_alone_has_the_figures_that_it_has_among_others(
    tiny_teacher: Path, half: Path, stranger: Path, text_file: Path
) -> None:
    """The text does not depend on the tokenizers; across them only bits per byte compare."""
    together = evaluate_models([str(half), str(stranger)], [str(text_file)], **SMALL)
    assert set(together.left_out) == {"perplexity", "accuracy", "calibration_error"}
    assert "different vocabularies (384 and 384 tokens)" in together.left_out["perplexity"]
    for directory in (half, stranger):
        alone = evaluate_models([str(directory)], [str(text_file)], **SMALL)
        name = directory.name
        assert figures(alone.records, name)["bits_per_byte"] == figures(together.records, name)["bits_per_byte"]
        assert set(figures(together.records, name)) == {"bits_per_byte"}


@pytest.mark.slow
def test_what_does_not_compare_is_refused(
    capsys: pytest.CaptureFixture[str], tiny_teacher: Path, half: Path, stranger: Path, text_file: Path, tmp_path: Path
) -> None:
    def refused(*words: object) -> str:
        return refuse(capsys, "evaluate", *words)

    text = ("--data", text_file, "--tokens", 512, "--window", 32)
    assert "teacher and stranger have different vocabularies" in refused(stranger, *text, "--teacher", tiny_teacher)
    assert "leave --teacher out" in refused(stranger, *text, "--teacher", tiny_teacher)
    asked = refused(half, stranger, *text, "--metric", "perplexity")
    assert "perplexity cannot be computed: half and stranger have different vocabularies" in asked
    assert "agreement cannot be computed: it compares with a teacher" in refused(half, *text, "--metric", "agreement")
    assert "give --teacher and --control" in refused(half, *text, "--metric", "gap_closed", "--teacher", half)
    assert "two models are called 'half'" in refused(half, half, *text)
    assert "two texts are called 'corpus'" in refused(half, *text, "--data", text_file)
    assert "name it, as other=" in refused(f"teacher={half}", *text, "--teacher", half)
    assert "there is no model at" in refused(tmp_path / "none", *text)
    assert "is neither a file nor a directory" in refused(half, *text[2:], "--data", tmp_path / "none.txt")
    assert "make it first" in refused(half, *text, "--out", tmp_path / "no" / "r.jsonl")
    assert "longer than the 256 that half was made for; give --window 256" in refused(half, "--data", text_file)
    assert "does not fill a window" in refused(half, "--data", text_file, "--tokens", 16, "--window", 32)
    (tmp_path / "one.txt").write_text("one document")
    assert "intervals are over documents" in refused(half, "--data", tmp_path / "one.txt", "--window", 32)


def test_a_tokenizer_of_another_model_is_refused(tiny_teacher: Path, text_file: Path, tmp_path: Path) -> None:
    import shutil

    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(tiny_teacher, tmp_path / "small")
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64,
    )  # fmt: skip
    for file in (tmp_path / "small").glob("*sha256*"):
        file.unlink()
    LlamaForCausalLM(config).save_pretrained(tmp_path / "small")
    with pytest.raises(BadInput, match="small knows 64 tokens, but its tokenizer gave token"):
        evaluate_models([str(tmp_path / "small")], [str(text_file)], **SMALL)


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher: Path, half: Path, text_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "records.jsonl"
    question: dict[str, Any] = {"teacher": str(tiny_teacher), "out": out, **SMALL}
    models = {"half": str(half), "same": str(tiny_teacher)}
    loaded: list[str] = []

    def watched(path: Path, dtype: torch.dtype, **placed: Any) -> Any:
        loaded.append(path.name)
        if len(loaded) == 3:
            raise KeyboardInterrupt
        return load_model(path, dtype, **placed)

    monkeypatch.setattr(scoring, "load_model", watched)
    with pytest.raises(KeyboardInterrupt):
        evaluate_models(models, [str(text_file)], **question)
    assert not out.exists(), "no file that only looks whole"
    kept = list((tmp_path / "records.jsonl.unfinished").iterdir())
    assert len(kept) == 2
    kept[0].write_text(kept[0].read_text()[:100])  # damaged: as if it were not there
    found = evaluate_models(models, [str(text_file)], **question)
    assert len(loaded) in (5, 6), "the teacher again, the last model, and the one whose scores were damaged"
    monkeypatch.setattr(scoring, "load_model", load_model)
    straight = evaluate_models(models, [str(text_file)], **{**question, "out": None})
    assert found.records == straight.records
    assert read_records(out) == list(straight.records)


def test_scores_of_another_question_are_not_taken(half: Path, text_file: Path, tmp_path: Path) -> None:
    from flashstill.evaluate.unfinished import Unfinished

    kept = Unfinished(tmp_path / "r.jsonl")
    kept.write({"model": "a"}, np.ones((2, len(COLUMNS))))
    assert kept.read({"model": "b"}) is None
    sums = kept.read({"model": "a"})
    assert sums is not None
    assert sums.shape == (2, len(COLUMNS))
    assert Unfinished(None).read({"model": "a"}) is None


def test_gap_closed() -> None:
    """Bits per byte of 1 (teacher), 1.5 (student), 3 (control) on every document: three quarters of the gap."""

    def sums(bits: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        size = np.asarray([100.0, 50.0, 25.0, 70.0])
        return np.stack([bits * LN_2 * size, *([size] * (len(COLUMNS) - 1))], axis=-1)

    record = gap_closed(sums(1.5), sums(1.0), sums(3.0), "s", "d", 0)
    assert (record.metric, record.documents) == ("gap_closed", 4)
    assert [record.value, record.low, record.high] == pytest.approx([0.75, 0.75, 0.75])
    assert has_gap(sums(1.0), sums(3.0), 0)
    assert not has_gap(sums(1.0), sums(1.0), 0)


@pytest.mark.slow
def test_a_control_that_is_no_worse_leaves_no_gap(tiny_teacher: Path, half: Path, text_file: Path) -> None:
    found = evaluate_models(
        [str(half)], [str(text_file)], teacher=str(tiny_teacher), control=str(tiny_teacher), metrics=["gap_closed"],
        **SMALL,
    )  # fmt: skip
    assert found.left_out == {"gap_closed on corpus": "the teacher is not better than the control on corpus text"}
    assert not figures(found.records, "half")


def test_intervals_are_scipys_on_the_draws_of_the_seed() -> None:
    documents = np.random.default_rng(1).gamma(2.0, 50.0, (40, 2))
    values, low, high = with_intervals(documents, lambda total: (total[0] / total[1])[None], 3)
    drawn = documents[np.random.default_rng(3).integers(0, 40, (1000, 40))].sum(axis=1)
    expected = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    assert low is not None
    assert high is not None
    assert [low[0], high[0]] == pytest.approx(expected, rel=1e-12)
    assert values[0] == documents[:, 0].sum() / documents[:, 1].sum()
    one = with_intervals(documents[:1], lambda total: (total[0] / total[1])[None], 3)
    assert one == (documents[0, 0] / documents[0, 1], None, None), "a single document has none"


class TestExcerpts:
    def test_the_limit_that_fills_a_sample(self) -> None:
        assert smallest_limit([10, 10, 10], 30) == 10
        assert smallest_limit([5, 20, 30], 25) == 10
        assert smallest_limit([5, 20, 30], 1000) == 30
        assert smallest_limit([5, 20, 30], 6) == 2

    def test_the_middle_begins_and_ends_with_whole_words(self) -> None:
        text = " ".join(f"word{number}" for number in range(100))
        piece = middle_of(text, 200)
        assert 100 < len(piece) <= 200
        assert set(piece.split()) <= set(text.split())
        assert middle_of("short", 10) == "short"
        assert middle_of("x" * 50, 20) == "x" * 20

    def test_a_sample_speaks_for_many_documents(self) -> None:
        documents = [Document(name=str(number), text="a word " * 1000) for number in range(50)]
        chosen = choose_excerpts(documents, 4096, 64, 0)
        assert len(chosen) >= 4096 * 4 / (2 * 64 * 4)
        assert all(len(each.text) <= 2 * 64 * 4 for each in chosen)
        assert [each.name for each in chosen] != [each.name for each in choose_excerpts(documents, 4096, 64, 1)]

    def test_every_token_of_the_excerpts_is_packed(self, tiny_teacher: Path) -> None:
        tokenizer = load_tokenizer(tiny_teacher)
        documents = [Document(name="a", text="The cache holds the token."), Document(name="b", text="Über 1 Chip.")]
        packed = pack_excerpts(documents, Reading(tokenizer=tokenizer, named="m"), 16)
        assert packed.target_bytes.sum() == sum(len(each.text.encode()) for each in documents)
        assert packed.token_count % 16 == 0
        cut = pack(documents, tokenizer, 16, 2**40)
        assert cut.windows == packed.windows - 1
        assert np.array_equal(cut.tokens, packed.tokens[:-1])


@pytest.mark.slow
def test_the_command(capsys: pytest.CaptureFixture[str], tiny_teacher: Path, half: Path, text_file: Path) -> None:
    words = ["evaluate", str(half), "--data", f"plain={text_file}", "--teacher", str(tiny_teacher), "--tokens", "512",
             "--window", "32", "--arithmetic", "fp32"]  # fmt: skip
    main(words)
    table = capsys.readouterr().out.splitlines()
    assert re.search(
        r"plain, \d+ documents +bits/byte +perplexity +accuracy +calibration error +KL to teacher +agreement", table[1]
    )
    assert table[2].split()[0] == "teacher"
    main([*words, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "flashstill.evaluate/1"
    assert (document["question"]["teacher"], document["question"]["seed"]) == (str(tiny_teacher), 0)
    assert document["arithmetic"] == {"precision": "fp32", "threads": 1}
    assert {each["record"] for each in document["records"]} == {"model", "quality"}
    shares = {
        (each["model"], each["metric"]): each["value"]
        for each in document["records"]
        if each.get("metric") in ("accuracy", "agreement") and each["model"] != "teacher"
    }
    warned = {(each["model"], each["metric"]) for each in document["warnings"] if each["model"] != "teacher"}
    first = document["warnings"][0]
    assert 0 < first["chance"] < first["lowest"] < first["highest"] == 0.95
    assert warned == {key for key, value in shares.items() if value < first["lowest"] or value > 0.95}


def test_the_commands_of_the_page_can_be_given() -> None:
    page = (Path(__file__).parents[1] / "docs" / "evaluate.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^(?:\$ )?flashstill evaluate (.+)$", page, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        cli.commands["evaluate"].make_context("evaluate", shlex.split(command))
