"""Task files: lm-eval's YAML, read without running anything that they name.

Of a file that the user has not allowed to run code, all this is refused before any work: `!function` and other tags,
classes and modules, data sets or metrics that would be fetched, keys that this reads as nothing.  Data files are local:
paths are taken from the directory of the task file, else from the working directory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flashstill.bounded import check_regular, read_bounded
from flashstill.errors import BadInput, first_line, shortened, unknown
from flashstill.files import sha256

SUFFIXES = (".yaml", ".yml")
MOST_BYTES, MOST_NODES, MOST_INCLUDES = 2**20, 100_000, 16
MOST_DATA_BYTES, MOST_TEXT_BYTES = 2**30, 2**28
"""of a file; and of JSON and text, which as Python objects take about ten times their size"""
PLAIN = (dict, list, str, int, float, type(None))
FORMATS = ("json", "csv", "parquet", "text")
RUN_CODE = ("class", "custom_dataset", "process_docs", "process_results", "unsafe_code", "use_prompt")
KNOWN = (
    "task", "task_alias", "tag", "dataset_path", "dataset_name", "dataset_kwargs", "training_split",
    "validation_split", "test_split", "fewshot_split", "doc_to_text", "doc_to_target", "doc_to_choice", "description",
    "target_delimiter", "fewshot_delimiter", "fewshot_config", "num_fewshot", "metric_list", "output_type",
    "generation_kwargs", "repeats", "filter_list", "should_decontaminate", "doc_to_decontamination_query",
    "gen_prefix", "metadata",
)  # fmt: skip
KINDS = ("multiple_choice", "generate_until", "loglikelihood", "loglikelihood_rolling")
ALLOW = "if you trust it, say --allow-task-code"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFile:
    """A task file as plain data. fields: its keys, includes merged; data: split -> local files; format: of the data;
    digest: of the fields and the contents of the data."""

    name: str
    path: Path
    fields: Mapping[str, Any]
    data: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    format: str = ""
    digest: str = ""


def is_file(name: str) -> bool:
    """Whether a task is given as a file."""
    return name.lower().endswith(SUFFIXES)


def read_task(path: Path) -> TaskFile:
    """Read a task file that may run no code; BadInput says in one sentence what is wrong with it."""
    fields = _merged(path, (), [])
    shown = shortened(str(path), 200)
    name = fields.get("task")
    if not isinstance(name, str) or not name.strip():
        raise BadInput(f"{shown}: it has no `task` with the task's name" + _group_hint(fields))
    for key in fields:
        if key in RUN_CODE:
            raise BadInput(f"{shown}: `{key}` runs code or loads a package; {ALLOW}")
        if key in ("doc_to_image", "doc_to_audio"):
            raise BadInput(f"{shown}: `{key}` is of images or sounds, which language models do not read")
        if key not in KNOWN:
            raise BadInput(f"{shown}: {unknown('key of a task', key, KNOWN)}")
    kind = fields.get("output_type", "generate_until")
    if kind not in KINDS:
        raise BadInput(f"{shown}: {unknown('output_type', str(kind), KINDS)}")
    metrics = fields.get("metric_list") or []
    shots = fields.get("num_fewshot") or 0
    if not isinstance(metrics, list) or not all(isinstance(each, dict) for each in metrics):
        raise BadInput(f"{shown}: `metric_list` is a list of tables, such as `- metric: acc`")
    if isinstance(shots, bool) or not isinstance(shots, int) or shots < 0:
        raise BadInput(f"{shown}: `num_fewshot` is a number of examples, not {shortened(repr(shots))}")
    if not fields.get("test_split") and not fields.get("validation_split"):
        raise BadInput(f"{shown}: it names neither a test_split nor a validation_split to score")
    data, format_ = _data(fields, path, shown)
    digest = hashlib.sha256(repr(sorted(fields.items(), key=lambda item: item[0])).encode())
    for split, files in sorted(data.items()):
        for file in files:
            digest.update(f"\0{split}\0".encode() + bytes.fromhex(sha256(Path(file))))
    return TaskFile(name=name.strip(), path=path, fields=fields, data=data, format=format_, digest=digest.hexdigest())


def _group_hint(fields: Mapping[str, Any]) -> str:
    return (
        f"; a file of a group of tasks is read by lm-eval alone: {ALLOW}, or give the files of its tasks"
        if "group" in fields
        else ""
    )


def _merged(path: Path, seen: tuple[Path, ...], read: list[Path]) -> dict[str, Any]:
    """A file's fields over those of the files that it includes, as lm-eval merges them.

    seen: the files that led here; read: all that were read, each time, as a few files can include each other millions
    of times without a circle."""
    shown = shortened(str(path), 200)
    place = path.resolve()
    read.append(place)
    if place in seen or len(read) > MOST_INCLUDES:
        raise BadInput(f"{shown}: its includes form a circle, or are more than {MOST_INCLUDES}")
    own = _parsed(path, shown)
    included = own.pop("include", [])
    names = included if isinstance(included, list) else [included]
    merged: dict[str, Any] = {}
    for each in names:
        if not isinstance(each, str):
            raise BadInput(f"{shown}: `include` names files, not {shortened(repr(each))}")
        merged |= _merged(path.parent / each, (*seen, place), read)
    return merged | own


def _parsed(path: Path, shown: str) -> dict[str, Any]:
    import yaml

    content = read_bounded(path, MOST_BYTES)
    try:
        tree = yaml.load(content, Loader=_loader())
    except yaml.constructor.ConstructorError as error:
        tag = first_line(Exception(error.problem or ""))
        if "!function" in (error.problem or ""):
            raise BadInput(f"{shown}: it runs code (`!function`); {ALLOW}") from error
        if " tag " not in tag:
            raise BadInput(f"{shown} is not YAML: {tag}") from error
        raise BadInput(f"{shown}: it has a tag that is not plain data ({tag}); {ALLOW}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise BadInput(f"{shown} is not YAML: {first_line(error)}") from error
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise BadInput(f"{shown}: a task is a table of keys and values")
    nodes = list(_nodes(tree))
    for node in nodes:
        odd = [each for each in (node, *(node if isinstance(node, dict) else ())) if not isinstance(each, PLAIN)]
        if odd:  # YAML makes dates, sets and bytes of some values
            raise BadInput(
                f"{shown}: {shortened(repr(odd[0]))} is neither text, number, list nor table; put a date in quotes"
            )
    if len(nodes) > MOST_NODES:
        raise BadInput(f"{shown}: it has more than {MOST_NODES:,} values, counting each use of an anchor")
    return tree


def _loader() -> Any:
    """PyYAML's safe loader with a limit on merge keys: of `<<: [*a, *a]`, nested, each level doubles the values."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def flatten_mapping(self, node: Any) -> None:
            merged = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
            inner = [each for value in merged for each in (value.value if value.id == "sequence" else [value])]
            total = 0
            for each in inner:
                if isinstance(each, yaml.MappingNode):
                    self.flatten_mapping(each)
                    total += len(each.value)
                if total > MOST_NODES:
                    raise ValueError(f"its merge keys make more than {MOST_NODES:,} values")
            super().flatten_mapping(node)

    return Loader


def _nodes(tree: Any) -> Iterator[Any]:
    """All values of a tree, aliases each time that they are used; stops after the most that are allowed."""
    waiting, count = [tree], 0
    while waiting and count <= MOST_NODES:
        value = waiting.pop()
        count += 1
        yield value
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _data(fields: Mapping[str, Any], path: Path, shown: str) -> tuple[dict[str, tuple[str, ...]], str]:
    """split -> files, and their format; ({}, "") for a data set of the hub."""
    source, kwargs = fields.get("dataset_path"), fields.get("dataset_kwargs") or {}
    if not isinstance(source, str) or not isinstance(kwargs, dict):
        raise BadInput(f"{shown}: `dataset_path` names no data; for local files: dataset_path: json, and data_files")
    for key in kwargs:
        if key not in ("data_files", "trust_remote_code"):
            raise BadInput(f"{shown}: {unknown('key of dataset_kwargs', str(key), ('data_files',))}")
    if kwargs.get("trust_remote_code"):
        raise BadInput(f"{shown}: trust_remote_code runs code of a data set; {ALLOW}")
    if source not in FORMATS:
        if "data_files" in kwargs or Path(source).exists():
            raise BadInput(f"{shown}: {unknown('format of local data', source, FORMATS)}")
        return {}, ""
    given = kwargs.get("data_files")
    splits = given if isinstance(given, dict) else {"train": given}
    data = {str(split): tuple(_place(file, path, shown) for file in _listed(files)) for split, files in splits.items()}
    if source in ("json", "text"):
        for file in {file for files in data.values() for file in files}:
            if Path(file).stat().st_size > MOST_TEXT_BYTES:
                raise BadInput(
                    f"{shortened(file, 200)} is larger than {MOST_TEXT_BYTES // 2**20} MiB, the most that is read of"
                    " JSON and text; write it as parquet, or give a part of it"
                )
    for key in ("test_split", "validation_split", "training_split", "fewshot_split"):
        if fields.get(key) and fields[key] not in data:
            raise BadInput(f"{shown}: {key}: {unknown('split', str(fields[key]), data)}")
    return data, source


def _listed(files: Any) -> list[Any]:
    return files if isinstance(files, list) and files else [files]


def _place(file: Any, path: Path, shown: str) -> str:
    """The absolute path of a data file; BadInput if it is none, or would be fetched."""
    if not isinstance(file, str) or not file:
        raise BadInput(f"{shown}: `data_files` names the files of each split, as data_files: {{test: items.jsonl}}")
    if "://" in file:
        raise BadInput(f"{shown}: {shortened(file)} would be fetched; nothing is downloaded: give a local file")
    beside, here = (path.parent / file).absolute(), Path(file).absolute()
    place = beside if beside.exists() or not here.exists() else here
    check_regular(place, MOST_DATA_BYTES)
    return str(place)
