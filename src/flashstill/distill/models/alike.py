"""Whether two tokenizers are the same for training although their files differ: in a version, an order of keys, ...

They are if every id stands for the same token, texts begin and end with the same ids, and text is cut in the same way.
Padding tokens and chat templates may differ: texts are packed without padding, with the first tokenizer's template.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

PROBES = (
    "The quick brown fox, 12,345.678 times; isn't it?",
    "  two spaces\n\n\ttabs\r\nand a line  \n",
    "def f(x):\n    return {'a': [x ** 2, -1e-9]}  # code",
    "Ünïcödé ﬁ ½ ① — “quotes” … naïve façade, e\u0301 and \u00e9",
    "日本語のテキスト、中文、한국어 텍스트. Русский текст. نص عربي",
    "🙂👩‍👩‍👧 \u200b zero width \ufeff",
    "AAAAAAAAAAAAAAAA 0000000000 ................ <|end|> <s> </s> [INST] <|im_start|>",
)
"""on these, tokenizers of one vocabulary may differ: normalisation, white space, digits, scripts, special tokens"""


def first_difference(ours: Any, theirs: Any, texts: Iterable[str] = ()) -> str:
    """The first thing in which two fast tokenizers differ, as words about "the first" and "the other"; empty if none.

    texts: more texts that both must cut in the same way.
    """
    ids, others = ours.get_vocab(), theirs.get_vocab()
    if ids != others:
        named, other = ({place: token for token, place in vocabulary.items()} for vocabulary in (ids, others))
        place = min(each for each in {**named, **other} if named.get(each) != other.get(each))
        return f"id {place} is {_word(named.get(place))} in the first and {_word(other.get(place))} in the other"
    for role in ("bos", "eos", "unk"):
        own, its = (getattr(tokenizer, f"{role}_token_id") for tokenizer in (ours, theirs))
        if own != its:
            return f"{role}_token is {_named(ours, own)} in the first and {_named(theirs, its)} in the other"
    for text in (*PROBES, *texts):
        for framed in (False, True):
            own, its = (_cut(tokenizer, text, framed) for tokenizer in (ours, theirs))
            if own != its:
                shared = min(len(own), len(its))
                place = next((each for each in range(shared) if own[each] != its[each]), shared)
                word, another = _named(ours, own[place : place + 1]), _named(theirs, its[place : place + 1])
                where = f"token {place} of {text[:40]!r}"
                return f"they cut text differently: {where} is {word} in the first and {another} in the other"
    return ""


def _cut(tokenizer: Any, text: str, framed: bool) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=framed, verbose=False)["input_ids"]
    return ids


def _word(token: str | None) -> str:
    return "nothing" if token is None else repr(token)


def _named(tokenizer: Any, place: int | list[int] | None) -> str:
    found = place[0] if isinstance(place, list) and place else place
    return "none" if found is None or isinstance(found, list) else _word(tokenizer.convert_ids_to_tokens(found))
