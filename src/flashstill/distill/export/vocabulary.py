"""A Hugging Face tokenizer as the metadata of a GGUF file.

Byte-level BPE ("gpt2") has tokens, merges, and the name of a rule that splits text before merging (`splitting.py`).
BPE with bytes as a last resort ("llama", from SentencePiece) has scores instead of merges, which merge the same where
merges are sorted by what they make (`scores.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flashstill.distill.export.scores import scores_of
from flashstill.distill.export.splitting import parts_of, split_name
from flashstill.errors import BadInput, shortened

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """Metadata under the keys tokenizer.ggml.*, the chat template, and what the file cannot say."""

    entries: Mapping[str, Any]
    chat_template: str | list[dict[str, str]] | None
    notes: tuple[str, ...]


def vocabulary(tokenizer: Any, rows: int) -> Vocabulary:
    """The vocabulary for an embedding of `rows` rows; BadInput for a tokenizer that llama.cpp does not have."""
    written = json.loads(tokenizer.backend_tokenizer.to_str())
    model = written["model"]
    notes: list[str] = []
    if model.get("type") != "BPE" or any(model.get(name) for name in ("dropout", "continuing_subword_prefix",
                                                                      "end_of_word_suffix")):  # fmt: skip
        raise BadInput(f"cannot export a tokenizer of kind {model.get('type')} to GGUF; byte-level BPE and BPE with"
                       " byte_fallback can be")  # fmt: skip
    tokens = _tokens(tokenizer, rows)
    entries = _sentencepiece(written, tokens, notes) if model.get("byte_fallback") else _byte_level(written, notes)
    begins, ends = _around(tokenizer)
    added = {int(token["id"]): bool(token["special"]) for token in written.get("added_tokens") or ()}
    strips = [token["content"] for token in written.get("added_tokens") or () if token["lstrip"] or token["rstrip"]]
    if strips:
        notes.append(f"llama.cpp keeps blanks around {shortened(strips[0])}, which this tokenizer strips")
    unknown = None if tokenizer.unk_token_id is None else int(tokenizer.unk_token_id)
    entries["tokens"] = [text for text, _ in tokens]
    entries["token_type"] = [
        _type(i, text, real, added, unknown, entries["model"]) for i, (text, real) in enumerate(tokens)
    ]
    for name, key in (("bos_token_id", "bos_token_id"), ("eos_token_id", "eos_token_id"),
                      ("unk_token_id", "unknown_token_id"), ("pad_token_id", "padding_token_id")):  # fmt: skip
        number = getattr(tokenizer, name)
        if number is not None and number < rows:
            entries[key] = int(number)
    entries |= {"add_bos_token": begins, "add_eos_token": ends}
    return Vocabulary(entries=entries, chat_template=_template(tokenizer), notes=tuple(notes))


def _tokens(tokenizer: Any, rows: int) -> list[tuple[str, bool]]:
    """Text of each token, and whether the tokenizer has it; the rows above its vocabulary get names of their own."""
    by_id = {number: text for text, number in tokenizer.get_vocab().items()}
    if max(by_id, default=0) >= rows:
        raise BadInput(f"the tokenizer has tokens up to id {max(by_id)}, the embedding only {rows} rows")
    texts = set(by_id.values())
    return [(by_id[i], True) if i in by_id else (_filler(i, texts), False) for i in range(rows)]


def _filler(number: int, taken: set[str]) -> str:
    name = f"[PAD{number}]"
    while name in taken:
        name = f"[{name}]"
    return name


def _type(number: int, text: str, real: bool, added: Mapping[int, bool], unknown: int | None, model: str) -> int:
    if not real:
        return UNUSED
    if number == unknown and model == "llama":
        return UNKNOWN
    if number in added:
        return CONTROL if added[number] else USER_DEFINED
    is_byte = model == "llama" and len(text) == 6 and text.startswith("<0x") and text.endswith(">")
    return BYTE if is_byte else NORMAL


def _byte_level(written: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    model = written["model"]
    normaliser = (written.get("normalizer") or {}).get("type")
    if normaliser == "NFC":
        notes.append("llama.cpp does not bring text into Unicode form NFC first, as this tokenizer does")
    elif normaliser is not None:
        raise BadInput(f"cannot export a tokenizer with the normaliser {normaliser} to GGUF")
    name = split_name(written.get("pre_tokenizer"), bool(model.get("ignore_merges")))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return {"model": "gpt2", "pre": name, **({"merges": merges} if merges else {})}


def _sentencepiece(written: Mapping[str, Any], tokens: list[tuple[str, bool]], notes: list[str]) -> dict[str, Any]:
    model, rules = written["model"], parts_of(written.get("pre_tokenizer"), "pretokenizers")
    steps = [(each["type"], each.get("prepend") or each.get("content"))
             for each in parts_of(written.get("normalizer"), "normalizers")]  # fmt: skip
    scheme = rules[0].get("prepend_scheme") if len(rules) == 1 and rules[0]["type"] == "Metaspace" else None
    if not rules and steps in ([("Prepend", "▁"), ("Replace", "▁")], [("Replace", "▁")]):
        prefix = len(steps) == 2
    elif not steps and scheme is not None and not rules[0].get("split"):
        prefix = scheme != "never"
        if scheme == "first":
            notes.append("where a text begins with a blank, and after special tokens, llama.cpp reads one blank more")
    elif steps == [("Replace", "▁")] and [each["type"] for each in rules] == ["Split"]:  # Gemma
        prefix = False
    else:
        raise BadInput(
            "llama.cpp has no rule that normalises and splits text as this tokenizer does; it cannot be exported"
        )
    if missing := [f"<0x{byte:02X}>" for byte in range(256) if f"<0x{byte:02X}>" not in model["vocab"]]:
        raise BadInput(f"the tokenizer falls back to bytes, but has no token {missing[0]}; it cannot be exported")
    scores = scores_of(model, [text for text, real in tokens if real])
    return {
        "model": "llama", "pre": "default", "scores": [scores.get(text, -1e6) for text, _ in tokens],
        "add_space_prefix": prefix,
    }  # fmt: skip


def _around(tokenizer: Any) -> tuple[bool, bool]:
    """Whether the tokenizer begins a text with its begin token, and ends it with its end token."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for begins in (False, True):
        for ends in (False, True):
            if whole == [tokenizer.bos_token_id] * begins + plain + [tokenizer.eos_token_id] * ends:
                return begins, ends
    raise BadInput("the tokenizer puts other tokens around a text than its begin and end token; it cannot be exported")


def _template(tokenizer: Any) -> str | list[dict[str, str]] | None:
    template = tokenizer.chat_template
    if isinstance(template, Mapping):
        return [{"name": str(name), "template": str(text)} for name, text in template.items()]
    return None if template is None else str(template)
