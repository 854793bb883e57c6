"""Families unlike most in what layers are: their students are made, or refused in one sentence before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flashstill.distill.models import check_tensors, load_model, load_tokenizer, save_model
from flashstill.distill.models.causality import check_causal, check_decoder
from flashstill.distill.models.rebuild import without_memory
from flashstill.distill.students import Format, check_packing, compensated, round_model
from flashstill.errors import BadInput
from flashstill.evaluate.readers import reader_of
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.recipes.distillation import ShapeRecipe
from flashstill.runs.distillation import run_distillation
from flashstill.runs.limits import check_parts
from tests import zoo
from tests.distillations import written
from tests.marks import slow
from tests.packing import both
from tests.random_tokens import drawn_tokens
from tests.twins import SMALL


def empty(name: str, **more: Any) -> Any:
    """A model of the zoo without memory for its weights."""
    from transformers import AutoModelForCausalLM

    with without_memory():
        return AutoModelForCausalLM.from_config(zoo.configuration(name, **more))


def recipe_of(name: str, tokenizer: Path, text: Path, place: Path, **more: Any) -> Path:
    """A recipe, in float32, whose teacher is of the zoo."""
    save_model(zoo.tiny(name, 0, vocab_size=384, **more), load_tokenizer(tokenizer), place / "teacher")
    path = written(place / "distill.toml", place / "teacher", text, tokens=256)
    path.write_text(path.read_text().replace('"bf16"', '"fp32"'))
    return path


@pytest.mark.slow
def test_a_family_that_the_cost_arm_does_not_know_gets_its_card(
    tiny_teacher: Path, text_file: Path, tmp_path: Path
) -> None:
    path = recipe_of("axk2", tiny_teacher, text_file, tmp_path)
    run_distillation(read_distillation(path), tmp_path / "out", Silent())
    student = load_model(tmp_path / "out" / "student")
    parameters = sum(weight.numel() for weight in student.parameters())
    assert f"{parameters:,} parameters in 3 layers" in (tmp_path / "out" / "student" / "README.md").read_text()


REFUSED = {
    "gpt2": r"GPT2LMHeadModel keeps 100% of its weights in layers that are not quantised \(transformer.h.0.",
    "dbrx": r"DbrxForCausalLM keeps 86% of its weights",
    "nemotron_h": r"NemotronHForCausalLM keeps 31% of its weights .*model.layers.1.mixer.experts.up_proj",
    "jetmoe": r"JetMoeForCausalLM keeps 9\d% of its weights",
    "hrm_text": r"HrmTextForCausalLM keeps 50% of its weights .*H_module",
    "gpt_oss": r"holds no linear layers of its own for model.layers.0.mlp.experts.down_proj",
    "inkling_text": r"holds no linear layers of its own for model.layers.1.mlp.experts.down_proj",
    "zamba2": r"blocks of Zamba2ForCausalLM share weights",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_packed_is_refused_before_it_is_trained(name: str) -> None:
    with pytest.raises(BadInput, match=REFUSED[name]):
        check_parts(ShapeRecipe(kind="copy", quantise="fp8"), empty(name))


def test_groups_that_do_not_fill_rows_are_refused_before_any_work() -> None:
    with pytest.raises(BadInput, match="groups of 24 weights do not fill rows of 32"):
        check_parts(ShapeRecipe(kind="copy", quantise="int4", group=24), empty("llama"))
    check_parts(ShapeRecipe(kind="copy", quantise="int4", group=16), empty("llama"))
    check_parts(ShapeRecipe(kind="width", hidden=24, quantise="int4", group=24), empty("llama"))  # they get shorter


OTHER_NAMES = (
    "gpt_neox",
    *slow("mixtral", "hy_v3", "kimi_linear", "gemma4_text:3", "modernbert-decoder", "qwen4_exp_text"),
)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_families_saved_under_other_names_are_packed(name: str, tiny_teacher: Path, tmp_path: Path) -> None:
    """Renamed, stacked or outside of the blocks: the packed model is the plain one, bit for bit."""
    save_model(zoo.tiny(name, 0, vocab_size=384), load_tokenizer(tiny_teacher), tmp_path / "teacher")
    model, format_ = load_model(tmp_path / "teacher"), Format(name="fp8")
    check_packing(model, format_)
    plain, packed, _ = both(model, format_, tiny_teacher, tmp_path)
    found = []
    for place in (plain, packed):
        again = load_model(place)
        again.set_experts_implementation("eager")
        with torch.inference_mode():
            found.append(again(input_ids=drawn_tokens(1, 2, 12), use_cache=False).logits)
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["afmoe", "hunyuan_v1_moe"])
def test_routers_that_are_linear_layers_stay_as_they_are(name: str) -> None:
    from flashstill.distill.students.balance import routers
    from flashstill.distill.students.quantise import weights_to_round

    model = empty(name)
    inside = {id(part) for router in routers(model).values() for part in router.modules()}
    assert inside
    assert not any(id(module) in inside for _, module, _ in weights_to_round(model))


def test_blocks_in_several_lists_are_not_left_out() -> None:
    with pytest.raises(BadInput, match="HrmTextForCausalLM keeps its blocks in several lists"):
        check_parts(ShapeRecipe(kind="depth", keep_layers=1), empty("hrm_text"))
    check_parts(ShapeRecipe(kind="depth", keep_layers=1), empty("llama"))
    check_parts(ShapeRecipe(kind="copy"), empty("hrm_text"))


@pytest.mark.slow
def test_a_student_from_scratch_of_the_teachers_own_configuration(
    tiny_teacher: Path, text_file: Path, tmp_path: Path
) -> None:
    """Inkling 2 has rows of padding in its head, which give no logits."""
    path = recipe_of("inkling2_text", tiny_teacher, text_file, tmp_path, unpadded_vocab_size=380)
    config = f'kind = "scratch"\nconfig = "{tmp_path}/teacher/config.json"'
    path.write_text(path.read_text().replace('kind = "depth"\nkeep_layers = 3', config))
    run_distillation(read_distillation(path), tmp_path / "out", Silent())
    assert load_model(tmp_path / "out" / "student").config.vocab_size == 384


@pytest.mark.slow
def test_a_vision_language_model_whose_text_part_cannot_be_had_is_refused(tmp_path: Path) -> None:
    from transformers import Blip2Config, Blip2ForConditionalGeneration, BlipConfig, BlipForConditionalGeneration

    eyes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 8, "patch_size": 4, "encoder_hidden_size": 16}  # fmt: skip
    words = {**SMALL, "word_embed_proj_dim": 32, "ffn_dim": 32, "pad_token_id": 0, "projection_dim": 16}
    blip = BlipForConditionalGeneration(BlipConfig(text_config={**words, **eyes}, vision_config=eyes))
    blip.save_pretrained(tmp_path / "blip")
    with pytest.raises(BadInput, match="the text part of a blip is no causal model of transformers"):
        check_tensors(tmp_path / "blip")  # before any work
    text = {**words, "model_type": "opt"}
    blip_2 = Blip2ForConditionalGeneration(Blip2Config(text_config=text, vision_config=eyes, qformer_config=eyes))
    blip_2.save_pretrained(tmp_path / "blip-2")
    with pytest.raises(BadInput, match=r"a blip-2 does not run on text alone .*pixel_values"):
        load_model(tmp_path / "blip-2")


ENCODERS = ("bert", "roformer", *slow("big_bird", "roberta", "rembert", "electra"))


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_that_read_what_they_shall_predict_are_refused(name: str, tmp_path: Path) -> None:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    for is_decoder in (False, True):
        config = CONFIG_MAPPING[name](**{**SMALL, "bos_token_id": 1, "eos_token_id": 2, "is_decoder": is_decoder})
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
        if is_decoder:
            check_tensors(tmp_path / "model")
            check_causal(load_model(tmp_path / "model", torch.float32), drawn_tokens(1, 1, 12))
            continue
        for reader in (check_tensors, load_model):
            with pytest.raises(BadInput, match=f"a {name} reads in both directions, also the tokens that it shall"):
                reader(tmp_path / "model")


def test_a_model_whose_logits_depend_on_later_tokens_is_refused_by_what_it_does() -> None:
    from transformers import XLNetConfig, XLNetLMHeadModel

    torch.manual_seed(0)
    xlnet = XLNetLMHeadModel(XLNetConfig(vocab_size=96, d_model=32, n_layer=2, n_head=4, d_inner=48)).eval()
    with pytest.raises(BadInput, match="XLNetLMHeadModel is no causal language model: its logits change by"):
        reader_of(xlnet, drawn_tokens(1, 1, 12))
    check_decoder(Path("model"), empty("gpt_neox_japanese"))  # whose configuration has the field as well
    check_causal(zoo.tiny("llama"), drawn_tokens(1, 1, 12))
    check_causal(zoo.tiny("llama"), torch.ones(1, 12, dtype=torch.int64))
    check_causal(zoo.tiny("llama"), torch.ones(1, 1, dtype=torch.int64))


def test_rwkv_keeps_its_weights_when_it_is_run(tiny_teacher: Path, tmp_path: Path) -> None:
    """transformers divides some of them in eval mode, so that what is saved after a run is another model."""
    tokens, changes = drawn_tokens(1, 2, 12), {"num_hidden_layers": 4, "rescale_every": 2}
    save_model(zoo.tiny("rwkv", 0, vocab_size=384, **changes), load_tokenizer(tiny_teacher), tmp_path / "first")
    model = load_model(tmp_path / "first", torch.float32)
    with torch.inference_mode():
        ours = model(input_ids=tokens, use_cache=False).logits
        save_model(model, load_tokenizer(tiny_teacher), tmp_path / "again")
        again = load_model(tmp_path / "again", torch.float32)
        assert torch.equal(again(input_ids=tokens, use_cache=False).logits, ours)
        del model.rwkv._rescale_layers  # as transformers runs it
        assert torch.allclose(model(input_ids=tokens, use_cache=False).logits, ours, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", slow("rwkv", "xlstm"))
def test_recurrent_families_are_compensated(name: str, tiny_teacher: Path, tmp_path: Path) -> None:
    """Nearer to the model than plain rounding on the text of calibration, and the same after save and load."""
    changes = {"num_hidden_layers": 4, "rescale_every": 2} if name == "rwkv" else {}
    tokenizer, format_, tokens = load_tokenizer(tiny_teacher), Format(name="int4", group=8), drawn_tokens(1, 8, 16)
    save_model(zoo.tiny(name, 0, vocab_size=384, **changes), tokenizer, tmp_path / "teacher")

    def log_probabilities(model: Any) -> torch.Tensor:
        with torch.inference_mode():
            return torch.log_softmax(model(input_ids=tokens, use_cache=False).logits.float(), -1)

    model = load_model(tmp_path / "teacher", torch.float32)
    whole = log_probabilities(model)
    fine = round_model(compensated(model, format_, tokens, Silent()), format_)
    better = log_probabilities(fine)
    plain = log_probabilities(round_model(model, format_))
    distances = [float((whole.exp() * (whole - each)).sum(-1).mean()) for each in (better, plain)]
    assert distances[0] < distances[1]
    save_model(fine, tokenizer, tmp_path / "student")
    again = log_probabilities(load_model(tmp_path / "student", torch.float32))
    assert torch.allclose(again, better, atol=1e-3)
