"""The command and environment that start each engine on one model: transformers, vLLM, SGLang.

Options as of the versions in plan/engines.toml.  Nothing is fetched: engines are told to stay offline, to look for
models in a cache that lists only the one that they serve, and to run no code that comes with it.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flashstill.endpoint.folder import HUB
from flashstill.endpoint.settings import Settings
from flashstill.errors import BadInput, unknown
from flashstill.extras import is_installed

TRANSFORMERS, VLLM, SGLANG = "transformers", "vllm", "sglang"
ENGINES = (TRANSFORMERS, VLLM, SGLANG)
EXTRA = "serve"
NEEDED = {
    TRANSFORMERS: ("transformers", "torch", "fastapi", "uvicorn", "openai"), VLLM: ("vllm",), SGLANG: ("sglang",),
}  # fmt: skip
"""modules that the engine's Python must have"""
PRINT_MISSING = (
    "import sys, importlib.util as u; print(*[n for n in sys.argv[1:] if not getattr(u.find_spec(n), 'origin', 0)])"
)
ASK_S = 60.0
GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """words: the command line; environment: all variables of the process."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


def check_name(engine: str) -> str:
    """The engine's name in lower case; BadInput with the nearest ones for another."""
    if engine.lower() not in ENGINES:
        raise BadInput(unknown("engine", engine, ENGINES))
    return engine.lower()


def program(
    engine: str, engine_python: Path | None, settings: Settings, name: str, host: str, port: int, work: Path
) -> Program:
    """How the engine is started on `work`/`name`. BadInput if it is not installed or cannot do what was planned."""
    start = _found(engine, engine_python)
    if engine == TRANSFORMERS:
        if settings.tp > 1:
            raise BadInput(f"transformers serves on one device, and the plan has tp {settings.tp}; give --engine vllm")
        if settings.quantise or settings.kv_precision:
            raise BadInput("transformers does not quantise a checkpoint to fp8 on loading; give --engine vllm")
        words = [*start, *_transformers(settings, name)]
    else:
        words = [*start, *(_vllm if engine == VLLM else _sglang)(settings, str(work / name), name)]
    words += ["--host", host, "--port", str(port)]
    return Program(words=tuple(words), environment=_environment(engine, settings, work))


def _found(engine: str, python: Path | None) -> list[str]:
    """The words before the options."""
    interpreter = sys.executable if python is None else str(python)
    if python is None and engine == VLLM and (own := shutil.which("vllm")):
        return [own, "serve"]
    missing = _missing(engine, python)
    if missing:
        package = f'"flashstill[{EXTRA}]"' if engine == TRANSFORMERS else missing[0]
        where = "here" if python is None else f"for {python}"
        raise BadInput(
            f"{engine} cannot be started: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
            f" {where}; pip install {package} brings it, or name another Python with --engine-python"
        )
    module = {
        TRANSFORMERS: "transformers.cli.transformers", VLLM: "vllm.entrypoints.openai.api_server",
        SGLANG: "sglang.launch_server",
    }[engine]  # fmt: skip
    return [interpreter, "-m", module, *(["serve"] if engine == TRANSFORMERS else [])]


def _missing(engine: str, python: Path | None) -> list[str]:
    if python is None:
        return [name for name in NEEDED[engine] if not is_installed(name)]
    asked = [str(python), "-c", PRINT_MISSING, *NEEDED[engine]]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=ASK_S, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeError) as error:
        raise BadInput(f"--engine-python {python} is no Python that runs; give the path of an interpreter") from error
    return done.stdout.split()


def _transformers(settings: Settings, name: str) -> list[str]:
    words = [name, "--continuous-batching", "--dtype", _long(settings.precision)]
    words += ["--cb-max-batch-tokens", str(settings.step_tokens), "--log-level", "error"]
    if settings.on_cpu:  # it would take 60 % of the memory
        words += ["--device", "cpu", "--cb-num-blocks", str(settings.blocks)]
    return words


def _vllm(settings: Settings, path: str, name: str) -> list[str]:
    words = ["--model", path, "--served-model-name", name, "--dtype", _long(settings.precision)]
    words += ["--max-model-len", str(settings.length), "--max-num-seqs", str(settings.sequences)]
    words += ["--max-num-batched-tokens", str(settings.step_tokens)]
    words += ["--tensor-parallel-size", str(settings.tp)] if settings.tp > 1 else []
    words += ["--quantization", settings.quantise] if settings.quantise else []
    words += ["--kv-cache-dtype", settings.kv_precision] if settings.kv_precision else []
    return words


def _sglang(settings: Settings, path: str, name: str) -> list[str]:
    words = ["--model-path", path, "--served-model-name", name, "--dtype", _long(settings.precision)]
    words += ["--context-length", str(settings.length), "--max-running-requests", str(settings.sequences)]
    words += ["--chunked-prefill-size", str(settings.step_tokens)]
    words += ["--tp-size", str(settings.tp)] if settings.tp > 1 else []
    words += ["--quantization", settings.quantise] if settings.quantise else []
    words += ["--kv-cache-dtype", "fp8_e4m3"] if settings.kv_precision else []
    return [*words, *(["--device", "cpu"] if settings.on_cpu else [])]


def _long(precision: str) -> str:
    return {"bf16": "bfloat16", "fp32": "float32"}[precision]


def _environment(engine: str, settings: Settings, work: Path) -> dict[str, str]:
    ours = {
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
        "HF_HUB_CACHE": str(work / HUB), "USE_HUB_KERNELS": "0", "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    if settings.on_cpu:
        ours["OMP_NUM_THREADS"] = str(settings.threads)
    if engine == VLLM:
        ours["VLLM_NO_USAGE_STATS"] = "1"
        if settings.on_cpu:
            ours["VLLM_CPU_KVCACHE_SPACE"] = str(max(math.ceil(settings.cache_bytes / GIB), 1))
    return {**os.environ, **ours}
