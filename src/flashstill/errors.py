"""The exception hierarchy, and helpers that build one-sentence messages.

    FlashstillError
    ├── BadInput                  what the user gave cannot be used            exit 2
    │   ├── UnsupportedArchitecture   a model that the adapter does not know   exit 2
    │   ├── MissingFact               a number or name that no fact row holds  exit 2
    │   └── DiskTrouble               the disk is full or may not be written   exit 2
    └── InfeasiblePlan            nothing satisfies what was asked             exit 3

Every message is one sentence: what was given, what was expected, what to do.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache


class FlashstillError(Exception):
    """Base class of all user-facing errors; `exit_code` is the exit status of the command."""

    exit_code = 2


class BadInput(FlashstillError):
    """Something the user gave cannot be used."""


class UnsupportedArchitecture(BadInput):
    """A model configuration that the adapter does not support; the message names the field."""


class MissingFact(BadInput):
    """A chip, model or number without a fact row; the message lists the nearest names. missing: the quantities that
    one chip lacks, if that is the cause."""

    def __init__(self, message: str, missing: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


class DiskTrouble(BadInput):
    """The disk is full, or a path may not be written."""


class InfeasiblePlan(FlashstillError):
    """No configuration satisfies the constraints; carries counted reasons."""

    exit_code = 3

    def __init__(self, message: str, reasons: dict[str, int] | None = None) -> None:
        super().__init__(message)
        self.reasons = dict(reasons or {})
        if self.reasons:  # shown below the message by a traceback or a notebook
            self.add_note("; ".join(f"{reason}: {count}" for reason, count in self.reasons.items()))


_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch, on a CPU or a GPU, says that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)


def shortened(text: str, most: int = 80) -> str:
    """`text` with its middle elided if longer than `most` characters, to keep error messages short."""
    kept = (most - 1) // 2
    return text if len(text) <= most else f"{text[:kept]}…{text[-kept:]}"


def shown(value: object) -> str:
    """A user's value formatted for an error message: strings quoted, long values shortened."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"a number of about {int(abs(value).bit_length() * 0.30103) + 1} digits"
    if isinstance(value, list | dict) and len(value) > 12:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} entries"
    return shortened(repr(value))


def check_counts(counts: Mapping[str, int | None]) -> None:
    """Raise BadInput for a count below 1; None is allowed."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise BadInput(f"{name} must be at least 1, not {value}")


def check_seed(seed: int) -> None:
    """Raise BadInput for a seed that compiled code cannot take."""
    if not 0 <= seed < 2**62:
        raise BadInput(f"seed must lie between 0 and 2^62, not {seed}")


def harmless(text: str) -> str:
    """`text` of several lines with all other control characters escaped: data that is shown sends no commands."""
    return "".join(
        ascii(each)[1:-1] if unicodedata.category(each) == "Cc" and each not in "\n\t" else each for each in text
    )


def printable(text: str) -> str:
    """`text` with control characters escaped, so that user input cannot send commands to the terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def one_line(text: object, most: int = 200) -> str:
    """A third-party message as one printable line of at most `most` characters, for use inside our own message."""
    return printable(" ".join(str(text).split()))[:most]


def first_line(error: BaseException) -> str:
    """First line of the error's message, with the next if it ends in a colon; its class's name if it has none."""
    if isinstance(error, KeyError) and len(error.args) == 1 and str(error.args[0]).isidentifier():
        return f"nothing is known as {error.args[0]!r}"  # the message of a KeyError is the bare key
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return one_line(" ".join(lines[:2]) if lines[0].endswith(":") else lines[0])


def joined_notes(notes: Iterable[str]) -> str:
    """Notes as one text with semicolons between them; those inside a note become commas."""
    return "; ".join(note.replace("; ", ", ") for note in notes if note)


SAME_MEANING = (
    ("batch", "batches", "batch_size", "concurrency", "in_flight", "max_num_seqs", "global_batch"),
    ("isl", "input_len", "input_length", "input_tokens", "prompt_tokens", "prompt_len", "prompt_length"),
    ("osl", "output_len", "output_length", "output_tokens", "max_tokens", "gen_len"),
    ("tp", "tensor_parallel_size", "tensor_parallel"),
    ("pp", "pipeline_parallel_size", "pipeline_parallel"),
    ("ep", "expert_parallel_size", "expert_parallel"),
    ("dp", "data_parallel_size", "data_parallel"),
    ("chip", "chips_from", "gpu", "gpu_type", "accelerator", "device", "hardware"),
    ("chips", "max_chips", "gpus", "num_gpus", "gpu_count", "devices"),
    ("precision", "dtype", "quantization", "quant", "weights_dtype"),
    ("kv_precision", "kv_cache_dtype", "kv_dtype"),
    ("chunk", "max_num_batched_tokens", "chunk_size", "prefill_chunk"),
    ("rate", "request_rate", "qps", "rps"),
    ("out", "output", "output_file", "output_dir"),
)
"""words for the same thing: those of this program, and of engines and load generators that people come from"""


def _meaning(written: str) -> list[str]:
    """Names that mean the same as a word, spelled as it is: with dashes, as options are, or without."""
    word = written.lstrip("-").replace("-", "_")
    group = next((group for group in SAME_MEANING if word in group), ())
    if written.startswith("--"):
        return [f"--{name.replace('_', '-')}" for name in group]
    return list(group)


def nearest(name: str, known: Iterable[str], count: int = 4) -> list[str]:
    """The known names closest to `name`, best match first; empty only if `known` is empty."""
    return list(_nearest(name, tuple(sorted(known)), count))


@lru_cache(maxsize=256)  # a --cases file often repeats one misspelt name in every row
def _nearest(name: str, known: tuple[str, ...], count: int) -> list[str]:
    import difflib  # imported here: takes 5 ms and most runs never need it

    by_lower = {choice.lower(): choice for choice in known}
    written = shortened(name).lower()
    close = difflib.get_close_matches(written, by_lower, n=count, cutoff=0.4)
    inside = [low for low in by_lower if written and (written in low or low in written) and low not in close]
    same = [low for low in (written, *_meaning(written)) if low in by_lower]
    best = list(dict.fromkeys((*same, *close, *inside)))[:count]
    best = best or difflib.get_close_matches(written, by_lower, n=count, cutoff=0.0)
    return [by_lower[low] for low in best]


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """One sentence for an unknown name, with the nearest known ones; from Python it need not be text."""
    if not isinstance(name, str):
        return f"{kind} is {shown(name)}, not a name"
    choices = nearest(name, known)
    hint = f"the nearest known: {', '.join(choices)}" if choices else "none is known"
    return f"unknown {kind} {shortened(name)!r}; {hint}"
