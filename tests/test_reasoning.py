"""Problems that training and test do not share, matchers, and judges that raise, hang, die or talk nonsense."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flashstill.distill.reasoning import countdown, gym
from flashstill.distill.reasoning.judging import Judges, verdict_of
from flashstill.distill.reasoning.matching import Extract, exact, last_number, numeric
from flashstill.distill.reasoning.problems import (
    Problem,
    check_disjoint,
    load_problems,
    save_problems,
    without_repeats,
)
from flashstill.distill.reasoning.spec import Spec
from flashstill.distill.reasoning.tasks import judge_of, problem_sets
from flashstill.errors import BadInput
from tests.marks import slow


def nothing(amount: float, note: str = "") -> None:
    pass


def problem(prompt: str, answer: str = "1") -> Problem:
    return Problem(prompt=prompt, answer=answer)


@pytest.mark.slow
def test_all_cores_draw_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("reasoning_gym")
    task = Spec(source="gym:chain_sum", prompt="{question}", options={"max_terms": 3}, seed=7)
    alone = gym.drawn(task, 5, 40)
    assert alone == list(gym.drawn_here(task, 5, 40))
    monkeypatch.setattr(gym, "WORTH_A_PROCESS", 10)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(3))
    told: list[float] = []
    assert gym.drawn(task, 5, 40, lambda amount, note="": told.append(amount)) == alone
    assert sum(told) == 40
    assert len(told) >= 3
    with pytest.raises(BadInput, match=r"asks for 'answr'"):
        gym.drawn(Spec(source="gym:chain_sum", prompt="{answr}"), 0, 40)


COUNTDOWNS: list[dict[str, Any]] = [
    {}, {"min_numbers": 4, "max_numbers": 4, "max_value": 50, "min_target": 10, "max_target": 500},
    {"min_numbers": 2, "max_numbers": 12, "max_value": 9, "min_target": 1, "max_target": 900},
    {"operators": ("/", "*"), "max_value": 20, "min_target": 1},
    {"operators": ("-", "/"), "max_value": 20, "min_target": 1, "shuffle": False},
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("options", COUNTDOWNS)
def test_countdown_problems_are_the_gym_s_own(options: dict[str, Any]) -> None:
    gym_ = pytest.importorskip("reasoning_gym")
    plain = gym_.create_dataset("countdown", seed=3 << 32, size=1000, **options)
    quick = countdown.fast(plain, 0, 10)
    assert type(quick) is not type(plain)

    def problem_of(source: Any, index: int) -> Any:
        try:
            return source[index]
        except ValueError as error:  # no expression in a hundred has the value
            return str(error)

    assert [problem_of(quick, n) for n in range(40, 60)] == [problem_of(plain, n) for n in range(40, 60)]


class Other:
    """A version of the gym that makes other problems."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def __getitem__(self, index: int) -> Any:
        return self._generate_expression(random.Random(index))

    def _generate_expression(self, rng: random.Random) -> Any:
        return "1 + 1", [1, 1], 2


def test_another_gym_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(min_numbers=2, max_numbers=2, min_value=1, max_value=9, operators=("*",), min_target=0,
                             max_target=99)  # fmt: skip
    other = Other(config)
    assert countdown.fast(other, 0, 10) is other
    del config.operators
    assert countdown.fast(other, 0, 10) is other
    other = Other(SimpleNamespace(**vars(config), operators=("*",)))
    monkeypatch.setattr(countdown, "_expression", lambda self, rng: ("1 + 1", [1, 1], 2))
    assert countdown.fast(other, 0, 10) is not other


class TestProblems:
    def test_the_same_numbers_in_another_sentence_are_the_same_problem(self) -> None:
        first = problem("Using 3, 7 and 25, make 46.")
        assert first.same == problem("Make 46 of these: 25, 3, 7").same
        assert first.same != problem("Make 47 of these: 25, 3, 7").same
        assert problem("Is a cat an animal?").same == problem("is an animal a cat?").same
        assert problem("+++").same != problem("---").same

    def test_contamination_is_refused(self) -> None:
        with pytest.raises(BadInput, match=r"1 of 2 test problems are in the training set too.*'3 2 1'"):
            check_disjoint([problem("1 2 3"), problem("4 5 6")], [problem("7 8 9"), problem("3 2 1")])
        check_disjoint([problem("1 2 3")], [problem("1 2 4")])

    def test_repeats_go(self) -> None:
        pool = [problem("1 2 3"), problem("3 2 1"), problem("4 5 6"), problem("7 8 9")]
        assert [each.prompt for each in without_repeats(pool, {problem("9 8 7").same})] == ["1 2 3", "4 5 6"]

    def test_on_the_disk(self, tmp_path: Path) -> None:
        problems = [Problem(prompt="1 2", answer="3", entry={"metadata": {"n": [1, 2]}}), problem("Ä\n?")]
        save_problems(tmp_path / "p.jsonl", problems)
        assert load_problems(tmp_path / "p.jsonl") == problems

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("{", "line 1 is not JSON"),
            ("[1]", "line 1 is not a JSON object"),
            ('{"prompt": " ", "answer": "x"}', 'no "prompt" with text'),
            ('{"prompt": "x", "answer": true}', 'no "answer" with text or a number'),
            ('{"prompt": "x", "answer": 1, "entry": 2}', '"entry" is not a JSON object'),
            ("", "holds none"),
        ],
    )
    def test_lines_that_are_none(self, tmp_path: Path, line: str, said: str) -> None:
        (tmp_path / "p.jsonl").write_text(line + "\n")
        with pytest.raises(BadInput, match=said):
            load_problems(tmp_path / "p.jsonl")


class TestMatching:
    def test_answers(self) -> None:
        assert Extract(marker="####")("think #### 4 \n#### 5 ") == "5"
        assert Extract(marker="####")("think") is None
        assert Extract()(" 5 ") == "5"
        assert Extract(part="line")(" 5\n\nAnother 6") == "5"
        assert Extract(part="number", marker="=")("7 = so it is 1,500.") == "1500"
        assert Extract(part="number")("none") is None
        with pytest.raises(BadInput, match="nearest known: line"):
            Extract(part="lin")

    @pytest.mark.parametrize(
        ("text", "value"),
        [("the sum is 1,234.50", 1234.5), ("3/4", 0.75), ("5e3", 5000.0), ("-.5", -0.5), ("none", None), ("1/0", None)],
    )
    def test_numbers(self, text: str, value: float | None) -> None:
        assert last_number(text) == value

    def test_matches(self) -> None:
        assert exact(" a  b", "a b")
        assert not exact("a b", "A b")
        assert numeric("so it is 0.5", "1/2")
        assert not numeric("0.51", "1/2")
        assert not numeric("nothing", "1/2")


GYM = Spec(
    source="gym:countdown",
    options={"min_numbers": 3, "max_numbers": 3, "max_value": 20, "min_target": 10, "max_target": 99},
    prompt="{numbers} > {target}",
)


@pytest.mark.slow
class TestGym:
    def test_sets_are_apart_and_the_same_every_time(self) -> None:
        training, test = problem_sets(GYM, 60, 30)
        assert (len(training), len(test)) == (60, 30)
        assert not {each.same for each in training} & {each.same for each in test}
        assert problem_sets(GYM, 60, 30) == (training, test)
        assert test[0].prompt.endswith(f" > {test[0].entry['metadata']['target']}")
        judge = judge_of(GYM)
        assert judge(test[0].answer, {"entry": test[0].entry}) == 1.0
        assert judge("1 + 1", {"entry": test[0].entry}) < 1.0

    def test_neighbouring_seeds_share_next_to_nothing(self) -> None:
        ours, theirs = (problem_sets(replace(GYM, seed=seed), 100, 1)[0] for seed in (0, 1))
        assert len({each.same for each in ours} & {each.same for each in theirs}) < 10

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            (Spec(source="gym:countdwn"), "nearest known: countdown"),
            (Spec(source="gym:countdown", options={"numbers": 3}), "task.options of gym:countdown"),
            (Spec(source="gym:countdown", prompt="{numbrs}"), r"asks for 'numbrs'; gym:countdown has .*numbers"),
            (
                Spec(
                    source="gym:countdown",
                    options={"min_numbers": 2, "max_numbers": 2, "max_value": 3, "min_target": 1},
                ),
                "different problems in .* drawn",
            ),
        ],
    )
    def test_mistakes(self, spec: Spec, said: str) -> None:
        with pytest.raises(BadInput, match=said):
            problem_sets(spec, 200, 200)


ENTRY = {"entry": {"metadata": {"numbers": [3, 4, 8], "target": 20}}}


class TestExpressions:
    @pytest.mark.parametrize(
        ("answer", "right"),
        [
            ("3*4 + 8", True), ("(8 + 3*4)", True), ("8 - -3*4", True), ("4 + 8*3 - 8", False), ("3*4+8+0", False),
            ("20", False), ("4*8 - 3", False), ("3*4 + 8 = 20", False), ("", False), ("8/(3-3)*4", False),
            ("3**4", False), ("8//4*3", False), ("3*4 + 08", False), ("(" * 200 + "3*4+8" + ")" * 200, False),
            ("__import__('os')", False), ("3*4 8", False), ("3 +", False),
        ],
    )  # fmt: skip
    def test_by_hand(self, answer: str, right: bool) -> None:
        assert judge_of(Spec(source="gym:countdown", matcher="expression"))(answer, ENTRY) == float(right)

    def test_fractions_are_exact(self) -> None:
        thirds = {"entry": {"metadata": {"numbers": [1, 3, 3], "target": 1}}}
        assert judge_of(Spec(source="x.jsonl", matcher="expression"))("1 / 3 * 3", thirds) == 1.0
        with pytest.raises(BadInput, match="problems with `numbers` and `target`"):
            judge_of(Spec(source="x.jsonl", matcher="expression"))("1", {"prompt": "1", "answer": "1"})

    @pytest.mark.slow
    def test_it_agrees_with_the_gym(self) -> None:
        problems, _ = problem_sets(GYM, 40, 1)
        theirs, ours = judge_of(GYM), judge_of(replace(GYM, matcher="expression"))
        said = []
        for each, other in itertools.pairwise(problems):
            for answer in (each.answer, each.answer.replace("+", "-"), other.answer, f"({each.answer})"):
                asked = {"entry": each.entry}
                said.append(ours(answer, asked))
                assert (theirs(answer, asked) == 1.0) == (said[-1] == 1.0), (answer, each.prompt)
        assert 39 <= sum(said) < len(said)


PATIENCE_S = 120.0
"""far longer than a verdict takes on a busy machine"""
JUDGE = """
import os, time
def judge(answer, problem):
    if answer == "raise":
        raise KeyError("no")
    if answer == "hang":
        time.sleep(1000)
    if answer == "die":
        os._exit(1)
    if answer == "talk":
        print("1.0")
        os.write(1, b"1.0\\n")
        return 0.5
    if answer == "memory":
        return len(bytearray(1 << 40))
    if answer == "quit":
        raise SystemExit(0)
    if answer == "odd":
        return {"nan": float("nan")}[answer.replace("odd", "nan")]
    if answer == "text":
        return "right"
    if answer == "large":
        return 2
    return answer == problem["answer"]
"""


class TestJudges:
    @pytest.fixture
    def task(self, tmp_path: Path) -> tuple[Spec, Path]:
        (tmp_path / "judge.py").write_text(JUDGE)
        save_problems(tmp_path / "p.jsonl", [problem("one", "1"), problem("two", "2")])
        return Spec(source=f"{tmp_path / 'judge.py'}:judge", data=str(tmp_path / "p.jsonl")), tmp_path / "p.jsonl"

    @pytest.mark.slow
    def test_a_judge_may_do_what_it_likes(self, task: tuple[Spec, Path]) -> None:
        asked = ["1", "2", "raise", "die", "talk", "memory", "quit", "odd", "text", "large", None, "1"]
        with Judges(*task, processes=2, seconds=PATIENCE_S) as judge:
            found = judge([(0, text) for text in asked], nothing)
            counts = dict(judge.counts)
        outcomes = [verdict.outcome for verdict in found]
        assert outcomes == [
            "right", "wrong", "raised", "raised", "wrong", "raised", "raised", "nonsense", "nonsense", "nonsense",
            "wrong", "right",
        ]  # fmt: skip
        assert found[2].why == "KeyError: 'no'"
        assert counts == {"right": 1, "wrong": 2, "raised": 4, "nonsense": 3}, "equal answers are judged once"

    @pytest.mark.slow
    def test_a_judge_that_hangs_is_late(self, task: tuple[Spec, Path]) -> None:
        with Judges(*task, processes=1, seconds=1.0) as judge:
            assert [verdict.outcome for verdict in judge([(0, "hang"), (1, "hang")], nothing)] == ["late", "late"]
            assert judge.counts == {"late": 2}

    @pytest.mark.slow
    def test_one_that_says_too_much_costs_no_other_answer(self, task: tuple[Spec, Path]) -> None:
        """The questions are sent together; a line too many is found out one question at a time."""
        path = Path(task[0].source.rpartition(":")[0])
        path.write_text(
            "import os\ndef judge(answer, problem):\n"
            "    if answer == 'flood':\n"
            "        for place in range(3, 9):\n"
            "            if os.path.exists(f'/proc/self/fd/{place}'):\n"
            "                try: os.write(place, b'2 {\"score\": 1.0}\\n')\n"
            "                except OSError: pass\n"
            "    return answer == '1'\n"
        )
        asked = ["1", "a", "flood", "b", "x" * 20_000, "c", "1 "]
        with Judges(*task, processes=1, seconds=PATIENCE_S) as judge:
            found = [verdict.outcome for verdict in judge([(0, text) for text in asked])]
        assert found == ["right", "wrong", "nonsense", "wrong", "wrong", "wrong", "wrong"]

    @pytest.mark.slow
    def test_it_knows_which_problem(self, task: tuple[Spec, Path]) -> None:
        with Judges(*task, processes=1, seconds=PATIENCE_S) as judge:
            assert [verdict.score for verdict in judge([(0, "2"), (1, "2")], nothing)] == [0.0, 1.0]

    @pytest.mark.slow
    def test_one_that_only_fails_stops_the_run(self, task: tuple[Spec, Path]) -> None:
        with (
            Judges(*task, seconds=PATIENCE_S) as judge,
            pytest.raises(BadInput, match=r"failed on 50 of 50 answers \(nonsense"),
        ):
            odd = Path(task[0].source.rpartition(":")[0])
            odd.write_text("def judge(answer, problem):\n    return None\n")
            judge([(0, str(number)) for number in range(400)], nothing)

    @pytest.mark.parametrize(
        ("source", "said"),
        [("judge.py:juge", "nearest known: judge"), *slow(("other.py:judge", "there is no file"))],
    )
    def test_functions_that_are_not_there(self, task: tuple[Spec, Path], source: str, said: str) -> None:
        spec = Spec(source=str(task[1].parent / source), data=task[0].data)
        with Judges(spec, task[1], seconds=PATIENCE_S) as judge, pytest.raises(BadInput, match=said):
            judge([(0, "1")], nothing)

    @pytest.mark.slow
    def test_lines_of_a_file(self, task: tuple[Spec, Path]) -> None:
        spec = Spec(source=str(task[1]), matcher="numeric")
        with Judges(spec, task[1], seconds=PATIENCE_S) as judge:
            assert [v.outcome for v in judge([(0, "1.0"), (0, "it is 2")], nothing)] == ["right", "wrong"]

    def test_what_a_line_means(self) -> None:
        assert verdict_of(b"1.0").outcome == "nonsense"
        assert verdict_of(json.dumps({"score": True}).encode()).outcome == "right"
        assert verdict_of(b"{").outcome == "nonsense"
