"""Bad inputs to the learning arm: recipes, data, teachers, and results that were damaged after they were finished."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import tomli_w

from tests.fuzzing import mangle
from tests.fuzzing.corpus import Corpus
from tests.fuzzing.sandbox import Trial
from tests.images import write_images

DISTILL: dict[str, Any] = {
    "name": "half", "seed": 1, "data": "corpus.txt", "out_of_domain": "other.txt",
    "teachers": [{"model": "teacher"}], "student": {"kind": "depth", "keep_layers": 3}, "signals": {"kind": "hidden"},
    "text": {"window_tokens": 32, "train_tokens": 512, "heldout_tokens": 128, "out_of_domain_tokens": 128},
    "search": {"method": "influence", "windows": 4, "candidates": 2},
    "losses": [{"divergence": "forward-kl", "temperature": 1.0, "weight": 1.0}],
    "train": {
        "tokens": 512, "windows_per_step": 4, "learning_rate": 1e-3, "warmup_fraction": 0.1, "final_fraction": 0.1,
        "weight_decay": 0.0, "clip_norm": 1.0, "checkpoint_every_steps": 3, "micro_windows": 0, "schedule": "cosine",
    },
}  # fmt: skip
FAMILY: dict[str, Any] = {
    "name": "tiny", "seed": 3, "teacher": "teacher", "data": "corpus.txt", "out_of_domain": "other.txt",
    "text": {"window_tokens": 32, "train_tokens": 512, "heldout_tokens": 128, "out_of_domain_tokens": 128},
    "search": {"method": "greedy", "windows": 4, "candidates": 2},
    "control": True, "train": {"tokens": 512, "windows_per_step": 2, "learning_rate": 1e-3},
    "losses": [{"divergence": "forward-kl", "temperature": 1.0}],
    "measure": {"batches": [1], "context": 16, "repeats": 1},
    "cost": {"chips": ["h100-sxm"], "batches": [1, 16], "context": 128, "precision": "bf16"},
    "students": [
        {"name": "half", "keep_layers": 3},
        {"name": "thin", "kind": "width", "feed_forward": 32, "train": {"tokens": 256}},
        {"name": "int4", "kind": "copy", "quantise": "int4", "group": 16, "signals": {"kind": "topk", "k": 4}},
    ],
}  # fmt: skip
STUDIES = ("hinton-2015", "moe-to-dense", "rounding", "kd-against-labels", "kd-by-size", "kd-by-passes", "deep-think")


def _beside(corpus: Corpus, folder: Path) -> None:
    for name in ("teacher", "corpus.txt", "other.txt"):
        (folder / name).symlink_to(corpus.folder / name)


def recipes(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """A recipe of any kind with a few wrong places."""
    import tomllib

    from flashstill.recipes.studies import recipe_file

    _beside(corpus, folder)
    kind = chance.choice(("distill", "run", "study"))
    if kind == "study":
        good = tomllib.loads(recipe_file(chance.choice(STUDIES)).read_text(encoding="utf-8"))
        good["data"] = "corpus.txt"
    else:
        good = DISTILL if kind == "distill" else FAMILY
    written = _toml(chance, mangle.document(chance, good, most=2))
    path = folder / "recipe.toml"
    path.write_bytes(mangle.damaged(chance, written) if chance.random() < 0.1 else written)
    command = "distill" if kind == "distill" else "run"
    return Trial(kind="recipes", arguments=(command, str(path), "--out", str(folder / "out")), interrupt=True)


def _toml(chance: random.Random, found: dict[str, Any]) -> bytes:
    try:
        return tomli_w.dumps(_without_none(found)).encode("utf-8", "surrogatepass")
    except (RecursionError, TypeError, ValueError):
        return b"name = " + b"[" * chance.choice((1000, 100_000))


def _without_none(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _without_none(inner) for key, inner in found.items() if inner is not None}
    if isinstance(found, list):
        return [_without_none(inner) for inner in found if inner is not None]
    return found


def data(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """Text files of every kind, damaged."""
    (folder / "teacher").symlink_to(corpus.teacher)
    suffix = chance.choice((".txt", ".md", ".jsonl", ".parquet", ".jsonl.gz", ".csv"))
    path = folder / f"data{suffix}"
    path.write_bytes(_data(chance, corpus, suffix, folder))
    if chance.random() < 0.05:
        path.unlink()
        path.symlink_to(chance.choice(("/dev/zero", "/dev/null", "/", "nowhere", path.name)))
    recipe = {**DISTILL, "data": path.name, "out_of_domain": path.name}
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    return _signals("data", folder)


def _data(chance: random.Random, corpus: Corpus, suffix: str, folder: Path) -> bytes:
    text = (corpus.folder / "corpus.txt").read_text(encoding="utf-8")
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        made = folder / "good.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"text": text.split("\n\n")}), made)
        return mangle.damaged(chance, made.read_bytes())
    if suffix.startswith(".jsonl"):
        rows: list[Any] = [{"text": part} for part in text.split("\n\n")]
        rows[chance.randrange(len(rows))] = chance.choice(
            ({"text": "\ud800"}, {"text": mangle.value(chance)}, mangle.value(chance), {"txt": "x"}, {"text": "\x00"})
        )
        try:
            lines = "\n".join(json.dumps(row) for row in rows)
        except RecursionError:
            lines = '{"text": ' + "[" * 100_000
        return lines.encode() if chance.random() < 0.8 else mangle.damaged(chance, lines.encode())
    return mangle.damaged(chance, text.encode())


def labelled(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """Labelled images or rows for a study of classifiers: damaged, lying about their size, or a thousand times it."""
    import tomllib

    from flashstill.recipes.studies import recipe_file

    recipe = tomllib.loads(recipe_file("hinton-2015").read_text(encoding="utf-8"))
    recipe |= {"data": "data", "seeds": 1, "unseen_class": 1}
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    if chance.random() < 0.4:
        rows = [["a", "label", "b"], *([str(row), str(row % 3), "0.5"] for row in range(12))]
        for _ in range(chance.randint(1, 2)):
            row = chance.choice(rows)
            row[chance.randrange(3)] = mangle.text(chance)
        table = "\n".join(map(",".join, rows)).encode("utf-8", "surrogatepass")
        (folder / "data").write_bytes(mangle.damaged(chance, table) if chance.random() < 0.4 else table)
    else:
        file = chance.choice(sorted(write_images(folder / "data", classes=3, side=4, train=30, test=9).iterdir()))
        whole = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        roll = chance.random()
        if roll < 0.3:
            whole = whole[:4] + chance.randbytes(8) + whole[12:]
        elif roll < 0.5:
            whole += bytes(chance.choice((1, 2**16, 2**27)))
        else:
            whole = mangle.damaged(chance, whole)
        packed = gzip.compress(whole, 1) if file.suffix == ".gz" else whole
        file.write_bytes(mangle.damaged(chance, packed) if chance.random() < 0.2 else packed)
    arguments = ("run", str(folder / "recipe.toml"), "--out", str(folder / "out"))
    return Trial(kind="labelled", arguments=arguments, interrupt=True)


def models(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """A teacher's directory with one file damaged, its configuration changed, or something else in place of it."""
    place = folder / "teacher"
    shutil.copytree(corpus.teacher, place)
    for name in ("corpus.txt", "other.txt"):
        (folder / name).symlink_to(corpus.folder / name)
    file = chance.choice(sorted(place.iterdir()))
    roll = chance.random()
    if file.suffix == ".json" and roll < 0.6:
        file.write_bytes(mangle.as_json(chance, mangle.document(chance, json.loads(file.read_text(encoding="utf-8")))))
    elif roll < 0.9:
        file.write_bytes(mangle.damaged(chance, file.read_bytes()))
    else:
        file.unlink()
        if chance.random() < 0.3:
            file.symlink_to(chance.choice(("/dev/zero", "/dev/null", "nowhere")))
    (folder / "recipe.toml").write_text(tomli_w.dumps(DISTILL), encoding="utf-8")
    return _signals("models", folder)


def _signals(kind: str, folder: Path) -> Trial:
    arguments = ("distill", str(folder / "recipe.toml"), "--out", str(folder / "out"), "--build-signals")
    return Trial(kind=kind, arguments=arguments, interrupt=True)


def results(chance: random.Random, corpus: Corpus, folder: Path) -> Trial:
    """A finished family with some of its files damaged, to be reported on or gone on with."""
    place = folder / "out"
    shutil.copytree(corpus.result, place)
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.suffix != ".html")
    tables = [path for path in files if path.suffix in (".json", ".jsonl", ".toml", ".csv")]
    for _ in range(chance.randint(1, 2)):
        file = chance.choice(tables if chance.random() < 0.7 else files)
        if not file.exists():
            continue
        roll = chance.random()
        if roll < 0.15:
            file.unlink()
        elif roll < 0.5 and file.suffix == ".jsonl":
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            row = chance.randrange(len(lines)) if lines else 0
            try:
                lines[row : row + 1] = [json.dumps(mangle.document(chance, json.loads(lines[row])))]
            except (ValueError, IndexError, TypeError, AttributeError, RecursionError):
                lines = ["nonsense"]
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        else:
            file.write_bytes(mangle.damaged(chance, file.read_bytes()))
    if chance.random() < 0.75:
        return Trial(kind="results", arguments=("report", str(place)))
    recipe = str(corpus.folder / "family.toml")
    return Trial(kind="results", arguments=("run", recipe, "--out", str(place)), interrupt=True)
