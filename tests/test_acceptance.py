"""Acceptance of drafts: estimators against counting, records, and what predictions make of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flashstill as fs
from flashstill.arch import load_architecture
from flashstill.cli import main
from flashstill.cli.acceptance import print_acceptance
from flashstill.cost import Speculation
from flashstill.distill.drafts import save_eagle
from flashstill.distill.generate import Sampling
from flashstill.evaluate.drafts import Draft, Measuring, Prompts, measured
from flashstill.evaluate.drafts.expected import agreement, rates, step_sums
from flashstill.progress import Silent
from flashstill.records import AcceptanceRecord, from_line, read_records, to_line, write_records
from tests.commands import refuse
from tests.small_models import different, head_of, made

RECORD = AcceptanceRecord(
    target="big", draft="small", domain="docs", temperature=1.0, top_p=1.0, draft_tokens=3, acceptance=(0.8, 0.7, 0.5),
    acceptance_low=(0.7, 0.6, 0.4), acceptance_high=(0.9, 0.8, 0.6), tokens_per_step=2.64, tokens_per_step_low=2.3,
    tokens_per_step_high=2.9, documents=8, tokens=900, vocabulary=128256, kind="model",
)  # fmt: skip
PAIR: dict[str, Any] = {"model": "llama-3.1-70b", "chip": "h100-sxm", "chips": 8, "draft": "llama-3.2-1b"}


def test_agreement_is_one_minus_total_variation_and_the_chance_of_a_drafted_token() -> None:
    p, q = torch.tensor([[0.5, 0.5, 0.0]] * 2), torch.tensor([[0.25, 0.5, 0.25]] * 2)
    taken, overlap = agreement(p, q, torch.tensor([0, 1]))
    assert taken.tolist() == [0.5, 1.0]
    assert overlap.tolist() == [0.75, 0.75]


def test_steps_that_always_accept_start_every_g_plus_first_token() -> None:
    sums = step_sums(np.ones((2, 8)), np.ones((2, 8)))
    assert sums.tolist() == [3.0, 3.0, 3.0]  # starts at 0, 3 and 6
    assert rates(sums).tolist() == [1.0, 1.0, 1.0, 1.0, 3.0]
    never = step_sums(np.zeros((2, 8)), np.full((2, 8), 0.25))
    assert never.tolist() == [7.0, 1.75, 0.0]  # a start at every token with two left


def measured_pair(kind: str, draft: Draft, rows: int, temperature: float = 1.0) -> AcceptanceRecord:
    model = made(kind)
    tokens = list(np.random.default_rng(0).integers(3, 32, (rows, 3)))
    prompts = Prompts(tokens=tokens, documents=range(rows), domain="random")
    settings = Sampling(new_tokens=24, temperature=temperature, seed=1)
    asked = Measuring(target="target", sampling=settings, draft_tokens=3)
    return measured(model, [draft], prompts, asked, Silent())[0]


@pytest.mark.slow
@pytest.mark.parametrize("is_head", [False, True])
def test_expected_acceptance_is_what_counting_finds(is_head: bool) -> None:
    model = made("llama")
    draft = Draft(name="draft", model=head_of(model) if is_head else different(model))
    record = measured_pair("llama", draft, 60)
    assert 0.02 < record.acceptance[0] < 0.98
    steps = record.counted_steps
    for place in range(2):
        reached = steps * np.prod(record.counted[:place])
        error = np.sqrt(record.acceptance[place] * (1 - record.acceptance[place]) / reached)
        assert abs(record.counted[place] - record.acceptance[place]) < 4 * error + 0.02


def test_a_draft_that_is_the_target_is_always_accepted() -> None:
    record = measured_pair("llama", Draft(name="same", model=made("llama"), counted=False), 2)
    assert record.acceptance == pytest.approx((1.0, 1.0, 1.0), abs=1e-4)
    assert (record.counted, record.documents) == ((), 2)


def test_a_single_document_gives_no_interval(capsys: pytest.CaptureFixture[str]) -> None:
    record = measured_pair("llama", Draft(name="draft", model=different(made("llama")), counted=False), 1)
    assert (record.acceptance_low, record.acceptance_high) == ((), ())
    assert (record.tokens_per_step_low, record.tokens_per_step_high) == (None, None)
    assert from_line(to_line(record)) == record
    print_acceptance([record])
    printed = capsys.readouterr().out
    assert "one document: no interval (random, 24 tokens that target wrote)" in printed
    assert " to " not in printed
    print_acceptance([RECORD])
    printed = capsys.readouterr().out
    assert "80.0% (70.0% to 90.0%)" in printed
    assert "8 documents of docs, 900 tokens that big wrote" in printed


def test_a_record_reads_as_it_was_written(tmp_path: Path) -> None:
    assert from_line(to_line(RECORD)) == RECORD
    with pytest.raises(fs.BadInput, match="holds 2 positions, but 3 tokens are drafted"):
        from_line(to_line(replace(RECORD, acceptance=(0.5, 0.5))))
    with pytest.raises(fs.BadInput, match="does not lie between 0 and 1"):
        from_line(to_line(replace(RECORD, acceptance=(0.5, 1.5, 0.1))))


def test_measured_rates_take_the_place_of_one_rate_and_its_decay() -> None:
    plain = Speculation(tokens=3, acceptance=0.8)
    same = Speculation(tokens=3, acceptance=0.8, measured=(0.8, 0.8, 0.8, 0.1))
    assert same.tokens_per_step == pytest.approx(plain.tokens_per_step)
    assert np.allclose(same.accepted_ratios, plain.accepted_ratios)
    assert Speculation(tokens=2, acceptance=0.8, measured=(0.8, 0.5, 0.5)).tokens_per_step == pytest.approx(2.2)


def test_a_prediction_uses_the_records_of_a_file_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    write_records(path, [RECORD, replace(RECORD, temperature=0.0, acceptance=(0.9, 0.9, 0.9))])
    by_file = fs.predict(**PAIR, measured_acceptance=str(path))
    by_list = fs.predict(**PAIR, measured_acceptance="0.8,0.7,0.5")
    assert by_file.tpot_s == by_list.tpot_s
    assert "acceptance of small for big as measured on docs text at temperature 1 (8 documents)" in by_file.note
    greedy = fs.predict(**PAIR, measured_acceptance=f"{path}@0")
    assert greedy.tpot_s < by_file.tpot_s
    uniform = fs.predict(**PAIR, measured_acceptance="0.9,0.9,0.9")
    assert uniform.tpot_s == pytest.approx(fs.predict(**PAIR, acceptance=0.9).tpot_s)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocabulary": 32000}, "is of a vocabulary of 32,000 tokens, and llama-3.1-70b has 128,256"),
        ({"draft_parameters": 5}, "is of small, a draft of 5 parameters; llama-3.2-1b has 1,235,814,400"),
    ],
)
def test_records_of_another_pair_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "own.jsonl"
    write_records(path, [replace(RECORD, **changes)])
    with pytest.raises(fs.BadInput, match=said):
        fs.predict(**PAIR, measured_acceptance=str(path))


def test_more_drafts_than_were_measured_are_refused() -> None:
    with pytest.raises(fs.BadInput, match="4 draft tokens are more than the 3 positions"):
        fs.predict(**PAIR, draft_tokens=4, measured_acceptance="0.8,0.7,0.5")


def test_a_drafting_head_is_priced_by_its_own_shape(tmp_path: Path) -> None:
    model = made("llama")
    save_eagle(head_of(model), tmp_path / "draft", {"kind": "eagle"})
    head = load_architecture(str(tmp_path / "draft"))
    own = sum(weight.numel() for name, weight in head_of(model).state_dict().items() if name != "fc.bias")
    assert head.parameters == own + 32  # and the block's other norm, which engines leave out
    with pytest.raises(fs.BadInput, match="a head on hidden states 32 wide, and cannot draft"):
        fs.predict(**{**PAIR, "draft": str(tmp_path / "draft")})


def test_a_command_that_starts_an_engine_names_the_method_of_a_head(tmp_path: Path) -> None:
    from flashstill.plan.engine_flags import drafts_by_head

    save_eagle(head_of(made("llama")), tmp_path / "draft", {"kind": "eagle"})
    assert drafts_by_head(str(tmp_path / "draft"))
    assert not drafts_by_head("llama-3.2-1b")
    assert not drafts_by_head("")


def test_drafting_stops_paying_as_the_batch_grows() -> None:
    worth = fs.draft_worth(**PAIR, batches=[1, 8, 512], measured_acceptance="0.6,0.5,0.4", osl=256)
    ratios = [row.speed_ratio for row in worth.rows]
    assert ratios[0] > 1.2
    assert ratios[-1] < ratios[0]
    assert all(row.draft_tokens <= 3 for row in worth.rows)
    alone = fs.predict(**{**PAIR, "draft": None}, batch=8, osl=256)
    assert worth.rows[1].tokens_per_s == alone.output_tokens_per_s
    row = worth.rows[1]
    with_draft = fs.predict(**PAIR, batch=8, osl=256, draft_tokens=row.draft_tokens, measured_acceptance="0.6,0.5,0.4")
    assert row.drafted_joules_per_token == with_draft.joules_per_output_token


def test_a_draft_is_compared_on_as_many_chips() -> None:
    """Its own cache takes memory, so that the fewest chips that hold the load may be more than without it."""
    asked: dict[str, Any] = {"chip": "h100-sxm", "batch": 200, "isl": 1024, "osl": 1024}
    pair: dict[str, Any] = {"model": "llama-3.1-8b", "draft": "llama-3.2-3b"}
    chips = [fs.predict(**{**pair, **each}, **asked).deployment.chips for each in ({"draft": None}, {})]
    assert chips == [1, 2]  # else this says nothing
    (row,) = fs.draft_worth(**pair, chip="h100-sxm", batches=[200], acceptance=0.7).rows
    assert row.chips == 2
    same = fs.predict(**{**pair, "draft": None}, **asked, chips=2)
    assert row.tokens_per_s == same.output_tokens_per_s


def test_plan_tells_what_the_draft_is_worth() -> None:
    found = fs.search(
        model="llama-3.1-70b", chips="h100-sxm", max_chips=8, batches=[1, 64], draft="llama-3.2-1b",
        draft_tokens=[1, 3, 5], measured_acceptance="0.6,0.5,0.4",
    )  # fmt: skip
    assert {point.speculated_tokens for point in found.front} <= {0, 1, 3}  # five were not measured
    tpot = found.drafting["tpot_s"]
    assert tpot["with"] is not None
    assert tpot["without"] is not None
    assert tpot["with"] < tpot["without"]
    assert "the best with the draft and without it: time per token" in found.worth_lines[0]


@pytest.mark.slow
def test_a_simulation_draws_drafts_by_the_measured_rates() -> None:
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "chip": "h100-sxm", "concurrency": 1, "requests": 20, "osl": 200}
    asked |= {"isl": 128, "draft": "llama-3.2-1b"}
    slow = fs.simulate(**asked, measured_acceptance="0.1,0.1,0.1").latencies["tpot_s"].mean_s
    fast = fs.simulate(**asked, measured_acceptance="0.9,0.9,0.9").latencies["tpot_s"].mean_s
    assert fast < 0.6 * slow


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        ([], {}),  # so that the records in the draft's directory count
        (["--acceptance", "0.6"], {"acceptance": 0.6, "measured_acceptance": "none"}),
        (["--acceptance", "0.6,0.5"], {"measured_acceptance": "0.6,0.5"}),
    ],
)
def test_speculate_passes_no_rate_on_that_nobody_gave(
    words: list[str], passed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    worth = fs.drafting.draft_worth

    def noted(**given: Any) -> Any:
        asked.append(given)
        return worth(**given)

    monkeypatch.setattr(fs.drafting, "draft_worth", noted)
    base = ["--model", "llama-3.1-70b", "--chip", "h100-sxm", "--chips", "8", "--draft", "llama-3.2-1b"]
    main(["speculate", *base, "--batch", "1", *words, "--json"])
    names = ("acceptance", "acceptance_decay", "measured_acceptance")
    assert {name: asked[0][name] for name in names if name in asked[0]} == passed


def test_the_commands_take_rates_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.jsonl"
    write_records(path, [RECORD])
    words = ["speculate", "--model", "llama-3.1-70b", "--chip", "h100-sxm", "--chips", "8", "--draft", "llama-3.2-1b"]
    main([*words, "--batch", "1,64", "--acceptance", str(path), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert [row["batch"] for row in document["rows"]] == [1, 64]
    assert "temperature 1" in document["note"]
    many = ",".join(map(str, range(1, 1002)))
    said = refuse(capsys, *words, "--batch", many, "--draft-tokens", "1,2,2")
    assert "1,001 batches x 2 numbers of drafted tokens are 2,002 predictions" in said
    main([*words, "--batch", "1", "--acceptance", "0.6,0.5"])
    assert "drafting is faster at every batch up to 1" in capsys.readouterr().out
    assert read_records(path) == [RECORD]
