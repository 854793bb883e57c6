"""Export models from Python to the files of other programs, and renew model cards."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from flashstill.distilled import CardResult, ExportResult
from flashstill.distilling import progress_of, says_what_is_missing
from flashstill.errors import BadInput, unknown
from flashstill.progress import Progress

FORMATS = ("gguf",)


@says_what_is_missing
def export(
    model: str | Path,
    out: str | Path,
    *,
    file_format: str = "gguf",
    number_format: str = "bf16",
    base: str = "",
    progress: bool | Progress = False,
) -> ExportResult:
    """Write a model as one GGUF file, for llama.cpp and the programs that are built on it.

    model: a Hugging Face directory, the directory of a LoRA adapter, a .gguf file or the name of a packaged model;
    base: the base model of an adapter, if not the one that it names.  out: a file that ends in .gguf; it is replaced
    when all of it is written.  number_format: of the matrices: f32, bf16, f16, q8_0, q5_1, q5_0, q4_1 or q4_0.
    Raises BadInput for an architecture, a field or a tokenizer that llama.cpp cannot express.
    """
    if file_format not in FORMATS:
        raise BadInput(unknown("file format", file_format, FORMATS))
    from flashstill.distill.export import export_gguf
    from flashstill.distill.teachers import resolve_teacher

    shown = progress_of(progress)
    written = export_gguf(resolve_teacher(str(model), shown, "model", base), Path(out), number_format, shown)
    return ExportResult(
        file_format=file_format, **{field.name: getattr(written, field.name) for field in dataclasses.fields(written)}
    )


@says_what_is_missing
def card(
    directory: str | Path,
    *,
    records: str | Path | Sequence[str | Path] = (),
    model: str = "",
    chips: str | Sequence[str] = (),
    base_model: str = "",
    license_id: str = "",
    replace: bool = False,
) -> CardResult:
    """Write the model cards of a finished run again, README.md in each student's directory.

    directory: of a run, or of one of its students.  records: files of more results, as `evaluate(out=...)` writes them,
    in which the student is called `model`; chips: names of chips to predict prices on.  Both are kept for later cards.
    base_model, license_id: what the Hugging Face Hub is told.  A README.md that is not a card as it was written here is
    BadInput, unless `replace`.
    """
    from flashstill.runs.cards import renew_cards

    files = [records] if isinstance(records, str | Path) else list(records)
    written = renew_cards(
        Path(directory), records=[Path(file) for file in files], model=model,
        chips=[chips] if isinstance(chips, str) else list(chips), base_model=base_model, license_id=license_id,
        replace=replace,
    )  # fmt: skip
    return CardResult(cards=tuple(written))
