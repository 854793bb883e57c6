"""Every chip is answered, with figures that can be; and so is one that a user makes after docs/facts.md."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from flashstill.cli import main
from flashstill.cost.footprint import room_bytes, usable_bytes
from flashstill.facts import load
from flashstill.hardware import chip_from_facts, known_chips
from flashstill.plan.case import Case
from flashstill.plan.predict import predict
from flashstill.plan.prediction import NOT_FITTING
from tests.commands import SHARED
from tests.deployments import explained
from tests.marks import slow

FACTS = load()
KNOWN = list(known_chips(FACTS))
PAGE = Path(__file__).parents[1] / "docs" / "facts.md"
DEGREES = (1, 2, 4, 8)
NUMBERS = (
    "ttft_s tpot_s output_tokens_per_s joules_per_output_token watts_per_chip kv_bytes_per_token cache_room_bytes"
    " sequences_fit"
)


@pytest.mark.parametrize("name", [*KNOWN[::6], *slow(*(name for name in KNOWN if name not in KNOWN[::6]))])
def test_every_chip_is_answered(name: str) -> None:
    cases = [
        Case.of(model=model, chip=name, tp=tp, isl=128, osl=128, concurrency=4)
        for model in ("llama-3.1-8b", "qwen3-0.6b")
        for tp in DEGREES
    ]
    answers = predict(FACTS, cases)
    limit = chip_from_facts(FACTS, name).power_limit_w
    for case, found in zip(cases, answers, strict=True):
        assert found.fits or found.reason == NOT_FITTING, (case, found.reason)
        if found.fits:
            for number in NUMBERS.split():
                value = getattr(found, number)
                assert 0 < value < math.inf, (number, value, case)
            assert found.watts_per_chip is not None
            assert found.watts_per_chip <= limit * (1 + 1e-9)
    if chip_from_facts(FACTS, name).memory.name == "memory":
        assert any(found.fits for found in answers)


def test_b100_is_no_slower_than_its_rates_say() -> None:
    ask = Case.of(model="llama-3.1-70b", chip="b200", tp=8, concurrency=256, precision="fp8")
    b100, b200 = predict(FACTS, [ask.but(chip="b100"), ask])
    assert b100.tpot_s is not None
    assert b200.tpot_s is not None
    assert 1.0 <= b100.tpot_s / b200.tpot_s < 1.3


@pytest.mark.parametrize("name", ["h100-sxm", "tpu-v6e"])
def test_static_power_is_that_of_waiting_and_what_a_busy_chip_adds(name: str) -> None:
    from flashstill.arch import load_architecture

    found = explained(FACTS, load_architecture("llama-3.1-8b"), name, 8, 1024)
    made = found.resolved
    each = found.joules_per_token
    seconds = float(found.cost.seconds) * made.chips / 8
    waiting_w = made.chip.idle_w + made.chip.active_w * made.chip.waiting_power_ratio
    busy_s = sum(float(found.cost.shares_s[name]) for name in ("compute", "memory")) * made.chips / 8
    assert each["idle"] == pytest.approx(waiting_w * seconds)
    assert each["active"] == pytest.approx((made.chip.static_w - waiting_w) * busy_s)
    assert sum(joules for level, joules in each.items() if level != "total") == pytest.approx(each["total"])


def test_room_is_what_the_driver_shows_less_what_the_engine_holds() -> None:
    from flashstill.arch import load_architecture

    h200 = chip_from_facts(FACTS, "h200-sxm")
    assert h200.memory.bytes == 1.41e11
    assert h200.memory.visible_bytes == 143771 * 2**20
    model = load_architecture("llama-3.1-8b")
    step = explained(FACTS, model, "h200-sxm", 1, 1024, engine="vllm")
    made = step.resolved
    software = made.conditions.software
    assert software.buffer_bytes > 0
    assert software.graph_bytes > 0
    usable = usable_bytes(made.conditions, h200.memory)
    assert usable == 143771 * 2**20 * 0.9 - software.buffer_bytes - software.graph_bytes
    weights = model.parameters * 2.0
    assert float(room_bytes(model, made.conditions, made.layout)) == pytest.approx(usable - weights)
    document = step.as_dict()
    assert document["kv_bytes_per_token"] == 2 * 8 * 128 * 2 * 32  # keys and values of 8 heads in 16 bits, 32 layers
    assert document["cache_room_bytes"] == pytest.approx(usable - weights)
    assert document["sequences_fit"] == pytest.approx((usable - weights) / document["kv_bytes_per_token"] / 1024)
    (found,) = predict(FACTS, [Case.of(model="llama-3.1-8b", chip="h200-sxm", isl=512, osl=1024)])
    assert found.kv_bytes_per_token == document["kv_bytes_per_token"]
    assert found.cache_room_bytes == pytest.approx(document["cache_room_bytes"])
    assert found.sequences_fit == pytest.approx(document["sequences_fit"])
    # A size that was edited stands for both.
    edited = chip_from_facts(FACTS.edited(["h200-sxm.memory_bytes=2e11"]), "h200-sxm")
    assert edited.memory.visible_bytes == 2e11


def blocks(language: str) -> list[str]:
    """The page's examples of one kind of file, which begin with its name."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_chip_made_word_for_word_after_the_page_is_answered(tmp_path: Path, number: int) -> None:
    files = blocks("csv")
    machines, chips = files[2 * number], files[2 * number + 1]
    (tmp_path / "machines.csv").write_text(machines, encoding="utf-8")
    (tmp_path / "chips.csv").write_text(chips, encoding="utf-8")
    name = machines.splitlines()[1].partition(",")[0]
    facts = load([tmp_path])
    cases = [Case.of(model="llama-3.1-8b", chip=name, tp=tp, concurrency=16) for tp in DEGREES]
    for found in predict(facts, cases):
        assert found.fits, found.reason
        assert found.watts_per_chip is not None
        assert 0 < found.watts_per_chip <= chip_from_facts(facts, name).power_limit_w
    # Every row of the example is needed: without any one of them the chip is refused, and the row named.
    rows = chips.splitlines()
    optional = {"usd_per_hour", "usd_purchase", "host_link_bytes_per_s", "memory_visible_bytes"}
    for left_out in rows[1:]:
        quantity = left_out.split(",")[1]
        several = sum(row.split(",")[1] == quantity for row in rows) > 1
        if quantity in optional or quantity == "link_bytes_per_s" or several:
            continue
        (tmp_path / "chips.csv").write_text("\n".join(row for row in rows if row != left_out) + "\n", encoding="utf-8")
        (refused,) = predict(load([tmp_path]), cases[:1])
        assert quantity in refused.reason


CASES = SHARED / "cases"


@pytest.mark.parametrize(("folder", "number"), [("mychip", 0), *slow(("mytpu", 1))])
def test_the_rows_that_a_refusal_names_are_enough(tmp_path: Path, folder: str, number: int) -> None:
    if not CASES.exists():
        pytest.skip("the cases are not beside this checkout")
    (refused,) = predict(load([CASES / folder]), [Case.of(model="llama-3.1-8b", chip="t-asic")])
    missing = re.findall(r"\b[a-z_]+\b", refused.reason.split("gives ")[1].split(" of t-asic")[0])
    example = blocks("csv")[2 * number + 1].splitlines()
    added = [row for row in example[1:] if row.split(",")[1] in missing]
    name = example[1].split(",")[0]
    text = "\n".join([example[0], *added]).replace(f"{name},", "t-asic,") + "\n"
    (tmp_path / "more.csv").write_text(text, encoding="utf-8")
    (found,) = predict(load([CASES / folder, tmp_path]), [Case.of(model="llama-3.1-8b", chip="t-asic", tp=8)])
    assert found.fits, found.reason


@pytest.mark.parametrize(
    "command",
    [
        ["explain", "--model", "qwen3-0.6b", "--chip", "h100-sxm", "--batch", "4"],
        ["predict", "--model", "qwen3-0.6b", "--chip", "h100-sxm"],
        ["plan", "--model", "qwen3-0.6b", "--chips-from", "h100-sxm", "--max-chips", "1", "--batch", "4"],
        ["chips", "h100-sxm"],
    ],
    ids=lambda command: command[0],
)
def test_edits_are_echoed(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    edit = ["--set", "H100.memory_bytes_per_s=5TB/s"]
    main([*command, *edit])
    assert "edited: h100-sxm.memory_bytes_per_s 3.35 TB/s -> 5 TB/s\n" in capsys.readouterr().out
    main([*command, *edit, "--json"])
    (found,) = json.loads(capsys.readouterr().out)["edits"]
    assert (found["name"], found["quantity"], found["condition"]) == ("h100-sxm", "memory_bytes_per_s", "HBM3")
    assert (found["before"], found["after"], found["unit"]) == (3.35e12, 5e12, "B/s")
