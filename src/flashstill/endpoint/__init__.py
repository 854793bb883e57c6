"""A distilled model behind a server: start an existing engine on it, wait until it answers, stop it cleanly."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from flashstill.calls import refuses_other_keywords
from flashstill.errors import BadInput
from flashstill.extras import missing_package

if TYPE_CHECKING:
    from flashstill.endpoint.server import Server

__all__ = ["serve"]


@refuses_other_keywords
def serve(
    directory: str | Path,
    *,
    engine: str = "transformers",
    engine_python: str | Path | None = None,
    plan: str | Path | None = None,
    sequences: int | None = None,
    length: int | None = None,
    arithmetic: str = "auto",
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    log: str | Path | None = None,
    wait_s: float = 600.0,
) -> AbstractContextManager[Server]:
    """Serve a Hugging Face directory with an OpenAI-compatible API: `with fs.serve("out/student") as server:`.

    engine: transformers (continuous batching), vllm or sglang; engine_python: an interpreter of another environment
    that has it.  plan: a document of `plan --emit ENGINE --json` or `predict --json`, whose settings are used;
    sequences, length: requests in flight and tokens of the longest, which override it.  arithmetic: auto, bf16 or fp32.
    name: how requests call the model; default: the directory's name.  port: 0 is a free one.  log: file for the
    engine's output.  wait_s: longest wait until it answers.
    The value has url, model, settings, log, command and as_dict(); at the end of the block the engine and all its
    processes are gone.  Raises BadInput for a directory that is no model, an engine that is not installed, a port in
    use, and an engine that ends or stays silent (with its last lines); InfeasiblePlan if memory lacks for the cache.
    """
    from flashstill.progress import Silent

    try:
        from flashstill.endpoint.server import Request, serving
    except ModuleNotFoundError as error:
        raise BadInput(missing_package(error) or str(error)) from error
    asked = Request(
        directory=Path(directory), engine=engine, engine_python=None if engine_python is None else Path(engine_python),
        plan=None if plan is None else Path(plan), sequences=sequences, length=length, arithmetic=arithmetic,
        name=name, host=host, port=port, log=None if log is None else Path(log), wait_s=wait_s,
    )  # fmt: skip
    return serving(asked, Silent())
