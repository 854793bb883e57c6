"""Launch commands: what plan found, in the words of three engines; what they cannot express is refused."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.plan import engines
from flashstill.plan.engines import ENGINES, chips_of_a_node, model_source, options_of, step_tokens_of
from flashstill.plan.launch import launch, pick
from flashstill.plan.space import Configuration
from tests.marks import slow

POINT = Configuration(
    chip="h100-sxm",
    chips=8,
    tp=4,
    pp=1,
    ep=8,
    dp=2,
    batch=100,
    precision="fp8",
    kv_precision="fp8",
    weights_in="memory",
    kv_in="memory",
    speculated_tokens=0,
    draft="",
    engine="vllm",
    tpot_s=0.01,
    ttft_s=0.1,
    output_tokens_per_s=1e4,
    tokens_per_s_per_chip=1250.0,
    joules_per_output_token=0.5,
    usd_per_million_output_tokens=1.0,
    watts_per_chip=600.0,
)


def options(engine: str, **changes: Any) -> dict[str, str]:
    """The options of the command by name."""
    text = launch(engine, "some/model", dataclasses.replace(POINT, **changes), 1280)
    words = shlex.split(
        text.splitlines()[-1] if "YAML" in text else "\n".join(text.splitlines()[1:]).replace("\\\n", "")
    )
    if "YAML" in text:
        words = shlex.split(text.split("\nYAML\n")[1].replace("\\\n", ""))
    found: dict[str, str] = {}
    for index, word in enumerate(words):
        if word.startswith("--"):
            value = words[index + 1] if index + 1 < len(words) else ""
            found[word] = "" if value.startswith("--") else value
    return found


def test_vllm() -> None:
    found = options("vllm")
    assert found == {
        "--tensor-parallel-size": "4",
        "--data-parallel-size": "2",
        "--enable-expert-parallel": "",
        "--max-model-len": "1280",
        "--max-num-seqs": "50",
        "--quantization": "fp8",
        "--kv-cache-dtype": "fp8",
    }
    drafted = options("vllm", speculated_tokens=3, draft="some/draft")
    assert json.loads(drafted["--speculative-config"]) == {"model": "some/draft", "num_speculative_tokens": 3}
    with pytest.raises(BadInput, match="ep 2 is neither"):
        options("vllm", ep=2)


def test_vllm_starts_with_more_sequences_than_its_default_budget() -> None:
    """vLLM 0.32 and 0.33 refuse `max_num_batched_tokens (2048)` below `max_num_seqs` where the chip's default is so."""
    flag = "--max-num-batched-tokens"
    for chip, batch, budget in (
        ("a100-80g", 4096, None), ("a100-80g", 4098, "8192"), ("l40s", 8192, "8192"), ("h100-sxm", 16384, None),
        ("h100-sxm", 16400, "8200"),
    ):  # fmt: skip
        assert options("vllm", chip=chip, batch=batch).get(flag) == budget, (chip, batch)
    assert options("vllm", batch=512, overlap="two-batch").get(flag) is None
    assert options("vllm", batch=514, overlap="two-batch")[flag] == "257"


def test_chips_of_little_memory_have_the_small_default_budget() -> None:
    """vLLM's rule: below 70 GiB of a device, and A100.  An MI250 is two devices."""
    facts = load()
    for chip in engines._rows()["vllm"]["chips"]:
        is_small = chip_from_facts(facts, chip).memory.bytes < 70 * 2**30 or chip.startswith(("a100", "mi250"))
        assert step_tokens_of(chip, is_low_latency=False) == (2048 if is_small else 8192, 8192), chip


def test_sglang_counts_all_chips_as_tensor_parallel() -> None:
    found = options("sglang", ep=2)
    assert (found["--tp-size"], found["--dp-size"], found["--ep-size"]) == ("8", "2", "2")
    assert "--enable-dp-attention" in found
    assert found["--max-running-requests"] == "100"
    assert options("sglang", speculated_tokens=2)["--speculative-algorithm"] == "NEXTN"


def test_trtllm() -> None:
    found = options("trtllm", tp=1, dp=8)
    assert (found["--tp_size"], found["--ep_size"], found["--max_batch_size"]) == ("8", "8", "13")
    text = launch("trtllm", "m", dataclasses.replace(POINT, tp=1, dp=8), 10)
    assert "enable_attention_dp: true" in text
    assert "must be a checkpoint in fp8" in text
    with pytest.raises(BadInput, match="every chip or on none"):
        options("trtllm")


def test_what_no_engine_does() -> None:
    with pytest.raises(BadInput, match="weights in sram"):
        options("vllm", weights_in="sram")
    with pytest.raises(BadInput, match="unknown engine"):
        options("tgi")


def test_names_cannot_break_out_of_the_command() -> None:
    text = launch("vllm", "a; rm -rf $HOME", POINT, 10)
    assert shlex.split("\n".join(text.splitlines()[1:]).replace("\\\n", ""))[2] == "a; rm -rf $HOME"


def test_pick() -> None:
    fast, cheap = POINT, dataclasses.replace(POINT, tpot_s=0.02, usd_per_million_output_tokens=0.1)
    assert pick((fast, cheap), "tpot") is fast
    assert pick((fast, cheap), "dollars") is cheap
    with pytest.raises(BadInput, match="unknown objective"):
        pick((fast,), "speed")


PLAN = ("plan", "--model", "qwen3-32b", "--chips-from", "h100-sxm", "--max-chips", "4", "--osl", "128")


@pytest.mark.parametrize(("spread", "longest"), [(0.0, 2048), (1.0, 6393), (3.0, 8192)])
def test_engines_take_requests_that_are_longer_than_the_mean(
    spread: float, longest: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three deviations of both lengths above the mean, 2048 + 3 x 1024 x 2^(1/2), within the model's context."""
    asked = ["plan", "--model", "llama-3-8b", "--chips-from", "h100-sxm", "--max-chips", "1", "--emit", "vllm"]
    main([*asked, "--isl-cv", str(spread), "--osl-cv", str(spread)])
    assert f"--max-model-len {longest} " in capsys.readouterr().out


def test_plan_emits(capsys: pytest.CaptureFixture[str]) -> None:
    main([*PLAN, "--emit", "vllm", "--precision", "published,fp8"])
    printed = capsys.readouterr().out
    assert "vllm serve Qwen/Qwen3-32B" in printed
    main([*PLAN, "--emit", "sglang", "--pick", "tpot", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["launch"]["point"] == 0
    assert "sglang.launch_server" in document["launch"]["command"]
    assert 0 < document["priced"] <= document["evaluated"]


def test_plan_tries_drafts(capsys: pytest.CaptureFixture[str]) -> None:
    main([*PLAN, "--draft", "qwen3-0.6b", "--draft-tokens", "2,4", "--acceptance", "0.8", "--batch", "1,2", "--json"])
    front = json.loads(capsys.readouterr().out)["front"]
    assert {point["speculated_tokens"] for point in front} & {2, 4}
    assert {point["batch"] for point in front} <= {1, 2}
    assert {point["draft"] for point in front if point["speculated_tokens"]} == {"qwen3-0.6b"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--draft", "llama-3.2-1b"), "cannot draft for"),
        (("--draft", "qwen3-0.6b", "--acceptance", "1.5"), "acceptance must lie between"),
        (("--draft", "qwen3-0.6b", "--draft-tokens", "two"), "not a whole number"),
        (("--tiers", "memry"), "the nearest known: memory"),
        (("--batch", "0"), "batch is '0'"),
        (("--emit", "vlm"), "the nearest known: vllm"),
        (("--max-tpot", "-1"), "must be above 0"),
    ],
)
def test_nonsense(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*PLAN, *arguments])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def commands(text: str) -> list[list[str]]:
    """Every command of an answer as words, without comments and files."""
    found, inside = [], False
    for line in text.replace("\\\n", "").splitlines():
        if line.startswith("cat >") or line == "YAML":
            inside = line != "YAML"
        elif not inside and not line.startswith("#"):
            found.append(shlex.split(line))
    return found


def value(words: list[str], option: str) -> int:
    return int(words[words.index(option) + 1]) if option in words else 1


LAYOUTS = [
    (tp, pp, ep, dp)
    for tp in (1, 2, 8, 16)
    for pp in (1, 2)
    for dp in (1, 2, 4, 16)
    for ep in {1, 2, tp * dp}
    if tp * dp % ep == 0
]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("chip", ["h100-sxm", *slow("gb200", "mi300x", "tpu-v6e")])
@pytest.mark.parametrize("has_experts", [True, *slow(False)])
def test_every_command_passes_the_checks_of_its_engine(engine: str, chip: str, has_experts: bool) -> None:
    """The checks are those of vLLM 0.33.0 (EngineArgs.create_engine_config) and SGLang 0.5.23 (check_server_args)."""
    written = 0
    for tp, pp, ep, dp in LAYOUTS:
        for tokens, draft in ((0, ""), (3, ""), (3, "some/draft")):
            layout: dict[str, Any] = {
                "tp": tp,
                "pp": pp,
                "ep": ep if has_experts else 1,
                "dp": dp,
                "chips": tp * pp * dp,
            }
            point = dataclasses.replace(POINT, chip=chip, **layout, speculated_tokens=tokens, draft=draft)
            try:
                text = launch(engine, "some/model", point, 1280, has_experts)
            except BadInput:
                continue
            written += 1
            started = commands(text)
            for words in started:
                assert {word for word in words if word.startswith("--")} <= options_of(engine), text
            nodes, each = len(started), chips_of_a_node(chip)
            first = started[0]
            if engine == "vllm":
                replica = value(first, "--tensor-parallel-size") * value(first, "--pipeline-parallel-size")
                world = replica * value(first, "--data-parallel-size")
                assert world == point.chips
                assert world % nodes == 0
                assert world // nodes <= each
                assert [("--headless" in words) for words in started] == [rank > 0 for rank in range(nodes)]
            if engine == "sglang":
                tensors, groups, replicas = (
                    value(first, f"--{name}") for name in ("tp-size", "attn-dp-size", "dp-size")
                )
                world = tensors * value(first, "--pp-size")
                assert not (groups > 1 and replicas > 1)
                assert not (replicas > 1 and nodes > 1)
                assert world % nodes == 0
                assert world * replicas // nodes <= each
                assert tensors % groups == 0
                assert tensors % value(first, "--ep-size") == 0
                assert world * replicas == point.chips or f"one of {dp} replicas" in text
                if "STANDALONE" in first:
                    assert (groups, value(first, "--pp-size")) == (1, 1)
            if engine == "trtllm":
                assert ("speculative_config" in text) == bool(tokens)
                world = value(first, "--tp_size") * value(first, "--pp_size")
                assert ("mpirun" in first) == (world > each)
            if nodes > 1:
                assert [value(words, "--node-rank") for words in started] == list(range(nodes))
                assert {value(words, "--nnodes") for words in started} == {nodes}
    assert bool(written) == (chip in {"vllm": ("h100-sxm", "gb200", "mi300x", "tpu-v6e"),
                                      "sglang": ("h100-sxm", "gb200", "mi300x"),
                                      "trtllm": ("h100-sxm", "gb200")}[engine])  # fmt: skip


def test_both_spellings_of_trtllm() -> None:
    text = launch("trtllm", "m", dataclasses.replace(POINT, tp=8, dp=1, speculated_tokens=3), 10)
    assert "  max_draft_len: 3\n  num_nextn_predict_layers: 3\n" in text
    text = launch("trtllm", "m", dataclasses.replace(POINT, tp=8, dp=1, speculated_tokens=3, draft="a/b"), 10)
    assert 'speculative_model: "a/b"  # speculative_model_dir before 1.2' in text


@pytest.mark.parametrize(
    ("changes", "engine", "sentence"),
    [
        ({"speculated_tokens": 3, "draft": "a/b", "ep": 2}, "sglang", "beside attention over data-parallel groups"),
        ({"speculated_tokens": 3, "draft": "a/b", "dp": 1, "pp": 2}, "sglang", "beside pipeline parallelism"),
        ({"tp": 12, "dp": 1, "ep": 1, "chips": 12}, "vllm", "12 chips are not"),
        ({"tp": 6, "dp": 4, "ep": 24, "chips": 24}, "vllm", "cannot split a replica of"),
        ({"chip": "mi300x"}, "trtllm", "trtllm does not run on mi300x; engines that do: vllm, sglang"),
        ({"chip": "tpu-v6e"}, "sglang", "sglang does not run on tpu-v6e; engines that do: vllm"),
        ({"chip": "wse-3"}, "vllm", "none of the engines known here does"),
        ({"chip": "tpu-v6e", "tp": 16, "dp": 1, "ep": 1, "chips": 16}, "vllm", "is started on one host here"),
    ],
)
def test_what_an_engine_cannot_do(changes: dict[str, Any], engine: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        launch(engine, "some/model", dataclasses.replace(POINT, **changes), 1280)


def test_engines_know_chips_of_the_facts() -> None:
    import tomllib

    rows = tomllib.loads(Path(engines.__file__).with_name("engines.toml").read_text())
    known = set(load().machines)
    for engine in ENGINES:
        chips = {*rows[engine]["chips"], *rows[engine].get("plugins", {})}
        assert chips <= known
        assert all(engines.chips_of_a_node(chip) >= 1 for chip in chips)
    guessed = rows["nodes"].pop("guessed")
    assert set(rows["nodes"]) | set(guessed) <= known
    assert not set(rows["nodes"]) & set(guessed)
    with pytest.raises(BadInput, match=r"no row of engines\.toml says how many cs-3"):
        engines.chips_of_a_node("cs-3")


def test_a_guessed_host_is_said() -> None:
    told = launch("vllm", "some/model", dataclasses.replace(POINT, chip="l40s", chips=2, tp=2, pp=1, dp=1, ep=1), 2)
    assert "# that one host has 8 l40s is a guess" in told


def test_models_that_an_engine_can_load(tmp_path: Path) -> None:
    assert model_source("qwen3-32b") == "Qwen/Qwen3-32B"
    assert model_source("some/Model-7B.v2") == "some/Model-7B.v2"
    (tmp_path / "config.json").write_text("{}")
    assert model_source(str(tmp_path)) == str(tmp_path)
    for name in ("palm-62b", str(tmp_path / "config.json"), "qwen3-32b-fp8-nonsense", "a/b/c", "../x", ""):
        with pytest.raises(BadInput, match="names no published weights"):
            model_source(name)


QWEN3 = ("plan", "--model", "qwen3-235b-a22b", "--chips-from", "h100-sxm", "--max-chips", "16", "--osl", "128")


def test_a_draft_that_the_engine_forbids(capsys: pytest.CaptureFixture[str]) -> None:
    """What came before: one command for two nodes, with a speculation that SGLang forbids beside attention-DP."""
    main([*QWEN3, "--emit", "sglang", "--draft", "qwen3-0.6b", "--pick", "throughput", "--json"])
    answer = json.loads(capsys.readouterr().out)["launch"]
    for words in commands(answer["command"]):
        assert not ("STANDALONE" in words and "--attn-dp-size" in words)
    nodes = -(-answer["configuration"]["chips"] // 8)
    assert len(commands(answer["command"])) == nodes
    assert answer["configuration"]["batch"] > 16, "the best that it can start, not the first"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--model", "palm-62b", "--emit", "vllm"), "names no published weights"),
        (("--model", "qwen3-32b", "--chips-from", "mi300x", "--emit", "trtllm"), "engines that do: vllm, sglang"),
        (("--model", "qwen3-32b", "--chips-from", "tpu-v6e", "--emit", "sglang"), "engines that do: vllm"),
    ],
)
def test_commands_that_could_not_work(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*PLAN, *arguments])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_what_is_expected_is_said_where_there_is_a_token_after_the_first() -> None:
    assert launch("vllm", "m", POINT, 10).startswith(
        "# 8 x h100-sxm, 100 requests in flight, expected 10 ms a token; vllm"
    )
    alone = dataclasses.replace(POINT, tpot_s=None)
    assert launch("vllm", "m", alone, 10).startswith("# 8 x h100-sxm, 100 requests in flight; vllm")


@pytest.mark.parametrize(
    ("chips", "tp", "dp", "replicas"),
    [(16, 16, 1, False), (8, 4, 2, False), (16, 8, 2, True)],  # a host has 8 of them
)
def test_replicas_of_a_dense_model_beyond_a_host(chips: int, tp: int, dp: int, replicas: bool) -> None:
    point = dataclasses.replace(POINT, chips=chips, tp=tp, dp=dp, ep=1)
    text = launch("sglang", "m", point, 10, has_experts=False)
    assert ("replicas: start each on its own" in text) is replicas
    assert not replicas or "one of 2 replicas: start each on its own 8 chips" in text


def test_redundant_experts_and_overlap() -> None:
    more = {"redundant_experts": 32, "overlap": "two-batch"}
    found = options("vllm", **more)
    assert json.loads(found["--eplb-config"]) == {"num_redundant_experts": 32}
    assert {"--enable-eplb", "--enable-dbo"} <= set(found)
    assert found["--all2all-backend"] == "deepep_low_latency"
    found = options("sglang", **more)
    assert (found["--ep-num-redundant-experts"], found["--moe-a2a-backend"]) == ("32", "deepep")
    assert "--enable-two-batch-overlap" in found
    for change, sentence in (({"redundant_experts": 32}, "load balancer"), ({"overlap": "two-batch"}, "micro-batches")):
        with pytest.raises(BadInput, match=sentence):
            options("trtllm", tp=1, dp=8, **change)


@pytest.mark.parametrize("engine", ENGINES)
def test_pools_of_their_own(engine: str) -> None:
    split = dataclasses.replace(
        POINT, chips=12, tp=1, dp=8, prefill_chips=2, prefill_tp=2, prefill_pp=1, prefill_ep=1, prefill_dp=1,
        prefill_instances=2,
    )  # fmt: skip
    text = launch(engine, "some/model", split, 1280)
    assert "# one server of the prefill pool, on 2 x h100-sxm" in text
    assert "# one server of the decode pool, on 8 x h100-sxm" in text
    assert "in front of 2 prefill servers" in text
    told = {"vllm": "NixlConnector", "sglang": "--disaggregation-mode prefill", "trtllm": "trtllm-serve disaggregated"}
    assert told[engine] in text
    if engine == "vllm":  # caches are fetched from there, not from localhost; hybrids have states to move as well
        settings = "export VLLM_NIXL_SIDE_CHANNEL_HOST=THIS_ADDRESS VLLM_SSM_CONV_STATE_LAYOUT=DS"
        assert text.splitlines().count(settings) == 2
        pools = "--prefill http://PREFILL_0_ADDRESS:8000 --prefill http://PREFILL_1_ADDRESS:8000 --decode http://DECODE"
        assert f"vllm-router --vllm-pd-disaggregation {pools}" in text
    lines = " ".join(line for line in text.splitlines() if not line.startswith("#"))
    written = {word for word in lines.split() if word.startswith("--")}
    assert written <= options_of(engine)
