"""Which device models run on; and that all of a distillation runs there, on a GPU that is only pretended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flashstill.distill.models import devices, loading
from flashstill.distill.models.placement import spread, weight_bytes
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.runs.distillation import run_distillation
from tests.distillations import metrics, written
from tests.pretended_device import pretended
from tests.random_tokens import packed_text

GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice of a test is not that of the next one."""
    monkeypatch.setattr(devices, "_chosen", [])


class TestChoice:
    def test_auto_is_the_cpu_without_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(devices, "there", lambda: ["mps", "cpu"])
        assert devices.current() == torch.device("cpu")

    def test_every_process_of_a_machine_has_a_gpu_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(devices, "there", lambda: ["cuda", "cpu"])
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert devices.current() == torch.device("cuda", 1)
        assert devices.choose("cpu") == torch.device("cpu")
        monkeypatch.setenv("LOCAL_RANK", "2")
        with pytest.raises(BadInput, match="process 2 of this machine has no GPU: there are 2"):
            devices.choose("cuda")

    @pytest.mark.parametrize(("asked", "why"), [("mps", "it has cpu"), ("gpu", "no device 'gpu'|unknown device 'gpu'")])
    def test_what_is_not_there(self, asked: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(devices, "there", lambda: ["cpu"])
        with pytest.raises(BadInput, match=why):
            devices.choose(asked)


class TestSpreadTeacher:
    """A teacher larger than one GPU: decided from its bytes before it is loaded."""

    def test_over_the_gpus_of_one_process(self) -> None:
        assert spread("t", 60e9, [80e9, 80e9], own=1, processes=1) == {}
        assert spread("t", 100e9, [80e9, 60e9], own=0, processes=1) == {0: 68_000_000_000, 1: 51_000_000_000}

    def test_several_processes_would_each_load_it(self) -> None:
        with pytest.raises(BadInput, match=r"make the signals without torchrun, or ask it from a server"):
            spread("t", 100e9, [80e9, 80e9], own=0, processes=2)

    def test_what_would_hold_it(self) -> None:
        with pytest.raises(BadInput, match=r"takes 810 GB, more than the 160 GB free on the 2 GPUs here: 12 GPUs"):
            spread("t", 810e9, [80e9, 80e9], own=0, processes=1)

    def test_the_loader_hands_on_where_it_goes(self, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Here to the CPU by way of accelerate; `.to` is not called on a model that is spread."""
        asked: list[bool] = []

        def placed(path: Path, dtype: torch.dtype, may_spread: bool) -> dict[str, Any]:
            asked.append(may_spread)
            return {"device_map": {"": "cpu"}}

        monkeypatch.setattr(loading, "placement", placed)
        model = loading.load_model(tiny_teacher, torch.float32, may_spread=True)
        assert asked == [True]
        assert weight_bytes(tiny_teacher, torch.float32) == sum(each.nbytes for each in model.parameters())


class TestPretendedDevice:
    """What a GPU refuses is refused; else the tests below would find nothing."""

    def test_devices_do_not_meet(self) -> None:
        with pretended():
            here, there = torch.ones(2, 3), torch.ones(2, 3).to("cuda")
            assert there.device == GPU
            assert (there @ torch.ones(3, 1, device="cuda")).device == GPU
            assert (there * torch.tensor(2.0)).T.device == GPU, "numbers may come from the CPU"
            assert there.cpu().device == here.device
            for wrong in (lambda: here + there, lambda: torch.cat([here, there]), lambda: here[there[0].long()]):
                with pytest.raises(RuntimeError, match="tensors on cpu and cuda:0 meet"):
                    wrong()  # type: ignore[no-untyped-call]
            with pytest.raises(TypeError, match="cannot be an array"):
                there.numpy()
            with pytest.raises(RuntimeError, match="a generator of the CPU"):
                there.normal_(generator=torch.Generator())

    def test_gradients_stay_there(self) -> None:
        with pretended():
            weight = torch.ones(3, requires_grad=True, device="cuda")
            (weight * torch.arange(3.0, device="cuda")).sum().backward()  # type: ignore[no-untyped-call]
            assert weight.grad is not None
            assert weight.grad.device == GPU

    @pytest.mark.slow
    def test_a_search_for_blocks_takes_tokens_of_the_cpu(self) -> None:
        """As a packed text gives them: they go where the model is."""
        from flashstill.distill.students import greedy_drops
        from tests.zoo import tiny

        tokens = torch.arange(1, 17)[None]
        dropped = greedy_drops(tiny("llama"), tokens, 1, 2, Silent())
        with pretended():
            assert greedy_drops(tiny("llama").to("cuda"), tokens, 1, 2, Silent()) == dropped

    def test_an_adapter_is_merged_where_its_base_lies(self, tmp_path: Path) -> None:
        """Its tensors are read into the memory of the CPU."""
        from flashstill.distill.adapters.merging import merge_directory
        from tests.adapters import tuned, written
        from tests.zoo import tiny

        base = tiny("llama", 0)
        adapter = written(tuned(base, target_modules=["q_proj"], use_dora=True), tmp_path)
        merge_directory(here := tiny("llama", 0), adapter)
        with pretended():
            merge_directory(there := base.to("cuda"), adapter)
            weight = there.model.layers[0].self_attn.q_proj.weight
            assert weight.device == GPU
            assert torch.equal(weight.cpu(), here.model.layers[0].self_attn.q_proj.weight)


class TestPasses:
    """Of a model that is only run: few windows on the CPU, on a GPU as many as keep it busy."""

    def test_windows_of_a_pass(self) -> None:
        assert devices.windows_a_pass(torch.device("cpu"), 128, 4) == 4
        assert devices.windows_a_pass(GPU, 128, 4) == devices.TOKENS_A_PASS // 128
        assert devices.windows_a_pass(GPU, 128, 2, tokens=1024) == 8
        assert devices.windows_a_pass(GPU, 10 * devices.TOKENS_A_PASS, 4) == 4

    def test_signals_are_the_same(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from flashstill.distill.signals import Hidden, making
        from flashstill.distill.signals.store import Store
        from tests.zoo import tiny

        text = packed_text(10, 8)
        passes: list[int] = []
        states = making.hidden_states

        def counted(model: Any, tokens: torch.Tensor, *more: Any) -> torch.Tensor:
            passes.append(len(tokens))
            return states(model, tokens, *more)

        monkeypatch.setattr(making, "hidden_states", counted)
        built = {}
        for name in ("cpu", "cuda"):
            passes.clear()
            key = making.signal_key(Hidden(), "a teacher", "a tokenizer", text)
            with pretended():
                making.build(tiny("llama").to(name), Hidden(), key, text, tmp_path / name, Silent(), "signals")
            assert passes[1:] == ([4, 4, 2] if name == "cpu" else [10])  # the first tries the head
            store = Store(tmp_path / name, key, text.windows)
            built[name] = store.file("windows-00000000").get_tensor("hidden").float()
        assert torch.allclose(built["cpu"], built["cuda"], atol=1e-2)


ROUTES: dict[str, dict[str, Any]] = {
    "depth by stored hidden states": {},
    "sampled signals": {"signals": "sampled"},
    "top-k signals": {"signals": "topk"},
    "width, the teacher asked during training": {
        "signals": "none", 'kind = "depth"\nkeep_layers = 3': 'kind = "width"\nfeed_forward = 32\nkey_heads = 1',
    },
    "text of the student's own": {
        "signals": "none",
        "[text]": '[regime]\nkind = "on-policy"\nprompt_tokens = 8\nnew_tokens = 16\nevery = 2\nreplay = 0.5\n\n[text]',
    },
    "text of the teacher's": {
        "[text]": '[regime]\nkind = "sequence"\nprompt_tokens = 8\nnew_tokens = 16\n\n[text]', "tokens": 512,
    },
    "experts": {
        'kind = "depth"\nkeep_layers = 3':
        'kind = "upcycle"\nexperts = 3\nexperts_per_token = 2\nexpert_neurons = 16\nshared_experts = 1',
    },
    "int4 with errors made good": {
        'kind = "depth"\nkeep_layers = 3': 'kind = "copy"\nquantise = "int4"\ngroup = 32\ncompensate_windows = 4',
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_a_distillation_runs_where_the_student_does(
    route: str, tmp_path: Path, tiny_teacher: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals, search, sampling, training and evaluation on a pretended GPU: no tensor is forgotten on the CPU, and the
    losses are those of the CPU."""
    changes = dict(ROUTES[route])
    signals, tokens = changes.pop("signals", "hidden"), changes.pop("tokens", 1024)
    path = written(tmp_path / "distill.toml", tiny_teacher, text_file, signals, tokens)
    text = path.read_text().replace('"bf16"', '"fp32"')
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    recipe = read_distillation(path)
    if compared := not ROUTES[route]:
        run_distillation(recipe, tmp_path / "cpu", Silent())
    users = _users()
    monkeypatch.setattr(devices, "_chosen", [torch.device("cpu")])  # for what counts memory and time
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 0))
    monkeypatch.setattr(devices, "current", lambda: GPU)
    for module in users:
        monkeypatch.setattr(module, "current", lambda: GPU)
    monkeypatch.setattr(devices, "choose", lambda asked="auto": GPU)
    monkeypatch.setattr(devices, "name_of", lambda device: "a GPU")
    monkeypatch.setattr(loading, "placement", lambda *_: {})  # by way of the CPU: accelerate needs a real one
    with pretended():
        run_distillation(recipe, tmp_path / "gpu", Silent())
    assert metrics(tmp_path / "gpu")
    if compared:
        losses = [[row["loss"] for row in metrics(tmp_path / place)] for place in ("cpu", "gpu")]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def _users() -> list[Any]:
    """The modules that ask for the device of this process."""
    from flashstill.distill.models import arithmetic, loading
    from flashstill.distill.training import sharded
    from flashstill.measure import memory, rates, trial

    monkeypatched = [arithmetic, loading, sharded, rates, trial]
    del memory  # counts the memory of the machine: a pretended GPU has none
    return monkeypatched


def test_no_other_module_looks_for_a_gpu() -> None:
    """Devices are decided in devices.py; randomness.py keeps the generators of all GPUs."""
    root = Path(devices.__file__).parents[2]
    looking = {
        path.name for room in ("distill", "evaluate", "measure", "runs", "studies")
        for path in (root / room).rglob("*.py") if "cuda.is_available" in path.read_text(encoding="utf-8")
    }  # fmt: skip
    assert looking == {"devices.py", "randomness.py"}
