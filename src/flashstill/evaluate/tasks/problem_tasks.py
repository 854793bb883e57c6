"""Problems with a verifier as a task: reasoning-gym's families, or the [task] table of a file.

    gym:NAME     a family of reasoning-gym: its question, and the request to write the answer after ####
    FILE.toml    the table [task] of a deep-think study, or of a file of one's own with the same keys

Metrics: `accuracy` of the greedy answer; with N attempts also `best_of_K` and `majority_of_K` for K = 1, 2, 4, ... N
(evaluate/attempts.py), drawn at the task's temperature.  Verifiers run in processes of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from flashstill.arch.adapter.sizes import CONTEXT, stated_size
from flashstill.checked import built, toml_tree
from flashstill.distill.generate import Sampling
from flashstill.distill.reasoning.chains import chain_key, encoded_prompts, judge, problems_hash, think
from flashstill.distill.reasoning.judging import FAILED, Judges
from flashstill.distill.reasoning.matching import Extract
from flashstill.distill.reasoning.problems import Problem, save_problems
from flashstill.distill.reasoning.spec import GYM_PREFIX, Spec
from flashstill.distill.reasoning.tasks import problem_sets
from flashstill.errors import BadInput, shortened
from flashstill.evaluate.attempts import best_of, majority_of
from flashstill.evaluate.problems import answer_texts, powers_of_two
from flashstill.evaluate.tasks.answers import Answers
from flashstill.evaluate.tasks.item_records import item_record
from flashstill.harness.files import ALLOW
from flashstill.progress import Progress
from flashstill.records import QualityRecord

SUFFIX = ".toml"
PROMPT, MARKER = "{question}\nWrite the answer alone on a line after ####.", "####"
USUAL_ITEMS = 100
OF_STUDIES = ("label_problems", "train_problems")
"""keys of a study's [task] that mean nothing here"""


def is_problem_task(task: str) -> bool:
    """Whether a task is one of problems with a verifier."""
    return task.startswith(GYM_PREFIX) or task.lower().endswith(SUFFIX)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemTable:
    """The keys of [task]; see recipes/thinking.py. test_problems: how many, if --items does not say."""

    source: str
    data: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    matcher: str = "exact"
    marker: str = ""
    part: str = "all"
    chat: bool = False
    test_problems: int = USUAL_ITEMS
    judge_seconds: float = 5.0
    new_tokens: int = 256
    temperature: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemTask:
    """A task whose problems are drawn. name: as given; attempts: at each problem beside the greedy one, 0 for none."""

    name: str
    table: ProblemTable
    spec: Spec
    problems: tuple[Problem, ...]
    attempts: int
    seed: int

    @property
    def digest(self) -> str:
        """Of all that is asked and how it is judged."""
        key = [asdict(self.table), self.spec.key, problems_hash(self.problems), self.attempts, self.seed]
        return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()

    def run(self, answers: Answers, known_as: tuple[str, str], folder: Path | None, shown: Progress) -> dict[str, Any]:
        """Scores by problem: {"accuracy": [...], "best_of_4": [...]}, and "tokens" drawn. known_as: fingerprints of the
        model and its tokenizer; folder: where finished parts are kept, None for nowhere."""
        tokenizer = answers.encoder.tokenizer
        prompts = answers.chats([each.prompt for each in self.problems])
        prompts = prompts or encoded_prompts(self.problems, tokenizer, self.table.chat)
        new_tokens = self._room(prompts, stated_size(answers.model.config, CONTEXT), shown)
        scores: dict[str, list[float]] = {}
        tokens = 0
        with _place(folder, self.digest, known_as) as place:
            save_problems(place / "problems.jsonl", self.problems)
            with Judges(self.spec, place / "problems.jsonl", seconds=self.table.judge_seconds) as judges:
                for attempts in (0, self.attempts) if self.attempts else (0,):
                    how = Sampling(
                        new_tokens=new_tokens, temperature=self.table.temperature if attempts else 0.0,
                        stop=answers.ends, seed=self.seed, vocabulary=min(len(tokenizer), answers.rows),
                    )  # fmt: skip
                    key = chain_key(*known_as, self.problems, max(1, attempts), how)
                    own, label = place / str(attempts), f"{attempts or 'greedy'} attempts at {self.name}"
                    chains = think(answers.model, prompts, max(1, attempts), how, key, own / "chains", shown, label)
                    assert chains is not None, "no other process has a share of it"
                    judged_by = {"chains": key, "task": self.spec.key, "extract": asdict(self._extract)}
                    verdicts = judge(
                        chains, answer_texts(chains, tokenizer), self._extract, judges, judged_by, own / "verdicts",
                        shown, "verify",
                    )  # fmt: skip
                    tokens += int(chains.lengths.sum())
                    scores |= _scores(verdicts.right, verdicts.said, attempts, self.seed)
                failed = sum(judges.counts[each] for each in FAILED)
                if failed:
                    shown.say(f"{self.name}: the verifier failed on {failed} of {sum(judges.counts.values())} answers")
        return {"scores": scores, "tokens": tokens}

    def _room(self, prompts: Sequence[Sequence[int]], context: int | None, shown: Progress) -> int:
        """New tokens that every prompt leaves room for in a model of so many positions, None for any; told if fewer
        than asked for. BadInput if there are none."""
        if context is None:
            return self.table.new_tokens
        longest = max(map(len, prompts))
        if longest >= context:
            raise BadInput(f"{self.name}: a prompt has {longest:,} tokens, and the model reads {context:,} in all")
        room = min(self.table.new_tokens, context - longest)
        if room < self.table.new_tokens:
            shown.say(
                f"{self.name}: answers have at most {room:,} tokens, not {self.table.new_tokens:,}, as the longest"
                f" prompt has {longest:,} and the model reads {context:,} in all"
            )
        return room

    @property
    def _extract(self) -> Extract:
        return Extract(marker=self.table.marker, part=self.table.part)

    def records(self, values: Mapping[str, Any], model: str, seed: int) -> list[QualityRecord]:
        """A record a metric, with Wilson's interval for the greedy accuracy and bootstraps over problems."""
        records = []
        for metric, per_problem in values["scores"].items():
            shares = np.asarray(per_problem, dtype=np.float64)
            tokens = int(values["tokens"])
            one = item_record(shares, np.ones_like(shares), "mean", model, self.name, metric, tokens, seed)
            records.append(replace(one, chance=0.0))
        return records


def _scores(right: Any, answers: Any, attempts: int, seed: int) -> dict[str, list[float]]:
    if not attempts:
        return {"accuracy": right[:, 0].astype(float).tolist()}
    found = {f"best_of_{count}": best_of(right, count).tolist() for count in powers_of_two(attempts)}
    more = {f"majority_of_{count}": majority_of(answers, right, count, seed) for count in powers_of_two(attempts)[2:]}
    return found | {name: values.tolist() for name, values in more.items()}


@contextlib.contextmanager
def _place(folder: Path | None, digest: str, known_as: tuple[str, str]) -> Iterator[Path]:
    """A directory for attempts and verdicts: beside the output file, for a killed run, or a temporary one."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="flashstill-") as passing:
            yield Path(passing)
        return
    name = hashlib.sha256(json.dumps([digest, *known_as]).encode()).hexdigest()
    place = folder / f"attempts-{name[:24]}"
    place.mkdir(parents=True, exist_ok=True)
    yield place


def read_problem_task(
    task: str, items: int | None, attempts: int, seed: int, may_run_code: bool, chat: bool = False
) -> ProblemTask:
    """Draw the problems of a task; chat: through the chat template, even if its table does not say so.

    BadInput for an unknown family, unknown keys, or code that is not allowed."""
    table = _table(task)
    table = replace(table, chat=table.chat or chat)
    if ".py:" in table.source and not may_run_code:
        raise BadInput(f"task {shortened(task)} is judged by code of a file ({shortened(table.source)}); {ALLOW}")
    names = ("source", "data", "options", "prompt", "matcher")
    spec = Spec(**{name: getattr(table, name) for name in names}, seed=seed)
    _, problems = problem_sets(spec, 0, items or table.test_problems)
    return ProblemTask(
        name=task if task.startswith(GYM_PREFIX) else Path(task).stem, table=table, spec=spec,
        problems=tuple(problems), attempts=attempts, seed=seed,
    )  # fmt: skip


def _table(task: str) -> ProblemTable:
    if task.startswith(GYM_PREFIX):
        return ProblemTable(source=task, prompt=PROMPT, marker=MARKER, part="line")
    tree = toml_tree(Path(task))
    table = tree.get("task")
    if not isinstance(table, dict):
        raise BadInput(f"{shortened(task)} has no table [task], as the recipe of a deep-think study has")
    own = {name: value for name, value in table.items() if name not in OF_STUDIES}
    found = built(ProblemTable, own, f"{shortened(task)}: [task]")
    beside = {key: _beside(getattr(found, key), Path(task).parent) for key in ("source", "data")}
    return built(ProblemTable, {**asdict(found), **beside}, f"{shortened(task)}: [task]")


def _beside(name: str, folder: Path) -> str:
    """A path relative to the task file, if there is such a file."""
    file = name.rpartition(":")[0] if ".py:" in name else name
    return str((folder / name).absolute()) if file and (folder / file).is_file() else name
