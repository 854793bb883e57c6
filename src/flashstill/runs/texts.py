"""The packed texts of one distillation: training, held-out and out-of-domain."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.files import write_text
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.runs.aligned import write_windows
from flashstill.runs.workdir import DOMAINS

if TYPE_CHECKING:
    from flashstill.distill.data.chats import Reading
    from flashstill.distill.data.layouts import Document
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.data.rows import Tally

TEXTS = ("train", *DOMAINS)
RECORDS = "records.json"
"""counts of the records that were read, beside the packed texts"""


def pack_texts(recipe: DistillRecipe, tokenizer_of: Path, folder: Path, progress: Progress, teacher: Path) -> None:
    """Pack the recipe's texts with the tokenizer of a model directory, unless all exist.

    teacher: the first teacher's directory; a recipe that aligns two tokenizers also packs the texts with that one.
    """
    from flashstill.distill.data.packing import joined
    from flashstill.distill.data.rows import Tally
    from flashstill.distill.data.splits import packed_splits
    from flashstill.distill.models import load_tokenizer

    if all((folder / f"{name}.safetensors").exists() for name in TEXTS):
        return

    def align(part: str, packed: Packed, documents: Sequence[Document]) -> None:
        write_windows(part, packed, documents, tokenizer_of, teacher, folder, progress)

    tokenizer, sizes, share = load_tokenizer(tokenizer_of), recipe.text, len(recipe.sources)
    tally = Tally(most=recipe.records.bad_share)
    other = recipe.out_of_domain or ("cpython-code" if "cpython-code" not in recipe.sources else "cpython-docs")
    with reading_of(recipe, tokenizer, tokenizer_of.name, tally) as reading:
        splits = [
            packed_splits(
                source, other, reading, sizes.window_tokens, sizes.train_tokens // share,
                sizes.heldout_tokens // share, sizes.out_of_domain_tokens // share, recipe.seed,
                align if recipe.align == "spans" else None,
            )
            for source in recipe.sources
        ]  # fmt: skip
    for line in tally.lines():
        progress.say(line)
    write_text(folder / RECORDS, json.dumps(tally.as_dict(), indent=1))
    for name in TEXTS:
        packed = joined([split[name] for split in splits])
        packed.save(folder / f"{name}.safetensors")
        progress.say(f"{name}: {packed.token_count:,} tokens in {packed.windows} windows")


@contextlib.contextmanager
def reading_of(recipe: DistillRecipe, tokenizer: Any, named: str, tally: Tally) -> Iterator[Reading]:
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
            tokenizer=tokenizer, renderer=renderer, named=named, learn=chat.learn, long=chat.long, columns=columns,
            tally=tally,
        )  # fmt: skip
