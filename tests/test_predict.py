"""Cases: defaults filled in, placement, topology, chunks, drafts, notes, and hard-wired machines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flashstill.arch import LatentAttention, load_architecture
from flashstill.cost.phases import prefill_step
from flashstill.errors import BadInput, FlashstillError
from flashstill.facts import load
from flashstill.parallel import Layout
from flashstill.plan.case import CASE_FIELDS, Case
from flashstill.plan.predict import Prediction, completed, predict
from flashstill.plan.resolve import resolve
from flashstill.workload import Attention, IndexScores, Matmul, decode
from tests.commands import refuse

FACTS = load()


def ask(model: str = "llama-3.1-8b", chip: str = "h100-sxm", **more: Any) -> Any:
    (answer,) = predict(FACTS, [Case.of(model=model, chip=chip, **more)])
    return answer


@pytest.mark.parametrize(
    ("flags", "degrees"),
    [
        ({}, (1, 1, 1, 1)),
        ({"pp": 4}, (1, 4, 1, 1)),
        ({"chips": 8}, (8, 1, 1, 1)),
        ({"chips": 128}, (32, 4, 1, 1)),  # 32 heads
        ({"chips": 8, "pp": 2}, (4, 2, 1, 1)),
        ({"chips": 8, "tp": 2}, (2, 1, 1, 4)),
    ],
)
def test_layouts_are_filled_in(flags: dict[str, int], degrees: tuple[int, ...]) -> None:
    used = completed(FACTS, Case.of(model="llama-3.1-8b", chip="h100-sxm", **flags)).deployment
    assert (used.tp, used.pp, used.ep, used.dp) == degrees
    assert used.chips == np.prod(degrees) / degrees[2]


class TestRefusals:
    @pytest.mark.parametrize(
        ("flags", "sentence"),
        [
            ({"chip": "tpu-v6e", "topology": "4x4", "chips": 32}, "4x4 has 16 chips, but 32 are asked for"),
            ({"chip": "tpu-v6e", "topology": "32x32"}, "joins at most 256"),
            ({"chip": "tpu-v6e", "topology": "2x2x2"}, "3 axes, but tpu-v6e is a torus of 2"),
            ({"chip": "tpu-v6e", "topology": "four"}, "not edges such as 4x4x8"),
            ({"topology": "2x2"}, "is switch-connected"),
            ({"tp": 3}, "32 heads over 3 chips"),
            ({"concurrency": 0}, "the number of requests in flight must be at least 1"),
            ({"isl": -1}, "isl must be at least 1"),
            ({"chunk": 0}, "chunk must be at least 1"),
            ({"isl": 131072}, "beyond the 131072 tokens"),
            ({"weights_in": "sram"}, "no memory called 'sram'"),
            ({"draft": "qwen3-0.6b"}, "cannot draft for"),
            ({"draft": "heads", "acceptance": 1.0}, "between 0 and 1"),
            ({"draft": "heads", "acceptance_decay": 1.5}, "acceptance_decay must be above 0 and at most 1"),
            ({"draft": "heads"}, "has no heads that predict further tokens, as "),
            ({"engine": "vlm"}, "the nearest known: vllm"),
            ({"chip": "taalas-hc1", "model": "qwen3-8b"}, "runs nothing else"),
            ({"chip": "taalas-hc1", "tp": 2}, "tp cannot be 2"),
        ],
    )
    def test_nonsense_is_told(self, flags: dict[str, Any], sentence: str) -> None:
        case = Case.of(**({"model": "llama-3.1-8b", "chip": "h100-sxm"} | flags))
        with pytest.raises(FlashstillError, match=sentence.replace(".", r"\.")):
            completed(FACTS, case)
        assert sentence in predict(FACTS, [case])[0].reason

    def test_a_topology_that_is_too_small(self, capsys: pytest.CaptureFixture[str]) -> None:
        said = refuse(
            capsys, "predict", "--model", "llama-3.1-8b", "--chip", "tpu-v5p", "--chips", "16", "--topology", "2x2x2"
        )
        assert "8 chips, but 16 are asked for" in said


class TestNotes:
    def test_a_format_that_the_chip_lacks(self) -> None:
        older = ask(chip="a100-80g", precision="fp8")
        assert older.note == "fp8 weights are multiplied in bf16, as a100-80g has no fp8"
        assert ask(chip="h100-sxm", precision="fp8").note == ""

    def test_repeated_heads(self) -> None:
        assert "each of 8 key/value heads is held by 2 chips" in ask(tp=16).note

    def test_beyond_the_fast_links(self) -> None:
        assert "beyond 8 chips" in ask(tp=16).note

    def test_who_waits(self) -> None:
        answer = ask(chip="h100-sxm", tp=1, isl=60000, osl=1000, concurrency=64)
        assert "of 64 requests at a time, the others wait" in answer.note

    def test_no_engine_on_sram_machines(self) -> None:
        alone = ask(chip="groq-lpu", chips=128, concurrency=4)
        whole = completed(FACTS, Case.of(model="llama-3.1-8b", chip="groq-lpu", chips=128))
        assert whole.deployment.engine == "none"
        told = ask(chip="groq-lpu", chips=128, concurrency=4, engine="vllm")
        assert "vllm is not known to run on groq-lpu" in told.note
        assert told.tpot_s > alone.tpot_s


class TestPlacement:
    def test_the_host_is_slow_and_holds_much(self) -> None:
        model = "llama-3.1-70b"
        assert not ask(model, tp=1).fits
        host = ask(model, tp=1, weights_in="host")
        assert host.fits
        link = FACTS.value("h100-sxm", "host_link_bytes_per_s")
        weights = 2.0 * load_architecture(model).parameters
        assert host.tpot_s > 0.9 * weights / link
        assert host.tpot_s > 10 * ask(model, tp=4).tpot_s

    def test_a_cache_in_the_host(self) -> None:
        near, far = (ask(isl=8192, concurrency=32, kv_in=tier) for tier in (None, "host"))
        assert far.tpot_s > near.tpot_s
        assert far.joules_per_output_token > near.joules_per_output_token

    @pytest.mark.parametrize("chip", ["tpu-v5p", "h100-sxm", "sn40l", "gb200"])
    def test_a_byte_of_the_host_costs_most(self, chip: str) -> None:
        conditions = resolve(FACTS, *Case.of(model="llama-3.1-8b", chip=chip)).conditions
        host, main = conditions.chip.tier("host"), conditions.chip.memory
        assert host.joules_per_byte_total > main.joules_per_byte_total
        assert host.bytes_per_s < main.bytes_per_s
        assert host.bytes > main.bytes


def test_a_long_slice_is_slower_than_a_cube() -> None:
    cube, line = (ask("llama-3.1-70b", "tpu-v5p", topology=shape, engine="none") for shape in ("4x4x4", "1x1x64"))
    assert line.tpot_s > cube.tpot_s
    assert ask("llama-3.1-70b", "tpu-v5p", chips=64, engine="none").tpot_s == cube.tpot_s


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-20b", "deepseek-v3"])
@pytest.mark.parametrize("chunk", [512, 3000, 8192])
def test_chunks_stand_for_their_sum(model: str, chunk: int) -> None:
    """Simpson's rule against every chunk by itself; the rest differs by what a longer last chunk would read."""
    conditions = resolve(FACTS, *Case.of(model=model, chip="h200-sxm")).conditions
    shape, layout, length = load_architecture(model), Layout(tp=8.0), 24000.0
    found = prefill_step(shape, conditions, layout, 1.0, length, chunk=chunk)
    passes = int(np.ceil(length / chunk))
    whole = prefill_step(shape, conditions, layout, 1.0, length)
    assert found.macs == pytest.approx(whole.macs, rel=0.03 if "gpt-oss" in model else 1e-2)
    assert found.seconds >= 0.97 * whole.seconds
    assert found.joules["weights"] == pytest.approx(passes * whole.joules["weights"], rel=0.02)


def test_a_chunk_that_holds_the_prompt_changes_nothing() -> None:
    assert ask(chunk=4096) == ask()
    assert ask(chunk=256).ttft_s > ask().ttft_s


def test_drafts_pay_at_batch_one() -> None:
    plain = ask("llama-3.1-70b", tp=8, concurrency=1)
    drafted = ask("llama-3.1-70b", tp=8, concurrency=1, draft="llama-3.2-1b", acceptance=0.9)
    assert drafted.tpot_s < plain.tpot_s


def test_a_model_in_the_wiring() -> None:
    answer = ask("Llama-3.1-8B", "taalas-hc1", concurrency=1)
    assert answer.fits
    assert answer.tpot_s == pytest.approx(1 / 17000)
    assert answer.tpot_low_s <= answer.tpot_s < answer.tpot_high_s
    assert answer.joules_per_output_token == pytest.approx(250 / 17000)
    assert answer.ttft_s is None
    assert "not modelled" in answer.note


class TestSparseAttention:
    MODEL = load_architecture("deepseek-v3.2")

    def test_it_reads_the_best_tokens_and_scores_all(self) -> None:
        for context in (1000.0, 50000.0):
            found = {op.name: op for op in decode(self.MODEL, 1.0, context)}
            attention, scores = found["attention"], found["index scores"]
            assert isinstance(attention, Attention)
            assert isinstance(scores, IndexScores)
            assert attention.seen == min(context, 2048)
            assert (scores.seen, scores.width, scores.heads) == (context, 128, 64)

    def test_its_matrices_are_all_read(self) -> None:
        mixer = self.MODEL.layers[0].attention
        assert isinstance(mixer, LatentAttention)
        names = {"index query", "index key"}
        read = sum(
            float(op.columns * op.depth * op.count)
            for op in decode(self.MODEL, 1.0, 100.0)
            if isinstance(op, Matmul) and op.name in names
        )
        assert mixer.indexer is not None
        assert read == 61 * mixer.indexer.matrix_parameters(self.MODEL.width, mixer.query_rank or 0)

    def test_long_contexts_get_cheaper_to_decode(self) -> None:
        """Long answers to short prompts: on 8 chips a long prompt is no cheaper (16 heads fill a tile of 64)."""
        dense, sparse = (
            ask(name, "h200-sxm", tp=8, isl=1000, osl=100000, concurrency=16)
            for name in ("deepseek-v3", "deepseek-v3.2")
        )
        assert sparse.tpot_s < dense.tpot_s


def test_every_flag_is_a_column() -> None:
    from flashstill.cli.serving import predict as command

    flags = {parameter.name for parameter in command.params}
    assert set(CASE_FIELDS) <= flags | {"measured_acceptance"}  # what --acceptance takes beside a number
    with pytest.raises(BadInput):
        completed(FACTS, Case.of(model="llama-3.1-8b", chip="h100-sxm", draft="heads", draft_tokens=0))


def test_heads_draft_only_where_a_model_has_them() -> None:
    own = ask("deepseek-v3", "h200-sxm", tp=8, isl=128, osl=128, draft="heads")
    assert own.tpot_s < ask("deepseek-v3", "h200-sxm", tp=8, isl=128, osl=128).tpot_s
    assert "trained" not in own.note
    for name in ("qwen3-32b", "kimi-k2", "llama-3.1-70b"):
        with pytest.raises(BadInput, match="has no heads"):
            completed(FACTS, Case.of(model=name, chip="h200-sxm", tp=8, draft="heads"))
    new = ask("llama-3.1-70b", "h200-sxm", tp=8, isl=128, osl=128, draft="new-heads")
    assert "the heads that draft would still have to be trained for llama-3.1-70b" in new.note


def test_an_answer_says_where_no_serving_run_was_fitted_and_its_band_is_widest() -> None:
    ask = Case.of(model="llama-3.1-8b", chip="h100-sxm", tp=1, isl=500, osl=200, concurrency=8)
    measured, sibling, other = predict(FACTS, [ask, ask.but(chip="h20"), ask.but(chip="mi300x")])
    assert "no serving run was fitted" not in measured.note + sibling.note
    assert "gpu-amd chips are estimates, to which no serving run was fitted" in other.note

    def width(answer: Prediction) -> float:
        assert answer.tpot_high_s is not None
        assert answer.tpot_low_s is not None
        return answer.tpot_high_s / answer.tpot_low_s

    assert width(measured) < width(sibling) < width(other)
