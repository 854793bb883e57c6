"""Cases that nobody calibrated on: their reader, the rows listed apart, and what their sources taught of chips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.links import link_cost
from flashstill.cost.training import train_step
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.hardware.software import software_of, software_on
from flashstill.parallel import Exchange
from flashstill.parallel.training import TrainingPlan
from flashstill.plan.bands import COMBINATION, NEW_MODEL, NEW_MODEL_AND_CHIP, STACK, _bands, _ends
from flashstill.plan.predict import Case, predict
from flashstill.validation.anchors.packed import SHIPPED, unpacked
from flashstill.validation.anchors.rated import band_of
from flashstill.validation.anchors.tables import read_rows
from flashstill.validation.anchors.training_unseen import UNSEEN as TABLES
from flashstill.validation.anchors.training_unseen import compare_unseen_training
from flashstill.validation.anchors.unseen import compare_unseen, unseen_apart
from flashstill.validation.apart import apart_cells
from flashstill.validation.error_table import all_comparisons, rows_apart
from flashstill.workload import Widths, state_bytes

FACTS = load()
UNSEEN = (
    "id,source,quoted,apart,model,chip,chips,tp,pp,ep,dp,isl,osl,concurrency,engine,precision,kv_precision,burst_share,cohort,"
    "measured_tpot_ms,measured_ttft_ms,measured_output_tokens_per_s\n"
    "a,,,,llama-3.1-8b,tpu-v6e,,2,,,,512,64,4,vllm,,,0,,7.5,60,500\n"
    "b,,,,llama-3.1-8b,gaudi3,,1,,,,512,64,32,,fp8,fp8,1,32,,,2500\n"
    "c,,,twice as fast as light,llama-3.1-8b,tpu-v6e,,1,,,,512,64,4,vllm,,,,,0.1,,\n"
    "d,,,,no-such-model,tpu-v6e,,1,,,,512,64,4,vllm,,,,,7.5,,\n"
)


def test_a_row_is_compared_by_its_time_per_token_else_by_its_rate_and_by_its_first_token(tmp_path: Path) -> None:
    (tmp_path / "serving_unseen.csv").write_text(UNSEEN, encoding="utf-8")
    asked = {"model": "llama-3.1-8b", "isl": 512, "osl": 64}
    shown, whole = predict(
        FACTS,
        [
            Case.of(**asked, chip="tpu-v6e", tp=2, concurrency=4, engine="vllm", burst_share=0.0),
            Case.of(
                **asked,
                chip="gaudi3",
                tp=1,
                concurrency=32,
                precision="fp8",
                kv_precision="fp8",
                burst_share=1.0,
                cohort=32,
            ),
        ],
    )
    found = {each.quantity: each for each in compare_unseen(FACTS, tmp_path)}
    assert {name: each.predicted.tolist() for name, each in found.items()} == {
        "tpot_s": [shown.tpot_s],
        "ttft_s": [shown.ttft_s],
        "output_tokens_per_s": [whole.output_tokens_per_s],
    }
    assert [each.measured.tolist() for each in found.values()] == [[0.0075], [0.06], [2500.0]]
    assert [each.unanswered for each in found.values()] == [1, 0, 0]
    assert {each.fitted for each in found.values()} == {"not fitted"}
    assert [each.anchor for each in all_comparisons(FACTS, tmp_path)] == ["serving_unseen"] * 3


def test_rows_that_cannot_be_as_stated_are_listed_and_not_counted(tmp_path: Path) -> None:
    (tmp_path / "serving_unseen.csv").write_text(UNSEEN, encoding="utf-8")
    listed = rows_apart(FACTS, tmp_path)
    assert apart_cells(listed)[1:] == [("vllm tpu-v6e llama-3.1-8b", "1", "512", "64", "4", "twice as fast as light")]


def test_a_directory_without_the_table_has_none(tmp_path: Path) -> None:
    assert compare_unseen(FACTS, tmp_path) == []
    assert unseen_apart(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "count", "kinds", "models", "unanswered"),
    [
        # the time per token and the first token of Llama 2 13B beyond its 4096 tokens
        ("serving_unseen", 117, 12, 15, 2),
        # four times per token and a first token of Qwen3.8-27B, of which no configuration is known
        ("serving_unseen_second", 124, 15, 30, 5),
        # a time per token of Nemotron 3 Super, whose experts work in a narrower space
        ("serving_unseen_third", 79, 12, 20, 1),
        ("serving_unseen_fourth", 91, 20, 25, 0),
        # a time per token and a first token of 40 heads over 16 chips, which its library pads
        ("serving_unseen_sixth", 94, 21, 29, 2),
    ],
)
def test_the_shipped_rows_name_their_sources_and_are_all_answered_but_few(
    name: str, count: int, kinds: int, models: int, unanswered: int
) -> None:
    with unpacked(SHIPPED) as directory:
        rows = read_rows(directory / f"{name}.csv")
        compared = [each for each in compare_unseen(FACTS, directory) if each.anchor == name]
    assert all(row["source"] and row["quoted"] for row in rows)
    assert len({row["id"] for row in rows}) == len(rows) == count
    assert len({row["chip"] for row in rows}) >= kinds
    assert len({row["model"] for row in rows}) >= models
    assert sum(each.unanswered for each in compared) == unanswered
    assert all(each.fitted == "not fitted" for each in compared)


def test_sglang_reserves_memory_for_each_replica_of_attention_that_shares_experts() -> None:
    # server_args: 4.5 MiB for each of eight ranks and of the 512 sequences of the largest graph, 19 GB of each chip
    case = Case.of(model="glm-5", chip="h200-sxm", tp=1, dp=8, ep=8, isl=8192, osl=1024, concurrency=512,
                   engine="sglang", precision="fp8-block", burst_share=0.5)  # fmt: skip
    kept, none = (predict(facts, [case])[0] for facts in (FACTS, FACTS.edited(["engine-sglang.rank_bytes=0"])))
    assert kept.cache_room_bytes is not None
    assert none.cache_room_bytes is not None
    assert none.cache_room_bytes - kept.cache_room_bytes == pytest.approx(8 * 8 * 4.5 * 2**20 * 512, rel=0.01)
    # measured: 725 tokens/s at 34 ms a token, so that some 26 ran at once
    assert kept.running == pytest.approx(40.7, rel=0.02)
    assert kept.output_tokens_per_s == pytest.approx(725.0, rel=0.25)


def test_replicas_of_a_dense_model_one_rank_and_more_than_a_node_reserve_nothing() -> None:
    for model, layout in (
        ("llama-3.1-70b", {"tp": 4, "dp": 2}),
        ("glm-5", {"tp": 8}),
        ("glm-5", {"tp": 1, "dp": 16, "ep": 16}),
    ):
        case = Case.of(model=model, chip="h200-sxm", engine="sglang", precision="fp8", **layout)
        rooms = [
            predict(facts, [case])[0].cache_room_bytes
            for facts in (FACTS, FACTS.edited(["engine-sglang.rank_bytes=0"]))
        ]
        assert rooms[0] == rooms[1] != 0


def test_sglang_gives_recurrent_states_a_pool_of_their_own_and_three_to_each_request() -> None:
    # server_args and kv_cache_configurator: 0.9/1.9 of the cache are for states, a third of which requests may run
    case = Case.of(model="qwen3.5-9b", chip="h100-sxm", tp=1, isl=342, osl=281, concurrency=512, engine="sglang")
    divided, pooled = (predict(facts, [case])[0] for facts in (FACTS, FACTS.edited(["engine-sglang.state_share=0"])))
    assert divided.cache_room_bytes == pooled.cache_room_bytes
    assert divided.cache_room_bytes is not None
    model = load_architecture("qwen3.5-9b")
    states = sum(layer.count * state_bytes(layer.attention, Widths()) for layer in model.layers)
    assert divided.sequences_fit == pytest.approx(divided.cache_room_bytes * 0.474 / (3.0 * states), rel=1e-6)
    # measured: 2,934 tokens/s with 46 ms between tokens, so that some 135 ran at once of 512
    assert divided.running == pytest.approx(161.0, rel=0.02)
    assert pooled.running == pytest.approx(512.0, rel=0.001)


def test_long_caches_bind_where_states_do_not_and_models_without_states_share_nothing() -> None:
    long = Case.of(model="qwen3.5-9b", chip="h100-sxm", tp=1, isl=100_000, osl=1000, concurrency=4, engine="sglang")
    divided, pooled = (predict(facts, [long])[0] for facts in (FACTS, FACTS.edited(["engine-sglang.state_share=0"])))
    assert divided.sequences_fit is not None
    assert pooled.sequences_fit is not None
    assert divided.sequences_fit == pytest.approx((1.0 - 0.474) * pooled.sequences_fit, rel=0.05)
    dense = long.but(model="qwen3-8b", isl=1000)
    rows = [predict(facts, [dense])[0] for facts in (FACTS, FACTS.edited(["engine-sglang.state_share=0"]))]
    assert rows[0].sequences_fit == rows[1].sequences_fit


def test_what_a_launch_command_sets_is_of_its_row(tmp_path: Path) -> None:
    header = UNSEEN.splitlines()[0].replace("apart,", "apart,edits,")
    row = "a,,,,{},llama-3.1-8b,h100-sxm,,1,,,,512,64,4,vllm,,,0,,7.5,,"
    (tmp_path / "serving_unseen.csv").write_text(f"{header}\n{row.format('')}\n{row.format('engine-vllm.layer_s=1')}\n")
    (compared,) = compare_unseen(FACTS, tmp_path)
    assert compared.predicted[1] > 20.0 > 0.1 > compared.predicted[0]  # a second for each layer


def test_joules_that_hold_something_else_are_listed_and_the_rest_of_the_row_is_compared(tmp_path: Path) -> None:
    header = UNSEEN.splitlines()[0].replace("apart,", "apart,boundary,") + ",measured_joules_per_output_token"
    row = "a,,,,with its host,llama-3.1-8b,h100-sxm,,1,,,,512,64,4,vllm,,,0,,7.5,60,500,9.9"
    (tmp_path / "serving_unseen.csv").write_text(f"{header}\n{row}\n")
    assert [each.quantity for each in compare_unseen(FACTS, tmp_path)] == ["tpot_s", "ttft_s"]
    assert [each.reason for each in unseen_apart(tmp_path)] == ["joules: with its host"]


def test_a_second_table_is_compared_apart_and_by_its_joules(tmp_path: Path) -> None:
    heading, first = UNSEEN.splitlines()[:2]
    second = f"{heading},sampling,measured_joules_per_output_token\n{first.replace('tpu-v6e', 'h100-sxm')},top-p,0.3\n"
    (tmp_path / "serving_unseen.csv").write_text(UNSEEN, encoding="utf-8")
    (tmp_path / "serving_unseen_second.csv").write_text(second, encoding="utf-8")
    found = {(each.anchor, each.quantity): each for each in compare_unseen(FACTS, tmp_path)}
    assert len(found) == 6
    asked = {"model": "llama-3.1-8b", "isl": 512, "osl": 64, "chip": "h100-sxm", "tp": 2, "concurrency": 4}
    (answer,) = predict(FACTS, [Case.of(**asked, engine="vllm", burst_share=0.0, sampling="top-p")])
    joules = found["serving_unseen_second", "joules_per_output_token"]
    assert joules.measured.tolist() == [0.3]
    assert joules.predicted.tolist() == [answer.joules_per_output_token]
    assert found["serving_unseen_second", "tpot_s"].predicted.tolist() == [answer.tpot_s]


def test_every_column_that_a_case_has_can_be_one_of_a_row(tmp_path: Path) -> None:
    heading, first = UNSEEN.splitlines()[:2]
    added = "draft,draft_tokens,acceptance,chunk"
    table = f"{heading},{added}\n{first},new-heads,3,0.7,256\n{first.replace('a,', 'e,', 1)},,,,\n"
    (tmp_path / "serving_unseen_fourth.csv").write_text(table, encoding="utf-8")
    found = {each.quantity: each for each in compare_unseen(FACTS, tmp_path)}
    asked = {"model": "llama-3.1-8b", "chip": "tpu-v6e", "tp": 2, "isl": 512, "osl": 64, "concurrency": 4}
    drafts = {"draft": "new-heads", "draft_tokens": 3, "acceptance": 0.7, "chunk": 256}
    cases = [Case.of(**asked, **more, engine="vllm", burst_share=0.0) for more in (drafts, {})]
    assert found["tpot_s"].predicted.tolist() == [each.tpot_s for each in predict(FACTS, cases)]
    assert found["tpot_s"].predicted[0] < found["tpot_s"].predicted[1]


TRAINED = (
    "id,source,quoted,apart,framework,model,hidden,heads,blocks,ff,vocabulary,chip,chips,precision,batch,microbatch,length,tp,pp,"
    "cp,ep,fsdp,interleave,recompute,measured_tokens_per_s_per_chip\n"
    "a,,,,,llama-3.1-8b,,,,,,h100-sxm,8,bf16,16,2,8192,,,,,8,,selective,6667\n"
    "b,,,,none,mpt-7b,4096,32,32,16384,50368,h100-sxm,8,bf16,48,6,2048,2,,,,4,,,10643\n"
    "c,,,a chip of its own,,llama-3.1-8b,,,,,,h100-sxm,8,bf16,16,2,8192,,,,,8,,,6667\n"
    "d,,,,,no-such-model,,,,,,h100-sxm,8,bf16,16,2,8192,,,,,8,,,6667\n"
)


def test_training_steps_are_priced_in_their_layout_with_their_framework(tmp_path: Path) -> None:
    (tmp_path / "training_unseen.csv").write_text(TRAINED, encoding="utf-8")
    (found,) = compare_unseen_training(FACTS, tmp_path)
    assert (found.measured.tolist(), found.unanswered, found.fitted) == ([6667.0, 10643.0], 1, "not fitted")
    assert found.engine == ("nemo", "none")
    step = train_step(
        load_architecture("llama-3.1-8b"),
        make_conditions(
            chip_from_facts(FACTS, "h100-sxm"), uniform("bf16", "bf16"), software=software_of(FACTS, "nemo")
        ),
        TrainingPlan(batch=16.0, microbatch=2.0, length=8192.0, fsdp=8.0, zero1=True, recompute="selective"),
    )
    assert found.predicted[0] == pytest.approx(float(step.tokens_per_s))
    # 12 d^2 parameters a block and the embedding, twice two and attention: between 0.4 and 0.75 of 989 TFLOP/s
    assert 0.4 * 989e12 < found.predicted[1] * 6.0 * (12 * 32 * 4096**2 + 50368 * 4096) < 0.75 * 989e12
    assert compare_unseen_training(FACTS, tmp_path / "elsewhere") == []


def test_a_training_rows_edits_are_numbers_of_its_own_chip(tmp_path: Path) -> None:
    heading, first = TRAINED.splitlines()[:2]
    table = f"{heading},edits\n{first},\n{first.replace('a,', 'e,', 1)},h100-sxm.power_limit_w=300\n"
    (tmp_path / "training_unseen_second.csv").write_text(table, encoding="utf-8")
    (found,) = compare_unseen_training(FACTS, tmp_path)
    assert found.anchor == "training_unseen_second"
    assert found.predicted[1] < 0.7 * found.predicted[0]


def test_the_shipped_training_steps_are_all_answered() -> None:
    with unpacked(SHIPPED) as directory:
        tables = [read_rows(directory / f"{name}.csv") for name in TABLES]
        found = compare_unseen_training(FACTS, directory)
    for rows, count in zip(tables, (50, 22, 29, 18), strict=True):
        assert all(row["source"] and row["quoted"] for row in rows)
        assert len({row["id"] for row in rows}) == len(rows) == count
    assert [(each.anchor, len(each.measured), each.unanswered) for each in found] == [
        (TABLES[0], 46, 0),
        (TABLES[1], 22, 0),
        (TABLES[2], 29, 0),
        (TABLES[3], 18, 0),
    ]


def all_reduce_seconds(name: str, chips: float) -> float:
    chip = chip_from_facts(FACTS, name)
    exchange = Exchange(name="x", kind="all-reduce", count=1.0, bytes=8192.0, group=chips, tier="tensor")
    return float(np.asarray(link_cost(chip, chip.calibration, exchange).seconds))


def test_a_ring_over_the_cores_of_trainium_passes_each_of_them_twice() -> None:
    # AWS: 1 to 2 us a hop; 31 hops each way over the 32 cores of 16 chips
    assert 62e-6 < all_reduce_seconds("trainium1", 16.0) < 124e-6
    hops = 2.0 * chip_from_facts(FACTS, "trainium1").calibration.hop_s  # an edge of 4 closes, an edge of 2 does not
    assert all_reduce_seconds("trainium1", 16.0) - all_reduce_seconds("trainium1", 4.0) == pytest.approx(
        12.0 * 5e-6 + hops * (4.0 - 2.0)
    )
    assert all_reduce_seconds("trainium2", 16.0) < 40e-6


def test_memory_for_buffers_is_that_of_the_chips_runtime() -> None:
    card, usual = (software_on(FACTS, "vllm", "npu-tenstorrent"), software_of(FACTS, "vllm"))
    assert card.buffer_bytes + card.graph_bytes < 1e9 < usual.buffer_bytes + usual.graph_bytes
    assert software_on(FACTS, "vllm", "gpu-nvidia").buffer_bytes == usual.buffer_bytes
    (found,) = predict(
        FACTS, [Case.of(model="llama-3.1-8b", chip="wormhole-n150", tp=1, precision="fp8", engine="vllm")]
    )
    assert found.fits


def test_kernels_of_h20_come_nearer_to_its_low_peak_than_those_of_the_same_die_at_full_rate() -> None:
    low, full = (chip_from_facts(FACTS, name).calibration for name in ("h20", "h100-sxm"))
    for kind in ("matmul", "prompt-attention"):
        for engine in ("", "vllm", "sglang", "trtllm"):
            assert full.kernel(kind, "bf16", engine).compute_efficiency < 0.83
            assert 0.84 < low.kernel(kind, "bf16", engine).compute_efficiency < 0.9
            assert low.kernel(kind, "bf16", engine).floor_s == full.kernel(kind, "bf16", engine).floor_s
    assert low.kernel("experts", "bf16", "sglang").compute_efficiency == pytest.approx(0.58)


def test_two_cores_attend_to_two_sequences_at_once() -> None:
    one, two = (
        chip_from_facts(FACTS, name).calibration.kernel("decode-attention", "bf16") for name in ("tpu-v6e", "tpu-v7")
    )
    assert two.block_s == pytest.approx(one.block_s / 2.0)
    assert two.floor_s == one.floor_s


def ends(chip: str, engine: str, quantity: str) -> tuple[float, float]:
    (answer,) = predict(FACTS, [Case.of(model="llama-3.1-8b", chip=chip, engine=engine, tp=1, concurrency=4)])
    band = band_of(answer, quantity)
    assert band is not None
    return band


def test_bands_are_narrow_only_where_something_was_measured() -> None:
    measured, energy = ends("h100-sxm", "vllm", "joules_per_output_token"), "joules_per_output_token"
    assert measured[0] > 0.8
    # nobody has measured the power of these: neither of the chip, nor of the engine
    for chip, engine in (("b200", "vllm"), ("rtx-4090", "vllm"), ("h100-sxm", "transformers")):
        low, high = ends(chip, engine, energy)
        assert low < measured[0]
        assert high > measured[1]
    assert ends("h100-sxm", "vllm", "ttft_s")[0] > 0.5 > ends("rtx-4090", "vllm", "ttft_s")[0]
    assert ends("mi300x", "sglang", "tpot_s") == pytest.approx((0.7, 2.2))


def test_bands_of_nvidias_chips_widen_with_what_is_new_and_are_no_narrower_than_an_engines_own() -> None:
    chip = chip_from_facts(FACTS, "b200")
    for engine in ("vllm", "sglang", "trtllm"):
        own = {
            basis: _ends(FACTS, (f"engine-{engine}",), "tpot", basis)
            for basis in (STACK, COMBINATION, NEW_MODEL, NEW_MODEL_AND_CHIP)
        }
        found = {basis: _bands(FACTS, basis, chip, engine) for basis in own}
        for basis, ends_of_engine in own.items():
            assert ends_of_engine is not None
            assert found[basis].tpot[0] <= ends_of_engine[0]
            assert found[basis].tpot[1] >= ends_of_engine[1]
        assert found[STACK].tpot == own[STACK]
        widths = [bands.tpot[1] / bands.tpot[0] for bands in found.values()]
        assert widths == sorted(widths)
        assert found[NEW_MODEL].tpot == pytest.approx((0.76, 1.5))
        # As measured (1.25, or the engine's own), not the inverse of the time per token's low end.
        rates = _ends(FACTS, (f"engine-{engine}",), "output_rate", NEW_MODEL)
        assert rates is not None
        assert found[NEW_MODEL].output_rate[1] <= max(1.25, rates[1])


def test_wormholes_are_joined_by_their_own_links_up_to_a_galaxy() -> None:
    asked = {"model": "llama-3.1-70b", "chip": "wormhole-n150", "precision": "fp8", "isl": 128, "osl": 16}
    answers = predict(FACTS, [Case.of(**asked, tp=tp, concurrency=32) for tp in (8, 32, 64)])
    assert ["data-centre network" in answer.note for answer in answers] == [False, False, True]


def test_the_constant_of_a_first_token_leaves_room_for_small_models() -> None:
    """Published first tokens of small models: Qwen3-1.7B on A100 11 ms, Llama 8B on GH200 16 ms, Llama 70B on two H100
    48 ms with prompts of 128, 1000 and 500 tokens (serving_unseen_second)."""
    cases = [
        Case.of(model="qwen3-1.7b", chip="a100-80g", engine="vllm", isl=128, concurrency=1),
        Case.of(model="llama-3.1-8b", chip="gh200", engine="trtllm", isl=1000, precision="fp8", concurrency=1),
        Case.of(model="llama-3.1-70b", chip="h100-sxm", engine="trtllm", tp=2, isl=500, precision="fp8", concurrency=1),
    ]
    for answer, measured_s in zip(predict(FACTS, cases), (0.0114, 0.0156, 0.0478), strict=True):
        assert answer.ttft_s is not None
        assert answer.ttft_s < 2.6 * measured_s
