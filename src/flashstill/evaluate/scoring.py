"""Loads and scores models one at a time, the teacher first; finished scores survive an interruption."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flashstill.distill.data.packing import Packed
from flashstill.distill.models import Model, fingerprint, load_model, tokenizer_fingerprint
from flashstill.distill.models.arithmetic import Arithmetic
from flashstill.distill.models.directories import blocks_of, check_directory, shapes
from flashstill.distill.models.host_memory import parameters_of
from flashstill.errors import BadInput
from flashstill.evaluate.entrants import TEACHER, Entrant
from flashstill.evaluate.summary import Sums, document_sums
from flashstill.evaluate.teacher_states import TeacherStates, run_teacher
from flashstill.evaluate.time_estimate import TimeEstimate
from flashstill.evaluate.token_scores import score_tokens
from flashstill.evaluate.unfinished import Unfinished
from flashstill.progress import Progress
from flashstill.records import ModelRecord

SCORES = 2
"""version in the key of stored scores: raise it when their computation changes"""
Place = tuple[str, str]
"""(domain, model)"""


@dataclass(kw_only=True)
class Scoring:
    """What is to be scored. texts: [domain][model] -> the excerpts of a text in the model's tokens; compares_tokens:
    whether models are compared with the teacher, the first entrant, token by token."""

    entrants: Sequence[Entrant]
    texts: Mapping[str, Mapping[str, Packed]]
    arithmetic: Arithmetic
    compares_tokens: bool
    unfinished: Unfinished
    progress: Progress
    found: dict[Place, Sums] = field(default_factory=dict)

    def scores(self) -> dict[Place, Sums]:
        """Document sums of every model on every text."""
        self._read_finished()
        missing = self._missing()
        reads_teacher = self.compares_tokens and bool(missing)
        work = [place for place in missing if not (reads_teacher and place[1] == TEACHER)]
        work += [(domain, TEACHER) for domain in self.texts if reads_teacher]
        total = sum(self.texts[domain][name].token_count * self.parameters[name] for domain, name in work)
        estimate = TimeEstimate(float(total), self.progress)
        states: dict[str, TeacherStates] = {}
        for entrant in self.entrants:
            domains = [domain for domain, name in missing if name == entrant.name]
            is_reference = reads_teacher and entrant.role == TEACHER
            if not domains and not is_reference:
                continue
            model = self._load(entrant)
            if is_reference:
                states = {domain: self._run_teacher(model, domain, estimate) for domain in self.texts}
            for domain in domains:
                self._score(entrant, None if is_reference else model, domain, states.get(domain), estimate)
            del model
        return self.found

    def model_record(self, entrant: Entrant) -> ModelRecord:
        """The record of a model that was not trained here."""
        return ModelRecord(
            model=entrant.name, role=entrant.role, of=entrant.name, parameters=self.parameters[entrant.name],
            layers=blocks_of(shapes(entrant.directory)), training_tokens=0, training_s=0.0, path=str(entrant.directory),
            arithmetic=str(self.arithmetic),
        )  # fmt: skip

    @functools.cached_property
    def parameters(self) -> dict[str, int]:
        """Number of parameters of each model, from its configuration."""
        return {each.name: parameters_of(check_directory(each.directory), each.name) for each in self.entrants}

    def _load(self, entrant: Entrant) -> Model:
        """Load a model. Raises BadInput if the text has ids outside its vocabulary."""
        model = load_model(entrant.directory, self.arithmetic.dtype, may_spread=True)
        known = model.get_input_embeddings().weight.shape[0]
        for by_model in self.texts.values():
            largest = int(by_model[entrant.name].tokens.max())
            if largest >= known:
                raise BadInput(
                    f"{entrant.name} knows {known:,} tokens, but its tokenizer gave token {largest:,}; the directory's"
                    " tokenizer is another model's"
                )
        return model

    def _run_teacher(self, model: Model, domain: str, estimate: TimeEstimate) -> TeacherStates:
        packed = self.texts[domain][TEACHER]
        with self.progress.task(f"run the teacher, {domain}", packed.token_count, "tokens") as advance:
            return run_teacher(model, packed, estimate.watch(advance, self.parameters[TEACHER]))

    def _score(
        self, entrant: Entrant, model: Model | None, domain: str, teacher: TeacherStates | None, estimate: TimeEstimate
    ) -> None:
        """Score a model on a text. model: None for the teacher, which is scored from its stored states."""
        packed, name = self.texts[domain][entrant.name], entrant.name
        with self.progress.task(f"evaluate {name}, {domain}", packed.token_count, "tokens") as advance:
            watched = advance if model is None else estimate.watch(advance, self.parameters[name])
            scores = score_tokens({name: model}, packed, teacher, watched)[name]
        self.found[domain, name] = document_sums(scores)
        if self.unfinished.folder is not None:
            self.unfinished.write(self._keys[domain, name], self.found[domain, name])

    def _missing(self) -> list[Place]:
        places = [(domain, entrant.name) for domain in self.texts for entrant in self.entrants]
        return [place for place in places if place not in self.found]

    def _read_finished(self) -> None:
        if self.unfinished.folder is None:
            return
        for place, key in self._keys.items():
            sums = self.unfinished.read(key)
            if sums is not None:
                self.found[place] = sums
        if self.found:
            self.progress.say(f"{len(self.found)} of {len(self._keys)} results are there already")

    @functools.cached_property
    def _keys(self) -> dict[Place, dict[str, Any]]:
        """The key of each (domain, model)'s scores: everything they depend on."""
        weights = {each.name: fingerprint(each.directory) for each in self.entrants}
        teacher = weights[TEACHER] if self.compares_tokens else ""
        return {
            (domain, each.name): {
                "scores": SCORES, "model": weights[each.name], "tokenizer": tokenizer_fingerprint(each.directory),
                "tokens": self.texts[domain][each.name].hash, "precision": self.arithmetic.precision,
                "teacher": teacher,
            }
            for domain in self.texts
            for each in self.entrants
        }  # fmt: skip
