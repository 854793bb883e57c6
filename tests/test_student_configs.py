"""Configurations as the learning arm reads and writes them: sizes by our names, and the fields of students."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flashstill.arch import from_hf
from flashstill.arch.adapter.edit import (
    depth_changes,
    new_llama,
    new_sparse,
    width_changes,
    with_end,
    with_quantization,
    with_vocabulary,
    without_weights,
)
from flashstill.arch.adapter.sizes import (
    CONTEXT,
    DEPTH,
    HEADS,
    VOCABULARY,
    WIDTH,
    attention_window,
    chosen_neurons,
    head_width,
    is_quantised,
    is_tied,
    kind,
    rotation,
    size,
    stated_size,
)
from flashstill.arch.adapter.sparse import dense, dense_relatives, mixture_of, upcycled
from flashstill.errors import BadInput, UnsupportedArchitecture

LLAMA = new_llama(width=64, depth=6, heads=8, key_heads=2, feed_forward=160, context=512, tied=True)
OLDER = {"model_type": "gpt2", "n_embd": 48, "n_layer": 5, "n_head": 4, "n_positions": 128, "vocab_size": 300}


class Stored(SimpleNamespace):
    """A configuration as an object of transformers, for what is asked of one."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(**fields)

    def to_dict(self) -> dict[str, Any]:
        """The fields."""
        return dict(vars(self))


class TestReading:
    @pytest.mark.parametrize("as_object", [False, True])
    def test_a_config_json_and_a_transformers_configuration_read_alike(self, as_object: bool) -> None:
        configuration: Any = SimpleNamespace(**LLAMA) if as_object else LLAMA
        assert size(configuration, DEPTH) == 6
        assert size(configuration, WIDTH) == 64
        assert head_width(configuration) == 8  # 64 / 8, as no other is stated
        assert stated_size(configuration, CONTEXT) == 512
        assert stated_size(configuration, VOCABULARY) is None
        assert is_tied(configuration)
        assert kind(configuration) == "llama"
        assert not is_quantised(configuration)

    def test_the_sizes_of_a_text_part_are_its_own(self) -> None:
        """A vocabulary beside it may be that of all modalities, or of a model that it was made from."""
        both = {"vocab_size": 64, "hidden_size": 9, "text_config": {"vocab_size": 32, "max_position_embeddings": 128}}
        assert [stated_size(both, names) for names in (VOCABULARY, CONTEXT, WIDTH)] == [32, 128, 9]
        assert stated_size({"vocab_size": 64, "thinker_config": both}, VOCABULARY) == 32

    def test_older_spellings(self) -> None:
        assert [size(OLDER, names) for names in (WIDTH, DEPTH, HEADS, CONTEXT)] == [48, 5, 4, 128]
        assert depth_changes(OLDER, [0, 4]) == {"n_layer": 2}

    def test_a_stated_head_width_wins(self) -> None:
        assert head_width({**LLAMA, "head_dim": 32}) == 32

    def test_what_is_missing_or_no_count_is_named(self) -> None:
        with pytest.raises(UnsupportedArchitecture, match="the config of half has no num_hidden_layers"):
            size({}, DEPTH, "half")
        for wrong in ("many", 0, True, 2.0):
            with pytest.raises(UnsupportedArchitecture, match=r"vocab_size is .*, not a positive whole number"):
                stated_size({"vocab_size": wrong}, VOCABULARY)

    def test_what_is_not_plain(self) -> None:
        assert attention_window({"sliding_window": 128}) == 128
        assert attention_window({"sliding_window": None}) is None
        assert rotation({}) == "default"
        assert rotation({"rope_parameters": {"rope_type": "yarn"}}) == "yarn"

    def test_neurons_that_a_token_meets(self) -> None:
        sparse = new_sparse(width=64, depth=2, heads=4, context=512, routed=8, per_token=3, shared=2, neurons=16)
        assert chosen_neurons(sparse) == 16 * (3 + 2)
        assert chosen_neurons({"model_type": "mixtral", "intermediate_size": 100, "num_experts_per_tok": 2}) == 200


class TestWriting:
    def test_depth_keeps_the_kinds_of_the_blocks_that_stay(self) -> None:
        kinds = ["sliding_attention", "full_attention", "sliding_attention"]
        changes = depth_changes({"num_hidden_layers": 3, "layer_types": kinds}, [1, 2])
        assert changes == {"num_hidden_layers": 2, "layer_types": kinds[1:]}
        assert depth_changes(SimpleNamespace(num_hidden_layers=3), [0])["num_hidden_layers"] == 1

    def test_width_keeps_groups_and_heads(self) -> None:
        narrow = {**LLAMA, **width_changes(LLAMA, hidden=48, feed_forward=80, key_heads=1)}
        assert (size(narrow, WIDTH), size(narrow, HEADS), head_width(narrow)) == (48, 4, 8)
        mixer = from_hf(with_vocabulary(narrow, 100), "narrow").layers[0].attention
        assert mixer.parameters(48) == 48 * 8 * (4 + 1 + 1 + 4)

    def test_a_mixture_takes_what_both_families_have(self) -> None:
        known = {"model_type": "m", "hidden_size": 1, "num_experts": 1, "moe_intermediate_size": 1, "norm_topk_prob": 0}
        asked: dict[str, Any] = {"routed": 8, "per_token": 2, "neurons": 40, "biases": False, "norms": False}
        sparse = upcycled(Stored(LLAMA), known, shared=0, **asked)
        assert (sparse["num_experts"], sparse["moe_intermediate_size"], sparse["hidden_size"]) == (8, 40, 64)
        assert sparse["norm_topk_prob"] is True
        assert "vocab_size" not in sparse
        with pytest.raises(BadInput, match=r"m has no shared experts; set student\.shared_experts to 0"):
            upcycled(Stored(LLAMA), known, shared=1, **asked)

    def test_a_dense_model_of_a_mixture(self) -> None:
        fields = new_sparse(width=64, depth=2, heads=4, context=512, routed=8, per_token=2, shared=1, neurons=40)
        mixture = Stored(fields)
        assert dense_relatives(mixture) == ["llama", "glm4_moe"]
        assert dense_relatives(mixture, "qwen3") == ["qwen3"]
        known = {"model_type": "llama", "hidden_size": 1, "intermediate_size": 1}
        assert dense(mixture, known, 0) == {"intermediate_size": 40 * 3, "hidden_size": 64, "head_dim": 16}
        assert dense(mixture, known, 24)["intermediate_size"] == 24
        own = dense(mixture, {"model_type": "glm4_moe", "first_k_dense_replace": 1}, 0)
        assert own["first_k_dense_replace"] == 2  # all blocks

    def test_refusals(self) -> None:
        with pytest.raises(UnsupportedArchitecture, match=r"the relative of gpt2 .its FFN has no gate.; name one in"):
            mixture_of(OLDER)
        assert mixture_of(OLDER, "mixtral") == "mixtral"
        with pytest.raises(BadInput, match="a vocabulary of 300, the teacher 400; leave it out"):
            with_vocabulary(OLDER, 400)

    def test_new_ones_are_read_by_the_adapter(self) -> None:
        assert from_hf(with_vocabulary(LLAMA, 100), "new").depth == 6
        sparse = new_sparse(width=64, depth=3, heads=4, context=512, routed=8, per_token=3, shared=2, neurons=16)
        assert from_hf(with_vocabulary(sparse, 100), "new").layers[0].ffn.experts == 8

    def test_what_belongs_to_weights_goes(self) -> None:
        packed = with_quantization({**LLAMA, "dtype": "bfloat16", "architectures": ["X"]}, {"format": "pack-quantized"})
        assert is_quantised(packed)
        assert without_weights(packed) == LLAMA
        assert with_end({}, 3) == {"bos_token_id": None, "eos_token_id": 3, "pad_token_id": None}
