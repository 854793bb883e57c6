"""Prompts of a wanted number of tokens, no two of which share a beginning that a prefix cache could reuse.

With a tokenizer, a prompt is made of words that are one token each and its encoding is counted: exact.  Without one it
is made of common English words, which are about one token each: approximate, and the server's own count is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flashstill.bounded import check_regular
from flashstill.errors import BadInput, one_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

COMMON = """
time year people way day man thing woman life child world school state family student group country problem hand part
place case week company system program question work number night point home water room mother area money story fact
month lot right study book eye job word business issue side kind head house service friend father power hour game line
end member law car city community name president team minute idea body information back parent face level office door
health person art war history party result change morning reason research girl guy moment air teacher force education
foot boy age policy music market sense nation plan college interest death course someone experience behind effect use
class control field development role effort rate heart drug show leader light voice wife police mind price decision son
view town road form report value action model season society tax director early position player record paper space
ground event official matter center couple site project activity star table need court oil situation cost industry
"""
"""frequent English words, of which nearly all vocabularies hold each as one token"""
FIRST = "a"
"""begins every prompt, as the first word of a text may be encoded otherwise than those after a space"""
MOST_WORDS = 4096


class Prompts:
    """Makes prompts. overhead: tokens beside the words: FIRST, and what the tokenizer or a chat template adds."""

    def __init__(self, tokenizer: Tokenizer | None, words: Sequence[str], overhead: int) -> None:
        self._tokenizer, self._words, self.overhead = tokenizer, words, overhead

    @property
    def is_exact(self) -> bool:
        """Whether a tokenizer counts the tokens."""
        return self._tokenizer is not None

    def with_template(self, tokens: int) -> Prompts:
        """The same, where the server adds so many tokens to every text."""
        return Prompts(self._tokenizer, self._words, self.overhead + tokens)

    def without_tokenizer(self) -> Prompts:
        """The same for another process: it makes equal prompts, and counts none."""
        return Prompts(None, self._words, self.overhead)

    def make(self, tokens: int, shared: int, numbers: np.random.Generator) -> str:
        """A prompt of `tokens` tokens, of which the first `shared` are the same in all prompts."""
        count = max(tokens - self.overhead, 0)
        common = min(max(shared - self.overhead, 0), count)
        own = numbers.integers(len(self._words), size=count - common)
        same = [self._words[(7 * place) % len(self._words)] for place in range(common)]
        return "".join([FIRST, *same, *(self._words[place] for place in own)])

    def more(self, tokens: int, numbers: np.random.Generator) -> str:
        """Words of so many tokens, to go on with a text."""
        return "".join(self._words[place] for place in numbers.integers(len(self._words), size=tokens))

    def count(self, text: str) -> int | None:
        """Tokens of a text, with those that the tokenizer adds; None without a tokenizer."""
        return None if self._tokenizer is None else len(self._tokenizer.encode(text).ids)


def prompts_of(directory: Path | None) -> Prompts:
    """Prompts by the tokenizer of a model directory; approximate ones without a directory."""
    if directory is None:
        return Prompts(None, [f" {word}" for word in COMMON.split()], 1)
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json" if directory.is_dir() else directory
    check_regular(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises plain Exception
        raise BadInput(f"{path} is no tokenizer that can be read: {one_line(error)}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    overhead = len(tokenizer.encode(FIRST).ids)
    words = _single_tokens(tokenizer, overhead)
    if len(words) < 2:
        raise BadInput(f"{path} has no words that are one token each, so that no prompt of exact length can be made")
    return Prompts(tokenizer, words, overhead)


def _single_tokens(tokenizer: Tokenizer, overhead: int) -> list[str]:
    """Words, each with the space before it, that are one token wherever they stand in a text."""
    words = [f" {word}" for word in COMMON.split()]
    for token in range(tokenizer.get_vocab_size()):
        plain = tokenizer.decode([token]).strip()
        if len(plain) > 1 and plain.isascii() and plain.isalpha():
            words.append(f" {plain.lower()}")
        if len(words) >= 4 * MOST_WORDS:
            break
    words = list(dict.fromkeys(words))
    twice = (f"{FIRST}{word}{word}" for word in words)
    counted = [len(each.ids) for each in tokenizer.encode_batch(list(twice))]
    words = [word for word, count in zip(words, counted, strict=True) if count == overhead + 2][:MOST_WORDS]
    numbers = np.random.default_rng(0)
    while len(words) > 1:  # halved until a long text of them, in a random order, has as many tokens as words
        order = [words[place] for place in numbers.integers(len(words), size=4 * len(words))]
        if len(tokenizer.encode(FIRST + "".join(order)).ids) == overhead + len(order):
            break
        words = words[: len(words) // 2]
    return words
