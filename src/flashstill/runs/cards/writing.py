"""A model card in Markdown with the metadata that the Hugging Face Hub reads (YAML between two lines of ---).

Every name comes from a user.  In the metadata each value is a JSON text on one line, which is YAML as well; in the text
names stand in code spans and blocks whose fence is longer than any run of backticks inside, where nothing is
interpreted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from flashstill.errors import printable
from flashstill.records import NO_INTERVAL, CostRecord, QualityRecord
from flashstill.runs.cards.content import OF_ITS_WEIGHTS, CardContent
from flashstill.units import show

METRICS = {
    "bits_per_byte": "bits per byte", "perplexity": "perplexity", "accuracy": "top-1 accuracy",
    "kl_to_teacher": "KL to the teacher", "agreement": "top-1 agreement with the teacher", "gap_closed": "gap closed",
    "calibration_error": "calibration error",
}  # fmt: skip
MARK = re.compile(r"\n<!-- flashstill card ([0-9a-f]{64}) -->\n?\Z")


def card(content: CardContent, *, base_model: str = "", license_id: str = "") -> str:
    """The whole README.md."""
    text = "\n".join(
        ["---", *_metadata(content, base_model, license_id), "---", "", *_body(content, base_model, license_id)]
    )
    return f"{text}\n<!-- flashstill card {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def is_unchanged_card(text: str) -> bool:
    """Whether a README.md was written here and has not been changed since."""
    mark = MARK.search(text)
    return mark is not None and hashlib.sha256(text[: mark.start()].encode()).hexdigest() == mark[1]


def stated(text: str, name: str) -> str:
    """A value of the metadata of a card that was written here; "" if it is not there."""
    found = re.search(rf"(?m)^{name}: (\"[^\n]*\")$", text.split("\n---\n", 1)[0])
    return str(json.loads(found[1])) if found else ""


def _metadata(content: CardContent, base_model: str, license_id: str) -> Iterator[str]:
    tags = ["flashstill", "distillation", content.kind, content.quantised, content.regime.partition(":")[0]]
    fields: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if license_id:
        fields["license"] = license_id
    if base_model:
        fields["base_model"] = base_model
    fields["tags"] = [tag for tag in tags if tag]
    if results := _results(content):
        fields["model-index"] = [{"name": content.name, "results": results}]
    for name, value in fields.items():
        yield f"{name}: {yaml_value(value)}"


def _results(content: CardContent) -> list[dict[str, Any]]:
    own = [record for record in content.quality if record.model == content.name]
    return [
        {
            "task": {"type": "text-generation"},
            "dataset": {"type": domain, "name": domain},
            "metrics": [_metric(record) for record in own if record.domain == domain],
        }
        for domain in dict.fromkeys(record.domain for record in own)
    ]


def _metric(record: QualityRecord) -> dict[str, Any]:
    ends = {} if record.low is None else {"low_95": record.low, "high_95": record.high}
    return {
        "type": record.metric, "name": METRICS.get(record.metric, record.metric), "value": record.value,
        "args": {**ends, "documents": record.documents, "tokens": record.tokens},
    }  # fmt: skip


def yaml_value(value: Any) -> str:
    """A value as JSON on one line that YAML reads as the same: what YAML may not hold is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    number = ord(letter)
    if 0xD800 <= number < 0xE000:  # half a character, which no YAML holds
        return "\\uFFFD"
    return f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"


def code(text: str, in_table: bool = False) -> str:
    """A user's text as a code span on one line."""
    plain = printable(" ".join(text.split())) or " "
    plain = plain.replace("|", "\\|") if in_table else plain
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    return f"{fence} {plain} {fence}" if "`" in plain else f"{fence}{plain}{fence}"


def block(text: str) -> list[str]:
    """A user's text as a code block."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{fence}toml", *(printable(line.expandtabs()) for line in text.splitlines()), fence]


def _body(content: CardContent, base_model: str, license_id: str) -> Iterator[str]:
    teachers = ", ".join(code(teacher) for teacher in content.teachers) or "text alone"
    yield f"# {code(content.name)}"
    yield ""
    yield (
        f"A language model of {content.parameters:,} parameters in {content.layers} layers, distilled by flashstill"
        f" from {teachers}."
    )
    yield from ("", "| | |", "|---|---|")
    yield f"| made by | {code(content.kind or 'unknown', True)} |"
    yield f"| trained on | {content.tokens:,} tokens in {content.steps:,} steps, {content.training_s:,.0f} s |"
    if content.regime:
        yield f"| text from | {code(content.regime, True)} |"
    if content.quantised:
        yield f"| trained for | weights in {code(content.quantised, True)} |"
    if content.arithmetic:
        yield f"| arithmetic | {code(content.arithmetic, True)} |"
    flops = 6.0 * content.parameters * content.tokens
    yield f"| compute | about {show(flops, 'FLOP')} (6 x parameters x tokens, without the teacher's passes) |"
    if base_model:
        starts = "starts from its weights" if content.kind in OF_ITS_WEIGHTS else "is not made of its weights"
        yield f"| base model | {code(base_model, True)}; the student {starts} |"
    yield f"| licence | {code(license_id, True) if license_id else 'not recorded'} |"
    yield from ("", "## Data", "")
    for name in content.data:
        yield f"- {code(name)}"
    if content.documents:
        counts = ", ".join(f"{count:,} {name}" for name, count in content.documents.items())
        yield f"- records: {counts}"
    yield "- licence of the data: not recorded"
    yield from ("", "## Quality", "", *_quality(content))
    yield from ("", "## Price", "", *_prices(content))
    yield from ("", "## Recipe", "")
    yield f"{code(content.recipe_file)}, SHA-256 {code(content.recipe_sha256)}; of paths only the last part is shown:"
    yield from ("", *block(content.recipe_text))
    yield from ("", "## Limits", "", *_limits(content))


def _quality(content: CardContent) -> Iterator[str]:
    if not content.quality:
        yield "Not measured."
        return
    models = [content.name, *content.compared]
    yield "With 95 % intervals over documents, or over the items of a task."
    for domain in dict.fromkeys(record.domain for record in content.quality):
        here = {(record.model, record.metric): record for record in content.quality if record.domain == domain}
        count = next(iter(here.values()))
        units = "items" if _is_task(count) else "documents"
        yield from ("", f"{code(domain)}: {count.documents:,} {units}, {count.tokens:,} tokens", "")
        yield "| | " + " | ".join(code(model, True) for model in models) + " |"
        yield "|---|" + "---|" * len(models)
        for metric in dict.fromkeys(metric for _, metric in here):
            cells = [_figure(here.get((model, metric))) for model in models]
            yield f"| {METRICS.get(metric) or code(metric, True)} | " + " | ".join(cells) + " |"


def _is_task(record: QualityRecord) -> bool:
    """Whether a figure is that of a task: only of those is it known what guessing scores."""
    return record.chance is not None


def _figure(record: QualityRecord | None) -> str:
    if record is None:
        return "-"
    if record.low is None or record.high is None:
        return f"{record.value:.4g} ({NO_INTERVAL})"
    return f"{record.value:.4g} ({record.low:.4g} to {record.high:.4g})"


def _prices(content: CardContent) -> Iterator[str]:
    if not content.prices:
        yield "Not predicted; `flashstill card DIR --chip NAME` adds it, `flashstill predict --model DIR` tells more."
        return
    context = ", ".join(f"{number:,}" for number in sorted({record.context for record in content.prices}))
    yield f"Predicted, not measured: dollars per million output tokens at a context of {context} tokens."
    yield from ("", "| model | chips | batch | $ per million | tokens/s | J per token |", "|---|---|---|---|---|---|")
    for record in content.prices:
        yield "| " + " | ".join(_price(record)) + " |"


def _price(record: CostRecord) -> list[str]:
    joules = record.wall_joules_per_token
    return [
        code(record.model, True), f"{record.chips} x {code(record.chip, True)}", f"{record.batch:,}",
        show(record.usd_per_million_tokens or 0.0, "USD"), f"{record.tokens_per_s:,.0f}", f"{joules:.3g}",
    ]  # fmt: skip


def _limits(content: CardContent) -> Iterator[str]:
    domains = ", ".join(dict.fromkeys(code(record.domain) for record in content.quality)) or "no text"
    tasks = "other tasks" if any(map(_is_task, content.quality)) else "tasks"
    yield (
        f"- Quality was measured on {domains} only, not on {tasks}, other languages or long texts, nor safety and bias."
    )
    yield "- Intervals are over documents of one text and one training run; another seed may lie outside them."
    yield "- What the teacher gets wrong, the student may have learned."
    if content.has_no_predictors:
        yield "- It has no layers for multi-token prediction: to draft for it, a server needs another model or heads."
    if content.prices:
        yield "- Prices are predictions for the chips and batches in the table; they hold no margin of a provider."
