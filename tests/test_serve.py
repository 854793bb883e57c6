"""serve: an engine is started with the settings asked for, answers, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import flashstill as fs
from flashstill.cli import main
from flashstill.endpoint import health, process
from flashstill.endpoint.folder import checked_model, linked, served_name
from flashstill.endpoint.programs import program
from flashstill.endpoint.settings import read_plan, settings_of
from flashstill.errors import BadInput, InfeasiblePlan
from tests.commands import HEAR, is_running, refuse
from tests.marks import slow

FAKE = Path(__file__).with_name("fake_engine.py")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A `vllm` on the PATH that is fake_engine.py, and a place of its own for temporary directories."""
    folder, temporary = tmp_path / "bin", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))  # which this process has read already
    script = folder / "vllm"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{FAKE}" "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(health, "PAUSE_S", 0.02)
    return monkeypatch


def wait_until(is_so: Callable[[], bool], seconds: float = 120.0) -> bool:
    until = time.monotonic() + seconds
    while not is_so() and time.monotonic() < until:
        time.sleep(0.02)
    return is_so()


def wait_gone(pid: int) -> bool:
    return wait_until(lambda: not is_running(pid))


def folders_left() -> list[str]:
    """Those of this test: other tests that run beside it have their own."""
    return [path.name for path in Path(tempfile.gettempdir()).glob("flashstill-serve-*")]


def test_a_server_answers_and_is_gone(tiny_teacher: Path, tmp_path: Path, fake: pytest.MonkeyPatch) -> None:
    fake.setenv("SOME_API_KEY", "sesame-open")
    fake.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}/own")
    with fs.serve(tiny_teacher, engine="vllm", sequences=3, length=64, name="student", log=tmp_path / "log") as server:
        assert is_running(server.process.pid)
        process, keeper = (Path(f"/proc/{pid}") for pid in (server.process.pid, server.process.keeper.pid))
        assert b"sesame-open" not in (keeper / "cmdline").read_bytes(), "which every user may read"
        variables = (process / "environ").read_bytes().split(b"\0")
        assert b"SOME_API_KEY=sesame-open" in variables
        assert f"PYTHONPATH={os.environ['PYTHONPATH']}".encode() in variables
        request = urllib.request.Request(f"{server.url}/completions", data=b"{}")
        with health._OPENER.open(request, timeout=60) as answer:
            assert json.load(answer)["choices"]
        told = server.as_dict()
        assert told["settings"]["sequences"] == 3
        assert json.loads(json.dumps(told))["model"] == "student"
        assert "--max-num-seqs" in (tmp_path / "log").read_text()
        assert len(folders_left()) == 1
    assert wait_gone(told["pid"])
    assert folders_left() == []


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("dies", "vllm ended with status 1 before it was healthy, its last line: ValueError: head size 8"),
        *slow(("refuses", "vllm refused a request of one token (status 400")),
        pytest.param("mute", "vllm was not healthy after 1 s (", marks=pytest.mark.slow),
    ],
)
def test_an_engine_that_fails(
    mode: str, said: str, tiny_teacher: Path, fake: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.setenv("FAKE_ENGINE", mode)
    wait = 1 if mode == "mute" else 60
    sentence = refuse(capsys, "serve", tiny_teacher, "--engine", "vllm", "--port", 0, "--length", 64, "--wait", wait)
    assert said in sentence
    assert "all of its output is in" in sentence


@contextmanager
def started(directory: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`flashstill serve` in a process of its own, once it is healthy, and the document that it printed."""
    command = [sys.executable, "-m", "flashstill", "serve", str(directory), "--engine", "vllm", "--port", "0"]
    command += ["--length", "64", "--arithmetic", "fp32", "--json"]
    variables = {**os.environ, **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables, preexec_fn=HEAR) as running:
        assert running.stdout is not None
        text = ""
        while line := running.stdout.readline():
            text += line
            if line == "}\n":
                break
        yield running, json.loads(text)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_leave_nothing_behind(number: int, tiny_teacher: Path, tmp_path: Path, fake: object) -> None:
    """Even an engine that ignores SIGTERM, and what it started in a session of its own."""
    mode = "clings" if number == signal.SIGTERM else "well"
    with started(tiny_teacher, FAKE_ENGINE=mode, FAKE_ENGINE_CHILD=str(tmp_path / "child")) as (running, told):
        assert told["schema"] == "flashstill.serve/1"
        assert is_running(told["pid"])
        assert len(folders_left()) == 1
        running.send_signal(number)
        assert running.wait(120) == (-number if number == signal.SIGKILL else 0)
    assert wait_gone(told["pid"])
    if mode == "clings":
        assert wait_gone(int((tmp_path / "child").read_text()))
    assert wait_until(lambda: not folders_left())


@pytest.mark.slow
def test_an_engine_that_ends_while_it_serves(tiny_teacher: Path, tmp_path: Path, fake: object) -> None:
    end = tmp_path / "end"
    with started(tiny_teacher, FAKE_ENGINE="late", FAKE_ENGINE_END=str(end)) as (running, told):
        end.touch()
        assert running.wait(120) == 2
    assert wait_gone(told["pid"])


def test_a_keeper_that_is_killed_takes_the_engine_along(tiny_teacher: Path, fake: object) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux kills the engine of a keeper that was killed")
    with fs.serve(tiny_teacher, engine="vllm", length=64) as server:
        server.process.keeper.kill()
        assert wait_gone(server.process.pid)


def test_mistakes_are_sentences(tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown engine 'vlm'; the nearest known: vllm" in refuse(capsys, "serve", tiny_teacher, "--engine", "vlm")
    assert "has no config.json" in refuse(capsys, "serve", tmp_path)
    assert "is not a directory" in refuse(capsys, "serve", tmp_path / "nothing")
    assert "longer than the 256" in refuse(capsys, "serve", tiny_teacher, "--length", 300)
    assert "name is 'a/b'" in refuse(capsys, "serve", tiny_teacher, "--name", "a/b")
    assert "sglang cannot be started: sglang is not installed here" in refuse(
        capsys, "serve", tiny_teacher, "--engine", "sglang", "--port", 0, "--length", 64
    )
    assert "is no Python that runs" in refuse(
        capsys, "serve", tiny_teacher, "--engine-python", tmp_path / "python", "--port", 0, "--length", 64
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sentence = refuse(capsys, "serve", tiny_teacher, "--length", 64, "--port", port)
        assert f"port {port} of 127.0.0.1 cannot be used (address already in use)" in sentence
    assert "not a number from 0" in refuse(capsys, "serve", tiny_teacher, "--length", 64, "--port", 70_000)
    assert "cannot be used" in refuse(capsys, "serve", tiny_teacher, "--length", 64, "--host", "no.such.host.invalid")


def test_a_cache_that_does_not_fit(tiny_teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["serve", str(tiny_teacher), "--sequences", "1000000000", "--json"])
    assert stop.value.code == 3
    told = capsys.readouterr()
    assert json.loads(told.out)["reasons"] == {"weights and cache take more memory than is free": 1}
    with pytest.raises(InfeasiblePlan, match="give fewer --sequences"):
        settings_of(tiny_teacher, checked_model(tiny_teacher), "vllm", None, 10**9, None, "fp32")


def test_an_engine_sees_checked_files_only(tiny_teacher: Path, tmp_path: Path) -> None:
    model = tmp_path / "a student@1"
    shutil.copytree(tiny_teacher, model)
    (model / "modeling_evil.py").write_text("raise SystemExit")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps({**config, "auto_map": {"AutoModel": "modeling_evil.Evil"}, "attn_implementation": "someone/kernel"})
    )
    (model / "checksums.json").unlink(missing_ok=True)
    name = served_name(model, None)
    assert name == "a-student-1"
    with linked(model, checked_model(model), name) as work:
        seen = {path.name for path in (work / name).iterdir()}
        assert "modeling_evil.py" not in seen
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= seen
        assert json.loads((work / name / "config.json").read_text()) == config
    assert not work.exists()
    (model / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match=r"has no tokenizer\.json"):
        checked_model(model)


class TestSettings:
    def test_defaults_are_told(self, tiny_teacher: Path) -> None:
        found = settings_of(tiny_teacher, checked_model(tiny_teacher), "transformers", None, None, None, "fp32")
        assert (found.sequences, found.length, found.step_tokens) == (16, 256, 256)
        assert len(found.notes) == 2
        assert found.blocks == 18  # 15 taken leave 3 of them free, which is more than 15 %; of 17 they would leave less
        assert found.cache_bytes == 18 * 256 * 6 * 2 * 2 * 8 * 4  # blocks of 256 tokens; layers, K and V, heads, width

    def test_a_plan_is_followed(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "plan.json"
        main(["plan", "--model", "qwen3-8b", "--chips-from", "h100-sxm", "--max-chips", "2", "--isl", "300", "--osl",
              "200", "--precision", "fp8", "--batch", "32", "--emit", "vllm", "--json"])  # fmt: skip
        file.write_text(capsys.readouterr().out)
        told = json.loads(file.read_text())["launch"]["configuration"]
        found = read_plan(file)
        assert (found["sequences"], found["length"]) == (32 // told["dp"], 500)
        assert (found["tp"], found["quantise"]) == (told["tp"], "fp8")
        main(["predict", "--model", "qwen3-8b", "--chip", "h100-sxm", "--concurrency", "7", "--tp", "2", "--json"])
        file.write_text(capsys.readouterr().out)
        assert read_plan(file) == {
            "sequences": 7, "length": 2048, "tp": 2, "quantise": "", "kv_precision": "",
        }  # fmt: skip

    @pytest.mark.parametrize(
        "text",
        ["{}", "[]", '{"schema": "flashstill.plan/1", "question": {}}', "nonsense",
         '{"schema": "flashstill.plan/1", "question": {}, "launch": {"configuration": [1]}}',
         '{"schema": "flashstill.predict/1", "question": {"isl": 9, "osl": 9, "concurrency": 2, "pp": "2"}}'],
    )  # fmt: skip
    def test_another_document_is_refused(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(BadInput):
            read_plan(tmp_path / "plan.json")

    def test_pools_are_refused(self, tmp_path: Path) -> None:
        launched = {"configuration": {"batch": 8, "prefill_instances": 2}}
        document = {"schema": "flashstill.plan/1", "question": {"isl": 1, "osl": 1}, "launch": launched}
        (tmp_path / "plan.json").write_text(json.dumps(document))
        with pytest.raises(BadInput, match="plans several servers"):
            read_plan(tmp_path / "plan.json")


def test_commands_of_engines(tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from flashstill.endpoint import programs

    monkeypatch.setattr(programs, "_missing", lambda engine, python: [])
    monkeypatch.setenv("PATH", "/nowhere")
    settings = settings_of(tiny_teacher, checked_model(tiny_teacher), "transformers", None, 4, 100, "fp32")

    def words(engine: str, **changes: Any) -> str:
        changed = dataclasses.replace(settings, **{"on_cpu": True, "threads": 2, **changes})
        made = program(engine, None, changed, "student", "::1", 9, tmp_path)
        assert made.environment["HF_HUB_OFFLINE"] == "1"
        assert made.environment.get("OMP_NUM_THREADS") == ("2" if changed.on_cpu else os.environ.get("OMP_NUM_THREADS"))
        return " ".join(made.words)

    assert "serve student --continuous-batching --dtype float32" in words("transformers")
    assert "--cb-num-blocks 4" in words("transformers")  # the fourth is taken in while a quarter is free
    eight = settings_of(tiny_teacher, checked_model(tiny_teacher), "transformers", None, 8, 100, "fp32")
    assert eight.blocks == 9  # with eight blocks, less than 15 % would be free
    assert "--cb-num-blocks 9" in words("transformers", blocks=eight.blocks)
    assert settings_of(tiny_teacher, checked_model(tiny_teacher), "vllm", None, 8, 100, "fp32").blocks == 8
    assert "--cb-num-blocks" not in words("transformers", on_cpu=False)
    assert f"--model {tmp_path}/student --served-model-name student --dtype bfloat16" in words("vllm", precision="bf16")
    assert "--quantization fp8 --kv-cache-dtype fp8_e4m3" in words("sglang", quantise="fp8", kv_precision="fp8")
    assert words("vllm", tp=2).endswith("--tensor-parallel-size 2 --host ::1 --port 9")
    with pytest.raises(BadInput, match="serves on one device"):
        words("transformers", tp=2)
    with pytest.raises(BadInput, match="does not quantise"):
        words("transformers", quantise="fp8")


def test_addresses() -> None:
    assert health.root_of("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert health.root_of("::", 80) == "http://[::1]:80"
    assert health.root_of("192.0.2.1", 80) == "http://192.0.2.1:80"


def test_last_lines_are_printable(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 100_000 + b"\n\n\x1b[31mred\rtwo\n" + b"\xff\n")
    assert process.last_lines(log) == ("x" * 200, "\\x1b[31mred", "two", "\ufffd")
    assert process.last_lines(tmp_path / "none") == ()


@pytest.mark.slow
def test_transformers_serves_a_student(tiny_teacher: Path) -> None:
    """With the engine that comes with the package: a tiny model streams the tokens that were asked for."""
    for name in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(name)
    with fs.serve(tiny_teacher, sequences=4, length=64, name="student") as server:
        question = {"model": "student", "prompt": "The cache moves", "max_tokens": 5, "stream": True, "temperature": 0}
        request = urllib.request.Request(
            f"{server.url}/completions",
            data=json.dumps(question).encode(),
            headers={"Content-Type": "application/json"},
        )
        with health._OPENER.open(request, timeout=60) as answer:
            lines = [json.loads(line[6:]) for line in answer.read().decode().splitlines() if line.startswith("data: {")]
        assert lines[-1]["usage"]["completion_tokens"] == 5
        with health._OPENER.open(f"{server.url}/models", timeout=60) as answer:
            assert [each["id"] for each in json.load(answer)["data"]] == ["student"]
    assert wait_gone(server.process.pid)
