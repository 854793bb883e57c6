"""Fact rows: each one whole, each error in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashstill.errors import BadInput, MissingFact
from flashstill.facts import Fact, load
from flashstill.facts.table import COLUMNS, read_rows, to_csv
from flashstill.hardware import chip_from_facts, known_chips

ROWS = [fact for facts in load().rows.values() for fact in facts]
QUANTITY_UNITS = {
    "flops_per_s": "FLOP/s",
    "bytes_per_s": "B/s",
    "memory_bytes": "B",
    "sram_bytes": "B",
    "cache_bytes": "B",
    "_w": "W",
    "_nm": "nm",
    "_mm2": "mm2",
    "usd_per_hour": "USD/h",
    "usd_purchase": "USD",
    "usd_per_kwh": "USD/kWh",
    "_ratio": "1",
    "_efficiency": "1",
    "_s": "s",
    "_years": "year",
    "_axes": "1",
    "_chips": "1",
}


@pytest.mark.parametrize("fact", ROWS, ids=lambda fact: f"{fact.name}.{fact.quantity}.{fact.condition}")
def test_every_row_is_whole(fact: Fact) -> None:
    assert fact.low <= fact.value <= fact.high
    assert fact.value >= 0
    assert fact.per
    assert len(fact.source) >= 10
    assert fact.as_of >= "2024"
    if fact.kind == "estimate" and fact.quantity not in ("torus_axes", "link_domain_chips"):
        assert fact.low < fact.high, "an estimate has a range"
    if fact.kind == "datasheet":
        assert "memory of" not in fact.source
        assert "recollection" not in fact.source
    wanted = next((unit for ending, unit in QUANTITY_UNITS.items() if fact.quantity.endswith(ending)), None)
    assert wanted is None or fact.unit == wanted, f"{fact.quantity} in {fact.unit}"
    assert wanted is not None or fact.quantity.split("_")[0] == "pj" or "_pj_" in fact.quantity


def test_no_number_of_a_chip_stands_in_python() -> None:
    names = set(load().machines)
    for path in (Path(__file__).parents[1] / "src" / "flashstill").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name == "schema.py":  # the recipe's default list of chips: names, no numbers
            continue
        assert not [name for name in names - {"this-machine"} if f'"{name}"' in text], path


@pytest.mark.parametrize(
    "name",
    "tpu-v4,tpu-v5e,tpu-v5p,tpu-v6e,tpu-v7,a100-80g,h100-sxm,h200-sxm,b200,mi300x,groq-lpu,wse-3".split(","),  # noqa: SIM905
)
def test_named_chips_can_be_priced(name: str) -> None:
    chip = chip_from_facts(load(), name.upper())
    assert chip.name == name
    assert 0 < chip.idle_w < chip.power_limit_w
    assert name in known_chips(load())


def test_known_figures() -> None:
    facts = load()
    assert facts.value("h100-sxm", "memory_bytes_per_s") == 3.35e12
    assert facts.value("tpu-v5e", "flops_per_s", "bf16") == 1.97e14
    assert facts.value("tpu-v7", "memory_bytes") == 192 * 2**30


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(MissingFact, match="h100-sxm"):
        load().machine("h100")
    with pytest.raises(MissingFact, match="memory_bytes_per_s of groq-lpu"):
        load().get("groq-lpu", "memory_bytes_per_s")


def test_what_if_edits() -> None:
    facts = load(edits=["h100-sxm.memory_bytes_per_s=5e12"])
    row = facts.get("h100-sxm", "memory_bytes_per_s")
    assert (row.value, row.kind) == (5e12, "what-if")
    with pytest.raises(MissingFact, match="memory_bytes_per_s"):
        load(edits=["h100-sxm.memory_bandwidth=5e12"])
    for nonsense in (
        "h100-sxm.idle_w",
        "idle_w=3",
        "h100-sxm.idle_w=fast",
        "h100-sxm.idle_w=-1",
        "h100-sxm.idle_w=nan",
    ):
        with pytest.raises(BadInput, match="--set"):
            load(edits=[nonsense])


def test_user_rows_add_a_chip(tmp_path: Path) -> None:
    ours = [row for row in ROWS if row.name == "h100-sxm"]
    text = to_csv(ours).replace("h100-sxm", "my-chip").replace("3.35e+12", "9e12").replace("3350000000000.0", "9e12")
    (tmp_path / "mine.csv").write_text(text.replace("3360000000000.0", "9e12"), encoding="utf-8")
    (tmp_path / "machines.csv").write_text("name,title,maker,class,year\nmy-chip,Mine,Me,gpu,2027\n", encoding="utf-8")
    chip = chip_from_facts(load([tmp_path]), "my-chip")
    assert chip.memory.bytes_per_s == 9e12


HEADER = ",".join(COLUMNS)
GOOD = "c,q_w,1,0.5,2,W,chip,,estimate,somewhere,2026,"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (GOOD.replace("estimate", "guess"), "unknown kind"),
        (GOOD.replace(",W,", ",Watt,"), "unknown unit"),
        (GOOD.replace("0.5", "1.5"), "low <= value <= high"),
        (GOOD.replace(",1,", ",nan,"), "low <= value <= high"),
        (GOOD.replace(",1,", ",one,"), "must be numbers"),
        (GOOD.replace("somewhere", ""), "must not be empty"),
        (GOOD + ",extra", "fields"),
        (GOOD.removesuffix(","), "fields"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{HEADER}\n{line}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=complaint):
        read_rows(path)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(to_csv(ROWS), encoding="utf-8")
    assert read_rows(path) == ROWS


def test_missing_directory() -> None:
    with pytest.raises(BadInput, match="does not exist"):
        load([Path("/nowhere/at/all")])
