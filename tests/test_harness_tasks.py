"""Tasks through lm-eval: the scores are its own, templates reach nothing, and what is finished is kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from flashstill.cli import main
from flashstill.distill.models import load_model, load_tokenizer
from flashstill.errors import BadInput
from flashstill.evaluate import evaluate_models
from flashstill.evaluate.tasks.answers import Answers
from flashstill.harness.process import Harness
from flashstill.records import QualityRecord, read_records
from tests.commands import refuse
from tests.task_files import COLOURS, ROLLING, TEXTS, write_task

pytest.importorskip("lm_eval", reason="needs the extra eval")
pytestmark = pytest.mark.slow


def answering(model: Path, chats: Any = None) -> Any:
    """The model as lm-eval itself runs it."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=load_model(model, torch.float32), tokenizer=chats or load_tokenizer(model), batch_size=2)


def in_process(task: Path, model: Path, chats: Any = None) -> dict[str, Any]:
    """lm-eval's results of the same task with its own HFLM, in this process. chats: a tokenizer with a template."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    text = task.read_text().replace("items.jsonl", str(task.parent / "items.jsonl"))
    task.with_name("absolute.yaml").write_text(text)
    lm = answering(model, chats)
    manager = TaskManager(include_defaults=False)
    found = lm_eval.simple_evaluate(
        lm, tasks=[str(task.with_name("absolute.yaml"))], task_manager=manager, bootstrap_iters=0,
        apply_chat_template=chats is not None,
    )  # fmt: skip
    [results], [samples] = found["results"].values(), found["samples"].values()
    return {**results, "arguments": [list(each) for sample in samples for each in sample["arguments"]]}


@pytest.mark.parametrize("text", [COLOURS, TEXTS, ROLLING], ids=["choice", "texts", "rolling"])
def test_scores_are_those_of_lm_eval(tmp_path: Path, tiny_teacher: Path, text: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "data"))
    task = write_task(tmp_path, text)
    found = evaluate_models([str(tiny_teacher)], tasks=[str(task)], arithmetic="fp32")
    ours = {each.metric: each for each in found.records if isinstance(each, QualityRecord)}
    theirs = {key.removesuffix(",none"): value for key, value in in_process(task, tiny_teacher).items()}
    assert ours
    for metric, record in ours.items():
        assert record.value == pytest.approx(theirs[metric], rel=1e-5)
        assert record.documents == 4
        assert record.tokens > 0
        assert record.low is not None
        assert record.high is not None
        assert record.low <= record.value <= record.high
        assert math.isfinite(record.value)
    assert found.tasks == (text.splitlines()[0].removeprefix("task: "),)


TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize("text", [COLOURS, TEXTS], ids=["choice", "texts"])
def test_chats_are_those_of_lm_eval(tmp_path: Path, tiny_teacher: Path, text: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "data"))
    task = write_task(tmp_path, text)
    (tmp_path / "template.jinja").write_text(TEMPLATE)
    with pytest.raises(BadInput, match="tiny-teacher has no chat template; give --chat-template"):
        evaluate_models([str(tiny_teacher)], tasks=[str(task)], chat=True)
    asked: list[Any] = []
    whole = Answers.answer

    def watched(self: Any, kind: str, arguments: Any, advance: Any) -> Any:
        asked.extend([] if kind == "chat" else arguments)
        return whole(self, kind, arguments, advance)

    monkeypatch.setattr(Answers, "answer", watched)
    found = evaluate_models(
        [str(tiny_teacher)], tasks=[str(task)], chat=True, chat_template=str(tmp_path / "template.jinja"),
        arithmetic="fp32",
    )  # fmt: skip
    tokenizer = load_tokenizer(tiny_teacher)
    tokenizer.chat_template = TEMPLATE
    theirs = in_process(task, tiny_teacher, tokenizer)
    for record in found.records:
        if isinstance(record, QualityRecord):
            metric = record.metric if "," in record.metric else f"{record.metric},none"
            assert record.value == pytest.approx(theirs[metric], rel=1e-5)
    assert asked == theirs["arguments"]
    assert "<user>" in asked[0][0]
    assert asked[0][0].endswith("<assistant>")


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch pwned') }}",
        "{{ 'a' * 10 ** 9 }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_templates_reach_nothing(tmp_path: Path, template: str) -> None:
    text = COLOURS.replace('doc_to_text: "Question: {{question}}\\nAnswer:"', f'doc_to_text: "{template}"')
    assert template in text
    with pytest.raises(BadInput, match=r"lm-eval cannot run it: (SecurityError|OverflowError)"):
        Harness(str(write_task(tmp_path, text)), None, False)


def test_names_that_lm_eval_does_not_have(tmp_path: Path) -> None:
    text = COLOURS.replace("metric: acc}", "metric: accc}")
    with pytest.raises(BadInput, match="unknown metric 'accc'; the nearest known: acc"):
        Harness(str(write_task(tmp_path, text)), None, False)
    text = TEXTS.replace("function: regex,", "function: custom, filter_fn: x,")
    with pytest.raises(BadInput, match="unknown filter 'custom'"):
        Harness(str(write_task(tmp_path, text)), None, False)
    text = COLOURS.replace("dataset_path: json\n", "dataset_path: nobody/nothing\n").replace(
        "dataset_kwargs: {data_files: {test: items.jsonl, train: items.jsonl}}\n", ""
    )
    with pytest.raises(BadInput, match=r"its data set \(nobody/nothing\) is not on this machine, and nothing is down"):
        Harness(str(write_task(tmp_path, text)), None, False)


@pytest.mark.parametrize(
    ("kwargs", "why"),
    [
        ("{until: 5}", "have until: 5; expected a text or a list of texts"),
        ("{max_gen_toks: many}", "have max_gen_toks: 'many'; expected a number from 1"),
        ("{best_of: 3}", "have 'best_of', which is not known"),
    ],
)
def test_generation_kwargs_are_checked_before_a_model_is_loaded(
    tmp_path: Path, tiny_teacher: Path, monkeypatch: Any, kwargs: str, why: str
) -> None:
    text = TEXTS.replace('{until: ["\\n"], max_gen_toks: 12}', kwargs)
    assert kwargs in text
    monkeypatch.setattr("flashstill.evaluate.tasks.running.load_model", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(BadInput, match=f"task texts: a task's generation_kwargs {why}"):
        evaluate_models([str(tiny_teacher)], tasks=[str(write_task(tmp_path, text))], arithmetic="fp32")


def test_code_runs_only_if_allowed(tmp_path: Path, tiny_teacher: Path) -> None:
    (tmp_path / "own.py").write_text("def text(doc):\n    return 'Q: ' + doc['question']\n")
    data = str(tmp_path / "items.jsonl")
    text = COLOURS.replace("items.jsonl", data).replace(
        'doc_to_text: "Question: {{question}}\\nAnswer:"', "doc_to_text: !function own.text"
    )
    task = write_task(tmp_path, text)
    with pytest.raises(BadInput, match=r"it runs code .*--allow-task-code"):
        evaluate_models([str(tiny_teacher)], tasks=[str(task)])
    asked: list[Any] = []

    def answer(kind: str, arguments: list[list[Any]]) -> list[Any]:
        asked.extend(arguments)
        return [[-1.0, False]] * len(arguments)

    with Harness(str(task), 2, True) as harness:
        assert [each.items for each in harness.tasks] == [2]
        harness.run("colours", answer)
    assert len(asked) == 6
    assert all("Q: What" in context for context, _ in asked)


def test_a_killed_evaluation_goes_on(
    monkeypatch: pytest.MonkeyPatch, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [str(write_task(tmp_path, COLOURS)), str(write_task(tmp_path, ROLLING, "rolling.yaml"))]
    asked: list[str] = []
    whole = Answers.answer

    def dies(self: Any, kind: str, *rest: Any) -> list[Any]:
        asked.append(kind)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return whole(self, kind, *rest)

    monkeypatch.setattr(Answers, "answer", dies)
    question: dict[str, Any] = {"tasks": tasks, "out": tmp_path / "r.jsonl", "arithmetic": "fp32"}
    with pytest.raises(KeyboardInterrupt):
        evaluate_models([str(tiny_teacher)], **question)
    assert len(list((tmp_path / "r.jsonl.unfinished").iterdir())) == 1
    found = evaluate_models([str(tiny_teacher)], **question)
    assert asked == ["loglikelihood", "loglikelihood_rolling", "loglikelihood_rolling"], "the first task is kept"
    assert read_records(tmp_path / "r.jsonl") == list(found.records)
    straight = evaluate_models([str(tiny_teacher)], **{**question, "out": None})
    assert straight.records == found.records
    main(["evaluate", str(tiny_teacher), "--task", tasks[0], "--items", "3", "--arithmetic", "fp32", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["question"]["tasks"] == [tasks[0]]
    for warning in document["warnings"]:
        assert warning["chance"] == pytest.approx(1 / 3)
    same = refuse(
        capsys,
        "evaluate",
        tiny_teacher,
        "--task",
        tasks[0],
        "--task",
        str(tmp_path / ".." / tmp_path.name / "task.yaml"),
    )
    assert "two tasks are called 'colours'" in same


def test_the_whole_of_a_group_is_lm_evals(tmp_path: Path, tiny_teacher: Path, monkeypatch: Any) -> None:
    """Tasks of unlike size, by size for one metric and not for the other; a task has no second metric."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "data"))
    text = COLOURS.replace("items.jsonl", str(tmp_path / "items.jsonl"))
    write_task(tmp_path, text)
    items = (tmp_path / "items.jsonl").read_text().replace('"label": 0', '"label": 2')  # not all are right
    (tmp_path / "items.jsonl").write_text(items)
    (tmp_path / "few.jsonl").write_text("".join(items.splitlines(True)[:3]))
    few = text.replace("task: colours", "task: few").replace(
        "test: " + str(tmp_path / "items.jsonl"), "test: " + str(tmp_path / "few.jsonl")
    )
    (tmp_path / "few.yaml").write_text(few)
    (tmp_path / "both.yaml").write_text(
        "group: both-of-them\ntask: [colours, few]\naggregate_metric_list:\n"
        "  - {metric: acc, weight_by_size: true}\n  - {metric: acc_norm, weight_by_size: false}\n"
    )
    found = evaluate_models(
        [str(tiny_teacher)], tasks=[str(tmp_path / "both.yaml")], arithmetic="fp32", allow_task_code=True
    )
    assert found.tasks == ("colours", "few", "both-of-them")
    ours = {(each.domain, each.metric): each for each in found.records if isinstance(each, QualityRecord)}
    lm = answering(tiny_teacher)
    manager = TaskManager(include_defaults=False, include_path=str(tmp_path))
    theirs = lm_eval.simple_evaluate(lm, tasks=["both-of-them"], task_manager=manager, bootstrap_iters=1000)
    assert theirs["groups"]["both-of-them"]["acc,none"] > 0.0
    for metric in ("acc", "acc_norm"):
        record, whole = ours["both-of-them", metric], theirs["groups"]["both-of-them"]
        assert record.value == pytest.approx(whole[f"{metric},none"], rel=1e-6)
        stderr = whole[f"{metric}_stderr,none"]
        assert record.low == pytest.approx(max(0.0, record.value - 1.959964 * stderr), rel=1e-6)
        assert record.high == pytest.approx(min(1.0, record.value + 1.959964 * stderr), rel=1e-6)
        assert record.documents == 7
        assert record.tokens == ours["colours", metric].tokens + ours["few", metric].tokens
        assert record.chance == pytest.approx(1 / 3)
    with pytest.raises(BadInput, match="read by lm-eval alone: if you trust it, say --allow-task-code"):
        evaluate_models([str(tiny_teacher)], tasks=[str(tmp_path / "both.yaml")])
    (tmp_path / "both.yaml").write_text("group: both-of-them\ntask: [colours, fewer]\n")
    with pytest.raises(BadInput, match="unknown task of lm-eval 'fewer'; the nearest known: few"):
        Harness(str(tmp_path / "both.yaml"), None, True)
    with pytest.raises(BadInput, match=r"unknown task of lm-eval 'mmlu_stemm'; the nearest known: mmlu_stem"):
        Harness("mmlu_stemm", None, False)
