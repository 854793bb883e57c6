"""Models against a teacher with another tokenizer: KL and agreement on aligned spans, if they are asked for by name.

The teacher runs on its own tokens of each model's windows, so that both read the same text (span_scores.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from flashstill.distill.data.packing import Packed
from flashstill.distill.data.teacher_windows import teacher_windows
from flashstill.distill.data.text import load_documents
from flashstill.distill.models import load_model
from flashstill.distill.models.arithmetic import Arithmetic
from flashstill.distill.teachers.spans import spanned
from flashstill.errors import BadInput
from flashstill.evaluate.entrants import TEACHER, Entrant
from flashstill.evaluate.excerpts import choose_excerpts
from flashstill.evaluate.span_scores import NAMES, score_spans, span_records
from flashstill.evaluate.teacher_states import run_teacher
from flashstill.progress import Progress
from flashstill.records import QualityRecord

ON_SPANS = tuple(NAMES.values())


def split_metrics(asked: Sequence[str], teacher: str) -> tuple[list[str], list[str]]:
    """(metrics of whole vocabularies, metrics on spans). Beside metrics on spans alone come bits per byte.

    Raises BadInput for metrics on spans without a teacher.
    """
    spans = [metric for metric in asked if metric in ON_SPANS]
    plain = [metric for metric in asked if metric not in ON_SPANS]
    if spans and not teacher:
        raise BadInput(f"{spans[0]} compares with a teacher; give --teacher")
    return plain or (["bits_per_byte"] if spans else []), spans


def on_spans(
    entrants: Sequence[Entrant],
    texts: Mapping[str, str],
    packed: Mapping[str, Mapping[str, Packed]],
    sizes: tuple[int, int],
    asked: Collection[str],
    arithmetic: Arithmetic,
    seed: int,
    progress: Progress,
) -> list[QualityRecord]:
    """The asked metrics on spans of all models but the teacher, which is the first of `entrants`.

    texts: sources by domain; packed: [domain][model] -> their excerpts; sizes: tokens of a text and of a window.
    """
    teacher, *others = entrants
    assert teacher.role == TEACHER
    known = load_model(teacher.directory, arithmetic.dtype, may_spread=True)
    sources = {}
    for domain, text in texts.items():
        documents = choose_excerpts(load_documents(text), *sizes, seed)
        for entrant in others:
            own = packed[domain][entrant.name]
            windows, notes = teacher_windows(own, documents, entrant.tokenizer, teacher.tokenizer)
            progress.say(f"{domain}, {entrant.name} and the teacher: {notes}")
            with progress.task(f"run the teacher, {domain}", windows.packed.token_count, "tokens") as advance:
                states = run_teacher(known, windows.packed, advance)
            sources[domain, entrant.name] = spanned(states, windows, entrant.tokenizer, teacher.tokenizer)
    del known
    records: list[QualityRecord] = []
    for entrant in others:
        model = load_model(entrant.directory, arithmetic.dtype)
        for domain in texts:
            own = packed[domain][entrant.name]
            with progress.task(f"{entrant.name} on spans, {domain}", own.token_count, "tokens") as advance:
                sums = score_spans(model, own, sources[domain, entrant.name], advance)
            found = span_records(sums, entrant.name, domain, seed)
            records += [record for record in found if record.metric in asked]
    return records
