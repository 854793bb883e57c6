"""A finished run of `flashstill run` or `distill` as a family: its models, tokens, seconds, quality and costs.

records.jsonl of `run`      models with parameters and tokens, costs of decoding on every chip of the recipe
summary.json of `distill`   parameters and quality; its records.jsonl has the same quality
measured                    each student against the same student on labels (its control), where there is one: in the
                            first metric of METRICS that both have, with the intervals of the run

The teacher exists: somebody else paid for it.  Losses of these texts are on no law's scale, so that the law is asked
about sizes and tokens alone.  What such a directory does not tell is taken as the notes of the answer say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from flashstill.checked import Amount, Number, built, json_object, sized
from flashstill.errors import BadInput, unknown
from flashstill.family.spec import FamilyPlan, Training, plan_of
from flashstill.records import CostRecord, ModelRecord, QualityRecord, Record, read_records

METRICS = ("bits_per_byte", "perplexity", "kl_to_teacher")
"""lower is better in all"""
RECORDS, SUMMARY = "records.jsonl", "summary.json"
ENDS = ("value", "low", "high")
_CACHED = "signals are priced as cached logits, read once by the teacher, whatever the run took"
NOTES = (
    "training is priced by FLOPs at the MFU of frontier runs on the chip named, not by the seconds that the run took:"
    " a small model takes more",
    _CACHED,
    "serving is the cheapest decoding that the run priced, whatever its latency; prompts are not in it",
)
"""what the answer about a finished run takes for granted"""
SHARED = "traffic is divided equally among the students, a guess"
DISTILLED = Training(chips=1, batch=64, length=512)
SERVED_LENGTH = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The keys of a distillation's summary that are read."""

    name: str
    student: str
    parameters: dict[str, Amount]
    training_s: Amount
    tokens_per_s: Amount
    quality: dict[str, dict[str, dict[str, Annotated[tuple[Number, ...], sized(3, 3)]]]]


def is_result(path: Path) -> bool:
    """Whether a path is a directory with records of a run."""
    return path.is_dir()


def read_result(
    path: Path, tokens_per_day: float, chip: str = ""
) -> tuple[FamilyPlan, dict[str, Any], tuple[str, ...]]:
    """(plan, measured quality, notes of what was taken for granted) of a result directory.

    It is served on `chip`, by default the first of its chips with a price.

    Raises BadInput if it holds no records of models, and for a chip on which the run priced nothing.
    """
    if not (path / RECORDS).is_file():
        raise BadInput(f"{path} holds no {RECORDS}; give the --out directory of a finished run, or a TOML file")
    records = read_records(path / RECORDS)
    models = [each for each in records if isinstance(each, ModelRecord)]
    if not models:
        return _of_summary(path, tokens_per_day, chip)
    teacher = _one(models, "teacher", path)
    students = [each for each in models if each.role == "student"]
    if not students:
        raise BadInput(f"{path} holds no student; finish the run first")
    priced = _prices(records, chip)
    tree = {
        "name": path.resolve().name[:100],
        "training": {"chip": priced.chip},
        "serving": {"chips": [priced.chip], "tokens_per_day": tokens_per_day},
        "teacher": {
            "name": teacher.model, "parameters": float(teacher.parameters), "exists": True, **priced.of(teacher.model),
        },
        "students": [
            {
                "name": each.model, "parameters": float(each.parameters), "tokens": float(each.training_tokens),
                "share": 1.0 / len(students), "signal": "cached", **priced.of(each.model),
            }
            for each in students
        ],
    }  # fmt: skip
    notes = (*NOTES, *((SHARED,) if len(students) > 1 else ()))
    return plan_of(tree, str(path)), measured(records, students), notes


class _Prices:
    """The cheapest dollars per million decoded tokens of each model on one chip."""

    def __init__(self, chip: str, rows: Sequence[CostRecord]) -> None:
        self.chip, self.rows = chip, rows

    def of(self, model: str) -> dict[str, float]:
        """As keys of a member; none where the run priced nothing."""
        found = [row.usd_per_million_tokens for row in self.rows if row.model == model]
        known = [usd for usd in found if usd]
        return {"usd_per_million_tokens": min(known)} if known else {}


def _prices(records: Sequence[Record], chip: str) -> _Prices:
    rows = [each for each in records if isinstance(each, CostRecord) and each.phase == "decode"]
    priced = {each.chip: None for each in rows if each.usd_per_million_tokens}
    if chip and chip not in priced:
        raise BadInput(unknown("chip of this run's costs", chip, priced))
    if not priced:
        raise BadInput("this run priced its models on no chip with a known price; name one under cost.chips")
    name = chip or next(iter(priced))
    return _Prices(name, [each for each in rows if each.chip == name])


def _one(models: Sequence[ModelRecord], role: str, path: Path) -> ModelRecord:
    found = next((each for each in models if each.role == role), None)
    if found is None:
        raise BadInput(f"{path} holds no {role}; finish the run first")
    return found


def measured(records: Sequence[Record], students: Sequence[ModelRecord]) -> dict[str, Any]:
    """Per student: what it reached, and what the same student on labels did."""
    quality = {
        (each.model, each.metric): each
        for each in records
        if isinstance(each, QualityRecord) and each.domain == "heldout"
    }
    controls = {each.of: each for each in records if isinstance(each, ModelRecord) and each.role == "control"}
    return {each.model: _against(each, controls.get(each.model), quality) for each in students}


def _against(
    student: ModelRecord, control: ModelRecord | None, quality: dict[tuple[str, str], QualityRecord]
) -> dict[str, Any]:
    metric = next((name for name in METRICS if (student.model, name) in quality), None)
    if metric is None:
        return {"metric": None, "distilled": None, "on_labels": None, "is_better": None, "overlap": None}
    made = quality[student.model, metric]
    other = None if control is None else quality.get((control.model, metric))
    seconds = None if control is None or not control.training_s else student.training_s / control.training_s
    return {
        "metric": metric,
        "distilled": {"value": made.value, "low": made.low, "high": made.high},
        "on_labels": None if other is None else {"value": other.value, "low": other.low, "high": other.high},
        "is_better": None if other is None else made.value < other.value,
        "overlap": None if other is None else _overlap(made, other),
        "training_s": student.training_s,
        "times_the_seconds_on_labels": seconds,
    }


def _overlap(one: QualityRecord, other: QualityRecord) -> bool | None:
    """Whether two intervals share a value; None if one of them is over a single document, and so is none."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None
    return one.low <= other.high and other.low <= one.high


def _of_summary(path: Path, tokens_per_day: float, chip: str) -> tuple[FamilyPlan, dict[str, Any], tuple[str, ...]]:
    """As `read_result`, of `distill`: its student is served as its directory's config.json says, on the chip named."""
    if not (path / SUMMARY).is_file():
        raise BadInput(f"{path} holds neither models in {RECORDS} nor {SUMMARY}; give that of a finished run")
    found = built(Summary, json_object(path / SUMMARY), str(path / SUMMARY), open_end=True)
    if not chip:
        raise BadInput(f"{path} is of one distillation, which prices nothing: name a chip for its student (--chip)")
    directory = Path(found.student)
    if not (directory / "config.json").is_file():
        raise BadInput(f"the student of {path} is gone: {directory} holds no config.json")
    teacher = found.parameters.get("teacher", 0.0)
    if not teacher:
        raise BadInput(f"{path / SUMMARY} tells no parameters of a teacher; write a family's TOML file instead")
    tree = {
        "name": found.name,
        "training": {"chip": chip, "chips": DISTILLED.chips, "batch": DISTILLED.batch, "length": DISTILLED.length},
        "serving": {
            "chips": [chip], "tokens_per_day": tokens_per_day, "isl": SERVED_LENGTH, "osl": SERVED_LENGTH,
            "max_chips": 1,
        },
        "teacher": {"name": "teacher", "parameters": teacher, "exists": True},
        "students": [
            {
                "name": found.name, "model": str(directory), "tokens": found.tokens_per_s * found.training_s,
                "share": 1.0, "signal": "cached",
            }
        ],
    }  # fmt: skip
    notes = (
        f"training is priced on {DISTILLED.chips} {chip}, {DISTILLED.batch} sequences of {DISTILLED.length} tokens at a"
        " time, which the directory does not tell: a guess; its own seconds were those of another machine",
        f"served on at most {DISTILLED.chips} {chip}, {SERVED_LENGTH} tokens in and {SERVED_LENGTH} out: a guess",
        _CACHED,
    )
    return plan_of(tree, str(path)), {found.name: _of_table(found)}, notes


def _of_table(found: Summary) -> dict[str, Any]:
    """What the summary tells of its student's quality beside its control's."""
    kept = {name: domains.get("heldout", {}) for name, domains in found.quality.items()}
    student, control = kept.get("student", {}), kept.get("control", {})
    metric = next((name for name in METRICS if name in student), None)
    if metric is None:
        return dict.fromkeys(("metric", "distilled", "on_labels", "is_better", "overlap"))
    made, other = student[metric], control.get(metric)
    return {
        "metric": metric,
        "distilled": dict(zip(ENDS, made, strict=True)),
        "on_labels": None if other is None else dict(zip(ENDS, other, strict=True)),
        "is_better": None if other is None else made[0] < other[0],
        "overlap": None if other is None else made[1] <= other[2] and other[1] <= made[2],
        "training_s": found.training_s,
        "times_the_seconds_on_labels": None,
    }
