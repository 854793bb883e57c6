"""Fact rows: each one whole, each error in one sentence."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import pytest

from flashstill.cli import main
from flashstill.errors import BadInput, MissingFact
from flashstill.facts import Fact, Facts, load
from flashstill.facts.csv_files import COLUMNS, read_rows, to_csv
from flashstill.facts.lawful import lawful_range
from flashstill.hardware import chip_from_facts, known_chips, software_of
from flashstill.hardware.software import ENGINES, GAINS, software_on
from tests.commands import SHARED, refuse

ROWS = [fact for facts in load().rows.values() for fact in facts]
QUANTITY_UNITS = {
    "usd_per_mm2": "USD/mm2",
    "w_per_mm2": "W/mm2",
    "_um2": "um2",
    "_hz": "Hz",
    **dict.fromkeys(("transistors_per_bit", "cycles_per_weight", "pipeline_cycles", "die_stacks"), "1"),
    "transistors_per_mm2": "1/mm2",
    "defects_per_cm2": "1/cm2",
    "usd_per_byte": "USD/B",
    "flops_per_s": "FLOP/s",
    "bytes_per_s": "B/s",
    "memory_bytes": "B",
    "memory_visible_bytes": "B",
    "sram_bytes": "B",
    "cache_bytes": "B",
    "token_bytes": "B",
    "host_bytes": "B",
    "tokens_per_s": "1",  # a rate by experiment; `per` says of what
    "usd_per_w": "USD/W",
    **dict.fromkeys(("million_input", "million_cached", "million_output"), "USD/Mtok"),
    "g_per_kwh": "g/kWh",
    "l_per_kwh": "L/kWh",
    "_w": "W",
    "_nm": "nm",
    **dict.fromkeys(("diameter_mm", "edge_mm", "scribe_mm", "width_mm", "height_mm"), "mm"),
    **dict.fromkeys(("stack_bytes", "drive_bytes", "access_bytes"), "B"),
    "accesses_per_s": "1/s",
    **dict.fromkeys(("bits_per_parameter", "bits_per_token", "per_chip", "exposures"), "1"),
    "usd_per_wafer": "USD",
    "usd_mask_set": "USD",
    "usd_design": "USD",
    "usd_test": "USD",
    **dict.fromkeys(("usd_ip_memory", "usd_ip_links", "usd_ip_host", "usd_bring_up", "usd_rewire", "usd_host"), "USD"),
    "respins": "1",
    "_mm2": "mm2",
    "usd_per_hour": "USD/h",
    "usd_purchase": "USD",
    "usd_per_kwh": "USD/kWh",
    **dict.fromkeys(("volume_year", "known_year"), "year"),
    "usd_per_wafer_quoted": "USD",
    "usd_per_byte_quoted": "USD/B",
    "carrier_mm2_offered": "mm2",
    "lane_bytes_per_s_offered": "B/s",
    **dict.fromkeys(("largest_parameters", "context_tokens", "input_tokens", "output_tokens", "tokens_per_month"), "1"),
    "volume_packages": "1",
    **dict.fromkeys(("buffer_bytes", "graph_bytes", "rank_bytes"), "B"),
    "usd_per_lane": "USD",
    "step_mm": "mm",
    "_ratio": "1",
    "_exponent": "1",
    "_efficiency": "1",
    "_s": "s",
    "_years": "year",
    "_axes": "1",
    "_chips": "1",
    "_units": "1",
    "_edge": "1",
    "_peers": "1",
    "_low": "1",
    "_high": "1",
}
COUNTS = ("torus_axes", "direct_peers", "link_domain_chips", "wrap_edge", "matrix_edge", "compute_units")
MACHINES = {
    "tpu": "tpu-v2 tpu-v3 tpu-v4i tpu-v4 tpu-v5e tpu-v5p tpu-v6e tpu-v7 tpu-8t tpu-8i",
    "gpu": "v100-sxm a100-40g a100-80g h100-sxm h100-pcie h800-sxm h200-sxm h20 gh200 b100 b200 b300 gb200 gb300"
    " rubin l4 l40s l20 a10g rtx-4090 rtx-pro-6000 gb10 mi250 mi250x mi300x mi325x mi350x mi355x mi455x"
    " h100-nvl rtx-3090 rtx-a6000 a40 rtx-6000-ada rtx-5090 jetson-thor jetson-agx-orin jetson-orin-nano"
    " m1-max m2-ultra m3-max m3-ultra m4-max strix-halo arc-pro-b70"
    " t4 a10 rx-7900-xt rx-7900-xtx radeon-r9700 m4 m4-pro m5 rtx-5080 m1-pro m1-ultra m2 m2-max m3-pro",
    "cpu": "xeon-6980p",
    "npu": "gaudi2 gaudi3 trainium1 trainium2 trainium3 inferentia2 ascend-910b ascend-910c sn40l wormhole-n150"
    " blackhole-p150 maia-100 maia-200 mtia-v2",
    "sram": "groq-lpu groq-lp30 wse-2 wse-3 gc200 corsair taalas-hc1",
}
HARDWIRED = ("taalas-hc1",)
NAMED = [name for names in MACHINES.values() for name in names.split()]
PRICED = [name for name in NAMED if name not in HARDWIRED]
FACTS = load()


@pytest.mark.parametrize("owner", sorted({fact.name for fact in ROWS}))
def test_every_row_is_whole(owner: str) -> None:
    for fact in ROWS:
        if fact.name == owner:
            is_whole(fact)


def is_whole(fact: Fact) -> None:
    assert fact.low <= fact.value <= fact.high
    assert fact.value >= 0
    assert fact.per
    assert len(fact.source) >= 10
    assert fact.as_of >= "2024"
    if fact.kind == "estimate" and fact.quantity not in COUNTS:
        assert fact.low < fact.high, "an estimate has a range"
    if fact.kind == "datasheet":
        assert "from memory" not in fact.source
    if fact.kind != "estimate":
        assert "recollect" not in fact.source, "what was not checked is an estimate"
        assert not fact.source.startswith("estimate")
    if fact.kind == "measured":
        documents = ("documentation of", "source of", "release notes of")
        assert not fact.source.startswith(documents), "a program's own document is its data sheet; nothing was measured"
    units = {"s": "s", "bytes": "B"}
    bare = ("serving_measurements", "skew_exponent")
    if "." in fact.quantity or fact.name.startswith("engine") or fact.quantity in bare:  # coefficients, counts
        assert fact.unit == (
            "B/s" if fact.quantity.endswith("_bytes_per_s") else units.get(fact.quantity.rsplit("_", 1)[-1], "1")
        )
        return
    wanted = next((unit for ending, unit in QUANTITY_UNITS.items() if fact.quantity.endswith(ending)), None)
    assert wanted is None or fact.unit == wanted, f"{fact.quantity} in {fact.unit}"
    assert wanted is not None or fact.quantity.split("_")[0] == "pj" or "_pj_" in fact.quantity


@pytest.mark.parametrize(("of", "stands_for"), [("fp8-block", "fp8"), ("mxfp4", "fp4")])
def test_kernels_that_stand_for_those_of_another_format_have_their_values(of: str, stands_for: str) -> None:
    """AITER makes both of the same instructions of an MI355X; a fit of the one must not leave the other behind."""
    fitted, copied = (
        {row.quantity: (row.value, row.low, row.high) for row in FACTS.of("mi355x") if row.condition == condition}
        for condition in (of, stands_for)
    )
    assert {quantity.partition(".")[0] for quantity in fitted} == {"experts"}
    assert copied == fitted


@pytest.mark.slow
def test_no_number_of_a_chip_stands_in_python() -> None:
    """Nor a chip's name, outside of examples in docstrings."""
    names = set(load().machines) - {"this-machine"}
    for path in (Path(__file__).parents[1] / "src" / "flashstill").rglob("*.py"):
        # the recipe's default list of chips, and what the page shows first: names, no numbers
        if path.match("recipes/family.py") or path.match("explore/catalogue.py"):
            continue
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        texts = {id(node): node.value for node in nodes if isinstance(node, ast.Constant)}
        for node in nodes:
            if isinstance(node, ast.Expr):  # a docstring
                texts.pop(id(node.value), None)
        assert not names & {text for text in texts.values() if isinstance(text, str)}, path


def test_every_machine_is_there_and_in_its_class() -> None:
    for chip_class, names in MACHINES.items():
        for name in names.split():
            assert FACTS.machine(name).chip_class == chip_class
    assert set(FACTS.machines) == {*NAMED, "this-machine"}
    assert {fact.name for fact in ROWS if (fact.name, "die_mm2") in FACTS.rows} - {"cpu"} <= set(FACTS.machines)


@pytest.mark.parametrize("name", PRICED)
def test_named_chips_can_be_priced(name: str) -> None:
    chip = chip_from_facts(FACTS, name.upper())
    assert chip.name == name
    assert 0 < chip.idle_w < chip.power_limit_w
    assert name in known_chips(FACTS)


@pytest.mark.parametrize("name", PRICED)
def test_priced_chips_have_what_a_plan_asks_for(name: str) -> None:
    needed = (
        "link_bytes_per_s torus_axes link_domain_chips scale_out_bytes_per_s power_limit_w idle_w process_nm die_mm2"
    )
    for quantity in needed.split():
        assert FACTS.find(name, quantity) is not None, quantity
    assert FACTS.find(name, "usd_per_hour") or FACTS.find(name, "usd_purchase")
    for kept in ("memory", "host"):
        size, rate = FACTS.find(name, f"{kept}_bytes"), FACTS.find(name, f"{kept}_bytes_per_s")
        if rate is not None:
            assert size is not None
            assert size.condition == rate.condition
        if size is not None:
            # What a host holds may also be reached over the host's link.
            assert rate is not None or (kept == "host" and FACTS.find(name, "host_link_bytes_per_s"))
            assert FACTS.find(size.condition.lower(), "pj_per_bit"), "energies.csv knows the memory"
    assert FACTS.find(name, "memory_bytes") or FACTS.find(name, "sram_bytes_per_s")
    if FACTS.machine(name).chip_class == "tpu":
        assert FACTS.value(name, "matrix_edge") in (128, 256)
        assert FACTS.find(name, "sram_bytes")
    torus = FACTS.value(name, "torus_axes") > 0
    assert torus == (FACTS.find(name, "wrap_edge") is not None), "a wrap-around is a matter of tori"


@pytest.mark.parametrize("name", PRICED)
def test_rates_are_dense_and_keep_their_proportions(name: str) -> None:
    rows = FACTS.rows[name, "flops_per_s"]
    assert all(row.condition.endswith(" dense") for row in rows)
    rates = {row.condition.split()[0]: row.value for row in rows}
    half = rates.get("bf16") or rates["fp16"]
    for narrow, wide, most in (("fp8", half, 4.5), ("int8", half, 4.0), ("fp4", rates.get("fp8", half), 3.2)):
        if narrow in rates and not (narrow == "int8" and name in ("b300", "gb300")):  # those two cut integers away
            assert 1.0 <= rates[narrow] / wide <= most
    if "fp32" in rates:
        # Apple's GPUs before matrix units multiply numbers of 16 and 32 bits at one rate.
        assert rates["fp32"] < half or (FACTS.machine(name).maker == "Apple" and rates["fp32"] == half)
    memory = FACTS.find(name, "memory_bytes_per_s")
    if memory is not None:  # a sparse figure or a bandwidth of a whole server would leave this band
        assert 25 < half / memory.value < 1000  # the lowest are Apple's GPUs, then H20, cut down in rates alone


@pytest.mark.parametrize("name", PRICED)
def test_links_are_one_way(name: str) -> None:
    link, beyond = FACTS.get(name, "link_bytes_per_s"), FACTS.get(name, "scale_out_bytes_per_s")
    assert link.condition.startswith("one direction")
    assert beyond.value <= link.value
    memory = FACTS.find(name, "memory_bytes_per_s")
    assert memory is None or link.value < memory.value
    nearest_host = FACTS.find(name, "host_link_bytes_per_s")
    assert nearest_host is None or nearest_host.value < 1e12


def test_one_way_links_of_known_generations() -> None:
    for name, one_way in (
        ("v100-sxm", 1.5e11),
        ("a100-40g", 3e11),
        ("h100-sxm", 4.5e11),
        ("gb200", 9e11),
        ("rubin", 1.8e12),
        ("mi325x", 7 * 6.4e10),
        ("tpu-v5p", 6 * 9e10),
        ("gaudi3", 21 * 2.5e10),
    ):
        assert FACTS.value(name, "link_bytes_per_s") == pytest.approx(one_way)


def test_servers_and_racks_are_separate_machines() -> None:
    for server, rack in (("b200", "gb200"), ("b300", "gb300")):
        assert (FACTS.value(server, "link_domain_chips"), FACTS.value(rack, "link_domain_chips")) == (8, 72)
        assert FACTS.value(server, "power_limit_w") < FACTS.value(rack, "power_limit_w")
        assert FACTS.value(server, "flops_per_s", "fp4") < FACTS.value(rack, "flops_per_s", "fp4")


def test_a_hardwired_chip_has_no_roofline() -> None:
    assert FACTS.value("taalas-hc1", "hardwired_tokens_per_s") == 17000
    assert "taalas-hc1" not in known_chips(FACTS)
    with pytest.raises(BadInput, match="hard-wired for one model"):
        chip_from_facts(FACTS, "taalas-hc1")


def test_known_figures() -> None:
    facts = load()
    assert facts.value("h100-sxm", "memory_bytes_per_s") == 3.35e12
    assert facts.value("tpu-v5e", "flops_per_s", "bf16") == 1.97e14
    assert facts.value("tpu-v7", "memory_bytes") == 192 * 2**30


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(MissingFact, match="h100-sxm"):
        load().machine("h10-sxm")
    with pytest.raises(MissingFact, match="memory_bytes_per_s of groq-lpu"):
        load().get("groq-lpu", "memory_bytes_per_s")


@pytest.mark.parametrize("chip", ["h200-sxm", "gb200", "mi325x", "tpu-v7"])
@pytest.mark.parametrize("target", ["matmul.memory_efficiency[bf16]", "experts.floor_s[fp8]"])
def test_an_edited_coefficient_stands_over_those_that_a_chip_takes_from_others(chip: str, target: str) -> None:
    """Of a chip of the same die, of its class, or of the general rows; the others stay as they are."""
    kind, field = target.partition("[")[0].split(".")
    precision = target.partition("[")[2].removesuffix("]")
    before = chip_from_facts(FACTS, chip).calibration
    after = chip_from_facts(FACTS.edited([f"{chip}.{target}=0.0123"]), chip).calibration
    assert after.kernel(kind, precision) == dataclasses.replace(before.kernel(kind, precision), **{field: 0.0123})
    assert after.kernel("prompt-attention", precision) == before.kernel("prompt-attention", precision)
    with pytest.raises(BadInput, match=r"must say in brackets of what, as in \[bf16\]"):
        FACTS.edited([f"{chip}.{kind}.{field}=0.0123"])


def test_an_edit_of_a_timed_chip_is_taken_by_those_of_its_die() -> None:
    edited = FACTS.edited(["h100-sxm.matmul.floor_s=1e-6", "h200-sxm.matmul.blend[bf16]=3"])
    kernel = chip_from_facts(edited, "h200-sxm").calibration.kernel("matmul", "bf16")
    assert kernel == dataclasses.replace(
        chip_from_facts(FACTS, "h100-sxm").calibration.kernel("matmul", "bf16"), floor_s=1e-6, blend=3.0
    )


def test_an_edited_collective_keeps_what_it_has_of_others() -> None:
    before = chip_from_facts(FACTS, "tpu-v6e").calibration.collective("all-reduce")
    edited = FACTS.edited(["tpu-v6e.all-reduce.efficiency=0.5"])
    after = chip_from_facts(edited, "tpu-v6e").calibration.collective("all-reduce")
    assert after == dataclasses.replace(before, efficiency=0.5)


def test_what_if_edits() -> None:
    facts = FACTS.edited(["h100-sxm.memory_bytes_per_s=5e12"])
    row = facts.get("h100-sxm", "memory_bytes_per_s")
    assert (row.value, row.kind) == (5e12, "what-if")
    with pytest.raises(MissingFact, match=r"h100-sxm\.memory_bytes"):
        load(edits=["h100-sxm.memory_bandwidth=5e12"])
    for nonsense in (
        "h100-sxm.idle_w",
        "idle_w=3",
        "h100-sxm.idle_w=fast",
        "h100-sxm.idle_w=-1",
        "h100-sxm.idle_w=nan",
        "h100-sxm.idle_w=4²",
        "h100-sxm.idle_w=" + "9" * 400,
        "h100-sxm[x]=4",
        "h100-sxm.idle_w[=4",
    ):
        with pytest.raises(BadInput, match="--set"):
            FACTS.edited([nonsense])


@pytest.mark.parametrize(
    ("edit", "range_"),
    [
        ("h100-sxm.memory_bytes_per_s=1e-300", "100 kB/s to 10 EB/s"),
        ("h100-sxm.flops_per_s=1e300", "1 MFLOP/s to"),
        ("h100-sxm.power_limit_w=1e-9", "1 mW to 10 MW"),
        ("gpu.memory_efficiency=40", "0.001 to 1"),
        ("h100-sxm.compute_units=0", "1 to 1e\\+07"),
    ],
)
def test_numbers_beyond_reason_are_refused_with_their_range(edit: str, range_: str) -> None:
    with pytest.raises(BadInput, match=range_):
        FACTS.edited([edit])


def test_an_edit_names_one_condition_or_changes_all() -> None:
    facts = FACTS.edited(["H100_SXM.Flops_Per_S[fp8]=2.5 PFLOP/s"])
    chip = chip_from_facts(facts, "h100-sxm")
    assert (chip.flops_per_s["fp8"], chip.flops_per_s["bf16"]) == (2.5e15, 9.894e14)
    assert [str(edit) for edit in facts.edits] == [
        "edited: h100-sxm.flops_per_s[fp8 dense] 1.98 PFLOP/s -> 2.5 PFLOP/s"
    ]
    everything = FACTS.edited(["h100.flops_per_s=2e15"])
    assert len(everything.edits) == len(everything.rows["h100-sxm", "flops_per_s"]) == 5
    assert {row.value for row in everything.rows["h100-sxm", "flops_per_s"]} == {2e15}
    with pytest.raises(MissingFact, match="fp8 dense"):
        FACTS.edited(["h100-sxm.flops_per_s[fp9]=2e15"])
    coefficient = FACTS.edited(["gpu.matmul.blend[bf16]=3"]).edits[0]
    assert (coefficient.name, coefficient.quantity, coefficient.after) == ("gpu", "matmul.blend", 3.0)


def test_an_edit_adds_what_a_chip_lacks() -> None:
    facts = load(edits=["gb10.usd_per_hour=$5", "h100-sxm.flops_per_s[fp4]=4e15", "groq-lpu.memory_bytes[HBM3e]=8GB"])
    assert [(edit.before, edit.after, edit.unit) for edit in facts.edits] == [
        (None, 5.0, "USD/h"),
        (None, 4e15, "FLOP/s"),
        (None, 8e9, "B"),
    ]
    assert str(facts.edits[0]) == "added: gb10.usd_per_hour $5.00/h"
    assert facts.edits[0].as_json()["before"] is None
    assert facts.get("gb10", "usd_per_hour").per == "chip"
    assert chip_from_facts(facts, "h100-sxm").flops_per_s["fp4"] == 4e15
    with pytest.raises(MissingFact, match="memory_bytes_per_s of groq-lpu"):
        chip_from_facts(facts, "groq-lpu")
    with pytest.raises(BadInput, match="in brackets"):
        FACTS.edited(["groq-lpu.memory_bytes=8GB"])
    with pytest.raises(MissingFact, match="engine-vllm"):
        load(edits=["engine-vllm.memory_bytes=5"])


@pytest.mark.parametrize("edit", ["power_limit_w=50", "power_limit_w=100", "idle_w=5000", "idle_w=690"])
def test_a_limit_below_what_the_chip_draws_anyway_is_refused(edit: str) -> None:
    with pytest.raises(BadInput, match=r"draws .* W idle and .* W for clocks and leakage"):
        chip_from_facts(FACTS.edited([f"h100-sxm.{edit}"]), "h100-sxm")


CHIP_ROWS = [
    "compute_units",
    "cache_bytes",
    "idle_w",
    "power_limit_w",
    "process_nm",
    "die_mm2",
    "memory_bytes_per_s",
    "torus_axes",
    "link_domain_chips",
    "scale_out_bytes_per_s",
]
CLASS_ROWS = [
    "mac_energy_ratio",
    "operand_energy_ratio",
    "active_power_ratio",
    "waiting_power_ratio",
    "least_voltage_ratio",
    "server_power_ratio",
    "memory_path_pj_per_bit",
    "matmul_efficiency",
    "memory_efficiency",
    "operation_floor_s",
    "link_efficiency",
    "hop_s",
    "scale_out_efficiency",
    "scale_out_hop_s",
]


def without(*lost: str, name: str = "h100-sxm") -> Facts:
    """The package's rows without some of one owner."""
    return Facts(
        rows={key: rows for key, rows in FACTS.rows.items() if key not in {(name, quantity) for quantity in lost}},
        machines=FACTS.machines,
    )


@pytest.mark.parametrize(
    "quantity",
    CHIP_ROWS,
)
def test_no_row_of_a_chip_is_made_up(quantity: str) -> None:
    with pytest.raises(MissingFact, match=f"gives {quantity}.* of h100-sxm"):
        chip_from_facts(without(quantity), "h100-sxm")


@pytest.mark.parametrize(
    "quantity",
    CLASS_ROWS,
)
@pytest.mark.parametrize("chip_class", ["gpu", "tpu", "npu", "sram"])
def test_no_row_of_a_class_is_made_up(chip_class: str, quantity: str) -> None:
    chip = MACHINES[chip_class].split()[-2]
    with pytest.raises(MissingFact, match=quantity):
        chip_from_facts(without(quantity, name=chip_class), chip)


def test_all_that_is_missing_is_named_in_one_sentence() -> None:
    with pytest.raises(MissingFact, match=r"compute_units, cache_bytes .*, idle_w of h100-sxm"):
        chip_from_facts(without("compute_units", "idle_w", "cache_bytes"), "h100-sxm")
    with pytest.raises(MissingFact, match="matrix_edge, wrap_edge of tpu-v5e"):
        chip_from_facts(without("matrix_edge", "wrap_edge", name="tpu-v5e"), "tpu-v5e")


def test_a_chip_without_links_stands_alone() -> None:
    chip = chip_from_facts(without("link_bytes_per_s", "torus_axes", "link_domain_chips"), "h100-sxm")
    topology, system = chip.topology, chip.system
    assert (system.domain_chips, topology.axes) == (1, 0)
    assert (topology.link_bytes_per_s, system.scale_out_bytes_per_s) == (0.0, 0.0)


def test_a_chip_needs_no_price() -> None:
    assert chip_from_facts(without("usd_per_hour", "usd_purchase"), "h100-sxm").name == "h100-sxm"


def test_an_unknown_class_or_engine_is_an_error() -> None:
    machine = dataclasses.replace(FACTS.machines["h100-sxm"], chip_class="gpus")
    facts = Facts(rows=FACTS.rows, machines={"h100-sxm": machine})
    with pytest.raises(MissingFact, match="unknown class of chip 'gpus'; the nearest known: gpu"):
        chip_from_facts(facts, "h100-sxm")
    with pytest.raises(MissingFact, match="unknown engine 'vlm'; the nearest known: vllm"):
        software_of(FACTS, "vlm")
    for engine in ENGINES:
        assert software_of(FACTS, engine).name == engine
    with pytest.raises(MissingFact, match="reserved_ratio, sync_ratio of engine-vllm"):
        software_of(without("reserved_ratio", "sync_ratio", name="engine"), "vllm")


CASES = SHARED / "cases"


@pytest.mark.parametrize(
    ("folder", "rows"),
    [
        ("mychip", "compute_units, cache_bytes (or sram_bytes), torus_axes, link_domain_chips"),
        ("mytpu", "cache_bytes (or sram_bytes), matrix_edge, wrap_edge, link_domain_chips"),
    ],
)
def test_a_users_chip_that_lacks_rows_is_refused_with_all_of_them(folder: str, rows: str) -> None:
    if not CASES.exists():
        pytest.skip("the cases are not beside this checkout")
    with pytest.raises(MissingFact) as refused:
        chip_from_facts(load([CASES / folder]), "t-asic")
    assert f"gives {rows}, scale_out_bytes_per_s, idle_w of t-asic" in str(refused.value)


def test_user_rows_add_a_chip(tmp_path: Path) -> None:
    ours = [row for row in ROWS if row.name == "h100-sxm"]
    text = to_csv(ours).replace("h100-sxm", "my-chip").replace("3.35e+12", "9e12").replace("3350000000000.0", "9e12")
    (tmp_path / "mine.csv").write_text(text.replace("3360000000000.0", "9e12"), encoding="utf-8")
    (tmp_path / "machines.csv").write_text("name,title,maker,class,year\nmy-chip,Mine,Me,gpu,2027\n", encoding="utf-8")
    chip = chip_from_facts(load([tmp_path]), "my-chip")
    assert chip.memory.bytes_per_s == 9e12


HEADER = ",".join(COLUMNS)
GOOD = "c,q_w,1,0.5,2,W,chip,,estimate,somewhere,2026,"


def test_a_users_files_are_read_once_and_again_when_they_change(tmp_path: Path) -> None:
    """What was derived of the rows, such as chips, is kept from one call to the next."""
    path = tmp_path / "mine.csv"
    text = ",".join(COLUMNS) + "\nh100-sxm,memory_bytes_per_s,{},2e12,4e12,B/s,chip,HBM3,datasheet,test,2026-01-01,\n"
    path.write_text(text.format("3.1e12"), encoding="utf-8")
    first = load([tmp_path])
    assert load([tmp_path]) is first
    path.write_text(text.format("3.2e12"), encoding="utf-8")  # as long as before
    again = load([tmp_path])
    values = [facts.value("h100-sxm", "memory_bytes_per_s", "HBM3") for facts in (first, again)]
    assert values == [3.1e12, 3.2e12]
    assert again.machines == load().machines
    (tmp_path / "more.csv").write_text(text.format("3.3e12"), encoding="utf-8")
    assert load([tmp_path]).value("h100-sxm", "memory_bytes_per_s", "HBM3") == 3.3e12


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (GOOD.replace("estimate", "guess"), "unknown kind"),
        (GOOD.replace(",W,", ",Watt,"), "unknown unit"),
        (GOOD.replace("0.5", "1.5"), "low <= value <= high"),
        (GOOD.replace(",1,", ",nan,"), "low <= value <= high"),
        (GOOD.replace(",1,", ",one,"), "must be numbers"),
        (GOOD.replace("somewhere", ""), "must not be empty"),
        (GOOD + ",extra", "fields"),
        (GOOD.removesuffix(","), "fields"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{HEADER}\n{line}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=complaint):
        read_rows(path)


def test_a_users_rows_keep_units_and_name_precisions(tmp_path: Path) -> None:
    ours = [row for row in ROWS if row.name == "h100-sxm"]
    (tmp_path / "machines.csv").write_text("name,title,maker,class,year\nmine,Mine,Me,gpu,2027\n", encoding="utf-8")
    text = to_csv(ours).replace("h100-sxm,", "mine,")
    (tmp_path / "rows.csv").write_text(text.replace(",B/s,chip,HBM3,", ",B,chip,HBM3,"), encoding="utf-8")
    with pytest.raises(BadInput, match="memory_bytes_per_s of mine is in B, expected B/s"):
        load([tmp_path])
    (tmp_path / "rows.csv").write_text(text.replace("bf16 dense", ""), encoding="utf-8")
    with pytest.raises(MissingFact, match="flops_per_s of mine must begin with the precision"):
        chip_from_facts(load([tmp_path]), "mine")


@pytest.mark.slow
def test_a_row_that_nothing_reads_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    row = "{},matmul.memory_efficiency,0.7,0.6,0.8,1,chip,bf16,measured,a run,2026-11-28,"
    path.write_text(f"{HEADER}\n{row.format('h200')}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"unknown name of a chip or other owner of rows 'h200'; the nearest.*h200-sxm"):
        load([tmp_path])
    for owner in ("h200-sxm", "gpu-amd", "gpu", "engine-mine", "node-1"):
        path.write_text(f"{HEADER}\n{row.format(owner)}\n", encoding="utf-8")
        assert load([tmp_path]).find(owner, "matmul.memory_efficiency") is not None


def test_a_chip_without_rows_takes_those_of_its_makers_class_before_those_of_its_class(tmp_path: Path) -> None:
    row = "{},matmul.memory_efficiency,{},0.01,0.9,1,class,bf16,measured,a run,2026-11-28,"
    lines = [HEADER, row.format("gpu-amd", 0.123), row.format("gpu", 0.456)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    facts = load([tmp_path])
    reached = {
        name: chip_from_facts(facts, name).calibration.kernel("matmul", "bf16").memory_efficiency
        for name in ("mi300x", "l40s", "h100-sxm")
    }
    assert reached["mi300x"] == 0.123
    assert reached["l40s"] == 0.456
    assert (
        reached["h100-sxm"] == chip_from_facts(FACTS, "h100-sxm").calibration.kernel("matmul", "bf16").memory_efficiency
    )


def test_gains_of_an_engine_hold_only_where_an_engine_was_measured() -> None:
    for engine in ("vllm", "sglang", "trtllm"):
        there, elsewhere = software_on(FACTS, engine, "gpu-nvidia"), software_on(FACTS, engine, "gpu-amd")
        for name in GAINS:
            assert getattr(there, name) == getattr(software_of(FACTS, engine), name)
            assert getattr(elsewhere, name) >= 1.0
    alone = software_on(FACTS, "none", "gpu-amd")
    assert alone.matmul_ratio <= 1.0
    assert alone.layer_s == 0.0


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(to_csv(ROWS), encoding="utf-8")
    assert read_rows(path) == ROWS


def test_missing_directory() -> None:
    with pytest.raises(BadInput, match="does not exist"):
        load([Path("/nowhere/at/all")])


def test_a_chip_is_made_once_and_anew_for_edited_facts() -> None:
    facts = load()
    chip = chip_from_facts(facts, "H100_SXM")
    assert chip_from_facts(facts, "h100-sxm") is chip
    edited = facts.edited(["h100-sxm.memory_bytes_per_s=5e12"])
    assert chip_from_facts(edited, "h100-sxm").memory.bytes_per_s == 5e12
    assert chip_from_facts(facts, "h100-sxm").memory.bytes_per_s == chip.memory.bytes_per_s
    assert chip_from_facts(dataclasses.replace(edited, rows=facts.rows), "h100-sxm") == chip


ANSWERED_BY = {"tpu": "tpu-v5p", "ici": "tpu-v5p", "tpu-v5p": "tpu-v5p", "sram": "groq-lpu", "sram-near": "groq-lpu"}
"""the chip whose answers depend on rows of a name; the others are h100-sxm's"""
OWNERS = (
    *ANSWERED_BY, "h100-sxm", "gpu", "server", "facility", "routing", "band", "mac", "engine-vllm", "node-4", "hbm3",
    "nvlink", "wire", "host-network",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("owner", OWNERS)
def test_both_ends_of_every_lawful_range_are_answered(owner: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A range that is too wide shows as a division by zero, NaN or infinity; the answer may be that nothing fits."""
    rows = [fact for fact in ROWS if fact.name == owner]
    assert rows
    for fact in rows:
        condition = f"[{fact.condition}]" if fact.condition else ""
        for value in lawful_range(fact.quantity, fact.unit):
            edit = f"{owner}.{fact.quantity}{condition}={value}"
            chip = ANSWERED_BY.get(owner, "h100-sxm")
            asked = ("predict", "--model", "qwen3-30b-a3b", "--chip", chip, "--set", edit, "--json")
            try:
                main(asked)
                code = 0
            except SystemExit as stop:
                code = int(stop.code or 0)
            printed = capsys.readouterr().out
            assert code in (0, 2, 3), edit
            assert "NaN" not in printed, edit
            assert "Infinity" not in printed, edit


@pytest.mark.slow
def test_a_chip_that_lacks_rows_is_listed_with_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "machines.csv").write_text("name,title,maker,class,year\nmy-asic,Ours,Us,gpu,2026\n")
    row = "my-asic,flops_per_s,1e15,,,FLOP/s,package,bf16,estimate,a plan,2026-11,\n"
    (tmp_path / "mine.csv").write_text(f"{','.join(COLUMNS)}\n{row}")
    main(["chips", "--facts", str(tmp_path)])
    told = capsys.readouterr().out
    assert "h100-sxm" in told
    (line,) = (line for line in told.splitlines() if line.startswith("my-asic"))
    assert "cannot be priced, as it lacks " in line
    assert "power_limit_w" in line
    main(["chips", "--facts", str(tmp_path), "--json"])
    listed = {chip["name"]: chip for chip in json.loads(capsys.readouterr().out)}
    assert listed["my-asic"]["lacks"].count("power_limit_w") == 1
    assert listed["h100-sxm"]["power_limit_w"] == 700


HEADING = "name,title,maker,class,year\n"
OWN_ROW = f"{','.join(COLUMNS)}\nmy-asic,flops_per_s,1e15,,,FLOP/s,package,bf16,estimate,a plan,2026-11,\n"


def test_files_of_a_spreadsheet_with_a_byte_order_mark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("machines.csv", f"{HEADING}my-asic,Ours,Us,gpu,2026\n"), ("mine.csv", OWN_ROW)):
        (tmp_path / name).write_text(text, encoding="utf-8-sig", newline="\r\n")
    main(["chips", "--facts", str(tmp_path)])
    assert "my-asic" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("machines", "complaint"),
    [
        ("gpu,Ours,Us,gpu,2026\n", "a chip cannot be called 'gpu'"),
        ("kernel,Ours,Us,gpu,2026\n", "a chip cannot be called 'kernel'"),
        ("\u202easic,Ours,Us,gpu,2026\n", "line 2: '\\u202easic' is no name"),
        (" my-asic,Ours,Us,gpu,2026\n", "line 2: ' my-asic' is no name"),
        ("my-asic,Ours,Us,gpu,2026\n,Ours,Us,gpu,2026\n", "line 3: '' is no name"),
        ("my-asic,Ours,Us,gpu,20260\n", "the year 20260 of 'my-asic' does not lie between 1950 and 2100"),
        ("my-asic,Ours,Us,gpu\n", "line 2 has not 5 fields"),
    ],
)
def test_machines_whose_name_or_year_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], machines: str, complaint: str
) -> None:
    (tmp_path / "machines.csv").write_text(HEADING + machines, encoding="utf-8")
    assert complaint in refuse(capsys, "chips", "--facts", tmp_path)


def test_another_separator_is_seen_in_the_first_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "machines.csv").write_text(HEADING.replace(",", ";"), encoding="utf-8")
    assert "its first line is 'name;title;maker;class;year'" in refuse(capsys, "chips", "--facts", tmp_path)


def test_a_memory_or_process_without_rows_is_told_by_its_neighbours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--set edits rows that there are, so that it is offered for those of the chip alone."""
    own = ",".join(COLUMNS) + "\nl4,memory_bytes{0},{1},,,{2},chip,LPDDR4X,estimate,mine,2026-11,\n"
    text = own.format("", "2.4e10", "B") + own.format("_per_s", "3e11", "B/s").splitlines()[1] + "\n"
    text = text.replace("l4,", "my-l4,")
    rows = {"flops_per_s": (1e14, "FLOP/s", "bf16 dense"), "cache_bytes": (5e7, "B", "")}
    rows |= {
        "compute_units": (58, "1", ""),
        "power_limit_w": (72, "W", ""),
        "idle_w": (16, "W", ""),
        "die_mm2": (294, "mm2", ""),
    }
    for quantity, (value, unit, condition) in rows.items():
        text += f"my-l4,{quantity},{value},,,{unit},chip,{condition},estimate,mine,2026-11,\n"
    (tmp_path / "machines.csv").write_text(f"{HEADING}my-l4,Mine,Us,gpu,2026\n")
    said = ("explain", "--model", "smollm2-135m", "--chip", "my-l4", "--batch", "1", "--facts", tmp_path)
    (tmp_path / "mine.csv").write_text(text + "my-l4,process_nm,5,,,nm,die,,estimate,mine,2026-11,\n")
    line = refuse(capsys, *said)
    assert "pj_per_bit of lpddr4x" in line
    assert line.endswith("; nearest to lpddr4x: lpddr5x, lpddr6")
    assert "--set" not in line
    (tmp_path / "mine.csv").write_text(text.replace("LPDDR4X", "LPDDR5X"))
    assert "or --set my-l4.QUANTITY=AMOUNT" in refuse(capsys, *said)
