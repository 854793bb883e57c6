"""The text of a distillation: training, held-out and that of another domain, packed once."""

from __future__ import annotations

from pathlib import Path

from flashstill.family.workspace import DOMAINS
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe


def pack_text(recipe: DistillRecipe, folder: Path, tokenizer: Path, progress: Progress) -> None:
    """Fill `folder` unless it is full. tokenizer: a directory with one; each specialist's text has an equal share."""
    from flashstill.distill.models import load_tokenizer
    from flashstill.distill.packing import joined
    from flashstill.distill.splits import packed_splits

    names, sizes = ("train", *DOMAINS), recipe.text
    if all((folder / f"{name}.safetensors").exists() for name in names):
        return
    share, loaded = len(recipe.sources), load_tokenizer(tokenizer)
    other = recipe.out_of_domain or ("cpython-code" if "cpython-code" not in recipe.sources else "cpython-docs")
    splits = [
        packed_splits(
            source, other, loaded, sizes.window_tokens, sizes.train_tokens // share,
            sizes.heldout_tokens // share, sizes.out_of_domain_tokens // share, recipe.seed,
        )
        for source in recipe.sources
    ]  # fmt: skip
    for name in names:
        packed = joined([split[name] for split in splits])
        packed.save(folder / f"{name}.safetensors")
        progress.say(f"{name}: {packed.token_count:,} tokens in {packed.windows} windows")
