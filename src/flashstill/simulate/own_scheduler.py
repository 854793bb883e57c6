"""A scheduler in a file of the user's, named on the command line as FILE.py:NAME; naming it runs the file."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path
from types import ModuleType

from flashstill.errors import BadInput, first_line, unknown
from flashstill.simulate.view import Scheduler


def scheduler_of(text: str | None) -> str | Scheduler | None:
    """The function of FILE.py:NAME; any other text as it is. BadInput if there is no such file or function."""
    if text is None or ":" not in text:
        return text
    file, name = text.rsplit(":", 1)
    module = _run(Path(file))
    function = getattr(module, name, None)
    if not callable(function):
        names = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise BadInput(unknown(f"function in {file}", name, names))
    return function  # type: ignore[no-any-return]


def _run(path: Path) -> ModuleType:
    if path.suffix != ".py" or not path.is_file():
        raise BadInput(f"{path} is not a file with Python code; give a scheduler of your own as FILE.py:NAME")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # code that leaves would end the command without a word
        lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        place = f"{path}:{line}" if line else str(path)
        raise BadInput(f"{place} cannot be run: {type(error).__name__}: {first_line(error)}") from error
    return module
