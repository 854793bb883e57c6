"""The state of the explorer's page: what a query may say, its way there and back, and the command line of a state."""

from __future__ import annotations

import random
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.errors import BadInput, FlashstillError
from flashstill.explore.answers import Answers
from flashstill.explore.commands import Given, explain_words, plan_words
from flashstill.explore.controls import CONTROLS, MOST_EDITS
from flashstill.explore.starting import answers_of
from flashstill.explore.state import query_of
from flashstill.explore.view import Table
from tests.explored import VIEWS, answers, random_query
from tests.hostile import hostile_queries, is_sentence

PAGE = answers()


def test_there_and_back() -> None:
    chance = random.Random(1)
    for view in VIEWS * 8:
        state = PAGE.state(random_query(chance, view, PAGE.engine.catalogue))
        query = query_of(state)
        assert PAGE.state(query) == state
        assert query_of(PAGE.state(query)) == query


def test_what_is_left_out_has_its_default() -> None:
    state = PAGE.state("")
    assert (state.view, state.model, state.chip, state.batch, state.context) == (
        "model",
        "qwen3-8b",
        "h100-sxm",
        16,
        1024,
    )
    assert state.chips is None
    assert len(state.models) == 5
    assert state.model in state.models
    assert len({PAGE.engine.facts.machines[chip].chip_class for chip in state.chips_from}) == len(state.chips_from)


def test_a_short_model_has_short_defaults() -> None:
    state = PAGE.state("model=gpt2")
    assert state.isl + state.osl <= 1024
    assert state.context <= 1024


def test_names_are_spelled_as_the_rows_have_them() -> None:
    state = PAGE.state("chip=H100_SXM&model=Qwen3-8B&price=OWNED&chips_from=b200,B200,tpu-v6e&batch=4Ki&max_tpot=20ms")
    assert (state.chip, state.model, state.price, state.batch) == ("h100-sxm", "qwen3-8b", "owned", 4096)
    assert state.chips_from == ("b200", "tpu-v6e")
    assert state.max_tpot == 0.02


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("batch=0", "between 1 and 65,536, not 0"),
        ("batch=x", "not a whole number"),
        ("max_tpot=-1", "must lie between"),
        ("chip=h100-sxn", "h100-sxm"),
        ("view=fronts", "front"),
        ("btach=1", "batch"),
        ("batch=1&batch=2", "2 times"),
        ("chips_from=l4,l20,l40s,b200,h20,h100-sxm,tpu-v6e", "1 to 6 names"),
        ("model=", "nearest known"),
    ],
)
def test_a_mistake_is_a_sentence(query: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        PAGE.state(query)
    assert words in str(refused.value)


def test_edits_are_counted_before_they_are_read() -> None:
    edits = "&".join(["set=h100-sxm.idle_w=1"] * (MOST_EDITS + 1))
    with pytest.raises(BadInput, match="up to 16 edits"):
        PAGE.state(edits)


def refused_by(page: Answers, query: str) -> str | None:
    """The sentence with which a query is refused; None where it is answered."""
    try:
        view = page.state(query).view
        page.view_json(view, query)
    except FlashstillError as error:
        return str(error)
    return None


def test_hostile_queries_get_a_sentence() -> None:
    queries = hostile_queries()
    assert len(queries) >= 200
    answered = []
    for query in queries:
        sentence = refused_by(PAGE, query)
        if sentence is None:
            answered.append(query)
        else:
            assert is_sentence(sentence), (query, sentence)
    assert answered == []


LETTERS = st.sampled_from([*"abz019=&%+;.,-_[]<>'/\\ ", "\x00", "\x1f", "\n", "\u202e", "\u0663", "\U0001f600"])
TEXTS = st.text(alphabet=LETTERS, max_size=40)


@given(TEXTS)
def test_any_text_is_read_or_refused(query: str) -> None:
    is_read_or_refused(query)


@given(st.lists(st.tuples(st.sampled_from([control.key for control in CONTROLS]), TEXTS), max_size=6))
def test_any_value_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    is_read_or_refused("&".join(f"{name}={quote(text)}" for name, text in pairs))


def is_read_or_refused(query: str) -> None:
    """Assert that a query becomes a state that goes there and back, or a sentence."""
    try:
        state = PAGE.state(query)
    except FlashstillError as error:
        sentence: str | None = str(error)
    else:
        sentence = None
        assert PAGE.state(query_of(state)) == state
    assert sentence is None or is_sentence(sentence)


def test_a_front_that_would_take_long_is_refused_before_it_starts() -> None:
    chips = "view=front&chips_from=tpu-v6e,tpu-v7,tpu-v5e,tpu-8i,sn40l,mtia-v2&max_chips=256&model=deepseek-v3"
    sentence = refused_by(PAGE, chips)
    assert sentence is not None
    assert "configurations; the page searches up to" in sentence


def test_a_placement_that_would_take_long_is_refused_before_it_starts() -> None:
    models = "qwen3-8b,deepseek-v3,kimi-k2,qwen3-32b,gpt-oss-120b,llama-3.1-70b,gemma-3-27b,minimax-m2"
    sentence = refused_by(PAGE, f"view=placement&models={models}&chips_from=tpu-v6e,tpu-v7,tpu-v5e,tpu-8i,sn40l,l4")
    assert sentence is not None
    assert "8 models from 11 memories are 88 to compare" in sentence


def test_the_command_of_a_state() -> None:
    given_facts = Given(directories=("my facts",), edits=("h100-sxm.idle_w=90",))
    state = PAGE.state("batch=3&precision=fp8&memory=sram&chips=4&set=h100-sxm.usd_per_hour%3D2&max_tpot=0.03")
    words = explain_words(given_facts, state)
    assert words[:3] == ["explain", "--model", "qwen3-8b"]
    assert words[words.index("--precision") + 1] == "fp8"
    assert words[-6:] == ["--facts", "my facts", "--set", "h100-sxm.idle_w=90", "--set", "h100-sxm.usd_per_hour=2"]
    assert "--max-tpot" not in words
    searched = plan_words(given_facts, state)
    assert searched[searched.index("--max-tpot") + 1] == "0.03"
    assert searched[searched.index("--tiers") + 1] == "sram"


def test_a_table_as_csv_keeps_digits_and_defuses_formulas() -> None:
    rows = (("=1+1", 0.1 + 0.2), ("a,b", True), ("none", None), ('say "x"', -1.5))
    table = Table(caption="c", columns=("name", "=x"), rows=rows)
    assert table.as_csv() == ('name,\'=x\r\n\'=1+1,0.30000000000000004\r\n"a,b",true\r\nnone,\r\n"say ""x""",-1.5\r\n')


@pytest.mark.parametrize("asked", [{"model": ""}, {"chip": ""}])
def test_an_empty_name_is_no_default(asked: dict[str, str]) -> None:
    with pytest.raises(FlashstillError, match=r"unknown (model|chip) ''"):
        answers_of(**asked)  # type: ignore[arg-type]
