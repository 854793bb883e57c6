"""What is written is read alike by transformers 4 and 5: names of settings that one of them does not know are doubled.

vllm-project/vllm#42624, vllm-project/vllm#44158, InternLM/lmdeploy#4304: a base of rotary positions in the place where
release 5 writes it is 10,000 to release 4, in silence.  unslothai/unsloth#8444, hiyouga/LlamaFactory#9699: its name of
the class of tokenizers is unknown there.  (Tried against release 4.57.3 when this was written: docs/log/learning.md.)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flashstill.distill.models import load_model, load_tokenizer, save_model
from flashstill.distill.models.older_readers import write_older_fields, write_older_tokenizer
from tests import zoo

LLAMA_3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LONG = {"rope_type": "longrope", "long_factor": [2.0] * 4, "short_factor": [1.0] * 4}


def rewritten(name: str, rope: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The config.json of a tiny model with these rotary positions; it is read as before."""
    from transformers import AutoConfig

    config = zoo.configuration(name)
    config.rope_parameters, config.dtype = rope, "bfloat16"
    config.save_pretrained(directory)
    before = AutoConfig.from_pretrained(directory)
    write_older_fields(directory)
    after = AutoConfig.from_pretrained(directory)
    read = after.rope_parameters
    if isinstance(read, dict) and read.get("type") == read.get("rope_type"):
        read.pop("type", None)  # the older name, which release 5 keeps beside its own
    assert (read, after.dtype) == (before.rope_parameters, before.dtype)
    fields: dict[str, Any] = json.loads((directory / "config.json").read_text())
    assert fields["torch_dtype"] == "bfloat16"
    return fields


def test_the_base_of_rotary_positions(tmp_path: Path) -> None:
    fields = rewritten("llama", {"rope_type": "default", "rope_theta": 500000.0}, tmp_path)
    assert fields["rope_theta"] == 500000.0
    assert "rope_scaling" not in fields


def test_scaled_positions(tmp_path: Path) -> None:
    fields = rewritten("llama", {**LLAMA_3, "rope_theta": 500000.0}, tmp_path)
    assert (fields["rope_theta"], fields["rope_scaling"]) == (500000.0, LLAMA_3)


def test_long_positions_have_three_fields_there(tmp_path: Path) -> None:
    """Release 4 refuses a fourth one, and takes the original length from beside them."""
    rope = {**LONG, "rope_theta": 20000.0, "partial_rotary_factor": 1.0, "original_max_position_embeddings": 4096}
    fields = rewritten("phi3", rope, tmp_path)
    assert set(fields["rope_scaling"]) == {"type", "long_factor", "short_factor"}
    assert (fields["rope_theta"], fields["original_max_position_embeddings"]) == (20000.0, 4096)


def test_layers_with_positions_of_their_own(tmp_path: Path) -> None:
    rope = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 3e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 543.0},
    }
    fields = rewritten("gemma3_text", rope, tmp_path)
    assert (fields["rope_theta"], fields["rope_local_base_freq"]) == (3e6, 543.0)
    assert fields["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}


@pytest.mark.parametrize("name", ["gpt2", "zaya", "falcon_h1"])
def test_other_positions_stay(name: str, tmp_path: Path) -> None:
    """None at all, kinds that release 4 lacked, and settings that are infinite."""
    rewritten(name, getattr(zoo.configuration(name), "rope_parameters", None), tmp_path)  # type: ignore[arg-type]


def test_a_name_that_means_something_else_is_not_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Release 5 must read all fields as before, not rotary positions alone."""
    from transformers import CONFIG_MAPPING, LlamaConfig

    class Turned(LlamaConfig):  # type: ignore[misc]
        model_type = "turned"

        def __init__(self, rope_theta: float | None = None, **more: Any) -> None:
            super().__init__(**more)
            self.window = 512 if rope_theta is None else 64

    monkeypatch.setitem(CONFIG_MAPPING._extra_content, "turned", Turned)
    rope = {"rope_type": "default", "rope_theta": 5e5}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "turned", "rope_parameters": rope, "dtype": "bfloat16"})
    )
    write_older_fields(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    assert "rope_theta" not in fields
    assert fields["torch_dtype"] == "bfloat16"


def test_the_tokenizer_of_a_student(tiny_teacher: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_teacher)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    text = "<|im_start|>user the cache holds 12 <|im_end|><|end|>"
    ids = tokenizer(text).input_ids
    save_model(load_model(tiny_teacher), tokenizer, tmp_path / "student")
    fields = json.loads((tmp_path / "student" / "tokenizer_config.json").read_text())
    assert fields["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert fields["additional_special_tokens"] == ["<|im_start|>", "<|im_end|>"]
    assert not {"extra_special_tokens", "is_local", "local_files_only"} & set(fields)
    again = load_tokenizer(tmp_path / "student")
    assert again(text).input_ids == ids
    assert again.all_special_tokens == tokenizer.all_special_tokens
    write_older_tokenizer(tmp_path)  # nothing where there is none
    assert not (tmp_path / "tokenizer_config.json").exists()
