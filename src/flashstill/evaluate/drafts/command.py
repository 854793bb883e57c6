"""The command that measures the acceptance of drafts: models and text by name, records to a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flashstill.arch.adapter.sizes import CONTEXT, stated_size
from flashstill.bounded import named_path
from flashstill.distill.data.text import load_documents, shuffled
from flashstill.distill.drafts import check_target, is_eagle, load_eagle
from flashstill.distill.generate import Sampling
from flashstill.distill.models import Model, fingerprint, load_model, load_tokenizer, parts
from flashstill.distill.models.arithmetic import AUTO, decided, in_use, shape_of
from flashstill.distill.models.directories import read_json
from flashstill.distill.teachers import resolve_teacher
from flashstill.errors import BadInput
from flashstill.evaluate.drafts.measuring import Draft, Measuring, Prompts, measured
from flashstill.evaluate.entrants import named, split_name
from flashstill.outputs import check_writable, written_out
from flashstill.progress import Progress, Silent
from flashstill.records import AcceptanceRecord, to_line

FILE = "acceptance.jsonl"
"""the file in a draft's directory where predictions look for its acceptance"""


def measure_acceptance(
    target: str,
    drafts: Sequence[str],
    data: str,
    *,
    draft_tokens: int = 4,
    temperatures: Sequence[float] = (1.0,),
    top_p: float = 1.0,
    documents: int = 32,
    prompt_tokens: int = 64,
    new_tokens: int = 64,
    counted: bool = True,
    seed: int = 0,
    arithmetic: str = AUTO,
    out: Path | None = None,
    progress: Progress | None = None,
) -> tuple[AcceptanceRecord, ...]:
    """Acceptance of drafts by position, on the target's continuations of held-out documents.

    target, drafts: directories, .gguf files or packaged names, a draft also as "NAME=PATH"; a draft is a language model
    of the target's vocabulary, or a drafting head that was trained on the target's hidden states.  data: a built-in
    corpus, or a file or directory of text; one prompt of `prompt_tokens` from each of so many documents.  out: a file
    for the records, JSON lines.  Raises BadInput for what cannot be found, read or compared.
    """
    shown = progress or Silent()
    check_amounts(draft_tokens, new_tokens, prompt_tokens)
    settings = [Sampling(new_tokens=new_tokens, temperature=each, top_p=top_p, seed=seed) for each in temperatures]
    if len(set(temperatures)) < len(temperatures):
        raise BadInput(f"temperatures are {', '.join(f'{each:g}' for each in temperatures)}: one is named twice")
    if documents < 2:
        raise BadInput(f"documents is {documents}, and the intervals are over documents; give at least 2")
    check_writable(out)
    asked_drafts = named(drafts, "draft")
    if is_eagle(named_path(target)):
        raise BadInput(f"{target} is a drafting head; the target is the model that it drafts for")
    directory = resolve_teacher(target, shown, "target")
    places = {name: _place(source, shown) for name, source in asked_drafts.items()}
    tokenizer, digest = load_tokenizer(directory), fingerprint(directory)
    for name, place in places.items():
        check_draft(name, place, directory, tokenizer, digest, prompt_tokens + new_tokens)
    prompts = prompts_of(data, tokenizer, documents, prompt_tokens, seed)
    used = in_use(decided(arithmetic, shape_of(directory)))
    shown.say(f"models run in {used}; {len(prompts.tokens)} prompts of {prompts.domain}")
    model = load_model(directory, used.dtype)
    loaded = [load_draft(name, place, model, digest, counted) for name, place in places.items()]
    records: list[AcceptanceRecord] = []
    stop = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
    vocabulary = shared_ids(model, loaded, tokenizer)
    for each in settings:
        sampling = Sampling(
            new_tokens=new_tokens, temperature=each.temperature, top_p=top_p, seed=seed, stop=stop,
            vocabulary=vocabulary, batch=16,
        )  # fmt: skip
        asked = Measuring(
            target=directory.name if target == str(directory) else target, sampling=sampling,
            draft_tokens=draft_tokens, target_digest=digest, arithmetic=str(used), seed=seed,
        )  # fmt: skip
        records += measured(model, loaded, prompts, asked, shown)
    if out is not None:
        with written_out(out) as text:
            text.writelines(f"{to_line(record)}\n" for record in records)
    return tuple(records)


def check_amounts(draft_tokens: int, new_tokens: int, prompt_tokens: int) -> None:
    """BadInput for amounts that no acceptance can be measured with."""
    if draft_tokens < 1 or new_tokens <= draft_tokens or prompt_tokens < 2:
        raise BadInput(
            f"{draft_tokens} tokens drafted, {new_tokens} new ones after prompts of {prompt_tokens}: draft at least"
            " one, sample more than are drafted, and give prompts of at least two"
        )


def check_draft(name: str, place: Path, directory: Path, tokenizer: Any, digest: str, tokens: int) -> None:
    """BadInput for a draft that cannot draft for a target; no weights are read.

    directory, tokenizer, digest: of the target; tokens: of a prompt and what is sampled after it.
    """
    check_positions("the target", read_json(directory / "config.json"), tokens)
    fields = read_json(place / "config.json")
    if is_eagle(place):
        check_target(place, fields, digest)
        return
    own = load_tokenizer(place)
    if own.get_vocab() != tokenizer.get_vocab():
        sizes = f"{len(own):,} and {len(tokenizer):,} tokens"
        sizes = "as many tokens, but other ones" if len(own) == len(tokenizer) else sizes
        raise BadInput(f"{name} cannot draft for this target: their vocabularies differ ({sizes})")
    check_positions(name, fields, tokens)


def check_positions(name: str, fields: Any, tokens: int) -> None:
    """BadInput if prompts and new tokens exceed a model's positions. fields: of its config.json."""
    most = stated_size(fields, CONTEXT)
    if most is not None and tokens > most:
        raise BadInput(f"prompts and new tokens are {tokens:,} together, but {name} has {most:,} positions")


def shared_ids(model: Model, drafts: Sequence[Draft], tokenizer: Any) -> int:
    """Ids that target, drafts and tokenizer share: heads may be padded to different sizes."""
    heads = [each.model.head if each.is_eagle else parts(each.model).head for each in drafts]
    return min(len(tokenizer), parts(model).head.rows, *(head.rows for head in heads))


def load_draft(name: str, place: Path, model: Model, digest: str, counted: bool = True) -> Draft:
    """The draft in a directory that `check_draft` let pass. digest: fingerprint of the target."""
    loaded = load_eagle(place, model, digest) if is_eagle(place) else load_model(place, model.dtype)
    return Draft(name=name, model=loaded, digest=fingerprint(place), counted=counted)


def prompts_of(data: str, tokenizer: Any, documents: int, prompt_tokens: int, seed: int) -> Prompts:
    """A prompt from the middle of each of `documents` documents of a text that are long enough."""
    name, source = split_name(data)
    tokens: list[np.ndarray] = []
    for document in shuffled(load_documents(source), seed):
        middle = len(document.text) // 2
        span = document.text[max(0, middle - 8 * prompt_tokens) : middle + 8 * prompt_tokens]
        ids = tokenizer(span, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) >= prompt_tokens:
            start = (len(ids) - prompt_tokens) // 2
            tokens.append(np.asarray(ids[start : start + prompt_tokens], dtype=np.int64))
        if len(tokens) == documents:
            break
    if len(tokens) < 2:
        raise BadInput(
            f"{data} has {len(tokens)} documents of {prompt_tokens} tokens, and intervals are over documents"
        )
    digest = hashlib.sha256(np.concatenate(tokens).tobytes()).hexdigest()
    return Prompts(tokens=tokens, documents=range(len(tokens)), domain=name, digest=digest)


def _place(source: str, progress: Progress) -> Path:
    path = named_path(source)
    return path if path.is_dir() and is_eagle(path) else resolve_teacher(source, progress, "draft")
