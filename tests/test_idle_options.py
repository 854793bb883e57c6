"""An option or keyword that cannot change the answer is refused or told, and one that can is read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill import facts
from flashstill.cli import main
from flashstill.errors import BadInput
from tests.commands import refuse

PREDICT = ("predict", "--model", "llama-3.1-8b", "--chip", "h100-sxm")
PLAN = ("plan", "--model", "llama-3.1-8b", "--chips-from", "h100-sxm", "--max-chips", "1")
ON: dict[str, Any] = {"model": "llama-3.1-8b", "chip": "h100-sxm"}
OF_A_DRAFT = (
    ("--acceptance", "0.9"),
    ("--acceptance", "0.9,0.8,0.7"),
    ("--acceptance-decay", "0.5"),
    ("--draft-tokens", "5"),
)


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The JSON document of a command."""
    main([*map(str, arguments), "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def answered_again(tmp_path: Path, record: dict[str, Any]) -> dict[str, float]:
    """The predicted figures of a file of cases that holds one record of an answer."""
    cases, out = tmp_path / "records.csv", tmp_path / "answered.csv"
    with cases.open("w", newline="") as text:
        table = csv.DictWriter(text, record)
        table.writeheader()
        table.writerow(record)
    main(["predict", "--cases", str(cases), "--out", str(out)])
    with out.open(newline="") as text:
        (row,) = csv.DictReader(text)
    return {name: float(row[f"predicted_{name}"]) for name in ("ttft_s", "tpot_s")}


@pytest.mark.parametrize("option", OF_A_DRAFT)
@pytest.mark.parametrize("command", [PREDICT, PLAN])
def test_options_of_a_draft_need_one(capsys: pytest.CaptureFixture[str], command: Any, option: Any) -> None:
    said = refuse(capsys, *command, *option)
    assert said == f"flashstill: {option[0]} is of speculative decoding; say with --draft what drafts"


def test_keywords_of_a_draft_need_one() -> None:
    for name, value in {"acceptance": 0.9, "draft_tokens": 2, "acceptance_decay": 0.5}.items():
        with pytest.raises(BadInput, match=f"^{name} is of speculative decoding; say with draft what drafts$"):
            fs.predict(**{**ON, name: value})
    with pytest.raises(BadInput, match="acceptance is of speculative decoding"):
        fs.search(model="llama-3.1-8b", chips="h100-sxm", max_chips=1, acceptance=0.9)
    swept = fs.predict(**ON, draft=[None, "llama-3.2-1b"], acceptance=0.9)
    assert [answer.fits for answer in swept] == [True, True]


def test_a_decay_says_nothing_beside_rates_by_position(capsys: pytest.CaptureFixture[str]) -> None:
    rates = ("--draft", "llama-3.2-1b", "--acceptance", "0.9,0.8,0.7", "--acceptance-decay", "0.5")
    assert "has no place beside the acceptance by position" in refuse(capsys, *PREDICT, *rates)
    with pytest.raises(BadInput, match="acceptance has no place beside"):
        fs.predict(**ON, draft="llama-3.2-1b", acceptance=0.9, measured_acceptance="0.5,0.4,0.3")


def test_a_rate_counts_more_than_records_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A draft's directory with records: `--acceptance 0.9` took their place on the command line alone."""
    from flashstill.records import AcceptanceRecord, write_records

    draft = tmp_path / "draft"
    draft.mkdir()
    config = {
        "model_type": "llama", "hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 2,
        "intermediate_size": 512, "vocab_size": 128256,
    }  # fmt: skip
    (draft / "config.json").write_text(json.dumps(config))
    write_records(
        draft / "acceptance.jsonl",
        [
            AcceptanceRecord(
                draft="draft", target="llama-3.1-8b", domain="text", temperature=0.0, top_p=1.0, draft_tokens=3,
                acceptance=(0.2, 0.2, 0.2), acceptance_low=(), acceptance_high=(), tokens_per_step=1.25,
                tokens_per_step_low=None, tokens_per_step_high=None, documents=1, tokens=100, vocabulary=128256,
            )
        ],
    )  # fmt: skip
    recorded = fs.predict(**ON, draft=str(draft))
    given = fs.predict(**ON, draft=str(draft), acceptance=0.9)
    assert given.tpot_s < recorded.tpot_s
    assert fs.predict(**recorded.as_dict()["question"]).tpot_s == recorded.tpot_s, "its 0.7 is a default"
    assert fs.predict(**given.as_dict()["question"]).tpot_s == given.tpot_s
    for answer in (recorded, given):  # a file of cases made of records
        assert answered_again(tmp_path, answer.as_records()[0])["tpot_s"] == pytest.approx(answer.tpot_s, rel=1e-9)
    capsys.readouterr()
    typed = printed(capsys, *PREDICT, "--draft", draft, "--acceptance", "0.9")
    assert typed["tpot_s"] == given.tpot_s
    cases, out = tmp_path / "cases.csv", tmp_path / "out.csv"
    cases.write_text(f"model,chip,draft,acceptance\nllama-3.1-8b,h100-sxm,{draft},0.9\n")
    main(["predict", "--cases", str(cases), "--out", str(out)])
    heading, row = (line.split(",") for line in out.read_text().splitlines())
    assert float(row[heading.index("tpot_s")]) == pytest.approx(given.tpot_s, rel=1e-9)


@pytest.mark.parametrize("asked", [{}, {"draft": "llama-3.2-1b", "measured_acceptance": "0.6,0.5,0.4"}])
def test_the_question_of_an_answer_can_be_asked_again(asked: dict[str, Any]) -> None:
    """It names every field, defaults of drafts as well, which were refused as if somebody had given them."""
    answer = fs.predict(**ON, **asked)
    assert fs.predict(**answer.as_dict()["question"]) == answer


def test_rates_that_are_swept_stand_beside_none_by_position() -> None:
    drafting: dict[str, Any] = {**ON, "draft": "llama-3.2-1b", "acceptance": 0.6}
    swept = fs.predict(**{**drafting, "measured_acceptance": np.array(["none", "none"])})
    assert {answer.tpot_s for answer in swept} == {fs.predict(**drafting).tpot_s}
    with pytest.raises(BadInput, match="acceptance has no place beside"):
        fs.predict(**{**drafting, "measured_acceptance": ["none", "0.5,0.4,0.3"]})


def test_cases_with_rates_but_no_draft_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = tmp_path / "cases.csv"
    cases.write_text("model,chip,acceptance\nllama-3.1-8b,h100-sxm,0.9\n")
    main(["predict", "--cases", str(cases), "--out", "-"])
    assert "acceptance is of speculative decoding; say in a column draft" in capsys.readouterr().out
    cases.write_text("model,chip\nllama-3.1-8b,h100-sxm\n")
    flags = ("--acceptance-decay", "0.9")
    assert "acceptance_decay is of speculative" in refuse(capsys, "predict", "--cases", cases, "--out", "-", *flags)


def test_explain_says_that_a_prefill_pool_takes_no_part() -> None:
    alone, beside = fs.explain(**ON, batch=4), fs.explain(**ON, batch=4, prefill_tp=2)
    assert beside.as_dict()["seconds"] == alone.as_dict()["seconds"]
    assert "the prefill pool takes no part" in beside.as_dict()["note"]
    assert alone.as_dict()["note"] == ""


@pytest.mark.parametrize("name", ["isl", "chunk", "cached_ratio", "burst_share", "max_tpot_s", "acceptance"])
def test_explain_takes_no_fields_of_requests(name: str) -> None:
    with pytest.raises(BadInput, match=f"^{name} is of serving requests"):
        fs.explain(**{**ON, name: 1})


def test_a_point_is_picked_to_emit(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--pick names the point to emit" in refuse(capsys, *PLAN, "--pick", "tpot")
    for option in (("--engine", "sglang"), ("--tiers", "memory,sram")):
        assert "leave --engine and --tiers out" in refuse(capsys, *PLAN, "--emit", "vllm", *option)


def test_a_student_is_served_from_a_prefix_cache(capsys: pytest.CaptureFixture[str]) -> None:
    """`plan --quality-target` passed --cached-ratio over: most of a long prompt in a cache makes serving cheaper."""
    student = (*PLAN, "--quality-target", "2.3", "--tokens-served", "1T", "--isl", "4096", "--osl", "64")
    cold, cached = printed(capsys, *student), printed(capsys, *student, "--cached-ratio", "0.9")
    assert cached["best"]["serving_usd"] < 0.7 * cold["best"]["serving_usd"]


def test_stacks_are_of_the_variant_that_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("asic", "--model", "llama-3.1-8b", "--volume", "1T", "--variant", "sram,hardwired", "--memory", "hbm3e")
    assert "--memory names the stacks of the variant hbm" in refuse(capsys, *asked)


@pytest.mark.parametrize("option", ["--isl", "--osl", "--concurrency"])
def test_a_load_without_a_model_is_no_load(capsys: pytest.CaptureFixture[str], option: str) -> None:
    said = refuse(capsys, "trends", "--year", "2025", "--as-of", "2022", "--against", "b200", option, "64")
    assert f"{option} is the load of the model" in said


def test_few_tokens_a_second_are_not_printed_as_none(capsys: pytest.CaptureFixture[str]) -> None:
    """One token after a prompt of 131,071: 16 / 40 s."""
    main([*PREDICT, "--isl", "131071", "--osl", "1"])
    printed_line = next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("output"))
    assert 0.1 < float(printed_line.split()[1]) < 1.0


def test_the_nearest_tensor_parallelism_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert refuse(capsys, *PREDICT, "--tp", "3").endswith("32 heads over 3 chips; the nearest that does is 4")
    assert refuse(capsys, *PREDICT, "--tp", "64").endswith("32 heads over 64 chips; the nearest that does is 32")
    for tp in ("1", "3"):  # the reason is that of the stages
        assert "nearest" not in refuse(capsys, *PREDICT, "--tp", tp, "--pp", "33")


def test_a_chip_of_another_class_is_no_unknown_chip(capsys: pytest.CaptureFixture[str]) -> None:
    said = refuse(capsys, "chips", "H100-SXM", "--class", "tpu")
    assert "h100-sxm is of the class gpu, made by NVIDIA; leave --class and --maker out" in said


EDITED = (
    PREDICT,
    ("explain", *PREDICT[1:], "--batch", "1"),
    ("simulate", *PREDICT[1:], "--rate", "1", "--requests", "9"),
    ("simulate", *PREDICT[1:], "--rates", "1,2", "--requests", "9"),
    ("simulate", *PREDICT[1:], "--knee"),
    ("economics", *PREDICT[1:]),
    ("asic", "--model", "llama-3.1-8b", "--volume", "1e12", "--against", "h100-sxm"),
    ("ceiling", *PREDICT[1:]),
    ("codesign", *PREDICT[1:], "--max-chips", "1"),
    PLAN,
    (*PLAN, "--trace", "docs/chat.csv", "--slo", "ttft_p95<0.5"),
)
EDIT = {"b200.idle_w": 120.0}


@pytest.mark.parametrize("command", EDITED)
def test_an_edit_of_another_chip_is_refused(capsys: pytest.CaptureFixture[str], command: Any) -> None:
    said = refuse(capsys, *command, "--set", "b200.idle_w=120")
    assert "--set b200.idle_w is of b200, and the question is about h100-sxm; leave it out" in said


def test_edits_that_bear_on_the_question_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    for edit in ("facility.pue_ratio=1.5", "H100-SXM.idle_w=90"):  # what all chips share, and the chip itself
        for command in EDITED[:2]:
            main([*command, "--set", edit, "--json"])
    capsys.readouterr()
    on = {**ON, "chip": "h200-sxm"}  # the die of the H100, whose kernels were measured
    slower = fs.predict(**on, set={"h100-sxm.matmul.memory_efficiency[bf16]": 0.5})
    assert slower.tpot_s > fs.predict(**on).tpot_s
    with pytest.raises(BadInput, match="is of h100-sxm, and the question is about h200-sxm"):
        fs.predict(**on, set={"h100-sxm.memory_bytes_per_s": 5e12})  # the die's bandwidth is the H200's own


def test_edits_of_any_of_several_chips_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ("plan", "--model", "llama-3.1-8b", "--chips-from", "h100-sxm,b200", "--max-chips", "1")
    main([*plan, "--set", "b200.idle_w=120", "--json"])
    capsys.readouterr()
    assert "is of l40s, and the question is about h100-sxm and b200" in refuse(capsys, *plan, "--set", "l40s.idle_w=9")
    cases = tmp_path / "cases.csv"
    cases.write_text("chip\nh100-sxm\nb200\n")
    sweep = ("simulate", *PREDICT[1:], "--rate", "1", "--requests", "9", "--cases", cases, "--workers", "1")
    main([*map(str, sweep), "--set", "b200.idle_w=120", "--json"])
    capsys.readouterr()
    assert "is of l40s" in refuse(capsys, *sweep, "--set", "l40s.idle_w=9")
    pools = ("simulate", *PREDICT[1:], "--rate", "1", "--requests", "9", "--prefill-replicas", "1")
    main([*pools, "--prefill-chip", "b200", "--set", "b200.idle_w=120", "--json"])
    capsys.readouterr()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: fs.predict(**ON, set=EDIT),
        lambda: fs.predict(**ON, batch=[1, 2], set=EDIT),
        lambda: fs.explain(**ON, set=EDIT),
        lambda: fs.simulate(**ON, rate=1.0, requests=9, set=EDIT),
        lambda: fs.simulate_sweep(**ON, rate=[1.0, 2.0], requests=9, workers=1, set=EDIT),
        lambda: fs.knee(**ON, set=EDIT),
        lambda: fs.search(model="llama-3.1-8b", chips="h100-sxm", max_chips=1, set=EDIT),
        lambda: fs.economics(**ON, set=EDIT),
        lambda: fs.draft_worth(**ON, draft="llama-3.2-1b", set=EDIT),
        lambda: fs.train_cost(**ON, chips=8, length=1024, batch=64, set=EDIT),
        lambda: fs.capacity("examples/capacity.toml", set=EDIT),
        lambda: fs.cascade("examples/cascade.toml", set=EDIT),
        lambda: fs.family_economics("docs/flash-family.toml", set=EDIT),
        lambda: fs.plan_fleet(
            model="llama-3.1-8b", chips="h100-sxm", trace="docs/chat.csv", slo="ttft_p95<0.5", set=EDIT
        ),
    ],
)
def test_an_edit_of_another_chip_is_refused_in_python(ask: Any) -> None:
    with pytest.raises(BadInput, match=r"b200\.idle_w is of b200, and the question is about h"):
        ask()


@pytest.mark.parametrize(
    "ask",
    [
        lambda rows: fs.predict(**ON, facts=rows),
        lambda rows: fs.capacity("examples/capacity.toml", facts=rows),
        lambda rows: fs.cascade("examples/cascade.toml", facts=rows),
        lambda rows: fs.family_economics("docs/flash-family.toml", facts=rows),
    ],
)
def test_what_a_table_of_facts_came_with_may_be_of_any_chip(ask: Any) -> None:
    ask(facts.load().edited(["b200.idle_w=120"]))


@pytest.mark.parametrize(
    "command",
    [("capacity", "examples/capacity.toml"), ("cascade", "examples/cascade.toml"),
     ("economics", "docs/flash-family.toml")],
)  # fmt: skip
def test_plans_that_name_their_chips_refuse_edits_of_others(capsys: pytest.CaptureFixture[str], command: Any) -> None:
    said = refuse(capsys, *command, "--set", "b200.idle_w=1")
    assert "--set b200.idle_w is of b200, and the question is about" in said
    assert "b200.idle_w" in refuse(capsys, *command, "--set", "b200.idle_w")


def test_what_no_draft_fits_is_counted_by_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("speculate", "--model", "llama-3.1-405b", "--chip", "h100-sxm", "--chips", "1", "--draft", "llama-3.2-1b")
    with pytest.raises(SystemExit) as stop:
        main([*asked, "--batch", "1,2,4"])
    assert stop.value.code == 3
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == "flashstill: llama-3.1-405b on 1 x h100-sxm: does not fit in memory (does not fit in memory: 3)"


@pytest.mark.parametrize("ask", [fs.predict, fs.explain])
def test_requests_in_flight_have_an_end_as_in_a_search(ask: Any) -> None:
    with pytest.raises(BadInput, match="too many; ask for 1,000,000,000 or fewer"):
        ask(**ON, batch=10**30)
