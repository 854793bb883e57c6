"""The house: who may import whom, and what the cost arm costs to import."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.import_graph import circles, folders, import_graph, named_imports, reached

SOURCE = Path(__file__).parents[1] / "src" / "flashstill"
STEM = {"calls", "errors", "units", "records", "files", "outputs", "bounded", "progress", "facts", "tables"}
COST_ARM = {"arch", "hardware", "workload", "parallel", "cost", "economics", "quality", "plan", "validation"}
LEARNING_ARM = {"distill", "evaluate", "measure"}
# What each room may import of the package, beside itself, errors, units, files and progress.
MAY_IMPORT = {
    "errors": set(),
    "calls": set(),
    "units": set(),
    "files": set(),
    "bounded": set(),
    "compressed": set(),
    "traces": {"compressed"},
    "outputs": set(),
    "progress": set(),
    "facts": set(),
    "records": {"checked"},
    "useful_range": {"records"},
    "verdicts": set(),
    "arch": set(),
    "hardware": {"distinct", "facts"},
    "workload": {"arch"},
    "parallel": {"distinct", "workload", "arch"},
    "cost": {"hardware", "parallel", "workload", "arch"},
    "validation": {"checked", "plan", "simulate", "cost", "parallel", "workload", "arch", "hardware", "facts"},
    "economics": {"facts", "workload"},
    "asic": {"economics", "plan", "hardware", "cost", "workload", "arch", "facts", "tables", "parallel"},
    "quality_laws": {"quality"},
    "quality": {"arch", "checked", "facts", "records", "tables"},
    "plan": {
        "distinct",
        "frontier",
        "economics",
        "cost",
        "parallel",
        "workload",
        "arch",
        "hardware",
        "facts",
        "records",
        "tables",
    },
    "simulate": {"arch", "parallel", "economics", "plan", "cost", "workload", "facts", "tables", "traces"},
    "fleets": {"arch", "cost", "economics", "facts", "frontier", "plan", "simulate", "tables", "traces"},
    "family": {
        "arch",
        "checked",
        "economics",
        "facts",
        "hardware",
        "plan",
        "quality",
        "records",
        "tables",
        "workload",
    },
    "family_economics": {"arch", "asking", "economics", "family", "hardware"},
    "codesign": {
        "arch",
        "asic",
        "checked",
        "cost",
        "distinct",
        "economics",
        "facts",
        "frontier",
        "hardware",
        "parallel",
        "plan",
        "quality",
        "simulate",
        "tables",
        "workload",
    },
    "capacity": {"arch", "checked", "economics", "facts", "hardware", "plan", "simulate", "tables", "workload"},
    "distill": {"arch", "compressed", "records", "servers"},
    "evaluate": {"distill", "arch", "checked", "harness", "records", "reliability", "useful_range"},
    "harness": {"compressed", "distill", "extras"},
    "reliability": set(),
    "measure": {"distill", "arch", "records", "facts"},
    "servers": set(),
    "load_test": {"servers", "simulate", "plan", "records", "tables", "traces"},
    "measuring": {"distilling", "load_test", "runs", "traces"},
    "checked": set(),
    "sweeps": {"tables"},
    "asking": {"arch", "sweeps", "facts", "hardware", "plan"},
    "keywords": set(),
    "explore": {
        "api",
        "arch",
        "checked",
        "codesign",
        "cost",
        "economics",
        "facts",
        "frontier",
        "hardware",
        "plan",
        "records",
        "report",
        "tables",
        "what_ifs",
    },
    "extras": set(),
    "distilled": {"records", "reliability", "tables", "useful_range"},
    "drafting": {"arch", "asking", "plan"},
    "distilling": {"console", "distilled", "extras", "recipes", "report", "runs", "studies"},
    "evaluating": {"distilled", "distilling", "evaluate", "records"},
    "exporting": {"distill", "distilled", "distilling", "runs"},
    "endpoint": {"arch", "checked", "distill", "extras", "plan"},
    "years_ahead": {"arch", "asic", "asking", "codesign"},
    "in_flight": {"facts", "plan", "simulate"},
    "own_chips": {"arch", "asic", "asking"},
    "api": {"asking", "keywords", "in_flight", "sweeps", "arch", "facts", "hardware", "plan"},
    "token_costs": {"arch", "asking", "checked", "economics", "facts", "plan", "sweeps", "tables"},
    "training_costs": {"arch", "asking", "plan"},
    "targets": {"arch", "cost", "economics", "facts", "hardware", "plan", "quality", "tables", "workload"},
    "student_planning": {"arch", "asking", "facts", "plan", "quality", "quality_laws", "targets"},
    "capacity_planning": {"asking", "capacity", "hardware"},
    "chip_searching": {"arch", "asking", "codesign"},
    "what_ifs": {"arch", "asking", "codesign", "facts", "hardware", "plan"},
    "cascading": {"asking", "codesign", "hardware", "sweeps"},
    "fleet_sizing": {"arch", "asking", "fleets", "plan", "simulate", "traces"},
    "simulating": {"arch", "asking", "plan", "simulate", "sweeps", "traces"},
    "cli": {  # what a command calls, and never around it: not cost, parallel, workload or economics, which plan asks
        "verdicts",
        "api",
        "arch",
        "capacity",
        "capacity_planning",
        "cascading",
        "codesign",
        "console",
        "extras",
        "distill",
        "distilled",
        "distilling",
        "evaluating",
        "drafting",
        "endpoint",
        "evaluate",
        "explore",
        "exporting",
        "facts",
        "family",
        "family_economics",
        "fleet_sizing",
        "fleets",
        "hardware",
        "load_test",
        "measure",
        "own_chips",
        "plan",
        "printing",
        "quality",
        "quality_laws",
        "records",
        "report",
        "runs",
        "simulate",
        "student_planning",
        "tables",
        "token_costs",
        "targets",
        "traces",
        "chip_searching",
        "what_ifs",
        "validation",
        "years_ahead",
    },
    "recipes": {"checked"},
    "distinct": set(),
    "frontier": set(),
    "report": {"checked", "frontier", "records", "useful_range", "verdicts"},
    "charts": {"report"},
    "console": set(),
    "tables": set(),
    "printing": {"tables", "facts", "hardware", "plan"},
    "loggers": {"extras"},
    "runs": {
        "loggers",
        "checked",
        "tables",
        "report",
        "plan",
        "distill",
        "evaluate",
        "measure",
        "recipes",
        "records",
        "facts",
        "arch",
        "hardware",
        "economics",
    },
    "studies": {
        "verdicts",
        "runs",
        "plan",
        "facts",
        "checked",
        "report",
        "distill",
        "evaluate",
        "measure",
        "recipes",
        "records",
        "arch",
    },
}
EVERYWHERE = {"calls", "errors", "units", "files", "outputs", "bounded", "progress"}
THIRD_PARTY_IN_COST_ARM = {"numpy", "scipy"}


@functools.cache
def graph(for_types: bool = True) -> Mapping[str, frozenset[str]]:
    """What each module of the package imports."""
    return import_graph(SOURCE, for_types)


def rooms() -> list[str]:
    return sorted({path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in SOURCE.rglob("*.py")})


def files_of(room: str) -> list[Path]:
    return list((SOURCE / room).rglob("*.py")) if (SOURCE / room).is_dir() else [SOURCE / f"{room}.py"]


def imports_of(room: str) -> set[str]:
    """Absolute module names that the room's files import."""
    found: set[str] = set()
    for file in files_of(room):
        for module, name in named_imports(file):
            found.add(module)
            if module == "flashstill" and name != "__version__":
                found.add(f"flashstill.{name}")
    return found


@pytest.mark.parametrize("room", [room for room in rooms() if room not in ("__init__", "__main__")])
def test_import_order(room: str) -> None:
    ours = {name.split(".")[1] for name in imports_of(room) if name.startswith("flashstill.")}
    assert ours - {room} <= MAY_IMPORT[room] | EVERYWHERE, f"{room} imports {sorted(ours - {room})}"


def test_every_room_is_in_the_plan() -> None:
    assert set(rooms()) - {"__init__", "__main__"} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", sorted(STEM))
def test_the_stem_needs_only_the_standard_library(room: str) -> None:
    outside = {name.split(".")[0] for name in imports_of(room)} - set(sys.stdlib_module_names) - {"flashstill"}
    assert not outside


@pytest.mark.parametrize("room", sorted(COST_ARM))
def test_the_cost_arm_needs_only_numpy(room: str) -> None:
    outside = {name.split(".")[0] for name in imports_of(room)} - set(sys.stdlib_module_names) - {"flashstill"}
    assert outside <= THIRD_PARTY_IN_COST_ARM


def test_no_circle_of_modules() -> None:
    """Neither inside a room nor between rooms, imports in functions included."""
    assert circles(graph(for_types=False)) == []


def test_no_circle_of_folders() -> None:
    """Of two packages side by side, at any depth, one is below the other as a whole."""
    modules = graph(for_types=False)
    places = {name.rpartition(".")[0] for name in modules if "." in name}
    found = {place: circles(folders(modules, place)) for place in places}
    assert {place: groups for place, groups in found.items() if groups} == {}


TYPES_IN_A_CIRCLE = {"recipes": 1, "runs": 2}
"""rooms in which modules name each other for type checkers alone, and how often; a list that only gets shorter"""


def test_no_new_circle_of_types() -> None:
    found = [group[0].split(".")[1] for group in circles(graph())]
    assert {room: found.count(room) for room in found if found.count(room) > TYPES_IN_A_CIRCLE.get(room, 0)} == {}


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "house"
    sources = {
        "upper/__init__.py": "from house.upper.door import open",
        "upper/door.py": "from house.lower.cellar import dig\ndef open(): ...",
        "upper/stairs.py": "",
        "lower/__init__.py": "",
        "lower/cellar.py": "def dig(): ...",
        "lower/shelf.py": "",
    }
    for name, source in sources.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(source, encoding="utf-8")
    assert circles(import_graph(package)) == []
    assert circles(folders(import_graph(package), "house")) == []
    in_a_function = "def dig():\n    import house.lower.shelf\n"
    (package / "lower/cellar.py").write_text(in_a_function, encoding="utf-8")
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.lower.cellar import dig\n"
    (package / "lower/shelf.py").write_text(for_types, encoding="utf-8")
    assert circles(import_graph(package)) == [["house.lower.cellar", "house.lower.shelf"]]
    assert circles(import_graph(package, for_types=False)) == []
    (package / "lower/shelf.py").write_text("from house.upper import stairs", encoding="utf-8")
    assert circles(import_graph(package)) == [
        ["house.lower.cellar", "house.lower.shelf", "house.upper", "house.upper.door"]
    ]  # what `house.upper` runs when it is imported
    (package / "upper/__init__.py").write_text("", encoding="utf-8")
    assert circles(import_graph(package)) == []
    assert circles(folders(import_graph(package), "house")) == [["house.lower", "house.upper"]]


def rooms_reached_from(arm: set[str]) -> set[str]:
    """Through any number of modules."""
    starts = [name for name in graph() if name.split(".")[1] in arm]
    return {name.split(".")[1] for start in starts for name in reached(graph(), start)}


def test_the_learning_arm_reaches_no_price() -> None:
    """What is learned does not depend on what it would cost."""
    assert rooms_reached_from(LEARNING_ARM) & (COST_ARM - {"arch"}) == set()


def test_the_cost_arm_reaches_nothing_that_learns() -> None:
    assert rooms_reached_from(COST_ARM) & LEARNING_ARM == set()


def test_no_module_takes_a_private_name_of_another() -> None:
    found = {
        str(file.relative_to(SOURCE)): f"{module}.{name}"
        for file in SOURCE.rglob("*.py")
        for module, name in named_imports(file)
        if module.startswith("flashstill") and name.startswith("_") and not name.endswith("__")
    }
    assert found == {}


HUGGING_FACE_FIELDS = {
    "architectures", "attention_bias", "attention_dropout", "decoder_sparse_step", "final_logit_softcapping",
    "first_k_dense_replace", "head_dim", "hidden_act", "hidden_activation", "hidden_size", "initializer_range",
    "intermediate_size", "kv_lora_rank", "layer_types", "logit_scale", "logits_scaling", "max_position_embeddings",
    "mlp_bias", "mlp_only_layers", "model_type", "moe_intermediate_size", "n_embd", "n_group", "n_head", "n_layer",
    "n_layers", "n_positions", "n_routed_experts", "n_shared_experts", "norm_topk_prob", "num_attention_heads",
    "num_experts", "num_experts_per_tok", "num_hidden_layers", "num_key_value_heads", "num_local_experts",
    "partial_rotary_factor", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "quantization_config",
    "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta", "routed_scaling_factor", "sliding_window",
    "text_config", "tie_word_embeddings", "topk_group", "torch_dtype", "transformers_version", "use_qk_norm",
    "use_sliding_window", "v_head_dim", "vocab_size",
}  # fmt: skip
OTHERS_CALL_IT_SO = {
    "distill/data/vocabulary.py": {"vocab_size"},  # an argument of tokenizers
    "distill/models/conversion.py": {"quantization_config"},  # an argument of from_pretrained
    "distill/models/gguf_header.py": {"vocab_size"},  # the end of a key of GGUF
}
"""what is called like a field of a config.json and is none"""


def names_in(source: str) -> set[str]:
    """Attributes, names of arguments and whole texts: what reads or writes a field by its name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def test_hugging_face_names_are_met_in_one_place() -> None:
    """In arch/adapter; measurements of other projects, which validation reads, have columns that are called alike."""
    found = {}
    for file in SOURCE.rglob("*.py"):
        place = file.relative_to(SOURCE).as_posix()
        if not place.startswith(("arch/adapter/", "validation/")):
            known = HUGGING_FACE_FIELDS - OTHERS_CALL_IT_SO.get(place, set())
            source = file.read_text(encoding="utf-8")
            if any(name in source for name in known) and (met := names_in(source) & known):  # most need no parsing
                found[place] = sorted(met)
    assert found == {}, "ask arch/adapter/sizes.py for what a field says, arch/adapter/edit.py for what it shall say"


def test_a_planted_field_name_is_met() -> None:
    for line in ('config["hidden_size"]', "config.hidden_size", "LlamaConfig(hidden_size=64)"):
        assert names_in(line) & HUGGING_FACE_FIELDS == {"hidden_size"}
    assert names_in("hidden_size = 64  # hidden_size") & HUGGING_FACE_FIELDS == set()


HEAVY = {
    "plan": {"torch", "transformers", "scipy", "jinja2", "rich", "click", "pydantic"},
    "cli": {"torch", "transformers", "scipy", "jinja2", "rich", "numpy", "pydantic"},
}
"""what must not be loaded by an import, since it takes long; the seconds themselves are in benchmarks/start.py"""


@pytest.mark.parametrize("module", sorted(HEAVY))
def test_an_import_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, flashstill.{module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY[module] & set(done.stdout.split()) == set()


def test_modules_stay_readable() -> None:
    long = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > 280} == {}


def test_no_test_module_imports_another() -> None:
    """What tests share is in helper modules, so that a file is read and run by itself; code that they start as well."""
    named = re.compile(
        r"\b(?:tests\.|from tests import .*\b)((?:test_|conftest)\w*)|^from (\.\S*) import", re.MULTILINE
    )
    folder = Path(__file__).parent
    found = {
        str(path.relative_to(folder)): sorted({word for pair in named.findall(text) for word in pair if word})
        for path in folder.rglob("*.py")
        for text in [path.read_text(encoding="utf-8")]
        if path != Path(__file__) and named.search(text)
    }
    assert found == {}, "move what is shared into a module of tests/ that holds no tests"
