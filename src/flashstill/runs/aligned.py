"""A student with another tokenizer than its teachers: the teachers' rows of the texts, their source, and the judgement.

data/PART-teacher.safetensors   the text of a packing in the teachers' tokens
data/PART-spans.safetensors     the number of the span of each token, on both sides
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.arch.adapter.sizes import CONTEXT, VOCABULARY, stated_size
from flashstill.errors import BadInput
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.records import QualityRecord

if TYPE_CHECKING:
    from flashstill.distill.data.layouts import Document
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.data.teacher_windows import TeacherWindows
    from flashstill.distill.teachers.spans import Spanned
    from flashstill.distill.training import TeacherSource


def tokenizer_of(recipe: DistillRecipe, teacher: Path, progress: Progress) -> Path:
    """The directory of the student's tokenizer: the teacher's, unless the recipe aligns two."""
    from flashstill.distill.teachers import resolve_teacher, resolve_tokenizer

    if recipe.align != "spans":
        return teacher
    student = recipe.student
    if student.kind == "scratch":
        return resolve_tokenizer(student.tokenizer, progress)
    return resolve_teacher(student.model, progress, "student.model", student.base)


def files_of(folder: Path, part: str) -> tuple[Path, Path]:
    """The files of the teachers' rows and of the spans of a packed text."""
    return folder / f"{part}-teacher.safetensors", folder / f"{part}-spans.safetensors"


def windows_of(folder: Path, part: str) -> TeacherWindows:
    """The teachers' rows of a packed text, and the spans."""
    from flashstill.distill.data.teacher_windows import TeacherWindows

    return TeacherWindows.load(*files_of(folder, part))


def write_windows(
    part: str, packed: Packed, documents: Sequence[Document], own: Path, teacher: Path, folder: Path, progress: Progress
) -> None:
    """Align a packed text with the teachers' tokens and write both files.

    own, teacher: directories of the tokenizers; that of the teacher also has its config.json.  Raises BadInput if a row
    is longer than the teacher's context.
    """
    from flashstill.distill.data.chats import check_known
    from flashstill.distill.data.teacher_windows import teacher_windows
    from flashstill.distill.models import load_tokenizer
    from flashstill.distill.models.directories import check_directory

    windows, notes = teacher_windows(packed, documents, load_tokenizer(own), load_tokenizer(teacher))
    most = stated_size(check_directory(teacher), CONTEXT, teacher.name)
    if most is not None and windows.packed.length > most:
        raise BadInput(
            f"a window of {packed.length} tokens of the student is up to {windows.packed.length} tokens of"
            f" {teacher.name}, which was made for {most}; lower text.window_tokens"
        )
    rows = stated_size(check_directory(teacher), VOCABULARY, teacher.name)
    if rows is not None:
        check_known(windows.packed.tokens, rows, teacher.name, load_tokenizer(teacher), f"the {part} text")
    if not notes.spans:
        raise BadInput(f"no span of the {part} text is the same in both tokenizers; raise text.window_tokens")
    windows.save(*files_of(folder, part))
    progress.say(f"{part}: {notes}")


def aligned_source(source: TeacherSource, windows: TeacherWindows, own: Path, teacher: Path) -> Spanned:
    """The teachers' source on their rows, aligned with the student's windows."""
    from flashstill.distill.models import load_tokenizer
    from flashstill.distill.teachers.spans import spanned

    return spanned(source, windows, load_tokenizer(own), load_tokenizer(teacher))


def judge_spans(
    models: Mapping[str, Any],
    texts: Mapping[str, tuple[Packed, TeacherWindows, Spanned, Any]],
    seed: int,
    progress: Progress,
) -> list[QualityRecord]:
    """Bits per byte and perplexity of every model on its own tokens; of the students the KL to the teacher and top-1
    agreement on spans.

    texts: by domain the student's packing, the teacher's rows, the aligned source, and the teacher's stored signals.
    """
    from flashstill.evaluate import score_tokens, summarise
    from flashstill.evaluate.span_scores import score_spans, span_records

    records: list[QualityRecord] = []
    for domain, (packed, windows, source, signals) in texts.items():
        total = windows.packed.token_count + 2 * (len(models) - 1) * packed.token_count
        with progress.task(f"evaluate, {domain}", total, "tokens") as advance:
            scores = score_tokens({"teacher": None}, windows.packed, signals, advance)["teacher"]
            own = [
                each
                for each in summarise(scores, "teacher", domain, seed)
                if each.metric not in ("kl_to_teacher", "agreement")
            ]
            records += own
            for name, model in models.items():
                if name == "teacher":
                    continue
                scores = score_tokens({name: model}, packed, None, advance)[name]
                found = summarise(scores, name, domain, seed)
                records += [each for each in found if each.metric in ("bits_per_byte", "perplexity")]
                spans = score_spans(model, packed, source, advance)
                records += span_records(spans, name, domain, seed)
    return records
