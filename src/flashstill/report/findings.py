"""The main results of a run, in six sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flashstill.records import CostRecord, MeasuredRecord, ModelRecord, QualityRecord, Record
from flashstill.report.kinds import kind_words
from flashstill.units import short_count, show


@dataclass(frozen=True, slots=True)
class View:
    """Records of a run, indexed by model, metric, chip and batch."""

    models: dict[str, ModelRecord]
    quality: dict[tuple[str, str, str], QualityRecord]
    """(model, domain, metric)"""
    measured: dict[tuple[str, str, int], MeasuredRecord]
    """(model, phase, batch)"""
    cost: dict[tuple[str, str, str, int], CostRecord]
    """(model, chip, phase, batch)"""

    @staticmethod
    def of(records: Iterable[Record]) -> View:
        """Index the records of a run."""
        view = View({}, {}, {}, {})
        for record in records:
            if isinstance(record, ModelRecord):
                view.models[record.model] = record
            elif isinstance(record, QualityRecord):
                view.quality[record.model, record.domain, record.metric] = record
            elif isinstance(record, MeasuredRecord):
                view.measured[record.model, record.phase, record.batch] = record
            elif isinstance(record, CostRecord):
                view.cost[record.model, record.chip, record.phase, record.batch] = record
        return view

    @property
    def chips(self) -> list[str]:
        """Chips other than this machine, in the order of the recipe."""
        return [chip for chip in dict.fromkeys(key[1] for key in self.cost) if chip != "this-machine"]

    @property
    def students(self) -> list[str]:
        """Names of the distilled students."""
        return [name for name, record in self.models.items() if record.role == "student"]

    @property
    def best(self) -> str:
        """The student with the lowest held-out KL to the teacher."""
        return min(self.students, key=lambda name: self.quality[name, "heldout", "kl_to_teacher"].value)


def findings(records: Iterable[Record]) -> list[str]:
    """Six sentences: teacher, best student, control, speed, cost, energy."""
    view = View.of(records)
    best = view.best
    teacher, student = view.models["teacher"], view.models[best]

    def value(model: str, metric: str, domain: str = "heldout") -> float:
        return view.quality[model, domain, metric].value

    lines = [
        f"Teacher: {short_count(teacher.parameters)} parameters, {teacher.layers} layers,"
        f" {value('teacher', 'bits_per_byte'):.3f} bits per byte on held-out text.",
        f"Best student: {best}{_kind(student)}, {short_count(student.parameters)} parameters, {student.layers} layers;"
        f" KL to the teacher {value(f'{best}-untrained', 'kl_to_teacher'):.2f} nats before distillation,"
        f" {value(best, 'kl_to_teacher'):.2f} after {_trained(student)}; it agrees with the teacher on"
        f" {value(best, 'agreement'):.1%} of tokens.",
    ]
    lines.append(_against_control(view, best))
    lines.append(_speed(view, best))
    lines.append(_cost(view, best))
    lines.append(_energy(view, best))
    return lines


def _kind(student: ModelRecord) -> str:
    words = kind_words(student)
    return f" ({words})" if words else ""


def _trained(student: ModelRecord) -> str:
    """Amount of training of a student, as far as its record has it."""
    steps = f" in {student.training_steps:,} steps" if student.training_steps else ""
    return f"{student.training_tokens:,} tokens{steps}{f' ({student.arithmetic})' if student.arithmetic else ''}"


def _against_control(view: View, best: str) -> str:
    control = f"{best}-control"
    if control not in view.models:
        return "No control was trained (control = false), so what distillation adds is not known."
    pairs = []
    for metric, domain, label, form in (
        ("kl_to_teacher", "heldout", "KL", "{:.2f}"),
        ("agreement", "heldout", "agreement", "{:.1%}"),
        ("perplexity", "heldout", "held-out perplexity", "{:.1f}"),
        ("perplexity", "out-of-domain", "out-of-domain perplexity", "{:.1f}"),
    ):
        ours, theirs = (view.quality[name, domain, metric].value for name in (best, control))
        pairs.append(f"{label} {form.format(ours)} against {form.format(theirs)}")
    return f"Against the same student trained on hard labels: {', '.join(pairs)}."


def _speed(view: View, best: str) -> str:
    batch = min(key[2] for key in view.measured)
    slow, fast = view.measured["teacher", "decode", batch], view.measured[best, "decode", batch]
    errors = [
        abs(view.cost[model, record.machine, phase, size].seconds / record.seconds - 1.0)
        for (model, phase, size), record in view.measured.items()
    ]
    return (
        f"Measured here at batch {batch}: a decode step takes {show(fast.seconds, 's')} instead of"
        f" {show(slow.seconds, 's')}, {slow.seconds / fast.seconds:.2f}x as fast; the cost model is off by"
        f" {sum(errors) / len(errors):.0%} on average over {len(errors)} measurements."
    )


def _cost(view: View, best: str) -> str:
    def at(model: str, chip: str) -> CostRecord:
        batch = max(key[3] for key in view.cost if key[:3] == (model, chip, "decode"))
        return view.cost[model, chip, "decode", batch]

    priced = {
        name: (usd, whole)
        for name in view.chips
        if (usd := at(best, name).usd_per_million_tokens) is not None
        and (whole := at("teacher", name).usd_per_million_tokens) is not None
    }
    if not priced:
        return f"No price is known of any chip of the recipe, so that no dollars can be told for {best}."
    chip = min(priced, key=lambda name: priced[name])
    ours, (usd, whole) = at(best, chip), priced[chip]
    return (
        f"Cheapest chip of the recipe for {best}: {chip} at batch {ours.batch},"
        f" {show(usd, 'USD')}"
        f" and {ours.joules_per_token['total'] * 1e6:,.0f} J per million tokens (predicted),"
        f" {_cheaper(usd / whole)} the teacher."
    )


def _cheaper(ratio: float) -> str:
    return f"{1.0 - ratio:.0%} less than" if ratio <= 1.0 else f"{ratio - 1.0:.0%} more than"


def _energy(view: View, best: str) -> str:
    chip = view.chips[0]
    batches = sorted(key[3] for key in view.cost if key[:3] == (best, chip, "decode"))
    one, many = (view.cost[best, chip, "decode", batch] for batch in (batches[0], batches[-1]))
    ratio = one.joules_per_token["weights"] / one.joules_per_token["arithmetic"]
    return (
        f"On {chip} at batch {one.batch}, moving weights takes {ratio:,.0f} times the energy of the arithmetic;"
        f" at batch {many.batch} a token costs"
        f" {one.joules_per_token['total'] / many.joules_per_token['total']:,.0f} times less energy"
        f" ({show(many.joules_per_token['total'], 'J')} instead of {show(one.joules_per_token['total'], 'J')})."
    )
