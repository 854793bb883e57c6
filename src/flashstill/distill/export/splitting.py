"""How a tokenizer splits text before merging, and llama.cpp's name for that.

The rules are code of llama.cpp, each under a name; a tokenizer of other rules cannot be exported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flashstill.errors import BadInput, shortened

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PLAIN, _AFTER_A_SPLIT = ("ByteLevel", "words"), ("ByteLevel", "")
Rule = tuple[str, str]
NAMES: Mapping[tuple[tuple[Rule, ...], bool], str] = {
    ((_PLAIN,), False): "gpt-2",
    ((("Digits", "each"), _PLAIN), False): "smollm",
    ((("Split", LLAMA3), _AFTER_A_SPLIT), True): "llama-bpe",
    ((("Split", LLAMA3), _AFTER_A_SPLIT), False): "dbrx",
    ((("Split", QWEN2), _AFTER_A_SPLIT), False): "qwen2",
    ((("Split", TEKKEN), _AFTER_A_SPLIT), True): "tekken",
}
"""(rules, whether a word that is a token needs no merges) -> llama.cpp's name"""


def split_name(rules: Mapping[str, Any] | None, ignores_merges: bool) -> str:
    """llama.cpp's name of the rules of a tokenizer.json (its pre_tokenizer); BadInput if it has none."""
    read = tuple(_rule(each) for each in parts_of(rules, "pretokenizers"))
    name = NAMES.get((read, ignores_merges))
    if name is None:
        shown = shortened("; ".join(" ".join(rule) for rule in read) or "none", 120)
        raise BadInput(
            f"llama.cpp has no rule that splits text as this tokenizer does ({shown}); it cannot be exported"
        )
    return name


def parts_of(rules: Mapping[str, Any] | None, inside: str) -> list[Mapping[str, Any]]:
    """The steps of a rule of tokenizer.json, of which a Sequence has several under the key `inside`."""
    if rules is None:
        return []
    return list(rules[inside]) if rules["type"] == "Sequence" else [rules]


def _rule(rule: Mapping[str, Any]) -> Rule:
    kind = str(rule["type"])
    if kind == "ByteLevel" and not rule["add_prefix_space"]:
        return (kind, "words" if rule["use_regex"] else "")
    if kind == "Digits" and rule["individual_digits"]:
        return (kind, "each")
    if kind == "Split" and (rule["behavior"], rule["invert"]) in (("Isolated", False), ("Removed", True)):
        return (kind, str(next(iter(rule["pattern"].values()))))
    return (kind, json.dumps(rule, sort_keys=True))
