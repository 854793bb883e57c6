"""The stages of a student of kind eagle, where they differ from those of a language model.

student/              the drafting head, as vLLM and SGLang load it, with acceptance.jsonl beside its weights
records.jsonl         acceptance of the initial and of the trained head on the target's continuations of held-out text
"""

from __future__ import annotations

import functools
import json
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from flashstill.arch.adapter.sizes import CONTEXT, stated_size
from flashstill.errors import BadInput
from flashstill.files import write_text
from flashstill.recipes.resuming import loop_keys
from flashstill.records import AcceptanceRecord, Record, write_records
from flashstill.runs import kept
from flashstill.runs.engine import Distillation
from flashstill.runs.logging import logs_for
from flashstill.runs.regimes import objective_of, train_recipe_of
from flashstill.runs.sources import teacher_of

POSITIONS = 2048
"""positions of a target whose configuration states none"""


class DraftDistillation(Distillation):
    """Trains a head that drafts for the teacher, the target."""

    def first_weights(self, least_layers: int = 0) -> None:
        """Make the head's initial weights."""
        from flashstill.distill.drafts import new_eagle, save_eagle
        from flashstill.distill.models import parts

        if self.world.size > 1:
            raise BadInput("a student of kind eagle trains in one process; start it without torchrun")
        if self.workdir.initial.is_dir():
            return
        target = self.model(0)
        positions = stated_size(target.config, CONTEXT) or POSITIONS
        embedding, head = target.get_input_embeddings().weight, parts(target).head
        eagle = new_eagle(embedding, head, self.recipe.student.feed_forward, positions, self.recipe.seed)
        save_eagle(eagle, self.workdir.initial, {**self._about, "steps_trained": 0})

    @functools.cached_property
    def _about(self) -> dict[str, Any]:
        """What config.json says of a head."""
        teacher = self.recipe.teachers[0]
        return {"kind": "eagle", "target": self._fingerprint(0), "target_name": teacher.model, **self._training}

    @property
    def _training(self) -> dict[str, Any]:
        draft = self.recipe.draft
        return {"steps": draft.steps, "decay": draft.decay, "feature_weight": draft.feature_weight}

    def train(self) -> None:
        """Train the head from its initial weights, on the target's hidden states."""
        from flashstill.distill import training
        from flashstill.distill.drafts import DraftPass, load_eagle, save_eagle
        from flashstill.distill.models.checksums import verify_checksums

        if self.workdir.student.is_dir():
            verify_checksums(self.workdir.student)
            return
        target, packed = self.model(0), self.packed(self.taught)
        eagle = load_eagle(self.workdir.initial, target, self._fingerprint(0))
        teacher, sizes = teacher_of(self, packed)
        recipe, folder = train_recipe_of(self.recipe), self.workdir.training
        source = training.Offline(packed, self.recipe.train.windows_per_step, self.recipe.seed)
        key = {
            "losses": [asdict(loss) for loss in self.recipe.losses], "hard_weight": self.recipe.hard_weight,
            "draft": self._training,
        }  # fmt: skip
        with logs_for(self.recipe, self.workdir, self.progress) as logs:
            trained = training.train(
                eagle, source, objective_of(self.recipe, teacher), recipe, folder, self.progress,
                f"distil {self.recipe.name}", key, min([*sizes, len(eagle.head)]), may_change=loop_keys(),
                run=DraftPass(**self._training), log=logs.add,
            )  # fmt: skip
        steps = len(kept.steps(folder))
        save_eagle(trained, self.workdir.student, {**self._about, "steps_trained": steps})
        if not self.workdir.keeps_state:
            training.checkpoints.clear(folder)

    def evaluate(self) -> None:
        """Measure the acceptance of the initial and the trained head on held-out text."""
        from flashstill.evaluate.drafts import FILE

        records = self._acceptance()
        mine = [record for record in records if record.draft == self.recipe.name]
        rows = kept.steps(self.workdir.training)
        kept_records: list[Record] = list(records)
        write_records(self.workdir.out / "records.jsonl", kept_records)
        write_records(self.workdir.student / FILE, mine)
        parameters = {
            "student": mine[0].draft_parameters,
            "teacher": sum(p.numel() for p in self.model(0).parameters()),
        }
        summary = {
            "name": self.recipe.name,
            "student": str(self.workdir.student),
            "parameters": parameters,
            "arithmetic": asdict(self.arithmetic),
            "steps": len(rows),
            "training_s": round(sum(row["step_s"] for row in rows), 2),
            "tokens_per_s": float(np.median([row["tokens_per_s"] for row in rows])),
            "acceptance": [asdict(record) for record in records],
            "made": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        }
        write_text(self.workdir.out / "summary.json", json.dumps(summary, indent=1))

    def _acceptance(self) -> list[AcceptanceRecord]:
        from flashstill.distill.drafts import load_eagle
        from flashstill.distill.generate import Sampling
        from flashstill.distill.models import fingerprint, load_tokenizer
        from flashstill.evaluate.drafts import Draft, Measuring, measured
        from flashstill.evaluate.drafts.command import shared_ids

        target, asked, digest = self.model(0), self.recipe.draft, self._fingerprint(0)
        tokenizer = load_tokenizer(self.directories[0])
        places = {f"{self.recipe.name}-untrained": self.workdir.initial, self.recipe.name: self.workdir.student}
        drafts = [
            Draft(
                name=name,
                model=load_eagle(place, target, digest),
                digest=fingerprint(place),
                counted=place == self.workdir.student,
            )
            for name, place in places.items()
        ]
        records: list[AcceptanceRecord] = []
        for temperature in asked.temperatures:
            sampling = Sampling(
                new_tokens=asked.new_tokens, temperature=temperature, stop=(int(tokenizer.eos_token_id),),
                vocabulary=shared_ids(target, drafts, tokenizer), seed=self.recipe.seed, batch=32,
            )  # fmt: skip
            measuring = Measuring(
                target=self.recipe.teachers[0].model, sampling=sampling, draft_tokens=asked.draft_tokens,
                target_digest=digest, arithmetic=str(self.arithmetic), seed=self.recipe.seed,
            )  # fmt: skip
            records += measured(target, drafts, self._prompts(), measuring, self.progress)
        return records

    def _prompts(self) -> Any:
        """The beginnings of held-out windows, spread over the text, with the document of each."""
        from flashstill.evaluate.drafts import Prompts

        packed, asked = self.packed("heldout"), self.recipe.draft
        chosen = np.unique(np.linspace(0, packed.windows - 1, min(asked.prompts, packed.windows)).round().astype(int))
        owners = [int(document) for document in packed.target_document[chosen, asked.prompt_tokens - 1]]
        return Prompts(
            tokens=[packed.tokens[window, : asked.prompt_tokens].astype(np.int64) for window in chosen],
            documents=np.unique(owners, return_inverse=True)[1].tolist(), domain="heldout", digest=packed.hash,
        )  # fmt: skip
