"""Model directories of strangers: what does not fit together is one sentence, and nothing of theirs is followed."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

from flashstill.distill.models import check_tensors, fingerprint, load_model, load_tokenizer, save_model
from flashstill.distill.models.empty import files_of
from flashstill.distill.models.rebuild import DRAWS, Undrawn, on_meta
from flashstill.errors import BadInput
from tests.marks import slow
from tests.zoo import tiny

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def model(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A copy of the tiny teacher to spoil."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "model"))


def edit_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def edit_weights(model: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(model / "model.safetensors")
    edit(tensors)
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def sharded(model: Path) -> dict[str, str]:
    """The same weights in two files with an index."""
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    where = {name: f"part-{place % 2}.safetensors" for place, name in enumerate(sorted(tensors))}
    for file in set(where.values()):
        save_file({name: tensors[name] for name in where if where[name] == file}, model / file, {"format": "pt"})
    write_index(model, where)
    return where


def write_index(model: Path, where: object) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def refused(model: Path) -> str:
    with pytest.raises(BadInput) as caught:
        load_model(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestWeights:
    def test_twelve_layers_over_weights_for_six(self, model: Path) -> None:
        edit_json(model / "config.json", num_hidden_layers=12)
        said = refused(model)
        assert "54 tensors are missing, the first model.layers.6.input_layernorm.weight" in said

    def test_files_beside_the_weights_are_not_read(self, model: Path) -> None:
        """Such as the consolidated.safetensors that Mistral publishes; a pipe would never end."""
        tensors = load_file(model / "model.safetensors")
        spoiled = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
        save_file(spoiled, model / "zeros.safetensors", {"format": "pt"})
        loaded = load_model(model)
        files = files_of(model, loaded)
        assert files is not None
        assert torch.equal(files.read("model.norm.weight"), tensors["model.norm.weight"])
        os.mkfifo(model / "pipe.safetensors")
        assert load_model(model).config.num_hidden_layers == 6
        with pytest.raises(BadInput, match=r"pipe\.safetensors is not a regular file"):
            fingerprint(model)

    def test_fewer_layers_than_weights(self, model: Path) -> None:
        edit_json(model / "config.json", num_hidden_layers=5)
        assert "9 tensors are more than it has, the first model.layers.5.input_layernorm.weight" in refused(model)

    def test_other_shapes(self, model: Path) -> None:
        edit_weights(model, lambda held: held.update({"model.norm.weight": torch.ones(31)}))
        said = refused(model)
        assert "model.norm.weight" in said or "cannot be loaded" in said

    def test_one_tensor_too_few_and_one_too_many(self, model: Path) -> None:
        edit_weights(model, lambda held: held.pop("model.layers.3.mlp.up_proj.weight"))
        assert "1 tensors are missing, the first model.layers.3.mlp.up_proj.weight" in refused(model)

    def test_one_tensor_too_many(self, model: Path) -> None:
        edit_weights(model, lambda held: held.update({"model.layers.3.mlp.extra.weight": torch.ones(3)}))
        assert "1 tensors are more than it has, the first model.layers.3.mlp.extra.weight" in refused(model)

    def test_a_stored_twin_of_a_tied_head_is_no_surplus(self, model: Path) -> None:
        edit_weights(model, lambda held: held.update({"lm_head.weight": held["model.embed_tokens.weight"].clone()}))
        load_model(model)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_no_numbers(self, model: Path, value: float) -> None:
        edit_weights(model, lambda held: held["model.layers.2.mlp.up_proj.weight"][3].fill_(value))
        assert "model.layers.2.mlp.up_proj.weight holds values that are not finite" in refused(model)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, but its weights are 56 tensors"),
            ({"hidden_size": 2**20}, "tensors are missing"),
            ({"vocab_size": 10**12}, "tensors are missing"),
            ({"intermediate_size": 10**30}, "cannot be loaded"),
            ({"model_type": "qwen3_moe", "num_experts": 10**9}, "experts is 1000000000, more than its weights hold"),
            ({"model_type": 7}, "no model_type '7'"),
            ({"model_type": "evil"}, "no model_type 'evil'"),
            ({"num_attention_heads": "four"}, "cannot be loaded"),
        ],
    )
    def test_configurations_larger_than_the_weights(self, model: Path, fields: dict[str, Any], said: str) -> None:
        edit_json(model / "config.json", **fields)
        assert said in refused(model)


class TestFiles:
    @pytest.mark.parametrize("kept", [0, 7, 100, 5000])
    def test_cut_short(self, model: Path, kept: int) -> None:
        content = (model / "model.safetensors").read_bytes()
        (model / "model.safetensors").write_bytes(content[:kept])
        assert "is not a whole safetensors file" in refused(model)

    @pytest.mark.parametrize(
        "header",
        [
            b"\xff" * 8,
            struct.pack("<Q", 2**40) + b"{}",
            struct.pack("<Q", 60_000) + b"[" * 60_000,
            struct.pack("<Q", 72)
            + b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}    '
            + b"0123",
            struct.pack("<Q", 72)
            + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4000000000000]}}      '
            + b"0123",
        ],
    )
    def test_headers_that_lie(self, model: Path, header: bytes) -> None:
        (model / "model.safetensors").write_bytes(header)
        assert "is not a whole safetensors file" in refused(model)

    def test_pipes_and_devices(self, model: Path) -> None:
        (model / "model.safetensors").unlink()
        os.mkfifo(model / "model.safetensors")
        assert "is not a regular file" in refused(model)
        (model / "tokenizer.json").unlink()
        (model / "tokenizer.json").symlink_to("/dev/zero")
        with pytest.raises(BadInput, match="is not a regular file"):
            load_tokenizer(model)

    @pytest.mark.parametrize(
        "content", ["[1]", "{", "", '{"a":' * 20_000 + "1" + "}" * 20_000, '{"a":' * 99 + "1" + "}" * 99]
    )
    def test_configurations_that_are_none(self, model: Path, content: str) -> None:
        (model / "config.json").write_text(content)
        said = refused(model)
        assert "is not a JSON object" in said or "nests deeper than 64 levels" in said

    def test_an_adapter_is_no_model(self, model: Path) -> None:
        (model / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
        assert "holds an adapter" in refused(model)


class TestIndex:
    def test_a_good_one(self, model: Path) -> None:
        sharded(model)
        load_model(model)

    @pytest.mark.parametrize("file", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin", 7, None])
    def test_names_files_beside_it_alone(self, model: Path, file: object) -> None:
        where: dict[str, object] = {**sharded(model)}
        where["model.norm.weight"] = file
        write_index(model, where)
        assert "which is no safetensors file beside it" in refused(model)

    def test_lists_what_is_there(self, model: Path) -> None:
        where = sharded(model)
        write_index(model, {**where, "model.more.weight": "part-0.safetensors"})
        assert "lists model.more.weight in part-0.safetensors, which does not hold it" in refused(model)
        write_index(model, {name: file for name, file in where.items() if name != "model.norm.weight"})
        assert "holds model.norm.weight, which" in refused(model)
        write_index(model, {**where, "model.norm.weight": "part-9.safetensors"})
        assert "part-9.safetensors cannot be read" in refused(model)

    @pytest.mark.parametrize("where", [[], {}, "x", None])
    def test_that_is_none(self, model: Path, where: object) -> None:
        sharded(model)
        write_index(model, where)
        assert 'has no "weight_map"' in refused(model)


class TestSwitches:
    """Keys that would make transformers fetch or run other code are not followed."""

    @pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_attn_implementation_internal"])
    @pytest.mark.parametrize(
        "value", ["stranger/evil@main:run", *slow("kernels-community/flash-attn", "flash_attention_2")]
    )
    def test_kernels_of_a_hub(self, model: Path, key: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        from transformers import modeling_utils
        from transformers.integrations import hub_kernels

        def followed(*_: object, **__: object) -> None:
            raise AssertionError("a kernel was asked for")

        monkeypatch.setattr(modeling_utils, "lazy_import_flash_attention", followed)
        monkeypatch.setattr(hub_kernels, "load_and_register_attn_kernel", followed)
        edit_json(model / "config.json", **{key: value, "experts_implementation": value})
        assert load_model(model).config._attn_implementation == "sdpa"

    def test_at_any_depth(self) -> None:
        from flashstill.distill.models.configuration import without_switches

        inner = {
            "attn_implementation": "x/y",
            "experts_implementation": "x",
            "auto_map": {"A": "b.C"},
            "hidden_size": 1,
        }
        assert without_switches({"text_config": inner, "list": [inner], "_experts_implementation": 1}) == {
            "text_config": {"hidden_size": 1},
            "list": [{"hidden_size": 1}],
        }

    def test_other_weights(self, model: Path) -> None:
        edit_json(model / "config.json", transformers_weights="../other.safetensors")
        load_model(model)


GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def with_rules(model: Path, **rules: Any) -> Path:
    edit_json(model / "tokenizer.json", **rules)
    return model


def replaces(*pairs: tuple[str, str]) -> dict[str, Any]:
    rules = [{"type": "Replace", "pattern": {"String": before}, "content": after} for before, after in pairs]
    return {"type": "Sequence", "normalizers": rules}


class TestTokenizers:
    """Rules that backtrack or grow are found in a process of their own."""

    @pytest.mark.slow
    def test_sound_rules(self, model: Path) -> None:
        split = {"type": "Split", "pattern": {"Regex": GPT4}, "behavior": "Isolated", "invert": False}
        encode = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        before = {"type": "Sequence", "pretokenizers": [split, encode]}
        with_rules(model, pre_tokenizer=before, normalizer=replaces((" ", "\u2581"), ("``", '"')))
        assert load_tokenizer(model)("a b")["input_ids"]

    def test_replacements_of_replacements(self, model: Path) -> None:
        with_rules(model, normalizer=replaces(*[("a", "a" * 10)] * 12))
        with pytest.raises(BadInput, match=r"rules|memory"):
            load_tokenizer(model)

    def test_growth_by_a_second_rule(self, model: Path) -> None:
        with_rules(model, normalizer=replaces(("e", "z" * 4000), ("z", "y" * 4000), ("y" * 4000, "q")))
        with pytest.raises(BadInput, match=r"rules|memory"):
            load_tokenizer(model)

    def test_growth_that_is_escaped(self, model: Path) -> None:
        with_rules(model, normalizer=replaces(*[("a", "a" * 10)] * 12))
        text = (model / "tokenizer.json").read_text()
        (model / "tokenizer.json").write_text(text.replace('"Replace"', '"\\u0052eplace"'))
        with pytest.raises(BadInput, match=r"rules|memory"):
            load_tokenizer(model)

    @pytest.mark.parametrize("content", ["", "[]", "{", '{"a":' * 50_000, "null"])
    def test_none(self, model: Path, content: str) -> None:
        (model / "tokenizer.json").write_text(content)
        with pytest.raises(BadInput, match="tokenizer"):
            load_tokenizer(model)

    def test_too_large(self, model: Path) -> None:
        with (model / "tokenizer.json").open("r+b") as file:
            file.truncate(2**40)
        with pytest.raises(BadInput, match="larger than 256 MiB"):
            load_tokenizer(model)


class TestChecksums:
    """What we wrote is what we read."""

    @pytest.fixture
    def written(self, model: Path, tmp_path: Path) -> Path:
        save_model(load_model(model), load_tokenizer(model), tmp_path / "student")
        return tmp_path / "student"

    def test_whole(self, written: Path) -> None:
        load_model(written)

    @pytest.mark.parametrize("name", ["model.safetensors", *slow("config.json", "tokenizer.json")])
    def test_a_file_that_changed(self, written: Path, name: str) -> None:
        content = bytearray((written / name).read_bytes())
        content[-3] ^= 1
        (written / name).write_bytes(content)
        assert f"student/{name} is not what was written there" in refused(written)
        (written / name).write_bytes(content[:100])
        assert f"student/{name} is not what was written there" in refused(written)
        (written / name).unlink()
        assert f"{name} is gone" in refused(written) or "has no" in refused(written)

    def test_weights_that_came_later(self, written: Path) -> None:
        shutil.copy(written / "model.safetensors", written / "more.safetensors")
        assert "more.safetensors was not there" in refused(written)

    def test_a_list_that_lies(self, written: Path) -> None:
        edit_json(written / "checksums.json", **{"../x": ""})
        assert "names '../x', which is no file beside it" in refused(written)

    def test_a_change_that_is_meant(self, written: Path) -> None:
        edit_json(written / "config.json", bos_token_id=3)
        (written / "checksums.json").unlink()
        load_model(written)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda held: held.pop("model.layers.1.mlp.up_proj.weight"), "missing, the first model.layers.1.mlp.up_proj"),
        *slow((lambda held: held.update(more=torch.ones(2)), "more than it has, the first more")),
        *slow(
            (lambda held: held.update({"model.norm.weight": torch.ones(3)}), "of another shape, the first model.norm")
        ),
    ],
)
def test_tensors_are_checked_before_weights_are_read(model: Path, edit: Callable[..., Any], what: str) -> None:
    check_tensors(model)
    edit_weights(model, edit)
    for check in (check_tensors, load_model):
        with pytest.raises(BadInput, match=what):
            check(model)


def test_a_directory_without_a_tokenizer_says_so(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match=r"has no tokenizer\.json"):
        load_tokenizer(model)


def test_a_model_without_memory_draws_nothing_and_is_else_the_same() -> None:
    drawn: list[Any] = []

    class Heard(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            drawn.extend([func] if func in DRAWS else [])
            return func(*args, **(kwargs or {}))

    model = tiny("mixtral")
    before = torch.get_rng_state()
    with Heard():
        empty = on_meta(type(model), model.config)
    assert drawn == []
    assert torch.equal(torch.get_rng_state(), before)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in empty.state_dict().items()} == shapes
    assert all(weight.is_meta for weight in empty.parameters())
    with Heard(), Undrawn():
        assert torch.empty(3).normal_().abs().sum() > 0, "what has memory is drawn"
    assert drawn == [torch.Tensor.normal_]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("tokenizer_config.json", b"null", "tokenizer_config.json is not a JSON object"),
        ("generation_config.json", b"[1]", "generation_config.json is not a JSON object"),
        ("generation_config.json", b"{", "generation_config.json is not a JSON object"),
        ("generation_config.json", b'{"eos_token_id": "end"}', "eos_token_id is 'end', not a token id or a list of"),
        ("generation_config.json", b'{"eos_token_id": [2, true]}', "eos_token_id is .2, True., not a token id or"),
        ("generation_config.json", b'{"temperature": "hot"}', "temperature is 'hot', not a number"),
        ("special_tokens_map.json", b"[]", "special_tokens_map.json is not a JSON object"),
        ("chat_template.jinja", b"caf\xe9", "chat template .*chat_template.jinja is not UTF-8"),
        ("chat_template.jinja", b"x" * (2**20 + 1), "chat_template.jinja is larger than 1 MiB"),
        ("generation_config.json", None, "generation_config.json is not a regular file"),
        ("chat_template.jinja", None, "chat_template.jinja is not a regular file"),
    ],
)
def test_settings_of_a_wrong_type_are_named(model: Path, file: str, content: bytes | None, said: str) -> None:
    """Transformers names no file, or goes on without it: a student would inherit an end of text that is no token."""
    (model / file).unlink(missing_ok=True)
    if content is None:
        (model / file).mkdir()
    else:
        (model / file).write_bytes(content)
    for load in (load_model, load_tokenizer):
        with pytest.raises(BadInput, match=said):
            load(model)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_others_may_read_a_saved_model_as_the_umask_allows(model: Path, tmp_path: Path, umask: int, mode: int) -> None:
    """Safetensors makes its files for their owner alone."""
    loaded, tokenizer = load_model(model), load_tokenizer(model)
    before = os.umask(umask)
    try:
        save_model(loaded, tokenizer, tmp_path / "saved")
        assert {file.stat().st_mode & 0o777 for file in (tmp_path / "saved").iterdir()} == {mode}
        assert (tmp_path / "saved").stat().st_mode & 0o777 == 0o777 & ~umask
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
