"""The packed texts of one distillation: training, held-out and out-of-domain."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.bounded import read_bounded
from flashstill.errors import BadInput
from flashstill.files import write_text
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.recipes.teachers import TeacherRecipe
from flashstill.runs.aligned import write_windows
from flashstill.runs.workdir import DOMAINS, packing_file

if TYPE_CHECKING:
    from flashstill.distill.data.chats import Reading
    from flashstill.distill.data.layouts import Document
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.data.rows import Tally
    from flashstill.distill.data.splits import Sizes
    from flashstill.recipes.tables import TextRecipe

TEXTS = ("train", *DOMAINS)
MOST_SYSTEM_BYTES = 2**20
RECORDS = "records.json"
"""counts of the records that were read, beside the packed texts"""


def pack_texts(
    recipe: DistillRecipe,
    tokenizer_of: Path,
    folder: Path,
    progress: Progress,
    teacher: Path,
    known: tuple[int, str] | None = None,
) -> None:
    """Pack the recipe's texts with the tokenizer of a model directory, unless all exist.

    teacher: the first teacher's directory; a recipe that aligns two tokenizers also packs the texts with that one.
    known: number of ids that all models of the run know, and which of them knows no more (`Reading`).
    """
    from flashstill.distill.data.mixtures import mixture, shares
    from flashstill.distill.data.packing import joined
    from flashstill.distill.data.rows import Tally
    from flashstill.distill.data.splits import VALIDATION, packed_splits
    from flashstill.distill.data.views import View, joined_views
    from flashstill.distill.models import load_tokenizer

    systems = tuple(dict.fromkeys(system_of(teacher) for teacher in recipe.teachers if teacher.prompted))
    names = (*TEXTS, *((VALIDATION,) if recipe.text.validation_tokens else ()))
    paths = [view_path(folder, name, system) for name in names for system in systems]
    if all(path.exists() for path in (*paths, *(packing_file(folder, name) for name in names))):
        return

    def align(part: str, packed: Packed, documents: Sequence[Document]) -> None:
        write_windows(part, packed, documents, tokenizer_of, teacher, folder, progress)

    companion = align if recipe.align == "spans" else None
    tokenizer, text, sources = load_tokenizer(tokenizer_of), recipe.text, recipe.sources
    tally, length = Tally(most=recipe.records.bad_share), text.window_tokens
    other = recipe.out_of_domain or ("cpython-code" if "cpython-code" not in sources else "cpython-docs")
    counts = shares(recipe.weights, max(1, text.train_tokens // length)) if recipe.mixture else []
    splits: list[dict[str, Packed]] = []
    views: list[dict[str, list[View]]] = []
    with reading_of(recipe, tokenizer, tokenizer_of.name, tally, systems, known) as reading:
        for place, source in enumerate(sources):
            train_tokens = counts[place] * length if counts else text.train_tokens // len(sources)
            sizes = _sizes(text, recipe.weights[place] / sum(recipe.weights), train_tokens)
            own = folder if len(sources) == 1 else folder / f"source-{place}"
            views.append({})
            splits.append(
                packed_splits(source, other, reading, sizes, recipe.seed, own, progress, companion, views[-1])
            )
    for line in tally.lines():
        progress.say(line)
    write_text(folder / RECORDS, json.dumps(tally.as_dict(), indent=1))
    for name in names:
        parts = [split[name] for split in splits]
        is_mixed = counts and name == "train"
        packed = mixture(parts, counts, sources, folder / "train.npy") if is_mixed else joined(parts)
        if not packed.known_hash:
            packed.save(folder / f"{name}.safetensors")
        for which, system in enumerate(systems):
            joined_views([seen[name][which] for seen in views]).save(view_path(folder, name, system))
        progress.say(f"{name}: {packed.token_count:,} tokens in {packed.windows} windows")
    for leftover in (folder / "tokenising", *folder.glob("source-*")):
        shutil.rmtree(leftover, ignore_errors=True)


def _sizes(text: TextRecipe, share: float, train_tokens: int) -> Sizes:
    """The tokens of one source's packings. share: its part of those to judge by."""
    from flashstill.distill.data.splits import Sizes

    return Sizes(
        window_tokens=text.window_tokens, windows=text.windows, document_masks=text.document_masks,
        train_tokens=train_tokens, heldout_tokens=int(text.heldout_tokens * share),
        out_of_domain_tokens=int(text.out_of_domain_tokens * share),
        validation_tokens=math.ceil(text.validation_tokens * share),
    )  # fmt: skip


def system_of(teacher: TeacherRecipe) -> str:
    """The system prompt that only this teacher sees; BadInput if its file is unreadable or empty."""
    if not teacher.system_file:
        return teacher.system
    try:
        text = read_bounded(Path(teacher.system_file), MOST_SYSTEM_BYTES).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise BadInput(f"the system prompt {teacher.system_file} is not UTF-8") from error
    if not text:
        raise BadInput(f"the system prompt {teacher.system_file} is empty")
    return text


def view_path(folder: Path, part: str, system: str) -> Path:
    """The file of a packed text as teachers read it that see this system prompt."""
    return folder / f"{part}-system-{hashlib.sha256(system.encode()).hexdigest()[:12]}.safetensors"


@contextlib.contextmanager
def reading_of(
    recipe: DistillRecipe,
    tokenizer: Any,
    named: str,
    tally: Tally,
    systems: tuple[str, ...] = (),
    known: tuple[int, str] | None = None,
) -> Iterator[Reading]:
    """How a recipe reads its records with a tokenizer; `named` is its directory, for messages."""
    from flashstill.distill.data.chats import Reading
    from flashstill.distill.data.layouts import Columns
    from flashstill.distill.data.templates import renderer_of, template_of

    chat, records = recipe.chat, recipe.records
    columns = Columns(
        text=records.text, messages=records.messages, prompt=records.prompt, completion=records.completion,
        as_chat=records.as_chat,
    )  # fmt: skip
    with renderer_of(template_of(tokenizer, chat.template, chat.arguments)) as renderer:
        yield Reading(
            tokenizer=tokenizer, renderer=renderer, named=named, learn=chat.learn, long=chat.long,
            systems=systems, columns=columns, known=known, tally=tally,
        )  # fmt: skip
