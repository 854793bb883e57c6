"""Students of every kind: what a cut keeps, what rounding does, and that transformers and the cost arm read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flashstill.arch.catalogue import read_config
from flashstill.distill.models import decoder_layers, load_model, load_tokenizer, save_model
from flashstill.distill.signals import hidden_states
from flashstill.distill.students import (
    FORMATS,
    Experts,
    Format,
    LoadBalance,
    Width,
    compensated,
    dense_of,
    from_config,
    importance,
    narrow,
    quantise_aware,
    read_fields,
    round_model,
    settle,
    upcycle,
)
from flashstill.distill.students import compensate as compensation
from flashstill.distill.students.clusters import balanced_clusters
from flashstill.distill.students.compensate import ENDS, compensate
from flashstill.distill.students.quantise import round_weight, rounded, weights_to_round
from flashstill.distill.students.repaying import FIT_DAMPING, Sums, fitted, stream_factors, sums_of
from flashstill.distill.students.watching import run_watched
from flashstill.errors import BadInput, UnsupportedArchitecture
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.runs.distillation import run_distillation
from tests.distillations import written
from tests.marks import slow

TOKENS = torch.arange(96).reshape(3, 32) * 7 % 384


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(input_ids=TOKENS.to(model.device)).logits.float()
    return found


def cut_to(model: Any, **widths: int) -> Any:
    """The model cut to widths by the importance of its parts."""
    width = Width(**widths)
    return narrow(model, width, importance(model, TOKENS, width))


class TestWidth:
    def test_keeping_everything_changes_nothing(self, teacher: Any) -> None:
        assert torch.equal(logits(cut_to(teacher)), logits(teacher))

    @pytest.mark.slow
    def test_idle_parts_go_first_and_leave_no_trace(self, teacher: Any) -> None:
        """Neurons and heads that say nothing can go without a change but for the order of sums."""
        with torch.no_grad():
            for block in teacher.model.layers:
                block.mlp.down_proj.weight[:, ::4] = 0.0
                block.mlp.gate_proj.weight[::4] = 0.0
                block.self_attn.v_proj.weight[8:] = 0.0
        cut = cut_to(teacher, feed_forward=48, key_heads=1)
        assert cut.config.intermediate_size == 48
        assert (cut.config.num_attention_heads, cut.config.num_key_value_heads, cut.config.head_dim) == (2, 1, 8)
        assert torch.allclose(logits(cut), logits(teacher), atol=0.15)
        assert float((logits(cut).argmax(-1) == logits(teacher).argmax(-1)).float().mean()) > 0.95

    def test_hidden_dimensions_that_are_zero(self, teacher: Any) -> None:
        """A dimension that no part writes to is the first to go; the norms' mean is over fewer, which is all."""
        with torch.no_grad():
            teacher.model.embed_tokens.weight[:, ::2] = 0.0
            for block in teacher.model.layers:
                block.self_attn.o_proj.weight[::2] = 0.0
                block.mlp.down_proj.weight[::2] = 0.0
        cut = cut_to(teacher, hidden=16)
        assert torch.equal(cut.model.embed_tokens.weight, teacher.model.embed_tokens.weight[:, 1::2])

    @pytest.mark.slow
    def test_a_student_of_its_own_size(self, teacher: Any, tiny_teacher: Path, tmp_path: Path) -> None:
        cut = cut_to(teacher, hidden=16, feed_forward=32, key_heads=1)
        save_model(cut, load_tokenizer(tiny_teacher), tmp_path / "s")
        assert torch.equal(logits(load_model(tmp_path / "s")), logits(cut))
        assert read_config(tmp_path / "s" / "config.json", "s").parameters == sum(p.numel() for p in cut.parameters())

    def test_nonsense(self, teacher: Any) -> None:
        with pytest.raises(BadInput, match="keep 65 of the teacher's 64 FFN neurons"):
            cut_to(teacher, feed_forward=65)
        with pytest.raises(BadInput, match="not a multiple of the number of attention heads"):
            cut_to(teacher, hidden=18)


@pytest.mark.slow
def test_rotary_frequencies_keep_their_format(teacher: Any, tiny_teacher: Path, tmp_path: Path) -> None:
    """A model cast as a whole would round them, and turn long texts by other angles than the teacher's."""
    cut = cut_to(teacher)
    made = from_config({"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4}, 384, 0)
    save_model(teacher, load_tokenizer(tiny_teacher), tmp_path / "s")
    for model in (teacher, cut, made):
        assert model.model.rotary_emb.inv_freq.dtype == torch.float32
        assert next(model.parameters()).dtype == torch.bfloat16


class TestScratch:
    @pytest.mark.slow
    def test_the_seed_decides(self) -> None:
        fields = {"model_type": "qwen3", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
        first, second, third = (from_config(fields, 384, seed) for seed in (0, 0, 1))
        assert torch.equal(logits(first), logits(second))
        assert not torch.equal(logits(first), logits(third))

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({}, "names no model_type"),
            ({"model_type": "llamma"}, "no student can be made"),
            ({"model_type": "llama", "vocab_size": 99}, "vocabulary of 99, the teacher 384"),
            ({"model_type": "llama", "hidden_size": 30, "num_attention_heads": 4}, "no student can be made"),
            ({"model_type": "llama", "num_hidden_layers": 10**9}, "num_hidden_layers of the student is 1e[+]09"),
            (
                {"model_type": "llama", "intermediate_size": 10**8},
                r"would have [0-9,]{15,} parameters, .* this machine",
            ),
            *slow(({"model_type": "qwen3_moe", "num_experts": 10**5}, "this machine has")),
            ({"model_type": "gpt2", "n_embd": 10**7, "n_head": 10}, "this machine has"),
            *slow(({"model_type": "longcat_flash", "hidden_size": 10**6}, "this machine has")),
            ({"model_type": "zamba", "num_hidden_layers": 10**4, "num_experts": 10**5}, "layers of 100,000 experts"),
        ],
    )
    def test_configurations_that_cannot_be(self, fields: dict[str, Any], said: str) -> None:
        with pytest.raises(BadInput, match=said):
            from_config(fields, 384, 0)

    def test_a_configuration_is_a_bounded_file_and_chooses_no_code(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").symlink_to("/dev/zero")
        with pytest.raises(BadInput, match="is not a regular file"):
            read_fields(tmp_path / "config.json")
        small = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1}
        made = from_config(
            {**small, "_attn_implementation": "nobody/kernels", "auto_map": {"AutoModel": "x--y.z"}}, 9, 0
        )
        assert made.config._attn_implementation in ("sdpa", "eager")

    def test_the_memory_of_a_control_group_counts(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "max").write_text("1000000\n")
        monkeypatch.setattr("flashstill.distill.models.host_memory.CONTROL_GROUP", tmp_path / "max")
        with pytest.raises(BadInput, match="this machine has 1 MB"):
            from_config({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}, 9000, 0)


class TestUpcycling:
    @pytest.mark.slow
    def test_all_experts_together_are_nearly_the_dense_model(self, teacher: Any) -> None:
        """Every neuron is in one place; only the router's weights, near one each, tell the two apart."""
        sparse = upcycle(teacher, Experts(routed=6, per_token=6, shared=2, neurons=8), TOKENS, 0)
        dense, other = logits(teacher), logits(load_scrambled(teacher))
        error = float((logits(sparse) - dense).square().mean())
        assert error < 0.1 * float((other - dense).square().mean())

    @pytest.mark.slow
    def test_few_experts_run_and_are_read_elsewhere(self, teacher: Any, tiny_teacher: Path, tmp_path: Path) -> None:
        sparse = upcycle(teacher, Experts(routed=12, per_token=2, shared=2, neurons=8), TOKENS, 0)
        save_model(sparse, load_tokenizer(tiny_teacher), tmp_path / "s")
        again = load_model(tmp_path / "s")
        assert torch.equal(logits(again), logits(sparse))
        assert again.generate(TOKENS[:1, :4].to(again.device), max_new_tokens=3, do_sample=False).shape == (1, 7)
        shape = read_config(tmp_path / "s" / "config.json", "s")
        assert shape.parameters == pytest.approx(sum(p.numel() for p in sparse.parameters()), rel=0.001)

    def test_more_experts_than_fit_in_memory(self, teacher: Any) -> None:
        with pytest.raises(BadInput, match="experts of the student is"):
            upcycle(teacher, Experts(routed=8 * 2**24, per_token=2, shared=0, neurons=8), TOKENS, 0)

    def test_clusters_are_of_one_size_and_find_what_belongs_together(self) -> None:
        directions = torch.eye(4).repeat_interleave(5, 0) + 0.05 * torch.randn(
            20, 4, generator=torch.Generator().manual_seed(0)
        )
        owner = balanced_clusters(directions, 4, torch.Generator().manual_seed(2))
        assert torch.bincount(owner).tolist() == [5, 5, 5, 5]
        assert all(len(set(owner[5 * group : 5 * group + 5].tolist())) == 1 for group in range(4))

    @pytest.mark.slow
    def test_balance_evens_the_load_without_a_loss(self, teacher: Any) -> None:
        sparse = upcycle(teacher, Experts(routed=12, per_token=2, shared=2, neurons=8), TOKENS, 0).train()
        for block in sparse.model.layers:
            block.mlp.gate.e_score_correction_bias[0] = 0.4  # everyone's first choice
        balance, found = LoadBalance(sparse, 0.01), []
        for step in range(80):
            with torch.no_grad():
                hidden_states(sparse, TOKENS)
            found.append(balance(sparse, step))
        assert found[0]["fullest_expert"] == 6.0
        assert found[-1]["fullest_expert"] < 2.5

    @pytest.mark.parametrize(
        ("experts", "said"),
        [
            (Experts(routed=6, per_token=2, shared=2, neurons=7), "do not fill"),
            (Experts(routed=7, per_token=2, shared=2, neurons=8), "not 7"),
            (Experts(routed=6, per_token=9, shared=2, neurons=8), "1 to 6 of them, not 9"),
        ],
    )
    def test_experts_that_do_not_fit(self, teacher: Any, experts: Experts, said: str) -> None:
        with pytest.raises(BadInput, match=said):
            upcycle(teacher, experts, TOKENS, 0)


def load_scrambled(teacher: Any) -> Any:
    """The same model with its FFNs silenced: how much they matter."""
    import copy

    other = copy.deepcopy(teacher)
    with torch.no_grad():
        for block in other.model.layers:
            block.mlp.down_proj.weight.zero_()
    return other


class TestDense:
    @pytest.mark.parametrize("kind", ["qwen3_moe", *slow("mixtral")])
    def test_all_but_the_experts_is_kept(self, kind: str) -> None:
        fields = {
            "model_type": kind, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8,
            "num_key_value_heads": 2, "intermediate_size": 48, "num_experts": 4, "num_local_experts": 4,
            "num_experts_per_tok": 2, "moe_intermediate_size": 24, "tie_word_embeddings": True,
        }  # fmt: skip
        sparse = from_config(fields, 384, 0)
        dense = dense_of(sparse, 0, 1)
        assert dense.config.intermediate_size == (48 if kind == "qwen3_moe" else 96)
        for name, tensor in dense.state_dict().items():
            if ".mlp." not in name:
                assert torch.equal(tensor, sparse.state_dict()[name]), name
        logits(dense)

    def test_a_dense_teacher_has_no_experts_to_leave(self, teacher: Any) -> None:
        with pytest.raises(UnsupportedArchitecture, match="no dense relative of llama"):
            dense_of(teacher, 0, 0)


class TestRounding:
    @pytest.mark.parametrize("name", FORMATS)
    def test_what_is_rounded_stays(self, name: str) -> None:
        weight = torch.randn(6, 128, generator=torch.Generator().manual_seed(0))
        format_ = Format(name=name)
        once = round_weight(weight, format_)
        values, scale = rounded(weight, format_)
        assert torch.equal(values * scale, once.reshape(values.shape))
        if name != "ternary":  # whose scale is the mean, which rounding moves
            assert torch.allclose(round_weight(once, format_), once, rtol=1e-6)
        allowed = {"int4": 15, "ternary": 3, "fp8": 256}[name]
        assert all(len(row.unique()) <= allowed for row in values.flatten(0, -2))

    def test_errors_are_as_large_as_the_formats_say(self) -> None:
        """Of int4 at most half a step, of e4m3 a sixteenth of the value: three bits after the point."""
        weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(1))
        step = weight.reshape(64, -1, 64).abs().amax(-1, keepdim=True) / 7
        error = (round_weight(weight, Format(name="int4")) - weight).reshape(64, -1, 64).abs()
        assert bool((error <= step / 2 + 1e-6).all())
        close = (round_weight(weight, Format(name="fp8")) - weight).abs()
        assert bool((close <= weight.abs() / 16 + weight.abs().amax(-1, keepdim=True) / 448 / 2**9).all())

    @pytest.mark.parametrize("name", ["int4", *slow(*(each for each in FORMATS if each != "int4"))])
    def test_the_gradient_passes_through(self, teacher: Any, name: str) -> None:
        before = {path: weight.clone() for path, weight in teacher.state_dict().items()}
        quantise_aware(teacher, Format(name=name, group=8)).train()
        teacher(input_ids=TOKENS.to(teacher.device)).logits.float().square().mean().backward()
        grads = [weight.grad for path, weight in teacher.named_parameters() if "original" in path]
        assert len(grads) == 6 * 7
        assert all(grad is not None and bool(grad.abs().sum() > 0) for grad in grads)
        aware = logits(teacher.eval())
        settle(teacher)
        assert torch.equal(logits(teacher), aware), "what was trained is what is kept"
        assert teacher.state_dict().keys() == before.keys()

    @pytest.mark.slow
    def test_settled_equals_plain_rounding_of_the_same_weights(self, teacher: Any, tiny_teacher: Path) -> None:
        plain = round_model(load_model(tiny_teacher), Format(name="int4", group=16))
        aware = settle(quantise_aware(teacher, Format(name="int4", group=16)))
        assert torch.equal(logits(plain), logits(aware))

    @pytest.mark.slow
    def test_experts_are_rounded_too(self, teacher: Any) -> None:
        sparse = upcycle(teacher, Experts(routed=6, per_token=2, shared=2, neurons=8), TOKENS, 0)
        names = {part for _, _, part in weights_to_round(sparse)}
        assert names == {"weight", "gate_up_proj", "down_proj"}
        logits(quantise_aware(sparse, Format(name="int4", group=8)))

    def test_nonsense(self, teacher: Any) -> None:
        with pytest.raises(BadInput, match="nearest known: int4"):
            Format(name="int5")
        with pytest.raises(BadInput, match="groups of 24 weights do not fill rows of 32"):
            quantise_aware(teacher, Format(name="int4", group=24))


def halves_of(whole: Tensor, rows: Tensor, error: Tensor | None) -> list[Sums]:
    half = len(rows) // 2
    parts = (slice(0, half), slice(half, None))
    return [sums_of(whole[part], rows[part], None if error is None else error[part]) for part in parts]


class TestCompensation:
    """Frantar et al. 2023: weights that are rounded later make good what was rounded before."""

    FORMAT = Format(name="int4", group=16)

    def test_a_layer_errs_less_on_inputs_that_belong_together(self) -> None:
        draw = torch.Generator().manual_seed(0)
        mixed = torch.randn(512, 8, generator=draw) @ torch.randn(8, 64, generator=draw)
        inputs = mixed + 0.3 * torch.randn(512, 64, generator=draw)
        weight = torch.randn(24, 64, generator=draw)
        fine = compensate(weight, inputs.T @ inputs / 512, self.FORMAT, torch.float32)
        plain, better = (
            float((inputs @ (round_weight(each, self.FORMAT) - weight).T).square().mean()) for each in (weight, fine)
        )
        assert better < 0.6 * plain
        again = round_weight(round_weight(fine, self.FORMAT), self.FORMAT)
        assert torch.allclose(again, round_weight(fine, self.FORMAT), rtol=1e-6)

    def test_uncorrelated_inputs_leave_only_the_scale_to_choose(self) -> None:
        """Of all ends of a group's scale that are tried, the one with the least squared error."""
        weight = torch.randn(24, 64, generator=torch.Generator().manual_seed(0))
        weight[3, 5] = 12.0  # an outlier, which its group would pay for
        fine = compensate(weight, torch.eye(64), self.FORMAT, torch.float32)
        groups = weight.view(24, 4, 16)
        errors = []
        for end in ENDS:
            scale = end * groups.abs().amax(-1, keepdim=True) / 7
            errors.append((groups - scale * (groups / scale).round().clamp(-7, 7)).square().sum(-1))
        least = torch.stack(errors).amin(0)
        ours = (round_weight(fine, self.FORMAT) - weight).view(24, 4, 16).square().sum(-1)
        assert torch.allclose(ours, least, rtol=1e-4)
        assert float(least.sum()) < 0.95 * float(errors[0].sum())

    def test_rows_in_turns_are_rows_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        weight = torch.randn(24, 64, generator=torch.Generator().manual_seed(2))
        whole = compensate(weight, torch.eye(64), self.FORMAT, torch.bfloat16)
        monkeypatch.setattr(compensation, "TRIED_AT_ONCE", 5 * len(ENDS) * self.FORMAT.group)  # five rows a turn
        assert torch.equal(compensate(weight, torch.eye(64), self.FORMAT, torch.bfloat16), whole)

    def test_what_is_clipped_rounds_to_the_same_again(self) -> None:
        weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
        fine = compensate(weight, torch.eye(32), self.FORMAT, torch.bfloat16)
        clipped = fine.view(8, 2, 16).abs().amax(-1) < 0.97 * weight.view(8, 2, 16).abs().amax(-1)
        assert 0 < int(clipped.sum()) < 16
        once = round_weight(fine.bfloat16(), self.FORMAT)
        assert torch.equal(round_weight(once, self.FORMAT), once)

    @pytest.mark.slow
    def test_a_model_loses_less(self, teacher: Any, tiny_teacher: Path) -> None:
        whole = logits(teacher)
        better = logits(round_model(compensated(teacher, self.FORMAT, TOKENS, Silent()), self.FORMAT))
        plain = logits(round_model(load_model(tiny_teacher), self.FORMAT))
        assert float((better - whole).square().mean()) < 0.8 * float((plain - whole).square().mean())
        assert torch.equal(logits(teacher), whole), "the teacher itself stays as it is"

    def test_a_layer_makes_good_what_those_before_it_lost(self) -> None:
        draw = torch.Generator().manual_seed(3)
        whole = torch.randn(512, 8, generator=draw) @ torch.randn(8, 32, generator=draw)
        whole = whole + 0.3 * torch.randn(512, 32, generator=draw)
        given = whole @ (torch.eye(32) + 0.1 * torch.randn(32, 32, generator=draw))  # of layers that were rounded
        weight, error = torch.randn(24, 32, generator=draw), 0.1 * whole @ torch.randn(32, 24, generator=draw)
        for repaid in (0.0, 0.5):
            wanted = whole @ weight.T + repaid * error
            better = fitted(weight, halves_of(whole, given, error), repaid)
            assert float((given @ better.T - wanted).square().mean()) < 0.2 * float(
                (given @ weight.T - wanted).square().mean()
            )
        assert torch.equal(fitted(weight, halves_of(given, given, None), 0.5), weight), "nothing was lost"

    def test_only_what_holds_on_other_text_is_made_good(self) -> None:
        """The share by hand, from rows; of noise nearly nothing, of one row nothing."""
        draw = torch.Generator().manual_seed(5)
        rows, noise = (torch.randn(96, size, generator=draw) for size in (48, 24))
        weight = torch.zeros(24, 48)
        lost = noise + 0.3 * rows @ torch.randn(48, 24, generator=draw)

        def fit(some: slice) -> Tensor:
            gram = rows[some].T @ rows[some] / len(rows[some])
            damped = gram + FIT_DAMPING * gram.diagonal().mean() * torch.eye(48)
            solved: Tensor = lost[some].T @ rows[some] / len(rows[some]) @ torch.linalg.inv(damped)
            return solved

        first, second = slice(0, 48), slice(48, 96)
        predicted = torch.cat([rows[first] @ fit(second).T, rows[second] @ fit(first).T])
        share = float((predicted * lost).sum() / predicted.square().sum())
        assert 0.2 < share < 0.95
        made = fitted(weight, halves_of(rows, rows, lost), 1.0)
        assert torch.allclose(made, share * fit(slice(0, 96)), rtol=1e-3, atol=1e-4)
        assert float(fitted(weight, halves_of(rows, rows, noise), 1.0).norm()) < 0.1 * float(made.norm())
        assert torch.equal(fitted(weight, halves_of(rows[:1], rows[:1], noise[:1]), 1.0), weight)

    def test_which_layers_write_to_the_stream_is_measured(self) -> None:
        draw = torch.Generator().manual_seed(4)
        outputs = {name: torch.randn(2, 6, 16, generator=draw) for name in ("query", "out", "down")}
        added = 0.5 * outputs["out"] + 2.0 * outputs["down"]
        assert stream_factors(added, outputs) == pytest.approx({"out": 0.5, "down": 2.0}, rel=1e-4)
        assert stream_factors(added.bfloat16(), outputs).keys() == {"out", "down"}
        scaled = added / added.norm(dim=-1, keepdim=True) * (1 + torch.rand(2, 6, 1, generator=draw))
        assert stream_factors(scaled, outputs) == {}, "a norm follows"
        assert stream_factors(added, {}) == {}
        assert stream_factors(added, {**outputs, "idle": torch.zeros(2, 6, 16)}).keys() == {"out", "down"}

    def test_layers_are_rounded_on_the_inputs_that_they_will_have(
        self, teacher: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In the order in which they run: the rounded model gives each layer the inputs that it was rounded on."""
        grams: list[Tensor] = []

        def noted(weight: Tensor, gram: Tensor, format_: Format, dtype: torch.dtype) -> Tensor:
            grams.append(gram)
            return compensate(weight, gram, format_, dtype)

        monkeypatch.setattr("flashstill.distill.students.compensated_model.compensate", noted)
        model = round_model(compensated(teacher, self.FORMAT, TOKENS, Silent()), self.FORMAT)
        found: list[Tensor] = []

        def look(module: Any, args: tuple[Tensor, ...]) -> None:
            rows = args[0].flatten(0, -2).float()
            found.append(rows.T @ rows / len(rows))

        first = ("q_proj", "o_proj", "gate_proj", "down_proj")  # the others share the input of these
        handles = [each.register_forward_pre_hook(look) for name, each in model.named_modules() if name.endswith(first)]
        run_watched(model, TOKENS, handles)
        assert len(grams) == len(found) == 4 * len(decoder_layers(model))
        for rounded_on, given in zip(grams, found, strict=True):
            assert torch.allclose(rounded_on, given, rtol=1e-4, atol=1e-5)

    @pytest.mark.slow
    def test_what_cannot_be_compensated(self, teacher: Any) -> None:
        with pytest.raises(BadInput, match="int4 weights only"):
            compensated(teacher, Format(name="ternary", group=16), TOKENS, Silent())
        with pytest.raises(BadInput, match="groups of 24 weights do not fill"):
            compensated(teacher, Format(name="int4", group=24), TOKENS, Silent())
        sparse = upcycle(teacher, Experts(routed=6, per_token=2, shared=2, neurons=8), TOKENS, 0)
        with pytest.raises(BadInput, match="not implemented for experts"):
            compensated(sparse, Format(name="int4", group=8), TOKENS, Silent())


SPARSE = 'kind = "upcycle"\nexperts = 12\nexperts_per_token = 2\nshared_experts = 2\nexpert_neurons = 8'


@pytest.mark.slow
@pytest.mark.parametrize(
    "student",
    [
        'kind = "width"\nfeed_forward = 32\nkey_heads = 1',
        SPARSE,
        'kind = "copy"\nquantise = "int4"\ngroup = 16\ncompensate_windows = 4',
        'kind = "copy"\nquantise = "ternary"\ngroup = 32',
        'kind = "scratch"\nconfig = "tiny.json"',
    ],
    ids=["width", "upcycle", "int4", "ternary", "scratch"],
)
def test_every_kind_learns_from_a_recipe_and_generates(
    tmp_path: Path, tiny_teacher: Path, text_file: Path, student: str
) -> None:
    from transformers import AutoModelForCausalLM

    (tmp_path / "tiny.json").write_text(
        '{"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,'
        ' "intermediate_size": 32, "tie_word_embeddings": true}'
    )
    recipe = written(tmp_path / "distill.toml", tiny_teacher, text_file)
    recipe.write_text(recipe.read_text().replace('kind = "depth"\nkeep_layers = 3', student))
    quality = run_distillation(read_distillation(recipe), tmp_path / "out", Silent())["quality"]
    kl = {name: quality[name]["heldout"]["kl_to_teacher"][0] for name in ("initial", "student")}
    if "quantise" not in student:  # their first weights are the teacher's own, not rounded yet
        assert kl["student"] < kl["initial"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "student")
    assert model.generate(TOKENS[:1, :4].to(model.device), max_new_tokens=3, do_sample=False).shape == (1, 7)
    read_config(tmp_path / "out" / "student" / "config.json", "student")
