"""A tokenizer learned from text: byte-level BPE (Sennrich, Haddow and Birch 2016; Radford et al. 2019 for bytes).

Every text can be written in its tokens, since all 256 bytes are among them; `<|end|>` separates documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flashstill.errors import BadInput

END = "<|end|>"
LEAST = 257  # 256 bytes and END


def learn_tokenizer(texts: Iterable[str], size: int) -> Any:
    """A fast Hugging Face tokenizer of at most `size` tokens; fewer where the text has no more pairs to merge.

    Raises BadInput where not even the bytes fit.
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
