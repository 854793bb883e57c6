"""Small tokenizers of every kind that can be exported to GGUF, trained on the spot, and text that is hard for them."""

from __future__ import annotations

from typing import Any

from tests.tiny import make_other_text, make_sample_text

SPECIALS = ["<|end|>", "<|begin|>", "<|im_start|>"]
AWKWARD = [
    "a", " a", "  two blanks", "tabs\tand\n\nlines\r\n  \n end  ", "", " ", "\n",
    "The cache number 12345 costs 3.14, 007 and 1,000,000.", "\u0661\u0662\u0663 and \u216b \u00bd",
    "def step(x):\n    return x if x >= 10 else -x  # why?", "it's we'll THEY'RE I'd", "____ --- ...!!! ///",
    "Größe naïve café", "\u65e5\u672c\u8a9e \u306e \u30c6\u30ad\u30b9\u30c8", "\u041f\u0440\u0438\u0432\u0435\u0442",
    "emoji \U0001f642\U0001f469\u200d\U0001f467 and flags \U0001f1e9\U0001f1ea", "MixedCASE camelCase snake_case",
    "<|im_start|>user\nhello<|end|> after", "control \x01\x7f and zero\u200bwidth",
]  # fmt: skip
"""from one letter to scripts without blanks, emoji of several characters, digits of other scripts and specials"""


def _splits(kind: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    from flashstill.distill.export import splitting

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind in ("gpt-2", "smollm"))
    if kind == "gpt-2":
        return byte_level
    if kind == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    regex = {"llama-bpe": splitting.LLAMA3, "dbrx": splitting.LLAMA3, "qwen2": splitting.QWEN2,
             "tekken": splitting.TEKKEN}[kind]  # fmt: skip
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), behavior="isolated"), byte_level])


BYTE_LEVEL = ("gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "tekken")
SENTENCE_PIECE = ("prefixed", "bare", "metaspace")
KINDS = (*BYTE_LEVEL, *SENTENCE_PIECE)


def tokenizer(kind: str, size: int = 512, begins: bool = False) -> Any:
    """A fast tokenizer of one of KINDS. begins: texts begin with <|begin|>."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    backend = _byte_level(kind, size) if kind in BYTE_LEVEL else _sentence_piece(kind, size)
    if begins:
        begin = ("<|begin|>", backend.token_to_id("<|begin|>"))
        backend.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[begin])
    named = {"unk_token": "<unk>"} if kind in SENTENCE_PIECE else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", bos_token="<|begin|>", **named,
        chat_template="{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}",
    )  # fmt: skip


def _trained(pre_tokenizer: Any, size: int, alphabet: list[str], specials: list[str]) -> Any:
    from tokenizers import Tokenizer, models, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([make_sample_text(), make_other_text(), *AWKWARD], trainer)
    return made


def _byte_level(kind: str, size: int) -> Any:
    from tokenizers import decoders, models, pre_tokenizers

    made = _trained(_splits(kind), size, pre_tokenizers.ByteLevel.alphabet(), SPECIALS)
    made.decoder = decoders.ByteLevel()
    if kind in ("llama-bpe", "tekken"):
        assert isinstance(made.model, models.BPE)
        made.model.ignore_merges = True
    return made


def _sentence_piece(kind: str, size: int) -> Any:
    """A vocabulary as SentencePiece has it: bytes, pieces by score, and merges of every pair that makes a piece."""
    import json

    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers.tokenization_utils_base import generate_merges

    learned = _trained(pre_tokenizers.Metaspace(prepend_scheme="always"), size - 300, ["▁"], [])
    written = json.loads(learned.to_str())["model"]
    pieces = ["".join(pair) for pair in written["merges"]]
    letters = [piece for piece in written["vocab"] if len(piece) == 1]
    words = ["<unk>", *SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), *dict.fromkeys(pieces), *letters]
    vocabulary = {word: number for number, word in enumerate(words)}
    merges = generate_merges(vocabulary, {word: -float(number) for word, number in vocabulary.items()})
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    if kind == "metaspace":
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if kind == "prefixed" else replace
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([AddedToken(word, normalized=False) for word in ["<unk>", *SPECIALS]])
    return made
