"""Find the files of a data set: one file, a directory of them, one written by `datasets.save_to_disk`, or a split.

    DIR/dataset_dict.json {"splits": ["train", "test"]}, DIR/train/   a DatasetDict: one split must be named, DIR:train
    DIR/state.json {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}   a Dataset
    DIR:train of any other directory    its files train.*, train-*, train_* and those below a directory train/

Only these JSON files are read for it; nothing is unpickled, and `datasets` is not needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flashstill.arch.config_file import existing
from flashstill.bounded import read_bounded
from flashstill.compressed import suffix_of
from flashstill.errors import BadInput, shortened, unknown

TEXT = (".txt", ".md", ".rst")
JSON_LINES, JSON = (".jsonl", ".ndjson"), (".json",)
TABLES = (".csv", ".tsv")
COLUMNAR = (".parquet", ".arrow")
SUFFIXES = (*TEXT, *JSON_LINES, *JSON, *TABLES, *COLUMNAR)
MOST_FILES, MOST_BYTES = 100_000, 64 * 2**20
_DICT, _STATE = "dataset_dict.json", "state.json"
_NOT_DATA = (_DICT, _STATE, "dataset_info.json", "dataset_infos.json")


def located_source(source: str) -> tuple[Path, str] | None:
    """(path, split) of a source that exists, "" for no split; "DIR:train" names a split of a directory."""
    path = existing(source)
    if path is not None:
        return path, ""
    head, colon, split = source.rpartition(":")
    path = existing(head) if colon and split else None
    return (path, split) if path is not None and path.is_dir() else None


def files_of(path: Path, split: str = "") -> list[Path]:
    """The data files of a source in a fixed order; BadInput if there are none, or a split is needed or unknown."""
    if not path.is_dir():
        return [path]
    if (path / _DICT).is_file():
        return _saved(_chosen(path, split))
    if (path / _STATE).is_file():
        if split:
            raise BadInput(f"{path} is one saved data set without splits; name it without {':' + split!r}")
        return _saved(path)
    files = _below(path)
    if split:
        files = [file for file in files if _is_of(file.relative_to(path), split)]
    if not files:
        what = f"no file of a split {shortened(split)!r}" if split else f"no {', '.join(SUFFIXES)} file"
        raise BadInput(f"data directory {path} holds {what}")
    return sorted(files)


def _chosen(path: Path, split: str) -> Path:
    listed = _entry(path / _DICT, "splits")
    splits = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
    splits = [each for each in splits if each not in (".", "..") and "/" not in each and (path / each).is_dir()]
    if not splits:
        raise BadInput(f"{path} is a saved data set whose splits are missing")
    if split and split not in splits:
        raise BadInput(f"data directory {path}: {unknown('split', split, splits)}")
    if not split and len(splits) > 1:
        raise BadInput(f"{path} has the splits {', '.join(splits)}; name one, as {path}:{splits[0]}")
    return path / (split or splits[0])


def _saved(path: Path) -> list[Path]:
    """The Arrow files of a saved Dataset, as its state.json lists them."""
    listed = _entry(path / _STATE, "_data_files")
    names = [each.get("filename") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    files = [path / Path(name).name for name in names if isinstance(name, str) and name]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None or not files:
        raise BadInput(f"{path} is a saved data set without its data file{f' {missing.name}' if missing else 's'}")
    return files


def _entry(path: Path, name: str) -> Any:
    """An entry of the JSON object in a file; None if it has none."""
    try:
        content = json.loads(read_bounded(path, MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON, so that the saved data set cannot be read") from error
    return content.get(name) if isinstance(content, dict) else None


def _below(path: Path) -> list[Path]:
    files: list[Path] = []
    for file in path.rglob("*"):
        if suffix_of(file) in SUFFIXES and file.name not in _NOT_DATA and file.is_file():
            files.append(file)
            if len(files) > MOST_FILES:
                raise BadInput(f"data directory {path} holds more than {MOST_FILES:,} files; give a smaller one")
    return files


def _is_of(file: Path, split: str) -> bool:
    stem = file.name.partition(".")[0]
    return stem == split or stem.startswith((f"{split}-", f"{split}_")) or split in file.parts[:-1]
