"""A vLLM server that samples for the student: its weights are handed over, and it continues the student's prompts.

    1  the student is written as a Hugging Face directory that the server can read (the same disk, or a shared one)
    2  POST /collective_rpc {"method": "reload_weights", "kwargs": {"weights_path": ...}},  POST /reset_prefix_cache
    3  the server scores a prompt; its log-probabilities must be those of the student here
    4  POST /v1/completions for every prompt (questions.sampled)

vLLM has the routes of step 2 only in its development mode (VLLM_SERVER_DEV_MODE=1).  It only warns of tensors that it
did not load, hence step 3: it finds another model, not a student that is a few steps older.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from flashstill.arch.adapter.edit import with_own_head
from flashstill.arch.adapter.sizes import is_tied
from flashstill.distill.data.templates import special_ids
from flashstill.distill.generate import Sampling
from flashstill.distill.models import Model, write_model
from flashstill.distill.models.older_readers import write_older_tokenizer
from flashstill.distill.teachers.served.client import STEPS_KEPT, Conversation, Server, completed, together
from flashstill.distill.teachers.served.making import scores_of
from flashstill.distill.teachers.served.questions import sampled
from flashstill.distill.teachers.served.texts import attempt_of, most_bytes
from flashstill.errors import BadInput
from flashstill.files import replacing_directory, write_text
from flashstill.progress import Progress

BODY_FILE, HEAD_FILE = "model-body.safetensors", "model-head.safetensors"
REPEATED = 7
FARTHEST = 0.1
"""mean difference of log-probabilities, in nats, up to which the server has the student's weights; bf16 makes 0.02"""


class ServedStudent:
    """Samples for an on-policy source (training/on_policy.py). folder: where weights are written for the server.

    how: its first stop id ends texts.  A call raises BadInput if the server refuses, keeps failing, cannot take new
    weights, or computes something else with them.
    """

    def __init__(self, server: Server, tokenizer: Any, how: Sampling, folder: Path, progress: Progress) -> None:
        self.server, self.tokenizer, self.how, self.folder = server, tokenizer, how, folder
        self._special, self._progress = special_ids(tokenizer), progress
        self._handed = 0

    def __call__(self, student: Model, prompts: Sequence[np.ndarray], rows: Sequence[int]) -> np.ndarray:
        """Continuations [R, new_tokens] of the prompts, -1 behind the end. rows [R]: their ids, for their seeds."""
        drawn = np.full((len(prompts), self.how.new_tokens), -1, dtype=np.int32)
        completed(self._drawn(student, prompts, rows, drawn))
        return drawn

    async def _drawn(
        self, student: Model, prompts: Sequence[np.ndarray], rows: Sequence[int], drawn: np.ndarray
    ) -> None:
        place = self._written(student)
        async with Conversation(self.server, self._progress.say, STEPS_KEPT) as talk:
            self._check_context(await self._longest(talk, place), prompts)
            await self._hand_over(talk, place)
            await self._check_weights(talk, student, max(prompts, key=len).tolist(), place)

            async def one(which: int) -> None:
                question = sampled(self.server.name, prompts[which].tolist(), 1, self.how, rows[which])
                answer = await talk.completions(question, most_bytes(1, self.how))
                try:
                    ids, _ = attempt_of(answer["choices"][0], self.how, self.tokenizer, self._special)
                except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
                    raise BadInput(f"{self.server.base} answers a prompt with no text: {error}") from error
                drawn[which, : len(ids)] = ids

            await together(iter(range(len(prompts))), self.server.in_flight, one)

    def _written(self, student: Model) -> Path:
        """The student's weights in a directory of their own; those of the time before are removed."""
        shutil.rmtree(self.folder / f"weights-{self._handed % 2}", ignore_errors=True)
        self._handed += 1
        place = self.folder / f"weights-{self._handed % 2}"
        with replacing_directory(place) as temporary:
            write_model(student, temporary)  # in its own dtype: nothing is rounded here
            untie(student, temporary)
            self.tokenizer.save_pretrained(temporary)
            write_older_tokenizer(temporary)
        return place.resolve()

    async def _longest(self, talk: Conversation, place: Path) -> int | None:
        try:
            return await talk.longest()
        except BadInput as error:
            how = f"VLLM_SERVER_DEV_MODE=1 vllm serve {place} --served-model-name {self.server.name}"
            raise BadInput(f"{error}; the server that samples for the student is started with: {how}") from error

    async def _hand_over(self, talk: Conversation, place: Path) -> None:
        base = self.server.base
        asked = {"method": "reload_weights", "kwargs": {"weights_path": str(place)}}
        status, said = await talk.operate("/collective_rpc", asked)
        if status == 404:
            raise BadInput(
                f"the server at {base} cannot take new weights; start vLLM with VLLM_SERVER_DEV_MODE=1 in its"
                " environment"
            )
        if status != 200:
            raise BadInput(
                f"the server at {base} did not load the student's weights from {place} ({status} {said}); it must read"
                " this directory, and serve a model of the same shape"
            )
        status, said = await talk.operate("/reset_prefix_cache", None)
        if status != 200 or "true" not in said.lower():
            raise BadInput(f"the server at {base} did not empty its prefix cache ({status} {said}); is it in use?")

    async def _check_weights(self, talk: Conversation, student: Model, tokens: list[int], place: Path) -> None:
        """BadInput if the server's log-probabilities of a prompt are not those of the student.

        A prompt of one token has none: it is repeated, up to the length of its continuation.
        """
        if len(tokens) < 2:
            tokens = tokens * (1 + min(self.how.new_tokens, REPEATED))
        theirs = (await scores_of(talk, tokens, 1, len(self.tokenizer))).target_log_p
        device, was_training = next(student.parameters()).device, student.training
        with torch.inference_mode():
            logits = student.eval()(input_ids=torch.tensor([tokens[:-1]], device=device)).logits[0].float().cpu()
        student.train(was_training)
        ours = torch.log_softmax(logits, -1).gather(-1, torch.tensor(tokens[1:])[:, None])[:, 0]
        apart = float((ours - theirs).abs().mean())
        if not apart <= FARTHEST:
            raise BadInput(
                f"{self.server.name} at {self.server.base} is not the student: its log-probabilities of a prompt are"
                f" {apart:.2g} nats from those here, more than {FARTHEST:g}; start it again on the"
                f" directory {place}"
            )

    def _check_context(self, longest: int | None, prompts: Sequence[np.ndarray]) -> None:
        tokens = max(map(len, prompts)) + self.how.new_tokens
        if longest is not None and tokens > longest:
            raise BadInput(
                f"a prompt and its continuation take {tokens} tokens, but {self.server.name} at {self.server.base}"
                f" takes {longest}; lower regime.new_tokens, or start it with more (--max-model-len)"
            )


def untie(model: Model, directory: Path) -> None:
    """Write a head that shares the embedding's weights as a tensor of its own, in a directory that was just saved.

    vLLM on CPUs keeps a packed copy of a shared head, which it does not renew when it reloads weights.
    """
    config = json.loads((directory / "config.json").read_text())
    head, names = model.get_output_embeddings(), dict(model.named_parameters(remove_duplicate=False))
    if head is None or not is_tied(config):
        return
    name = next(name for name in reversed(names) if names[name] is head.weight)
    index = directory / "model.safetensors.index.json"
    if not index.exists():
        # readers take a file of this name for the whole model
        (directory / "model.safetensors").rename(directory / BODY_FILE)
        with safe_open(directory / BODY_FILE, framework="pt") as opened:
            files = dict.fromkeys(opened.keys(), BODY_FILE)
    else:
        files = json.loads(index.read_text())["weight_map"]
    save_file({name: head.weight.detach().cpu().contiguous()}, directory / HEAD_FILE, metadata={"format": "pt"})
    total = sum((directory / file).stat().st_size for file in {*files.values(), HEAD_FILE})
    write_text(index, json.dumps({"metadata": {"total_size": total}, "weight_map": {**files, name: HEAD_FILE}}))
    write_text(directory / "config.json", json.dumps(with_own_head(config), indent=1))
