"""Model cards: the Hub reads their metadata, hostile names stay text, and no README.md of others is lost."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.files import sha256
from flashstill.progress import Silent
from flashstill.records import ModelRecord, QualityRecord, read_records, write_records
from flashstill.runs.cards import FILE, leave_cards, renew_cards
from flashstill.runs.cards.content import ADDED, contents, shown_place, without_paths
from flashstill.runs.cards.writing import card, code, is_unchanged_card, stated, yaml_value
from tests.commands import refuse
from tests.finished_runs import family_records, write_family
from tests.marks import slow
from tests.recorded_progress import RecordedProgress
from tests.twins import SMALL

HOSTILE = (
    "half\n---\nlicense: mit", '"], "evil": ["', "`x` <script>alert(1)</script>", "| a | b |\n|---|---|", "# title",
    "[click](https://example.org)", "![i](https://example.org/x.png)", "\x1b[31mred\u2028\u202e", "--- \n...\n",
    "``` \n# x", "<!-- --> https://example.org", "\ud800 half", "{{ x }} {% y %} $z$", "\U0001f642 é",
)  # fmt: skip
SHAPE = json.dumps({**SMALL, "model_type": "llama", "head_dim": 8, "tie_word_embeddings": True})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished family with two models on the disk."""
    out = write_family(tmp_path / "run")
    records = [
        dataclasses.replace(each, path=f"students/{each.model}")
        if isinstance(each, ModelRecord) and each.role in ("student", "control")
        else each
        for each in family_records()
    ]
    write_records(out / "records.jsonl", records)
    for name in ("half", "half-control"):
        (out / "students" / name).mkdir(parents=True)
        (out / "students" / name / "config.json").write_text(SHAPE)
    return out


def loaded(path: Path) -> Any:
    from huggingface_hub import ModelCard

    return ModelCard.load(path)


def test_the_hub_reads_the_metadata(run: Path) -> None:
    leave_cards(run, Silent())
    for name in ("half", "half-control"):
        read = loaded(run / "students" / name / FILE).data
        assert read.library_name == "transformers"
        assert read.license is None
        results = {(each.dataset_name, each.metric_type): each for each in read.eval_results}
        assert len(results) == len(read.eval_results) > 0
        assert all(each.metric_value == 0.5 for each in results.values())
        told = {"low_95": 0.4, "high_95": 0.6, "documents": 9, "tokens": 100}
        assert all(each.metric_args == told for each in results.values())
    text = (run / "students" / "half" / FILE).read_text()
    assert "0.5 (0.4 to 0.6)" in text
    assert "| `half` | 1 x `h100-sxm` | 16 | $1.00 | 100 | 1 |" in text
    assert "distilled by flashstill from `somewhere`" in text
    assert f"SHA-256 `{sha256(run / 'family.toml')}`" in text


@pytest.mark.parametrize("name", [*HOSTILE[:4], *slow(*HOSTILE[4:])])
def test_hostile_names_stay_text(run: Path, name: str, tmp_path: Path) -> None:
    from markdown_it import MarkdownIt

    plain = contents(run)[0]
    quality = [
        dataclasses.replace(each, model=name if each.model == "half" else each.model, domain=name)
        for each in plain.quality
    ]
    prices = [dataclasses.replace(each, model=name, chip=name) for each in plain.prices]
    hostile = dataclasses.replace(
        plain, name=name, kind=name, regime=name, quantised=name, teachers=(name,), data=(name,), arithmetic=name,
        quality=tuple(quality), prices=tuple(prices), recipe_text=f"name = {name}\n{name}", recipe_file=name,
    )  # fmt: skip
    text = card(hostile, base_model=name, license_id=name).encode("utf-8", "replace").decode()
    assert text == card(hostile, base_model=name, license_id=name)  # no half characters
    (tmp_path / FILE).write_text(text)
    metadata = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
    shown = name.replace("\ud800", "\ufffd")
    assert set(metadata) == {"library_name", "pipeline_tag", "license", "base_model", "tags", "model-index"}
    assert (metadata["base_model"], metadata["license"], metadata["model-index"][0]["name"]) == (shown, shown, shown)
    html, benign = (
        MarkdownIt("commonmark").enable("table").render(body.split("\n---\n", 1)[1]) for body in (text, card(plain))
    )
    for tag in ("<script", "<a ", "<img", "<h1", "<h2", "<hr", "<table", "<tr", "<td", "<!--"):
        allowed = benign.count(tag) + {"<tr": 4, "<td": 40}.get(tag, 0)
        assert html.count(tag) <= allowed, tag
    assert html.count("<h2>") == benign.count("<h2>") == 5
    assert "\x1b" not in text
    loaded(tmp_path / FILE)


def test_values_and_spans() -> None:
    assert yaml_value("a\u2028\x85\U000e0001") == '"a\\u2028\\u0085\\U000E0001"'
    assert code("a``b") == "``` a``b ```"
    assert code("a|b", in_table=True) == "`a\\|b`"
    assert code("") == "` `"


def test_no_paths_of_this_machine(run: Path) -> None:
    text = 'data = "/home/me/secret/a \\" b/c.txt"\nmodel = "https://me:pw@host/v1"\nother = "data/x.txt"\n'
    assert tomllib.loads(without_paths(text)) == {
        "data": "c.txt",
        "model": "a model behind a server",
        "other": "data/x.txt",
    }
    assert shown_place("~/models/big") == "big"
    leave_cards(run, Silent())
    assert str(run.parent) not in (run / "students" / "half" / FILE).read_text()


def test_a_student_without_layers_for_multi_token_prediction_says_so(run: Path) -> None:
    place = run / "students" / "half"
    leave_cards(run, Silent())
    assert "multi-token" not in (place / FILE).read_text()
    (place / "config.json").write_text(json.dumps({**json.loads(SHAPE), "num_nextn_predict_layers": 0}))
    leave_cards(run, Silent())
    assert "- It has no layers for multi-token prediction: to draft" in (place / FILE).read_text()


def test_a_readme_of_others_is_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress = RecordedProgress()
    place = run / "students" / "half" / FILE
    place.write_text("of somebody else")
    leave_cards(run, progress)
    assert place.read_text() == "of somebody else"
    assert ["it is kept" in line for line in progress.lines] == [True]
    line = refuse(capsys, "card", run / "students" / "half")
    assert "--replace writes over it" in line
    renew_cards(run / "students" / "half", replace=True)
    assert is_unchanged_card(place.read_text())
    place.write_text(place.read_text().replace("## Limits", "## Limits\n\nmine"))
    with pytest.raises(BadInput, match="not a card as it was written"):
        renew_cards(run)


def test_more_results_and_prices_stay(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = QualityRecord(
        model="out/half", domain="code", metric="bits_per_byte", value=1.25, low=None, high=None, tokens=9, documents=1
    )
    write_records(tmp_path / "more.jsonl", [more])
    place = run / "students" / "half"
    line = refuse(capsys, "card", place, "--records", tmp_path / "more.jsonl")
    assert "the nearest known: out/half; name it with --as" in line
    main(
        ["card", str(place), "--records", str(tmp_path / "more.jsonl"), "--as", "out/half", "--chip", "tpu-v6e",
         "--license", "apache-2.0", "--base-model", "org/big", "--json"]
    )  # fmt: skip
    assert json.loads(capsys.readouterr().out)["cards"] == [str(place / FILE)]
    assert len(read_records(run / ADDED)) == 1 + 2 * 4
    for _ in range(2):
        text = (place / FILE).read_text()
        assert "| bits per byte | 1.25 (one document: no interval) | - |" in text
        assert "1 x `tpu-v6e`" in text
        assert (stated(text, "license"), stated(text, "base_model")) == ("apache-2.0", "org/big")
        renew_cards(run)
    assert not (run / "students" / "half-control" / FILE).read_text().count("tpu-v6e")


def test_a_stop_between_leaves_the_old_card(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_cards(run, Silent())
    before = (run / "students" / "half" / FILE).read_bytes()

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flashstill.files.sync", stop)
    with pytest.raises(KeyboardInterrupt):
        renew_cards(run, license_id="mit")
    assert (run / "students" / "half" / FILE).read_bytes() == before
    assert not list((run / "students" / "half").glob(".*.part"))


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no finished run"):
        renew_cards(tmp_path)
    (tmp_path / "a" / "model").mkdir(parents=True)
    (tmp_path / "a" / "model" / "config.json").write_text(SHAPE)
    with pytest.raises(BadInput, match="outside of a run's directory"):
        renew_cards(tmp_path / "a" / "model")


@pytest.mark.slow
def test_distill_leaves_a_card(tiny_teacher: Path, text_file: Path, tmp_path: Path) -> None:
    from flashstill.recipes import read_distillation
    from flashstill.runs.distillation import run_distillation
    from tests.distillations import written

    recipe = read_distillation(written(tmp_path / "distill.toml", tiny_teacher, text_file, tokens=512))
    run_distillation(recipe, tmp_path / "out", Silent())
    place = tmp_path / "out" / "student" / FILE
    assert {each.dataset_name for each in loaded(place).data.eval_results} == {"heldout", "out-of-domain"}
    place.unlink()
    run_distillation(recipe, tmp_path / "out", Silent())
    assert is_unchanged_card(place.read_text())


def test_a_card_says_that_tasks_were_measured(run: Path) -> None:
    leave_cards(run, Silent())
    assert "only, not on tasks, other languages" in (run / "students" / "half" / FILE).read_text()
    task = QualityRecord(
        model="half", domain="colours", metric="acc", value=0.5, low=0.4, high=0.6, tokens=9, documents=20, chance=1 / 3
    )
    write_records(run / "records.jsonl", [*read_records(run / "records.jsonl"), task])
    leave_cards(run, Silent())
    text = (run / "students" / "half" / FILE).read_text()
    assert "`colours`: 20 items, 9 tokens" in text
    assert "documents, " in text
    assert "`colours` only, not on other tasks, other languages" in text
