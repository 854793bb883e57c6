"""What the inputs are damaged copies of: a tiny teacher, its text, a finished family, configurations of all kinds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tiny import family_text, make_other_text, make_sample_text, make_tiny_teacher


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """folder: holds teacher/, corpus.txt, other.txt, family.toml and out/, the result of that family.

    configs: configurations as transformers makes them by default, by model type.
    """

    folder: Path
    configs: dict[str, dict[str, Any]]

    @property
    def teacher(self) -> Path:
        return self.folder / "teacher"

    @property
    def result(self) -> Path:
        return self.folder / "out"


def build(folder: Path) -> Corpus:
    """Make it, in about half a minute; a folder that is whole is used again."""
    done = folder / "done"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "corpus.txt").write_text(make_sample_text(), encoding="utf-8")
        (folder / "other.txt").write_text(make_other_text(), encoding="utf-8")
        make_tiny_teacher(folder / "teacher", make_sample_text())
        recipe = folder / "family.toml"
        recipe.write_text(family_text(folder / "teacher", "corpus.txt"), encoding="utf-8")
        shutil.rmtree(folder / "out", ignore_errors=True)
        subprocess.run(
            [sys.executable, "-m", "flashstill", "run", str(recipe), "--out", str(folder / "out")],
            check=True, env={**os.environ, "FLASHSTILL_HOME": str(folder / "home")}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        done.touch()
    return Corpus(folder=folder, configs=default_configs())


def default_configs() -> dict[str, dict[str, Any]]:
    """The default configuration of every causal model that transformers ships."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    found = {}
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            found[kind] = json.loads(AutoConfig.for_model(kind).to_json_string(use_diff=False))
        except Exception:  # some have no defaults: they are no input for this fuzzer
            continue
    return found
