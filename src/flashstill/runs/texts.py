"""The packed texts of one distillation: training, held-out and out-of-domain."""

from __future__ import annotations

from pathlib import Path

from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.runs.workdir import DOMAINS

TEXTS = ("train", *DOMAINS)


def pack_texts(recipe: DistillRecipe, tokenizer_of: Path, folder: Path, progress: Progress) -> None:
    """Pack the recipe's texts with the tokenizer of a model directory, unless all exist."""
    from flashstill.distill.data.packing import joined
    from flashstill.distill.data.splits import packed_splits
    from flashstill.distill.models import load_tokenizer

    if all((folder / f"{name}.safetensors").exists() for name in TEXTS):
        return
    tokenizer, sizes, share = load_tokenizer(tokenizer_of), recipe.text, len(recipe.sources)
    other = recipe.out_of_domain or ("cpython-code" if "cpython-code" not in recipe.sources else "cpython-docs")
    splits = [
        packed_splits(
            source, other, tokenizer, sizes.window_tokens, sizes.train_tokens // share,
            sizes.heldout_tokens // share, sizes.out_of_domain_tokens // share, recipe.seed,
        )
        for source in recipe.sources
    ]  # fmt: skip
    for name in TEXTS:
        packed = joined([split[name] for split in splits])
        packed.save(folder / f"{name}.safetensors")
        progress.say(f"{name}: {packed.token_count:,} tokens in {packed.windows} windows")
