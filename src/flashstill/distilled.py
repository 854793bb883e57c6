"""Results of the learning arm as the Python face returns them: frozen, as flat records, as a table in a notebook."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashstill.records import QualityRecord, Record, to_line
from flashstill.reliability import Reliability
from flashstill.tables import Displayed, Table, flat, records_table
from flashstill.useful_range import RangeWarning


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyResult(Displayed):
    """Results of running a family. out: its directory, with report.html; findings: conclusions as sentences."""

    out: Path
    records: tuple[Record, ...]
    findings: tuple[str, ...]

    @property
    def report(self) -> Path:
        """Path of report.html."""
        return self.out / "report.html"

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per record; the column `record` is its kind."""
        return [_row(record) for record in self.records]

    def as_dict(self) -> dict[str, Any]:
        """Paths, findings and records as plain values."""
        return {
            "out": str(self.out),
            "report": str(self.report),
            "findings": list(self.findings),
            "records": self.as_records(),
        }

    def _table(self) -> Table:
        return Table(("",), [(line,) for line in self.findings], str(self.report))


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyResult(Displayed):
    """Results of a study over several seeds. summary: content of summary.json, figures with their intervals."""

    out: Path
    summary: Mapping[str, Any]

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per figure: value, interval over seeds (low, high), the threshold and whether it is met."""
        return [{"figure": name, **figure} for name, figure in self.summary["figures"].items()]

    def as_dict(self) -> dict[str, Any]:
        """The summary."""
        return dict(self.summary)

    def _table(self) -> Table:
        return records_table(self.as_records(), ("figure", "value", "low", "high", "bar", "verdict"), str(self.out))


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillResult(Displayed):
    """Results of distilling a student. summary: content of summary.json."""

    out: Path
    summary: Mapping[str, Any]

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per model and text: each metric with the low and high end of its interval."""
        rows = []
        for model, domains in self.summary["quality"].items():
            for domain, metrics in domains.items():
                row: dict[str, Any] = {"model": model, "domain": domain}
                for name, (value, low, high) in metrics.items():
                    row |= {name: value, f"{name}_low": low, f"{name}_high": high}
                rows.append(row)
        return rows

    def as_dict(self) -> dict[str, Any]:
        """The summary."""
        return dict(self.summary)

    def _table(self) -> Table:
        names = ("model", "domain", "bits_per_byte", "kl_to_teacher", "agreement")
        return records_table(self.as_records(), names, str(self.out))


@dataclass(frozen=True, kw_only=True, slots=True)
class CardResult(Displayed):
    """Paths of the model cards that were written."""

    cards: tuple[Path, ...]

    def as_records(self) -> list[dict[str, Any]]:
        """One row per card."""
        return [{"card": str(path)} for path in self.cards]

    def as_dict(self) -> dict[str, Any]:
        """Paths as text."""
        return {"cards": [str(path) for path in self.cards]}

    def _table(self) -> Table:
        return records_table(self.as_records(), ("card",), "")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportResult(Displayed):
    """A file that a model was exported to.

    architecture: llama.cpp's name of it; number_format: of the matrices; bytes: of the file; kinds: bytes of its
    tensors by number format; notes: what the file cannot say.
    """

    out: Path
    file_format: str
    architecture: str
    number_format: str
    bytes: int
    tensors: int
    kinds: Mapping[str, int]
    notes: tuple[str, ...]

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row."""
        return [flat(self.as_dict())]

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        names = ("file_format", "architecture", "number_format", "bytes", "tensors")
        fields = {name: getattr(self, name) for name in names}
        return {"out": str(self.out), **fields, "kinds": dict(self.kinds), "notes": list(self.notes)}

    def _table(self) -> Table:
        return records_table(
            self.as_records(), ("out", "architecture", "number_format", "bytes"), "; ".join(self.notes)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult(Displayed):
    """Quality of models on texts. left_out: metric -> why it could not be computed for a comparison.

    warnings: scores outside the range in which a text tells models apart.  reliability: a table of confidences and
    shares of right tokens for each calibration error.
    """

    records: tuple[Record, ...]
    left_out: Mapping[str, str]
    warnings: tuple[RangeWarning, ...] = ()
    reliability: tuple[Reliability, ...] = ()

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per model, text and metric, with its 95 % interval."""
        return [dataclasses.asdict(record) for record in self.records if isinstance(record, QualityRecord)]

    def as_dict(self) -> dict[str, Any]:
        """All records, including those describing the models, the metrics left out, warnings and reliability tables."""
        return {
            "records": [_row(record) for record in self.records],
            "left_out": dict(self.left_out),
            "warnings": [dataclasses.asdict(warning) for warning in self.warnings],
            "reliability": [dataclasses.asdict(table) for table in self.reliability],
        }

    def _table(self) -> Table:
        title = "; ".join(warning.message for warning in self.warnings)
        return records_table(self.as_records(), ("model", "domain", "metric", "value", "low", "high"), title)


def _row(record: Record) -> dict[str, Any]:
    """A record as a flat row; the column `record` is its kind."""
    return flat({name: value for name, value in json.loads(to_line(record)).items() if name != "schema"})
