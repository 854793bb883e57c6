"""Launch commands: what plan found, in the words of three engines; what they cannot express is refused."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import Any

import pytest

from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.plan.launch import launch, pick
from flashstill.plan.question import Point

POINT = Point(
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
