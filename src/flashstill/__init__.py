"""flashstill: distil a frontier model into a flash model, and know what every token costs.

    import flashstill as fs
    fs.predict(model="qwen3-8b", chip="h100-sxm", batch=[1, 8, 64]).as_records()

The names below are the public face (flashstill/api.py documents each); they are loaded when they are first used, so
that importing the package costs next to nothing.
"""

TYPE_CHECKING = False  # as type checkers take it to be true; `typing` itself would be half of the time of this import
if TYPE_CHECKING:
    from flashstill.api import (
        BadInput,
        Deployment,
        FlashstillError,
        InfeasiblePlan,
        MissingFact,
        Scenario,
        SearchSpace,
        UnsupportedArchitecture,
        chip,
        explain,
        model,
        predict,
        search,
    )

__version__ = "0.1.0"
__all__ = [
    "BadInput",
    "Deployment",
    "FlashstillError",
    "InfeasiblePlan",
    "MissingFact",
    "Scenario",
    "SearchSpace",
    "UnsupportedArchitecture",
    "chip",
    "explain",
    "model",
    "predict",
    "search",
]


if not TYPE_CHECKING:  # for a type checker, a name that is not imported above does not exist

    def __getattr__(name: str) -> object:
        """A name of the face, when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module("flashstill.api"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
