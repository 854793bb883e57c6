"""Errors after training: the training is kept, and the message says where it is and how to go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flashstill.errors import BadInput, FlashstillError, ran_out_of_memory
from flashstill.files import full_disk


@contextmanager
def kept_after_errors(what: str, place: Path) -> Iterator[None]:
    """Context of work on a finished training, kept at `place`: errors in it say so; running out of memory becomes a
    BadInput.  what: the kept thing, as "the student is trained"."""
    sentence = f"{what} and kept in {place}; the same command goes on from there"
    try:
        with full_disk(place):
            yield
    except FlashstillError as error:
        if sentence not in str(error):
            error.args = (f"{error}; {sentence}", *error.args[1:])
        raise
    except Exception as error:
        if ran_out_of_memory(error):
            raise BadInput(f"out of memory; {sentence}, on a machine with more or with less at work") from error
        error.add_note(sentence)
        raise
