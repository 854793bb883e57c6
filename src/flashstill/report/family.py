"""The page of a family's money: what a million tokens pays for, when each student pays, and what the law expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flashstill.report.amounts import dollars, tokens
from flashstill.report.bands import Crossing, bands
from flashstill.report.money import driven_by, plain, table, value
from flashstill.report.money_curves import curve_rows, curves_of
from flashstill.report.pages import Page
from flashstill.report.sections import Document, Section
from flashstill.report.waterfall import Step, waterfall

UNIT = "$ per million tokens"
CURVES = {
    "usd_per_million_tokens.student": "student",
    "usd_per_million_tokens.student_with_prerequisite": "with all of the teacher's training",
    "usd_per_million_tokens.teacher": "teacher in its place",
    "usd_per_million_tokens.scratch": "same quality on labels",
}
_BEARERS = {
    "teacher_exists": "same quality on labels, the teacher being there",
    "its_part": "the same, with its part of the teacher's training",
    "all_of_it": "the same, with all of the teacher's training",
}
_WORTH = (
    "answer", "distilled_loss", "supervised_loss", "gain_nats", "teacher_loss", "flips_at_tokens", "best_teacher_loss",
    "best_teacher_parameters", "teacher_is", "students_needed", "law",
)  # fmt: skip
_SHOWN = (
    "family", "unit", "tokens_per_day", "usd_per_million_tokens", "waterfall", "prerequisite", "teacher", "students",
    "law", "usd_per_million_tokens_band", "drivers",
)  # fmt: skip


def family_page(document: Document) -> Page:
    """Keys: as `flashstill economics FAMILY --json` prints them."""
    sections: list[Section | None] = [_waterfall(document), _models(document)]
    for student in document["students"]:
        sections += [_crossings(student), _worth(student, document), _generations(student)]
    whole = document["usd_per_million_tokens"]["total"]
    sections.append(driven_by(document.get("drivers") or (), whole, "$ per million tokens of the family", dollars))
    return Page(
        title=f"The money of {document['family']}",
        subtitle=f"Dollars per million {document['unit']}; {tokens(document['tokens_per_day'])} a day in all.",
        facts=_facts(document),
        sections=[each for each in sections if each is not None],
        shown=_SHOWN,
    )


def _facts(document: Document) -> list[tuple[str, str]]:
    teacher, share = document["prerequisite"], document["prerequisite"].get("share_of_usd")
    facts = [
        ("a million tokens", _total(document)),
        ("of which the teacher's training", "" if share is None else f"{share:.1%}"),
        ("the teacher's training", dollars(teacher["usd"])),
    ]
    for student in document["students"]:
        found = student["break_even"]["against_teacher"]
        facts.append((f"{student['name']} against serving the teacher", _verdict(found)))
        if student.get("should_distil"):
            facts.append((f"distil {student['name']}?", "yes" if student["should_distil"]["distil"] else "no"))
    return [(name, text) for name, text in facts if text]


def _total(document: Document) -> str:
    """Dollars per million tokens, with P10 and P90 where they are known."""
    whole, band = (
        dollars(document["usd_per_million_tokens"]["total"]),
        document.get("usd_per_million_tokens_band") or {},
    )
    low, high = band.get("p10"), band.get("p90")
    return whole if low is None or high is None else f"{whole} ({dollars(low)} to {dollars(high)})"


def _verdict(found: Document) -> str:
    at, band = found.get("tokens_per_day"), found.get("band")
    if at is None:
        return str(found["verdict"])
    reach = ""
    if band is not None:
        ends = ["never" if band.get(end) is None else tokens(band[end]) for end in ("p10", "p90")]
        reach = f" ({ends[0]} to {ends[1]})"
    return f"{found['verdict']} {tokens(at)} a day{reach}"


def _waterfall(document: Document) -> Section:
    steps = [Step(name=each["name"], value=each["value"], is_total=each["is_total"]) for each in document["waterfall"]]
    whole = document["usd_per_million_tokens"]["total"]
    return Section(
        title="What a million tokens pays for",
        text="Averaged over the family's traffic; what was spent before launch is spread over its life with interest.",
        charts=[(UNIT, waterfall(steps, UNIT, "what a million tokens of the family pays for"))],
        headings=["part", UNIT, "share"],
        rows=[
            [step.name, plain(step.value), f"{step.value / whole:.1%}" if whole and not step.is_total else ""]
            for step in steps
        ],
    )


def _models(document: Document) -> Section:
    rows = []
    for each in (document["teacher"], *document["students"]):
        run, served, parts = each["run"], each["served"], each.get("usd_per_million_tokens") or {}
        rows.append({
            "model": each["name"], "parameters": tokens(each["parameters"]), "trained_tokens": tokens(each["tokens"]),
            "share": f"{each['share']:.1%}", "training_usd": run.get("usd"),
            "signals_usd": (each.get("signals") or {}).get("usd"), "served_on": served.get("on"),
            "serving_usd_per_million": served.get("usd_per_million_tokens"), "all_usd_per_million": parts.get("total"),
            "expected_loss": each.get("expected_loss"), "expected_loss_on_labels": each.get("expected_loss_on_labels"),
        })  # fmt: skip
    law = document.get("law") or {}
    return table("The models", rows, sources=[f"{law['name']}: {law['source']}"] if law else [])


def _crossings(student: Document) -> Section | None:
    curves = curves_of(student.get("curves") or (), "tokens_per_day", CURVES)
    found = student["break_even"]["against_teacher"]
    cases = {"serving the teacher": found}
    cases |= {_BEARERS.get(who, who): each for who, each in student["break_even"]["against_scratch"].items()}
    verdicts = [f"{_upper(against)}: {_verdict(each)}." for against, each in cases.items()]
    if not curves:
        return None
    near = _around(student, [each.get("tokens_per_day") for each in cases.values()])
    curves = curves_of([row for row in student["curves"] if near[0] <= row["tokens_per_day"] <= near[1]],
                       "tokens_per_day", CURVES)  # fmt: skip
    headings, rows = curve_rows(curves)
    band, at = found.get("band") or {}, found.get("tokens_per_day")
    mark = None if at is None else Crossing(
        word=f"pays from {tokens(at)}", low=band.get("p10", at), middle=at, high=band.get("p90", None if band else at)
    )  # fmt: skip
    chart = bands(curves, "tokens a day of this student", f"dollars per million tokens of {student['name']}", mark)
    return Section(
        title=f"When {student['name']} pays",
        text=" ".join(verdicts),
        charts=[("Dollars per million tokens", chart)],
        headings=["tokens a day", *headings],
        rows=rows,
    )


def _around(student: Document, crossings: Sequence[float | None]) -> tuple[float, float]:
    """Volumes worth drawing: two decades around the student's own and every crossing."""
    places = [at for at in (student.get("tokens_per_day"), *crossings) if at]
    return (min(places) / 100.0, max(places) * 100.0) if places else (0.0, float("inf"))


def _worth(student: Document, document: Document) -> Section | None:
    worth = student.get("should_distil")
    title = f"Should {student['name']} be distilled?"
    if not worth:
        reason = student.get("should_distil_reason")
        return Section(title=title, text=f"Not known: {reason}.") if reason else None
    law = document.get("law") or {}
    return Section(
        title=title,
        text=f"{_upper(worth['answer'])}.",
        headings=["", "value"],
        rows=[[name.replace("_", " "), _large(worth[name])] for name in _WORTH if worth.get(name) is not None],
        sources=[*(str(note) for note in worth.get("notes") or ()), str(law.get("source") or "")],
    )


def _generations(student: Document) -> Section | None:
    rows: Sequence[Document] = student.get("generations") or ()
    if not rows:
        return None
    shown = [{key: _large(held) if "usd" not in key else held for key, held in row.items()} for row in rows]
    return table(f"Generations after {student['name']}", shown, "Flash of a generation against Pro of the one before.")


def _large(held: Any) -> str:
    """Parameters and tokens in words: 70B, 2T."""
    if isinstance(held, float) and abs(held) >= 1e6:
        return tokens(held)
    return value("", held if not isinstance(held, Mapping) else len(held))


def _upper(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
