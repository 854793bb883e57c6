"""Guess how the tokenizer of a GGUF file splits text where the file does not name a rule.

A rule that cuts a token of the vocabulary in two is not the file's: BPE could never have made that token.  Of the rules
tried, the finest that cuts (almost) none is taken, and the guess is told; if each of them cuts some, the file is
refused.  Of SmolLM2's 48,821 tokens of whole characters neither rule cuts any, of GPT-2's own the finer one those of
several digits.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput

MOST_TRIED = 20_000
MOST_CUT = 0.002
"""share of tokens that a right rule may cut: real vocabularies have a few that no text is made into"""
RULES = {"smollm": "each digit by itself, then GPT-2's rule", "gpt-2": "GPT-2's rule"}
"""llama.cpp's names of the rules tried, the finer one first, and what they are"""


def guessed_rule(tokenizer: Any, file: Path) -> tuple[str, str]:
    """llama.cpp's name of the likeliest rule of a byte-level BPE tokenizer, and a sentence about the guess.

    Raises BadInput if all rules that are tried cut tokens of the vocabulary.
    """
    texts = _whole_tokens(tokenizer)
    cut = {}
    for name, what in RULES.items():
        rule = pre_tokenizer(name)
        cut[name] = sum(len(rule.pre_tokenize_str(text)) > 1 for text in texts)
        if cut[name] <= MOST_CUT * len(texts):
            return name, (
                f"{file.name} does not say how its tokenizer splits text; guessed from its vocabulary: {what}, which"
                f" keeps {len(texts) - cut[name]:,} of {len(texts):,} tokens whole"
            )
    raise BadInput(
        f"{file} does not say how its tokenizer splits text, and GPT-2's rule cuts {cut['gpt-2']:,} of {len(texts):,}"
        " tokens of its vocabulary; give the model's Hugging Face directory"
    )


def pre_tokenizer(name: str) -> Any:
    """The pre-tokenizer of one of RULES."""
    from tokenizers import pre_tokenizers

    as_gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "gpt-2":
        return as_gpt2
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), as_gpt2])


def _whole_tokens(tokenizer: Any) -> list[str]:
    """The texts of tokens that are whole characters and no added ones, at most MOST_TRIED, evenly over the ids."""
    from tokenizers import decoders

    added, decoder = set(tokenizer.get_added_vocab()), decoders.ByteLevel()
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda each: each[1])]
    step = -(-len(tokens) // MOST_TRIED)
    texts = (decoder.decode([token]) for token in islice(tokens, 0, None, step) if token not in added)
    return [text for text in texts if text and "\ufffd" not in text]
