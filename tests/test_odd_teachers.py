"""Odd but likely model directories: each is read as what it is, or refused in one sentence before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import flashstill as fs
from flashstill.distill.drafts import is_eagle
from flashstill.distill.models import (
    check_tensors,
    directories,
    keep_layers,
    left_out,
    load_model,
    load_tokenizer,
    save_model,
)
from flashstill.distill.models.checksums import FILE as CHECKSUMS
from flashstill.distill.models.directories import check_directory, shapes
from flashstill.distill.models.placement import weight_bytes
from flashstill.distill.models.quantised import in_dtype
from flashstill.distill.students import Format
from flashstill.distill.teachers import resolve_teacher
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes.distillation import ShapeRecipe
from flashstill.runs.ends import add_ends
from flashstill.runs.limits import check_end
from tests import adapters, zoo
from tests.distillations import written
from tests.packing import both

QUANTISED = "quantization_config"
PT = {"format": "pt"}
Tensors = dict[str, Tensor]


@pytest.fixture
def model(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A copy of the tiny teacher, which may be changed."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "model"))


def edit(file: Path, **changes: Any) -> None:
    fields = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**fields, **changes}))


def stored(model: Path) -> Tensors:
    return load_file(model / "model.safetensors")


def rewrite(model: Path, tensors: Tensors) -> None:
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def in_fp8(model: Path, suffix: str, by_row: bool) -> Tensors:
    """Quantise the linear layers of a directory; returns what their weights are then."""
    tensors, plain = stored(model), {}
    for name in [each for each in tensors if each.endswith("_proj.weight")]:
        weight = tensors[name].float()
        scale = weight.abs().amax(1, keepdim=True) / 448 if by_row else (weight.abs().amax() / 448).reshape(1, 1)
        tensors[name] = (weight / scale).to(torch.float8_e4m3fn)
        tensors[name.replace(".weight", suffix)] = scale
        plain[name] = tensors[name].float() * scale
    rewrite(model, tensors)
    return plain


FINE = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128], "fmt": "e4m3"}
ROWS = {
    "quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
        "num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "by_row", "settings"),
    [
        (".weight_scale_inv", False, FINE),
        pytest.param(".weight_scale", True, ROWS, marks=pytest.mark.slow),
    ],
    ids=["blocks", "compressed-tensors"],
)
def test_fp8_weights_are_read_as_plain_ones(model: Path, suffix: str, by_row: bool, settings: dict[str, Any]) -> None:
    plain = in_fp8(model, suffix, by_row)
    edit(model / "config.json", **{QUANTISED: settings})
    for dtype in (torch.float32, torch.bfloat16):
        read = load_model(model, dtype)
        assert {parameter.dtype for parameter in read.parameters()} == {dtype}
        weights = read.state_dict()
        assert all(torch.allclose(weights[name].float(), plain[name], rtol=2**-7, atol=1e-6) for name in plain)
    assert not getattr(read.config, QUANTISED, None)  # so that students are saved as what they are
    with torch.no_grad():
        read(torch.tensor([[5, 6, 7]]))


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes"])
def test_formats_whose_packages_are_missing_are_refused_before_work(model: Path, method: str) -> None:
    edit(model / "config.json", **{QUANTISED: {"quant_method": method, "bits": 4, "load_in_4bit": True}})
    for read in (check_tensors, load_model):
        with pytest.raises(BadInput, match=rf"are quantised \({method}\), and cannot be read here: .*plain weights"):
            read(model)


def test_settings_of_quantisation_that_are_no_object(model: Path) -> None:
    edit(model / "config.json", **{QUANTISED: ["fp8"]})
    with pytest.raises(BadInput, match=r"config.json: quantization_config is \['fp8'\], not an object"):
        check_directory(model)


def test_an_untied_head_under_a_configuration_that_says_tied(model: Path) -> None:
    """Both are read, and a student that is made of it keeps both."""
    tensors = stored(model)
    tensors["lm_head.weight"] = -tensors["model.embed_tokens.weight"]
    rewrite(model, tensors)
    read = load_model(model)
    assert not read.config.tie_word_embeddings
    student = keep_layers(read, [0, 1, 2])
    assert torch.equal(student.lm_head.weight, tensors["lm_head.weight"])
    assert torch.equal(student.model.embed_tokens.weight, tensors["model.embed_tokens.weight"])


def test_a_tied_head_stays_tied(model: Path) -> None:
    read = load_model(model)
    assert read.config.tie_word_embeddings
    assert read.lm_head.weight is read.model.embed_tokens.weight


def test_generation_settings_that_transformers_does_not_write(model: Path, tmp_path: Path) -> None:
    """As a temperature beside do_sample = false: the training is over when a student is saved."""
    edit(model / "generation_config.json", temperature=0.5, top_p=0.25, do_sample=False)
    read = load_model(model)
    save_model(read, load_tokenizer(model), tmp_path / "saved")
    written_down = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert (written_down["temperature"], written_down["top_p"], written_down["do_sample"]) == (0.5, 0.25, False)
    again = load_model(tmp_path / "saved")
    assert again.generation_config.temperature == read.generation_config.temperature == 0.5


def test_a_student_stops_at_tokens_that_it_knows(loaded_teacher: Any, model: Path, packed: Any) -> None:
    import copy

    student = copy.deepcopy(loaded_teacher)
    student.generation_config.eos_token_id = [99_999, -1, 7]
    add_ends(student, load_tokenizer(model), packed, ShapeRecipe(kind="copy"))
    assert student.generation_config.eos_token_id == [7, 0]


def test_an_end_of_text_that_the_model_does_not_know(model: Path) -> None:
    edit(model / "tokenizer_config.json", eos_token="<never>")
    tokenizer = load_tokenizer(model)
    with pytest.raises(BadInput, match="'<never>' of the teacher has the id 384, but it knows only 384 tokens"):
        check_end(tokenizer, 384, "the teacher")
    check_end(tokenizer, 448, "the teacher")
    check_end(tokenizer, None, "the teacher")


def gguf_alone(model: Path) -> None:
    shutil.rmtree(model)
    model.mkdir()
    (model / "small.gguf").write_bytes(b"GGUF")


def gguf_beside(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "small.gguf").write_bytes(b"GGUF")


def of_a_run(model: Path) -> None:
    model.rename(model.parent / "student")
    model.mkdir()
    (model.parent / "student").rename(model / "student")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (gguf_alone, "has no config.json; to use small.gguf give that file itself"),
        (gguf_beside, "has no safetensors weights; to use small.gguf give that file itself"),
        (of_a_run, "has no config.json; its student is in"),
    ],
)
def test_directories_that_hold_something_else(model: Path, change: Callable[[Path], None], said: str) -> None:
    change(model)
    with pytest.raises(BadInput, match=said):
        check_directory(model)


def test_a_pointer_of_git_lfs(model: Path) -> None:
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(BadInput, match=r"is a pointer of git-lfs, not the file itself; fetch it \(git lfs pull\)"):
        check_tensors(model)
    assert not is_eagle(model)


@pytest.mark.slow
def test_a_student_of_fp8_weights(model: Path, tmp_path: Path, text_file: Path) -> None:
    """From signals to evaluation; the student has plain weights."""
    in_fp8(model, ".weight_scale_inv", by_row=False)
    edit(model / "config.json", **{QUANTISED: FINE})
    edit(model / "generation_config.json", temperature=0.5, do_sample=False)
    path = written(tmp_path / "distill.toml", model, text_file)
    summary = fs.distill(path, tmp_path / "out").summary
    assert summary["steps"] > 0
    config = json.loads((tmp_path / "out" / "student" / "config.json").read_text())
    assert QUANTISED not in config
    assert {each.dtype for each in stored(tmp_path / "out" / "student").values()} == {torch.bfloat16}


def test_weights_that_may_not_be_read_are_refused_in_a_sentence(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path.open

    def refused(path: Any, *arguments: Any, **named: Any) -> Any:
        if Path(path).suffix == ".safetensors":
            raise PermissionError(13, "Permission denied")
        return own(path, *arguments, **named)

    monkeypatch.setattr(directories, "safe_open", refused)
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(BadInput, match="Permission denied"):
        shapes(model)


@pytest.mark.parametrize(("format_", "group"), [("int4", 16), ("ternary", 16), ("fp8", 16)])
def test_what_a_packed_teacher_takes_in_memory(
    loaded_teacher: Any, tiny_teacher: Path, tmp_path: Path, format_: str, group: int
) -> None:
    """It is read as plain weights: as many bytes as the plain model, not as its files, in which eight weights of four
    bits are one number."""
    import copy

    plain, packed, _ = both(copy.deepcopy(loaded_teacher), Format(name=format_, group=group), tiny_teacher, tmp_path)
    read = load_model(packed)
    taken = sum(weight.numel() * weight.element_size() for weight in read.parameters())
    assert weight_bytes(packed, torch.bfloat16) == weight_bytes(plain, torch.bfloat16) == taken
    assert weight_bytes(packed, torch.float32) == 2 * taken


def test_what_a_teacher_that_stays_packed_takes_in_memory(model: Path) -> None:
    """Its own kernels read its files as they are, whatever the dtype of the rest."""
    edit(model / "config.json", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 32})
    size = (model / "model.safetensors").stat().st_size
    assert {weight_bytes(model, dtype) for dtype in (torch.bfloat16, torch.float32)} == {size}


def test_what_a_class_keeps_in_float32(loaded_teacher: Any) -> None:
    """As transformers loads plain weights: by whole parts of names, and what is for float16 alone not in bfloat16."""
    import copy

    model = copy.deepcopy(loaded_teacher).float()
    model._keep_in_fp32_modules = {"v_proj"}
    model._keep_in_fp32_modules_strict = {"q_proj", "proj"}
    in_dtype(model, torch.bfloat16)
    wide = {name for name, weight in model.named_parameters() if weight.dtype == torch.float32}
    assert wide == {name for name, _ in model.named_parameters() if ".q_proj." in name}


def test_the_memory_of_a_packed_teacher_is_that_of_its_index(model: Path) -> None:
    """Weights that stay packed take what their files do; other files lie beside them in published directories."""
    edit(model / "config.json", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 32})
    whole = (model / "model.safetensors").stat().st_size
    shutil.copy(model / "model.safetensors", model / "consolidated.safetensors")
    assert weight_bytes(model, torch.bfloat16) == whole


@pytest.mark.parametrize("name", ["num_nextn_predict_layers", "num_mtp_layers"])
def test_layers_that_predict_further_tokens(model: Path, name: str, tmp_path: Path) -> None:
    """Published behind the last block, also of models whose numbers transformers does not know; students lack them, and
    say so (NVIDIA/Model-Optimizer#2159, NVIDIA/Model-Optimizer#2061)."""
    save_file({**stored(model), "model.layers.6.eh_proj.weight": torch.ones(4, 8)}, model / "model.safetensors", PT)
    with pytest.raises(BadInput, match=r"1 tensors are more than it has, the first model.layers.6.eh_proj.weight"):
        check_tensors(model)
    edit(model / "config.json", **{name: 1})
    check_tensors(model)
    teacher = load_model(model)
    assert left_out(teacher, "it") == [
        "it: its layers for multi-token prediction are left out (1 tensors); students have none, and a server cannot"
        " draft with them"
    ]
    save_model(teacher, load_tokenizer(model), tmp_path / "student")
    assert json.loads((tmp_path / "student" / "config.json").read_text())[name] == 0
    assert left_out(load_model(tmp_path / "student"), "it") == []
    save_file({**stored(model), "model.layers.7.eh_proj.weight": torch.ones(4, 8)}, model / "model.safetensors", PT)
    with pytest.raises(BadInput, match=r"1 tensors are more than it has, the first model.layers.7.eh_proj.weight"):
        check_tensors(model)


def test_tensors_of_their_own_name_for_further_tokens(tiny_teacher: Path, tmp_path: Path) -> None:
    """mtp.*, of which transformers says nothing (Qwen3-Next)."""
    place = tmp_path / "model"
    save_model(zoo.tiny("qwen3_next", 0), load_tokenizer(tiny_teacher), place)
    save_file({**stored(place), "mtp.fc.weight": torch.ones(4, 8)}, place / "model.safetensors", PT)
    (place / CHECKSUMS).unlink()
    assert [
        "multi-token prediction are left out (1 tensors)" in each for each in left_out(load_model(place), "it")
    ] == [True]


def test_a_configuration_that_asks_for_other_outputs(model: Path, tiny_teacher: Path) -> None:
    """Tuples in place of names, states and attention of all layers; "does not show how its logits are made" before."""
    edit(model / "config.json", return_dict=False, output_hidden_states=True, output_attentions=True)
    tokens = torch.arange(1, 9)[None]
    odd = load_model(model, torch.float32).cpu()(tokens)
    assert torch.equal(odd.logits, load_model(tiny_teacher, torch.float32).cpu()(tokens).logits)
    assert odd.hidden_states is None
    assert odd.attentions is None


@pytest.mark.parametrize("name", ["fp8", "int4"])
def test_an_adapter_of_a_packed_model(name: str, tiny_teacher: Path, tmp_path: Path) -> None:
    """It is merged into the weights as they are dequantised, those that it was trained beside."""
    plain, packed, _ = both(load_model(tiny_teacher), Format(name=name, group=16), tiny_teacher, tmp_path)
    adapted = adapters.tuned(load_model(plain, torch.float32))
    place = adapters.written(adapted, tmp_path / "adapter", packed)
    merged = load_model(resolve_teacher(str(place), Silent(), base=str(packed)), torch.float32)
    tokens = torch.arange(1, 13)[None]
    with torch.no_grad():
        expected, found = adapted.cpu()(tokens).logits, merged.cpu()(tokens).logits
    difference = float((found - expected).norm() / expected.norm())
    assert difference < 0.05, "to the rounding of weights to bfloat16; without the adapter it is 1.2"


def test_rotary_positions_of_a_kind_that_is_not_known(model: Path) -> None:
    """It was "cannot be loaded: 'banana'"."""
    edit(model / "config.json", rope_parameters=None, rope_scaling={"type": "banana", "factor": 2.0})
    with pytest.raises(BadInput, match=r"cannot be loaded: nothing is known as 'banana'"):
        load_model(model)


def test_names_with_a_wrapper_before_them(model: Path) -> None:
    """As torch.compile and data-parallel wrappers leave them when a state is saved; other mistakes are not taken for
    that."""
    tensors = stored(model)
    save_file({f"_orig_mod.{name}": each for name, each in tensors.items()}, model / "model.safetensors", PT)
    with pytest.raises(BadInput, match=r"are missing, the first .*; the files have '_orig_mod.' before their names"):
        check_tensors(model)
    norm = tensors.pop("model.norm.weight")
    for others in ({}, {"_orig_mod.model.norm.weight": norm, "_orig_mod.model.other": norm + 1}):
        save_file({**tensors, **others}, model / "model.safetensors", PT)
        with pytest.raises(BadInput, match=r"1 tensors are missing, the first model\.norm\.weight$"):
            check_tensors(model)
