"""The page of `cascade`: what a question costs by stage, over the corpus, by attending to all, and where things are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flashstill.report.amounts import dollars, short, tokens
from flashstill.report.bands import bands
from flashstill.report.money import made_of, plain, table
from flashstill.report.money_curves import crossing_of, curve_rows, curves_of
from flashstill.report.pages import Page
from flashstill.report.sections import Document, Section

_SHOWN = ("total", "stages", "everything", "curve", "contexts", "attention", "tiers", "sizes", "knowledge", "modules")
WAYS = {"cascade_usd": "cascade", "cold_usd": "all of it, cold", "kept_usd": "all of it, kept in memory"}


def cascade_page(document: Document) -> Page:
    """Keys: as `flashstill cascade PLAN.toml --json` prints them."""
    total = document["total"]
    stages: Sequence[Document] = document["stages"]
    sections = [
        made_of("Dollars of a question", _parts(stages, "usd"), "a question", "$"),
        made_of("Joules of a question", _parts(stages, "joules"), "a question", "J", show=_short),
        made_of("Seconds of a question", _parts(stages, "seconds"), "a question", "s", show=_short),
        table("Stages", stages),
        _over_the_corpus(document),
        _contexts(document),
        _table(document, "attention", "Where attending to everything ends"),
        _table(document, "tiers", "Where the index can be kept, fastest first"),
        _sizes(document),
        _table(document, "knowledge", "Retrieved, or held by parameters"),
        _table(document, "modules", "Modules, resident or fetched"),
    ]
    return Page(
        title="One question over a corpus",
        subtitle=f"{len(stages)} stage{'' if len(stages) == 1 else 's'}, against attending to all of it.",
        facts=[
            ("a question", dollars(float(total["usd"]))),
            ("joules", plain(float(total["joules"]))),
            ("seconds", plain(float(total["seconds"]))),
            ("recall", f"{total['recall']:.1%}"),
            ("chips", f"{total['chips']:,}"),
        ],
        sections=[each for each in sections if each is not None],
        shown=_SHOWN,
    )


def _parts(stages: Sequence[Document], key: str) -> dict[str, float]:
    return {str(stage["name"]): float(stage[key]) for stage in stages}


def _short(value: float) -> str:
    return short(float(f"{value:.3g}"))


def _table(document: Document, key: str, title: str) -> Section | None:
    rows = document.get(key) or ()
    return table(title, rows) if rows else None


def _over_the_corpus(document: Document) -> Section | None:
    """Dollars of a question over the size of the corpus, all three ways."""
    rows: Sequence[Document] = document.get("curve") or ()
    curves = curves_of(rows, "tokens", WAYS)
    if len(rows) < 2 or not curves:
        return None
    crossed = document["everything"].get("crossover_kept_tokens")
    mark = None if crossed is None else crossing_of({"p10": crossed, "p50": crossed, "p90": crossed}, "crossed at")
    headings, cells = curve_rows(curves)
    return Section(
        title="Dollars over the size of the corpus",
        text=_crossings(document["everything"]),
        charts=[
            (
                "Dollars of a question",
                bands(curves, "tokens of the corpus", "dollars of a question over the corpus", mark),
            )
        ],
        headings=["tokens", *headings],
        rows=cells,
    )


def _crossings(everything: Mapping[str, Any]) -> str:
    words = []
    for key, name in (("cold", "read anew for each question"), ("kept", "with its cache kept in memory")):
        crossed = everything.get(f"crossover_{key}_tokens")
        from_there = "never dearer here" if crossed is None else f"dearer from {tokens(crossed)} tokens on"
        words.append(f"All of it {name}: {from_there}.")
    return " ".join(words)


def _contexts(document: Document) -> Section | None:
    rows: Sequence[Document] = document.get("contexts") or ()
    if not rows:
        return None
    names = list(dict.fromkeys(f"{row['model']} on {row['chip']}" for row in rows))
    lengths = sorted({float(row["tokens"]) for row in rows})
    held = {(f"{row['model']} on {row['chip']}", float(row["tokens"])): row["cold_usd"] for row in rows}
    keys = {name: f"way {number}" for number, name in enumerate(names)}
    series = [{"tokens": length, **{keys[name]: held.get((name, length)) for name in names}} for length in lengths]
    curves = curves_of(series, "tokens", {key: name for name, key in keys.items()})
    chart = bands(curves, "tokens of the context", "dollars of one cold question") if len(lengths) > 1 else ""
    flat = [{key: value for key, value in row.items() if not isinstance(value, Mapping)} for row in rows]
    section = table("Attending to all of a context", flat, "Cold: with its prefill. Kept: over a cache in memory.")
    return Section(
        title=section.title,
        text=section.text,
        charts=[("Dollars of one cold question", chart)] if chart else [],
        headings=section.headings,
        rows=section.rows,
    )


def _sizes(document: Document) -> Section | None:
    sizes = document.get("sizes")
    if not sizes:
        return None
    names = [str(stage["name"]) for stage in document["stages"]]
    rows = [[name, plain(float(kept))] for name, kept in zip(names, sizes["keeps"], strict=False)]
    rows += [["dollars of a question", dollars(float(sizes["usd"]))], ["recall", f"{sizes['recall']:.1%}"]]
    return Section(title="Cheapest sizes for the recall", headings=["items kept by", ""], rows=rows)
