"""Tokenizers that cut the same text differently: byte-level BPE with other merges, a Unigram with a metaspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flashstill.distill.data.vocabulary import learn_tokenizer

TEXTS = [
    "The quick brown fox - jümps over the lazy dog. " * 4 + f"Number {number} costs {number}€, 日本語 and more text."
    for number in range(12)
]
OTHER = ["jumps over lazy dogs and counts numbers of quick things that cost more"] * 40


def byte_level(size: int = 320, texts: Sequence[str] = TEXTS) -> Any:
    return learn_tokenizer(texts, size)


def unigram(size: int = 150, texts: Sequence[str] = TEXTS) -> Any:
    """SentencePiece-like: NFKC, a space before the text, metaspaces, bytes for what is unknown."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*texts, *OTHER], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")
