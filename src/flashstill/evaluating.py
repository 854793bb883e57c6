"""Evaluate models, and drafts of them, from Python; the functions return frozen results.

torch and transformers are imported when a function is called; if they are not installed, BadInput names the extra to
install.  After an interruption, the same call resumes the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flashstill.distilled import EvaluationResult
from flashstill.distilling import progress_of, says_what_is_missing
from flashstill.progress import Progress

if TYPE_CHECKING:
    from flashstill.records import AcceptanceRecord


@says_what_is_missing
def evaluate(
    models: str | Sequence[str] | Mapping[str, str],
    texts: str | Sequence[str] | Mapping[str, str] = (),
    *,
    teacher: str = "",
    control: str = "",
    base: str = "",
    metrics: str | Sequence[str] = (),
    tokens: int = 32_768,
    window_tokens: int = 512,
    seed: int = 0,
    arithmetic: str = "auto",
    out: str | Path | None = None,
    chat_template: str | Path = "",
    tasks: str | Path | Sequence[str | Path] = (),
    items: int | None = None,
    attempts: int = 0,
    chat: bool = False,
    allow_task_code: bool = False,
    progress: bool | Progress = False,
) -> EvaluationResult:
    """Evaluate models on texts and tasks: bits per byte, accuracy, calibration; KL, agreement and gap closed.

    models: Hugging Face directories, .gguf files or names of packaged models; a mapping gives each one a name.
    texts: built-in corpora, or files or directories of text, JSON, CSV, Parquet or Arrow; also as a mapping.  Of
    conversations the answers are scored, with the chat_template in a file or the model's own.  teacher: the model that
    others are compared with.  control: the student trained on hard labels.  base: the base model of the LoRA
    adapters among the models, if not the ones that they name.  tokens: number used of each text;
    window_tokens: length of one forward pass.  tasks: lm-eval's task files (YAML) or names, "gym:NAME" of
    reasoning-gym, or .toml files with a table [task]; items: at most so many of each; attempts: at each problem of the
    latter two, for best of N and majority of N; chat: ask through each model's chat template; allow_task_code: whether
    task files may run the Python code that they name.  out: file for the records; results of finished models are kept
    beside it, so an interrupted evaluation resumes.
    """
    from flashstill.evaluate import evaluate_models

    evaluation = evaluate_models(
        [models] if isinstance(models, str) else models, [texts] if isinstance(texts, str) else texts,
        teacher=teacher, control=control, base=base, metrics=[metrics] if isinstance(metrics, str) else metrics,
        tokens=tokens, window_tokens=window_tokens, seed=seed, arithmetic=arithmetic,
        out=None if out is None else Path(out), chat_template=str(chat_template),
        tasks=[str(tasks)] if isinstance(tasks, str | Path) else [str(task) for task in tasks], items=items,
        attempts=attempts, chat=chat, allow_task_code=allow_task_code, progress=progress_of(progress),
    )  # fmt: skip
    return EvaluationResult(
        records=evaluation.records, left_out=evaluation.left_out, warnings=evaluation.warnings,
        reliability=evaluation.reliability,
    )  # fmt: skip


@says_what_is_missing
def acceptance(
    target: str,
    drafts: str | Sequence[str],
    data: str,
    *,
    draft_tokens: int = 4,
    temperatures: float | Sequence[float] = 1.0,
    top_p: float = 1.0,
    documents: int = 32,
    prompt_tokens: int = 64,
    new_tokens: int = 64,
    counted: bool = True,
    seed: int = 0,
    arithmetic: str = "auto",
    out: str | Path | None = None,
    progress: bool | Progress = False,
) -> tuple[AcceptanceRecord, ...]:
    """Measure how often a target accepts the tokens of drafts, by position, on its own continuations of a text.

    target, drafts: Hugging Face directories, .gguf files or names of packaged models; a draft may be a drafting head
    (student kind eagle).  data: a built-in corpus, or a file or directory of text; one prompt of each of `documents`
    documents.  counted: also decode speculatively, and count.  out: file for the records; `acceptance.jsonl` in a
    draft's directory is found by `predict(draft=DIRECTORY)`.
    """
    from flashstill.evaluate.drafts import measure_acceptance

    return measure_acceptance(
        target, [drafts] if isinstance(drafts, str) else drafts, data, draft_tokens=draft_tokens,
        temperatures=[temperatures] if isinstance(temperatures, int | float) else temperatures, top_p=top_p,
        documents=documents, prompt_tokens=prompt_tokens, new_tokens=new_tokens, counted=counted, seed=seed,
        arithmetic=arithmetic, out=None if out is None else Path(out), progress=progress_of(progress),
    )  # fmt: skip
