"""What single views say: parts that add up, captions that are true, colours that are the same everywhere."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from flashstill.explore.answers import Answers
from flashstill.report.stacks import REST
from tests.explored import answers, row_of


@pytest.fixture(scope="module")
def page() -> Answers:
    return answers()


def shown(page: Answers, query: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(page.view_json(page.state(query).view, query))
    return document


@pytest.mark.parametrize("chips", [1, 16])
def test_bytes_from_all_places_and_the_rest_are_all_joules(page: Answers, chips: int) -> None:
    """Arithmetic, idle and clock power are no bytes; all else has a place, and joules of a network are said to."""
    document = shown(page, f"view=byte&chips={chips}")
    table = document["charts"][0]["table"]
    place, share = (table["columns"].index(name) for name in ("place", "share_of_place"))
    shares = {row[place]: row[share] for row in table["rows"]}
    rest = sum(row_of(document, "token", level=level)["share"] for level in ("arithmetic", "idle", "active"))
    assert sum(shares.values()) + rest == pytest.approx(1.0, rel=1e-12)
    assert any("network beyond the fast links" in note for note in document["notes"]) == (chips == 16)


def test_a_level_has_one_colour(page: Answers) -> None:
    """In the bars against batch and against context, and in the bar of a token."""
    drawn = [shown(page, "view=byte")["charts"][1]["svg"]]
    drawn += [chart["svg"] for chart in shown(page, "view=model")["charts"] if chart["name"].startswith("joules")]
    colours = {}
    for level in ("weights", "idle", "kv", "active"):
        found = {each for svg in drawn for each in re.findall(rf'<g class="(\w+)"><title>[^<]*, {level}: ', svg)}
        (colours[level],) = found
    assert len({*colours.values(), REST}) == 5, "each its own, and none that of the small parts together"


def test_dollars_of_a_kind_of_token_are_of_a_million_of_that_kind(page: Answers) -> None:
    """Tokens of each kind times their price are what the requests cost: the caption must not call them parts."""
    document = shown(page, "view=chips&isl=3000&osl=500")
    table = document["charts"][1]["table"]
    assert "of a million input, cached and output tokens each" in table["caption"]
    for row in table["rows"]:
        named = dict(zip(table["columns"], row, strict=True))
        input_usd, output_usd = (named[f"{kind}_usd_per_million_tokens"] for kind in ("input", "output"))
        assert 3000 * input_usd + 500 * output_usd == pytest.approx(500 * named["usd_per_million_output_tokens"])
