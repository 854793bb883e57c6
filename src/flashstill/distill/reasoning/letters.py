"""A tokenizer of single characters, for small models that are trained from scratch on a small task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

END = "<|end|>"


def letter_tokenizer(texts: Iterable[str]) -> Any:
    """One id per character of the texts, and one end-of-text id, to which any other character is mapped."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted({letter for text in texts for letter in text})
    vocabulary = {END: 0, **{letter: place for place, letter in enumerate(letters, start=1)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, clean_up_tokenization_spaces=False)
