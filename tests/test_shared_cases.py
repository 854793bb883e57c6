"""Inputs that failed once, one test for each kind, made here so that they are tried wherever the tests run.

The same inputs as files lie in ../shared/cases beside the project's workplace, and other tests read them there.  What
judges may do (a module of the working directory, say) is in test_isolated.py, damaged results in
test_damaged_results.py, all ranges of recipes in test_recipes.py.
"""

from __future__ import annotations

import csv
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from flashstill.arch import load_architecture
from flashstill.cli import main
from flashstill.errors import BadInput, UnsupportedArchitecture
from tests.commands import refuse

Printed = pytest.CaptureFixture[str]
LATENT: dict[str, Any] = {
    "model_type": "kimi_linear", "hidden_size": 1024, "num_hidden_layers": 4, "intermediate_size": 4096,
    "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 32000, "kv_lora_rank": 128, "q_lora_rank": None,
    "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64, "num_experts": 64, "num_experts_per_token": 4,
    "num_shared_experts": 1, "moe_intermediate_size": 1024, "first_k_dense_replace": 1,
    "max_position_embeddings": 8192, "tie_word_embeddings": False,
    "linear_attn_config": {
        "full_attn_layers": [4], "kda_layers": [1, 2, 3], "head_dim": 64, "num_heads": 8, "short_conv_kernel_size": 4,
    },
}  # fmt: skip
SPARSE: dict[str, Any] = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "intermediate_size": 6144,
    "moe_intermediate_size": 768, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "vocab_size": 151936, "max_position_embeddings": 40960, "tie_word_embeddings": False,
}  # fmt: skip
DENSE: dict[str, Any] = {
    "hidden_size": 2048, "num_hidden_layers": 4, "intermediate_size": 6144, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 262144,
    "tie_word_embeddings": True,
}  # fmt: skip
CHIP = """name,quantity,value,low,high,unit,per,condition,kind,source,as_of,note
t-asic,flops_per_s,9e15,9e15,9e15,FLOP/s,chip,fp8 dense,estimate,announcement,2024-06,
t-asic,flops_per_s,4.5e15,4.5e15,4.5e15,FLOP/s,chip,bf16 dense,estimate,announcement,2024-06,
t-asic,memory_bytes,1.44e11,1.44e11,1.44e11,B,chip,HBM3e,estimate,announcement,2024-06,
t-asic,memory_bytes_per_s,4e12,4e12,4e12,B/s,chip,HBM3e,estimate,announcement,2024-06,
t-asic,power_limit_w,700,700,700,W,chip,,estimate,announcement,2024-06,
t-asic,process_nm,4,4,4,nm,die,,estimate,announcement,2024-06,
t-asic,die_mm2,814,814,814,mm2,package,,estimate,announcement,2024-06,
t-asic,usd_purchase,30000,30000,30000,USD,chip,,estimate,announcement,2024-06,
t-asic,link_bytes_per_s,4.5e11,4.5e11,4.5e11,B/s,chip,one direction,estimate,announcement,2024-06,
"""
CASES = "model,chip,tp,topology\nqwen3-32b,h100-sxm,2,\nqwen3-32b,tpu-v5p,,²x2\n"


def config(folder: Path, fields: dict[str, Any]) -> Path:
    """A config.json of these fields."""
    path = folder / "config.json"
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


def answer(capsys: Printed, *arguments: object) -> dict[str, Any]:
    """The JSON document of a command that is answered."""
    main([*map(str, arguments), "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("text", "named"),
    [(CASES, "topology is '²x2'"), (f"model,chip,tp\nqwen3-32b,h100-sxm,2\n{'x' * 300},h100-sxm,2\n", "unknown model")],
    ids=["superscript", "long model"],
)
def test_a_bad_cell_is_named_beside_good_answers(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "in.csv").write_text(text, encoding="utf-8")
    main(["predict", "--cases", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")])
    good, bad = rows(tmp_path / "out.csv")
    assert float(good["tpot_s"]) > 0
    assert bad["fits"] == "false"
    assert named in bad["reason"]


def test_nesting_is_one_sentence(tmp_path: Path, capsys: Printed) -> None:
    deep = tmp_path / "deep.json"
    deep.write_text(f'{{"model_type":"llama","x":{"[" * 1000}{"]" * 1000}}}', encoding="utf-8")
    assert "nests its brackets deeper" in refuse(capsys, "predict", "--model", deep, "--chip", "h100-sxm")
    recipe = tmp_path / "deep.toml"
    recipe.write_text(f"y = {'[' * 3000}{']' * 3000}\n", encoding="utf-8")
    assert "nest too deep" in refuse(capsys, "run", recipe, "--out", tmp_path / "out")


def test_more_experts_than_any_model_has(tmp_path: Path) -> None:
    assert load_architecture(str(config(tmp_path, SPARSE))).parameters == pytest.approx(30.5e9, rel=0.01)
    with pytest.raises(UnsupportedArchitecture, match="num_experts is 1000000000, not a positive whole number of at"):
        load_architecture(str(config(tmp_path, {**SPARSE, "num_experts": 10**9})))


@pytest.mark.slow
def test_twelve_layers_over_weights_of_six(tiny_teacher: Path, tmp_path: Path) -> None:
    import shutil

    from flashstill.distill.models import load_model

    twice = tmp_path / "twice"
    shutil.copytree(tiny_teacher, twice)
    (twice / "checksums.json").unlink(missing_ok=True)
    fields = json.loads((twice / "config.json").read_text(encoding="utf-8"))
    config(twice, {**fields, "num_hidden_layers": 2 * fields["num_hidden_layers"]})
    with pytest.raises(BadInput, match=r"tensors are missing, the first model\.layers\.6\."):
        load_model(twice)


def test_text_that_is_no_unicode(tmp_path: Path) -> None:
    from flashstill.distill.data.text import load_documents

    path = tmp_path / "text.jsonl"
    path.write_text('{"text":"fine"}\n{"text":"\\ud800"}\n', encoding="utf-8")
    with pytest.raises(BadInput, match="line 2 holds text that is no valid Unicode"):
        load_documents(str(path))


def test_a_field_that_narrows_the_experts_is_read_or_refused_by_name(tmp_path: Path) -> None:
    wide = load_architecture(str(config(tmp_path, LATENT)))
    narrow = load_architecture(str(config(tmp_path, {**LATENT, "routed_expert_hidden_size": 256})))
    assert wide.note == narrow.note == ""
    assert narrow.parameters < wide.parameters
    with pytest.raises(UnsupportedArchitecture, match="sets routed_expert_hidden_size to 256"):
        load_architecture(str(config(tmp_path, {**DENSE, "model_type": "qwen3", "routed_expert_hidden_size": 256})))


def test_qwen3_by_another_name(tmp_path: Path) -> None:
    nested = {"model_type": "qwen3_vl", "text_config": {"model_type": "qwen3_vl_text", **DENSE}}
    found = load_architecture(str(config(tmp_path, nested)))
    assert found.parameters == load_architecture(str(config(tmp_path, {"model_type": "qwen3", **DENSE}))).parameters


@pytest.mark.parametrize(
    ("kind", "more", "missing"),
    [
        ("gpu", "", "compute_units, cache_bytes (or sram_bytes), torus_axes, link_domain_chips"),
        (
            "tpu",
            "t-asic,torus_axes,3,3,3,1,chip,,estimate,announcement,2024-06,\n",
            "cache_bytes (or sram_bytes), matrix_edge, wrap_edge, link_domain_chips",
        ),
    ],
)
def test_all_missing_rows_of_a_users_chip(tmp_path: Path, capsys: Printed, kind: str, more: str, missing: str) -> None:
    (tmp_path / "chips.csv").write_text(CHIP + more, encoding="utf-8")
    machines = f"name,title,maker,class,year\nt-asic,Transformer-only ASIC,Example,{kind},2026\n"
    (tmp_path / "machines.csv").write_text(machines, encoding="utf-8")
    asked = ("predict", "--model", "llama-3.1-8b", "--chip", "t-asic", "--tp", 8, "--facts", tmp_path)
    assert f"no fact row gives {missing}, scale_out_bytes_per_s, idle_w of t-asic" in refuse(capsys, *asked)


def test_batch_one_is_one_sequence(capsys: Printed) -> None:
    asked = ("--model", "llama-3.1-8b", "--chip", "tpu-v5p", "--tp", 32, "--pp", 8)
    one = answer(capsys, "explain", *asked, "--batch", 1, "--context", 128, "--memory", "sram")
    assert one["layout"] == {"tp": 32, "pp": 8, "ep": 1, "dp": 1, "redundant_experts": 0}
    assert one["tokens_per_s"] * one["seconds"] == pytest.approx(1.0)
    assert "1 of 8 pipeline stages works at a time" in one["note"]
    where = ("--weights-in", "sram", "--kv-in", "sram", "--concurrency", 1, "--isl", 96, "--osl", 64)
    served = answer(capsys, "predict", *asked, *where)
    assert served["decode_step_s"] == pytest.approx(one["seconds"])
    assert served["decode_joules_per_token"] == pytest.approx(one["joules_per_token"]["total"])
    assert served["decode_usd_per_million_tokens"] == pytest.approx(one["usd_per_million_tokens"])


def test_b100_is_about_b200(capsys: Printed) -> None:
    asked = ("--model", "llama-3.1-70b", "--tp", 8, "--concurrency", 256, "--precision", "fp8")
    b100, b200 = (answer(capsys, "predict", *asked, "--chip", chip)["tpot_s"] for chip in ("b100", "b200"))
    assert b200 <= b100 < 1.3 * b200
    assert b200 == pytest.approx(20e-3, rel=0.2)


H100 = ("predict", "--model", "llama-3.1-8b", "--chip", "h100-sxm")
EMIT = ("--max-chips", 8, "--emit")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("predict", "--model", "qwen3-32b", "--chip", "h100-sxm", "--tp", 2, "--draft", "heads"), "has no heads that"),
        ((*H100, "--dp", 1_000_000, "--concurrency", 16), "1,000,000 chips are more than any network connects"),
        (("plan", "--model", "palm-62b", "--chips-from", "h100-sxm", *EMIT, "vllm"), "names no published weights"),
        (
            ("plan", "--model", "llama-3.1-8b", "--chips-from", "mi300x", *EMIT, "trtllm"),
            "trtllm does not run on mi300x; engines that do: vllm, sglang",
        ),
        (
            ("plan", "--model", "llama-3.1-8b", "--chips-from", "tpu-v6e", *EMIT, "sglang"),
            "sglang does not run on tpu-v6e; engines that do: vllm",
        ),
        (
            ("explain", *H100[1:], "--batch", 1, "--json", "--set", "h100-sxm.memory_bytes_per_s=1e-300"),
            "outside the lawful 100 kB/s to 10 EB/s",
        ),
    ],
)
def test_what_is_refused(capsys: Printed, arguments: tuple[object, ...], sentence: str) -> None:
    assert sentence in refuse(capsys, *arguments)


@pytest.mark.parametrize("edit", ["power_limit_w=50", "idle_w=5000"])
def test_a_limit_below_what_the_chip_draws_idle(capsys: Printed, edit: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*H100, "--set", f"h100-sxm.{edit}"])
    assert stop.value.code == 2
    assert "which leaves nothing of its power limit" in capsys.readouterr().err


def test_empty_groups_cost_what_they_cost(capsys: Printed) -> None:
    few, many = (answer(capsys, *H100, "--dp", dp, "--concurrency", 16) for dp in (16, 1600))
    assert "1,584 of 1,600 data-parallel groups have no sequence" in many["note"]
    assert many["usd_per_million_output_tokens"] == pytest.approx(100 * few["usd_per_million_output_tokens"], rel=0.01)


def test_one_output_token_has_no_time_after_the_first(capsys: Printed) -> None:
    found = answer(capsys, *H100, "--osl", 1)
    assert found["tpot_s"] is None
    assert found["ttft_s"] > 0


def test_kernels_alone_are_never_slower(capsys: Printed) -> None:
    asked = ("predict", "--model", "deepseek-v3", "--chip", "h800-sxm")
    # Of the second layout an engine has room for 604 sequences, kernels alone for 664, whose steps are longer.
    for layout in (("--tp", 1, "--dp", 128, "--concurrency", 1024), ("--chips", 128, "--concurrency", 512)):
        alone, engine = (answer(capsys, *asked, *layout, "--engine", name) for name in ("none", "sglang"))
        assert alone["decode_step_s"] <= engine["decode_step_s"]
        assert alone["tpot_s"] <= engine["tpot_s"]


def test_commands_that_start_on_two_nodes(capsys: Printed) -> None:
    asked = ("--model", "qwen3-235b-a22b", "--chips-from", "h100-sxm", "--max-chips", 16, "--batch", 2048)
    found = answer(capsys, "plan", *asked, "--emit", "sglang", "--draft", "qwen3-0.6b", "--pick", "throughput")
    command, point = found["launch"]["command"], found["launch"]["configuration"]
    assert point["chips"] == 16
    assert [f"--node-rank {rank}" in command for rank in range(3)] == [True, True, False]
    assert not ("--attn-dp-size" in command and "--speculative-algorithm" in command)


def test_answers_are_written_through(tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "in.csv").write_text(CASES, encoding="utf-8")
    link, fifo, read = tmp_path / "link", tmp_path / "fifo", list[str]()
    link.symlink_to("target")
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: read.append(fifo.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    for out in (link, fifo, Path("/dev/null")):
        main(["predict", "--cases", str(tmp_path / "in.csv"), "--out", str(out)])
    reader.join(60)
    assert link.is_symlink()
    assert fifo.is_fifo()
    assert Path("/dev/null").is_char_device()
    assert (tmp_path / "target").read_text(encoding="utf-8") == read[0]
    assert read[0].startswith("model,chip,tp,topology,fits,")


def test_a_recipe_that_cannot_be_meant(tmp_path: Path, capsys: Printed) -> None:
    text = 'name = "d"\n[[teachers]]\nmodel = "smollm2-135m-instruct"\n[student]\nkind = "depth"\nkeep_layers = 2\n'
    unsuitable = {
        "[train]\nfinal_fraction = -5": "train.final_fraction is -5",
        "[train]\nclip_norm = nan": "'train.clip_norm' is nan",
        "[text]\ntrain_tokens = -5": "text.train_tokens is -5",
        '[search]\nmethod = "greed"': "unknown search.method 'greed'",
        "[search]\nwindows = 0": "search.windows is 0",
        "[search]\ncandidates = 0": "search.candidates is 0",
    }
    recipes = {f"{text}{more}\n": said for more, said in unsuitable.items()}
    recipes[text.replace('"d"', '"../../x"')] = "name is '../../x'"
    recipes[f'data = "/dev/zero"\n{text}'] = "data is '/dev/zero'"
    for content, said in recipes.items():
        (tmp_path / "distill.toml").write_text(content, encoding="utf-8")
        assert said in refuse(capsys, "distill", tmp_path / "distill.toml", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["records.jsonl", "study.toml"])
def test_a_result_of_one_file_that_is_not_ours(tmp_path: Path, capsys: Printed, name: str) -> None:
    (tmp_path / name).write_text('{"another": "program"}\n', encoding="utf-8")
    assert str(tmp_path) in refuse(capsys, "report", tmp_path)
