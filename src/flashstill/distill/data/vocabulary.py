"""Train a byte-level BPE tokenizer (Sennrich, Haddow and Birch 2016; on bytes: Radford et al. 2019).

All 256 bytes are tokens, so any text can be encoded; `<|end|>` separates documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flashstill.errors import BadInput

END = "<|end|>"
LEAST = 257  # 256 bytes and END


def learn_tokenizer(texts: Iterable[str], size: int) -> Any:
    """Train a fast Hugging Face tokenizer with at most `size` tokens; fewer if there are no more pairs to merge.

    Raises BadInput if `size` is below 257 (256 bytes and the end token).
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if size < LEAST:
        raise BadInput(f"a vocabulary of {size} does not hold all bytes; give at least {LEAST}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
