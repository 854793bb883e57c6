"""Problems of reasoning-gym, generated on all cores: families that solve them symbolically take milliseconds each.

Problem i of a task's stream depends on (seed, i) only, whichever process generates it.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Lock
from typing import Any

from flashstill.distill.isolated import Flooded, Isolated, start
from flashstill.distill.reasoning.countdown import fast
from flashstill.distill.reasoning.problems import Problem
from flashstill.distill.reasoning.spec import GYM_PREFIX, Spec
from flashstill.errors import BadInput, unknown
from flashstill.progress import Advance

LARGEST_SHARE_BYTES, LONGEST_PAUSE_S, TOLD_AT_ONCE = 2**30, 3600.0, 20
WORTH_A_PROCESS = 2_000  # problems: importing the gym takes as long as generating a thousand


def drawn(spec: Spec, first: int, count: int, advance: Advance | None = None) -> list[Problem]:
    """Problems first .. first + count - 1 of the stream; BadInput if the family or its options are unknown.

    advance: called with the number of problems drawn since the last call."""
    processes = min(len(os.sched_getaffinity(0)), count // WORTH_A_PROCESS)
    if processes < 2:
        return _told(drawn_here(spec, first, count), advance)
    next(drawn_here(spec, first, 1))  # a mistake in the task is reported by this process, before workers start
    cuts = [first + count * place // processes for place in range(processes + 1)]
    running: list[Isolated] = []
    try:
        for begin, end in itertools.pairwise(cuts):
            running.append(start(__name__, json.dumps(spec.key), str(begin), str(end - begin)))
        one_at_a_time = Lock()

        def tell(amount: float, note: str = "") -> None:
            with one_at_a_time:
                (advance or _silent)(amount, note)

        def share(process: Isolated) -> list[Problem]:
            lines = process.lines(LONGEST_PAUSE_S, LARGEST_SHARE_BYTES)
            return _told((Problem(**json.loads(line)) for line in lines), tell)

        with ThreadPoolExecutor(processes) as pool:  # read concurrently: a full pipe would block a process
            shares = list(pool.map(share, running))
    except (EOFError, Flooded, TimeoutError) as error:
        raise BadInput(
            f"a process that draws problems of {spec.source} died; ask for fewer, or look at its memory"
        ) from error
    finally:
        for process in running:
            process.end()
    return [problem for each in shares for problem in each]


def _silent(amount: float, note: str = "") -> None:
    pass


def _told(problems: Iterable[Problem], advance: Advance | None) -> list[Problem]:
    """The problems as a list; `advance` is called for every few of them."""
    made: list[Problem] = []
    for problem in problems:
        made.append(problem)
        if len(made) % TOLD_AT_ONCE == 0:
            (advance or _silent)(TOLD_AT_ONCE)
    (advance or _silent)(len(made) % TOLD_AT_ONCE)
    return made


def drawn_here(spec: Spec, first: int, count: int) -> Iterator[Problem]:
    """Problems first .. first + count - 1 of one stream, generated in this process.

    The gym seeds problem i of seed s with s + i, so neighbouring seeds share nearly all problems.  Our seeds are
    therefore 2^32 apart, and training and test sets are cut from one stream.
    """
    source = family(spec, first + count)
    if spec.source == f"{GYM_PREFIX}countdown":
        source = fast(source, first, count)
    for index in range(first, first + count):
        entry = dict(source[index])
        prompt = _formatted(spec, entry) if spec.prompt else str(entry["question"])
        yield Problem(prompt=prompt, answer=str(entry["answer"]), entry=_plain(entry))


def _formatted(spec: Spec, entry: Mapping[str, Any]) -> str:
    fields = {**entry.get("metadata", {}), "question": entry["question"]}
    words = {
        name: " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value for name, value in fields.items()
    }
    try:
        return spec.prompt.format(**words)
    except (KeyError, IndexError, ValueError) as error:
        raise BadInput(f"task.prompt {spec.prompt!r} asks for {error}; {spec.source} has {', '.join(words)}") from error


def _plain(value: Any) -> Any:
    """A value as JSON: tuples become lists; values of other types become their string."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def family(spec: Spec, size: int) -> Any:
    """A family's dataset of `size` problems; BadInput if it or its options are unknown, or the package is missing."""
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise BadInput(f"task {spec.source} comes with a package: pip install reasoning-gym") from error
    name = spec.source.removeprefix(GYM_PREFIX)
    if name not in DATASETS:
        raise BadInput(unknown("family of reasoning-gym", name, DATASETS))
    try:
        return reasoning_gym.create_dataset(name, seed=spec.seed << 32, size=size, **spec.options)
    except (TypeError, AssertionError, ValueError) as error:
        raise BadInput(f"task.options of {spec.source}: {error}") from error


def main(task: str, first: str, count: str) -> None:
    """Print problems as JSON lines; what the gym itself prints goes to stderr."""
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for problem in drawn_here(Spec(**json.loads(task)), int(first), int(count)):
        print(json.dumps(asdict(problem)), file=lines, flush=True)
    lines.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
