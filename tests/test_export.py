"""Export to GGUF: what was proven in llama.cpp stays as it was, transformers reads the same model back, and what the
format cannot say is refused before anything is written."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from flashstill.arch.adapter.gguf import FAMILIES
from flashstill.cli import main
from flashstill.distill.export import export_gguf, formats, scores, splitting, tensors
from flashstill.distill.export.vocabulary import vocabulary
from flashstill.distill.models import conversion, load_tokenizer
from flashstill.distill.models.gguf_splitting import RULES, guessed_rule
from flashstill.distill.teachers import resolve_teacher
from flashstill.errors import BadInput, DiskTrouble
from flashstill.progress import Silent
from tests import exported
from tests.commands import refuse
from tests.recorded_progress import RecordedProgress
from tests.vocabularies import AWKWARD, BYTE_LEVEL, KINDS, SENTENCE_PIECE, tokenizer

PROVEN: dict[str, str] = json.loads(exported.PROVEN.read_text(encoding="utf-8"))


def test_every_family_is_proven() -> None:
    assert set(PROVEN) == set(exported.CASES)
    assert {exported.CASES[case][0] for case in PROVEN} == set(FAMILIES)


QUICK = ("llama", "llama 3", "gpt2", "qwen3_moe")


def some_slow(names: Iterable[str], quick: Collection[str]) -> list[Any]:
    """Parameters, of which all but the quick ones are slow."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in names]


@pytest.mark.parametrize("case", some_slow(exported.CASES, QUICK))
def test_as_it_was_proven(case: str, tmp_path: Path) -> None:
    """Change the digests only with a new proof: python -m tests.exported."""
    exported.made(case).save_pretrained(tmp_path)
    assert exported.digest(tmp_path) == PROVEN[case]


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="needs the package llama-cpp-python")
@pytest.mark.parametrize("case", exported.CASES)
def test_llama_cpp_computes_the_same(case: str, tmp_path: Path) -> None:
    difference, _ = exported.prove(case, tmp_path)
    assert difference < (1e-2 if case.startswith(exported.ROUNDED) else 1e-4)


READ = [
    case
    for case in exported.CASES
    if case.split()[0] not in ("gemma", "glm4_moe", "granite", "mistral", "mixtral", "olmo2", "smollm3")
]


@pytest.mark.parametrize("case", some_slow(READ, ["llama"]))
def test_transformers_reads_the_same_model(case: str, tmp_path: Path) -> None:
    """All families that it reads; with the configuration at hand, as it does not read all fields."""
    from transformers import AutoModelForCausalLM

    model = exported.saved(case, tmp_path / "model")
    export_gguf(tmp_path / "model", tmp_path / "x.gguf", "f32", Silent())
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="x.gguf", config=model.config, dtype=torch.float32)
    with torch.no_grad():
        expected, found = model(exported.ids(case)).logits, again.eval()(exported.ids(case)).logits
    assert float((expected - found).abs().max()) < 1e-5


@pytest.mark.slow
def test_our_own_reader_takes_it(tmp_path: Path) -> None:
    from flashstill.distill.models import convert_gguf, load_model

    model = exported.saved("llama", tmp_path / "model")
    export_gguf(tmp_path / "model", tmp_path / "x.gguf", "bf16", Silent())
    convert_gguf(tmp_path / "x.gguf", tmp_path / "again")
    again = load_model(tmp_path / "again", torch.float32)
    with torch.no_grad():
        expected, found = model(exported.ids("llama")).logits, again(exported.ids("llama")).logits
    assert float((expected - found).abs().max()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", BYTE_LEVEL)
def test_our_own_reader_splits_text_as_the_file_says(kind: str, tmp_path: Path) -> None:
    """Also by the rule that transformers does not know."""
    from flashstill.distill.models import convert_gguf

    saved = tokenizer(kind, begins=True)
    exported.made("llama", vocab_size=512, num_hidden_layers=1).save_pretrained(tmp_path / "model")
    saved.save_pretrained(tmp_path / "model")
    export_gguf(tmp_path / "model", tmp_path / "x.gguf", "f32", Silent())
    cuts = {}
    for as_transformers in (False, True):
        convert_gguf(tmp_path / "x.gguf", tmp_path / str(as_transformers), as_transformers)
        again = load_tokenizer(tmp_path / str(as_transformers))
        for text in AWKWARD:
            ids, wanted = (each(text, add_special_tokens=False)["input_ids"] for each in (again, saved))
            assert ids == wanted, text
        cuts[as_transformers] = again.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")
    assert cuts[False] == saved.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")
    assert (cuts[True] == cuts[False]) == (kind != "smollm")


def test_a_rule_that_is_not_known_is_refused(tmp_path: Path) -> None:
    plain = SimpleNamespace(backend_tokenizer=SimpleNamespace(pre_tokenizer=None))
    for name in ("gpt-2", "qwen2", "llama-bpe"):
        conversion._split_as_told(plain, name, tmp_path)
        assert plain.backend_tokenizer.pre_tokenizer is None, "as transformers read it"
    with pytest.raises(BadInput, match=r"splits text by llama\.cpp's rule 'deepseek-llm', which is not known here"):
        conversion._split_as_told(plain, "deepseek-llm", tmp_path)
    for header, name in (("", ""), ("smollm", "smollm"), (None, "of a very long name")):
        assert conversion._rule(header) == name
    with pytest.raises(BadInput, match="rule 'of a very long name', which is not known"):
        conversion._split_as_told(plain, conversion._rule(None), tmp_path)
    conversion._split_as_told(plain, "smollm", tmp_path)
    pieces = [piece for piece, _ in plain.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")]
    assert pieces == ["a", "\u0120\u0120", "1", "2"]


@pytest.mark.parametrize("kind", BYTE_LEVEL)
def test_a_rule_without_a_name_is_guessed_from_the_vocabulary(kind: str) -> None:
    """GPT-2's rule and the one with single digits are told apart; vocabularies of others are cut by both."""
    if kind in RULES:
        name, guess = guessed_rule(tokenizer(kind), Path("x.gguf"))
        assert name == kind
        assert guess.startswith("x.gguf does not say how its tokenizer splits text; guessed from its vocabulary: ")
    else:
        with pytest.raises(BadInput, match=r"GPT-2's rule cuts \d+ of \d+ tokens .*; give the model's Hugging Face"):
            guessed_rule(tokenizer(kind), Path("x.gguf"))


@pytest.mark.slow
def test_a_guess_is_told_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a file without a name is converted, and when the converted one is taken from the disk."""
    monkeypatch.setenv("FLASHSTILL_HOME", str(tmp_path / "home"))
    exported.made("llama", vocab_size=512, num_hidden_layers=1).save_pretrained(tmp_path / "model")
    tokenizer("smollm").save_pretrained(tmp_path / "model")
    with monkeypatch.context() as nameless:
        nameless.setitem(splitting.NAMES, next(key for key, name in splitting.NAMES.items() if name == "smollm"), "")
        export_gguf(tmp_path / "model", tmp_path / "x.gguf", "f32", Silent())
    for expected in ("each digit by itself", "guessed when it was converted"):
        told = RecordedProgress()
        found = resolve_teacher(str(tmp_path / "x.gguf"), told)
        assert any(expected in line for line in told.lines)
    split = load_tokenizer(found).backend_tokenizer.pre_tokenizer
    assert [piece for piece, _ in split.pre_tokenize_str("12")] == ["1", "2"]


@pytest.mark.parametrize("kind", some_slow([*(kind for kind in BYTE_LEVEL if kind != "smollm"), "prefixed"], ["gpt-2"]))
def test_transformers_reads_the_same_tokenizer(kind: str, tmp_path: Path) -> None:
    """Of all rules but smollm's, which it does not know, and of SentencePiece for texts that begin with a letter."""
    from transformers import AutoTokenizer

    saved = tokenizer(kind, begins=True)
    exported.made("llama", vocab_size=512, num_hidden_layers=1).save_pretrained(tmp_path / "model")
    saved.save_pretrained(tmp_path / "model")
    export_gguf(tmp_path / "model", tmp_path / "x.gguf", "f32", Silent())
    again = AutoTokenizer.from_pretrained(tmp_path, gguf_file="x.gguf")
    texts = AWKWARD if kind in BYTE_LEVEL else [text for text in AWKWARD if text[:1] != " " and "<|" not in text]
    for text in texts:
        whole, plain = (again(text, add_special_tokens=special)["input_ids"] for special in (True, False))
        assert plain == saved(text, add_special_tokens=False)["input_ids"], text
        assert whole in (saved(text)["input_ids"], plain)
    assert again.chat_template == saved.chat_template
    assert (again.eos_token, again.bos_token) == ("<|end|>", "<|begin|>")


@pytest.mark.parametrize("kind", some_slow(KINDS, ["smollm", "metaspace"]))
def test_entries_of_a_vocabulary(kind: str) -> None:
    words = vocabulary(tokenizer(kind, begins=True), 600).entries
    tokens, types = words["tokens"], words["token_type"]
    assert len(tokens) == len(types) == len(set(tokens)) == 600
    assert words["add_bos_token"] is True
    assert words["add_eos_token"] is False
    assert {tokens[i] for i, kind_of in enumerate(types) if kind_of == 3} == {"<|end|>", "<|begin|>", "<|im_start|>"}
    assert types[-1] == 5
    if kind in SENTENCE_PIECE:
        assert sum(kind_of == 6 for kind_of in types) == 256
        assert words["add_space_prefix"] is (kind != "bare")
    else:
        assert (words["model"], words["pre"]) == ("gpt2", kind)


def test_the_rules_have_names_of_their_own() -> None:
    assert sorted(splitting.NAMES.values()) == sorted(BYTE_LEVEL)


def _changed(path: Path, **fields: Any) -> None:
    written = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**written, **fields}), encoding="utf-8")


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "of kind 'dynamic'": ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
    "hidden_act is 'gelu'": ("llama", {"hidden_act": "gelu"}),
    "norm_topk_prob is False": ("qwen3_moe", {"norm_topk_prob": False}),
    "has dense layers between": ("qwen3_moe", {"mlp_only_layers": [0]}),
    "whole groups of four": ("smollm3", {"no_rope_layers": [1, 0, 1, 0]}),
    "query_pre_attn_scalar is 16": ("gemma2", {"query_pre_attn_scalar": 16}),
    "has no attn_logit_softcapping": ("gemma2", {"attn_logit_softcapping": None}),
    "scale_attn_by_inverse_layer_idx": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "use_bidirectional_attention is True": ("gemma3", {"use_bidirectional_attention": True}),
    "beta_fast is 16": ("llama with YaRN", {"rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 16,
    }}),
}  # fmt: skip


@pytest.mark.parametrize("said", some_slow(REFUSED, ["of kind 'dynamic'", "use_bidirectional_attention is True"]))
def test_fields_that_cannot_be_said(said: str, tmp_path: Path) -> None:
    case, changes = REFUSED[said]
    exported.saved(case, tmp_path / "model")
    _changed(tmp_path / "model" / "config.json", **changes)
    with pytest.raises(BadInput, match=said):
        export_gguf(tmp_path / "model", tmp_path / "model.gguf", "f32", Silent())
    assert not (tmp_path / "model.gguf").exists()


def test_other_families(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests import zoo

    zoo.tiny("olmo").save_pretrained(tmp_path / "model")
    tokenizer("gpt-2", 380).save_pretrained(tmp_path / "model")
    line = refuse(capsys, "export", tmp_path / "model", "--format", "gguf", "--out", tmp_path / "x.gguf")
    assert "unknown model_type 'olmo'; the nearest known: olmo2" in line


def test_tokenizers_that_cannot_be_said() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    unigram = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("a", 0.0)], unk_id=0)))
    with pytest.raises(BadInput, match="a tokenizer of kind Unigram"):
        vocabulary(unigram, 8)
    odd = tokenizer("gpt-2")
    odd.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    with pytest.raises(BadInput, match="no rule that splits text"):
        vocabulary(odd, 600)
    with pytest.raises(BadInput, match="tokens up to id 511, the embedding only 400 rows"):
        vocabulary(tokenizer("gpt-2"), 400)


def test_scores_merge_in_the_order_of_merges() -> None:
    letters = {letter: i for i, letter in enumerate("abc")}
    good: dict[str, Any] = {"vocab": {**letters, "ab": 3, "abc": 4}, "merges": [["a", "b"], ["ab", "c"]]}
    assert scores.scores_of(good, good["vocab"]) == {"a": 0.0, "b": 0.0, "c": 0.0, "ab": 0.0, "abc": -1.0}
    apart: dict[str, Any] = {"vocab": {**letters, "ab": 3, "bc": 4, "abc": 5}, "merges": ["a b", "ab c", "b c", "a bc"]}
    with pytest.raises(BadInput, match="that make 'abc' do not stand together"):
        scores.scores_of(apart, apart["vocab"])
    with pytest.raises(BadInput, match="'abc', but no merge of 'a' and 'bc'"):
        scores.scores_of({**apart, "merges": ["a b", "b c", "ab c"]}, apart["vocab"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("export") / "model"
    exported.saved("llama", directory, hidden_size=64)
    return directory


@pytest.mark.parametrize("name", some_slow(formats.TYPES, ["q4_0"]))
def test_number_formats(name: str, small: Path, tmp_path: Path) -> None:
    import gguf

    done = export_gguf(small, tmp_path / "x.gguf", name, Silent())
    file = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors}
    assert {"blk.0.attn_norm.weight", "output_norm.weight"} <= {
        key for key, tensor in file.items() if tensor.tensor_type.name == "F32"
    }
    assert file["blk.0.attn_q.weight"].tensor_type.name.lower() == name
    assert file["blk.0.ffn_down.weight"].tensor_type.name.lower() == (name if "_" not in name else "f16")
    assert file["output.weight"].tensor_type.name.lower() == ("q8_0" if name.startswith(("q4", "q5")) else name)
    assert ("no whole blocks" in " ".join(done.notes)) is ("_" in name)
    assert sum(done.kinds.values()) == sum(int(tensor.n_bytes) for tensor in file.values())
    stored = file["token_embd.weight"]
    exact = exported.made("llama", hidden_size=64).get_input_embeddings().weight.detach().numpy()
    found = gguf.dequantize(stored.data, stored.tensor_type)
    assert np.abs(found - exact).max() <= {"f32": 0.0, "bf16": 1e-3, "f16": 0.0}.get(name, 0.5 / 127 / 2)


def test_few_rows_at_a_time(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file does not depend on how many rows are in memory."""
    export_gguf(small, tmp_path / "a.gguf", "q8_0", Silent())
    monkeypatch.setattr(tensors, "CHUNK_BYTES", 5000)
    export_gguf(small, tmp_path / "b.gguf", "q8_0", Silent())
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_values_beyond_f16(tmp_path: Path) -> None:
    model = exported.saved("llama", tmp_path / "model")
    model.get_input_embeddings().weight.data[3, 3] = 1e6
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(BadInput, match="beyond 65504, the most of f16; take bf16 or f32"):
        export_gguf(tmp_path / "model", tmp_path / "model.gguf", "f16", Silent())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_write_that_ends_early_leaves_the_old_file(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flashstill.distill.export import writing

    (tmp_path / "x.gguf").write_bytes(b"old")
    calls = []

    def stops(*values: Any) -> bytes:
        calls.append(values)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return formats.encoded(*values)

    monkeypatch.setattr(writing, "encoded", stops)
    with pytest.raises(KeyboardInterrupt):
        export_gguf(small, tmp_path / "x.gguf", "f32", Silent())
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.gguf", b"old")]


def test_a_file_that_does_not_fit(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("flashstill.distill.export.shutil.disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(DiskTrouble, match=r"needs .* kB, but only 10 kB are free"):
        export_gguf(small, tmp_path / "x.gguf", "f32", Silent())


def test_a_name_that_llama_cpp_takes_for_phi(small: Path, tmp_path: Path) -> None:
    """It looks up tokens of Phi-3 in every model of that name, and ends where they are missing."""
    import gguf

    shutil.copytree(small, tmp_path / "phi3-student")
    export_gguf(tmp_path / "phi3-student", tmp_path / "x.gguf", "f32", Silent())
    assert gguf.GGUFReader(tmp_path / "x.gguf").fields["general.name"].contents() == "model"


def test_the_command(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", str(small), "--format", "gguf", "--out", str(tmp_path / "x.gguf"), "--type", "q8_0", "--json"])
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["bytes"] == (tmp_path / "x.gguf").stat().st_size
    assert document["architecture"] == "llama"
    assert document["question"]["number_format"] == "q8_0"
    assert "will have about" in printed.err
    line = refuse(capsys, "export", small, "--format", "gguf", "--out", tmp_path / "x.bin")
    assert "give a file that ends in .gguf" in line


@pytest.mark.parametrize("name", ["f32", "bf16", "f16", "q8_0", "q4_0"])
def test_values_that_are_no_numbers_are_not_written(name: str) -> None:
    for odd in (np.nan, np.inf):
        rows = np.ones((2, 32), dtype=np.float32)
        rows[1, 3] = odd
        with pytest.raises(BadInput, match=r"output\.weight holds values that are not finite numbers"):
            formats.encoded(rows, formats.kind_of(name), "output.weight")
