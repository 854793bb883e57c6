"""Export models from Python, to the files of other programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flashstill.distilled import ExportResult
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
