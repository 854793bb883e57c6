"""PaLM on TPU v4: figures of Pope et al. 2022 (arXiv 2211.05102), tables 1 to 3 and section 4.4."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.validation.anchors.palm import compare_palm, latency_s, longest_context

FACTS = load()
CHIP = chip_from_facts(FACTS, "tpu-v4")
FIELDS = "model chips phase batch input_len context_len output_tokens ffn_layout attn_layout weight_dtype"
COLUMNS = FIELDS.split()


def row(text: str) -> dict[str, str]:
    values = dict(zip(COLUMNS, text.split(), strict=True))
    return {name: "" if value == "-" else value for name, value in values.items()}


# Latencies in seconds: table 2 (540B) and table 3 (62B; from memory, checked against the MFU printed beside them).
LATENCIES = [
    ("palm-540b 64 prefill 1   2048 2048 0  WS-2D  head  int8", 0.29, 0.15),
    ("palm-540b 64 decode  64  -    2048 64 WS-2D  batch int8", 1.82, 0.15),
    ("palm-540b 64 prefill 512 2048 2048 0  WG-XYZ batch bf16", 85.2, 0.15),
    ("palm-540b 64 decode  512 -    2048 64 WS-2D  batch bf16", 6.0, 0.15),
    ("palm-540b 64 decode  64  -    2048 1  WS-2D  batch int8", 0.0285, 0.15),
    ("palm-540b 64 decode  64  -    2048 1  WS-2D  batch bf16", 0.0369, 0.15),
    ("palm-62b  16 prefill 1   2048 2048 0  WS-2D  head  int8", 0.16, 0.25),
    ("palm-62b  16 decode  32  -    2048 64 WS-2D  batch int8", 0.73, 0.25),
    ("palm-62b  32 prefill 512 2048 2048 0  WG-XYZ batch bf16", 20.2, 0.25),
    ("palm-62b   8 decode  512 -    2048 64 WS-2D  batch bf16", 5.1, 0.25),
]


@pytest.mark.parametrize(("text", "seconds", "within"), LATENCIES)
def test_latencies(text: str, seconds: float, within: float) -> None:
    assert latency_s(FACTS, CHIP, row(text)) == pytest.approx(seconds, rel=within)


@pytest.mark.parametrize(
    ("attention", "tokens"),
    [("multihead dh128", 1320), ("multiquery (head-sharded)", 660), ("multiquery (batch-sharded)", 43000)],
)
def test_longest_contexts(attention: str, tokens: int) -> None:
    """Table 1: batch 128 on 64 chips, 30 % of the memory for keys and values."""
    asked = row("palm-540b 64 max-context 128 - - - - - bf16") | {"attn_layout": attention}
    assert longest_context(CHIP, asked) == pytest.approx(tokens, rel=0.02)


def test_which_layout_wins_depends_on_the_batch() -> None:
    """Section 3.2: weights stay for few tokens and are gathered for many; two dimensions beat one on 64 chips."""

    def prefill_s(batch: int, weights: str) -> float:
        return latency_s(FACTS, CHIP, row(f"palm-540b 64 prefill {batch} 2048 2048 0 {weights} head bf16"))

    assert prefill_s(1, "WS-2D") < prefill_s(1, "WS-1D")
    assert prefill_s(1, "WS-2D") < prefill_s(1, "WG-XYZ")
    assert prefill_s(512, "WG-XYZ") < prefill_s(512, "WS-2D")
    # A cache split by sequences beats one that every chip repeats (section 3.3).
    decode = "palm-540b 64 decode 256 - 2048 1 WS-2D {} bf16"
    assert latency_s(FACTS, CHIP, row(decode.format("batch"))) < latency_s(FACTS, CHIP, row(decode.format("head")))


def test_rows_of_a_file(tmp_path: Path) -> None:
    assert compare_palm(FACTS, tmp_path) == []
    names = ["id", *COLUMNS, "latency_s", "other"]
    machine = {"id": "HW", "model": "TPU v4"}
    timed = {"id": "a", **row(LATENCIES[0][0]), "latency_s": "0.29"}
    lines = [",".join(names)] + [",".join(one.get(name, "") for name in names) for one in (machine, timed)]
    (tmp_path / "palm_other.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (found,) = compare_palm(FACTS, tmp_path)
    assert (found.anchor, found.quantity, found.chip) == ("palm_other", "latency", ("tpu-v4",))
    assert abs(found.errors[0]) < 0.15
