"""flashstill: distil a frontier model into a flash model, and know what every token costs.

    import flashstill as fs
    fs.predict(model="qwen3-8b", chip="h100-sxm", batch=[1, 8, 64]).as_records()

The names in `__all__` are the public API, documented in flashstill/api.py, distilling.py and evaluating.py. Each
is loaded on first use, so importing the package is fast.
"""

TYPE_CHECKING = False  # type checkers assume True; importing `typing` for it would double the import time
if TYPE_CHECKING:
    from flashstill.api import (
        BadInput,
        Deployment,
        FlashstillError,
        InfeasiblePlan,
        MissingFact,
        Scenario,
        UnsupportedArchitecture,
        chip,
        explain,
        model,
        predict,
        search,
    )
    from flashstill.capacity_planning import capacity
    from flashstill.cascading import cascade
    from flashstill.chip_searching import chip_search
    from flashstill.distilling import distill, run
    from flashstill.drafting import draft_worth
    from flashstill.endpoint import serve
    from flashstill.evaluating import acceptance, evaluate
    from flashstill.exporting import card, export
    from flashstill.family_economics import family_economics, should_distil
    from flashstill.fleet_sizing import plan_fleet
    from flashstill.measuring import measure_model, measure_server
    from flashstill.own_chips import asic
    from flashstill.plan.space import SearchSpace
    from flashstill.quality_laws import quality_law
    from flashstill.simulate.view import Decision, ReplicaView
    from flashstill.simulating import knee, simulate, simulate_sweep
    from flashstill.student_planning import plan_student
    from flashstill.token_costs import economics
    from flashstill.training_costs import train_cost
    from flashstill.what_ifs import codesign
    from flashstill.years_ahead import arrays, ceiling, trends

__version__ = "0.2.0"
__all__ = [
    "BadInput",
    "Decision",
    "Deployment",
    "FlashstillError",
    "InfeasiblePlan",
    "MissingFact",
    "ReplicaView",
    "Scenario",
    "SearchSpace",
    "UnsupportedArchitecture",
    "acceptance",
    "arrays",
    "asic",
    "capacity",
    "card",
    "cascade",
    "ceiling",
    "chip",
    "chip_search",
    "codesign",
    "distill",
    "draft_worth",
    "economics",
    "evaluate",
    "explain",
    "export",
    "family_economics",
    "knee",
    "measure_model",
    "measure_server",
    "model",
    "plan_fleet",
    "plan_student",
    "predict",
    "quality_law",
    "run",
    "search",
    "serve",
    "should_distil",
    "simulate",
    "simulate_sweep",
    "train_cost",
    "trends",
]


if not TYPE_CHECKING:  # for a type checker, a name that is not imported above does not exist
    import sys

    _Module = type(sys)
    _HOMES = {
        "Decision": "flashstill.simulate.view",
        "ReplicaView": "flashstill.simulate.view",
        "SearchSpace": "flashstill.plan.space",
        "acceptance": "flashstill.evaluating",
        "arrays": "flashstill.years_ahead",
        "asic": "flashstill.own_chips",
        "capacity": "flashstill.capacity_planning",
        "codesign": "flashstill.what_ifs",
        "chip_search": "flashstill.chip_searching",
        "ceiling": "flashstill.years_ahead",
        "cascade": "flashstill.cascading",
        "distill": "flashstill.distilling",
        "draft_worth": "flashstill.drafting",
        "economics": "flashstill.token_costs",
        "evaluate": "flashstill.evaluating",
        "card": "flashstill.exporting",
        "export": "flashstill.exporting",
        "family_economics": "flashstill.family_economics",
        "knee": "flashstill.simulating",
        "measure_model": "flashstill.measuring",
        "measure_server": "flashstill.measuring",
        "plan_fleet": "flashstill.fleet_sizing",
        "plan_student": "flashstill.student_planning",
        "quality_law": "flashstill.quality_laws",
        "run": "flashstill.distilling",
        "serve": "flashstill.endpoint",
        "should_distil": "flashstill.family_economics",
        "simulate": "flashstill.simulating",
        "simulate_sweep": "flashstill.simulating",
        "train_cost": "flashstill.training_costs",
        "trends": "flashstill.years_ahead",
    }
    """public name -> its module, for names outside flashstill.api (which imports only what `predict` needs)"""

    def _function(name):
        import importlib

        return getattr(importlib.import_module(_HOMES.get(name, "flashstill.api")), name)

    class _CallableRoom(_Module):
        """A subpackage with the same name as a public function; the module object is callable as that function.

        `import flashstill.evaluate` rebinds the attribute `evaluate` to the subpackage; calling it still works.
        """

        def __call__(self, *values, **named):
            return self._function(*values, **named)

        @property
        def _function(self):
            return _function(self.__name__.rpartition(".")[2])

        @property
        def __signature__(self):
            import inspect

            return inspect.signature(self._function)

    class _Face(_Module):
        def __setattr__(self, name, value):
            if name in __all__ and type(value) is _Module:
                value.__class__ = _CallableRoom
                value.__doc__ = (
                    value.__doc__ or f"A room of the package; flashstill.{name}(...) calls the face's {name}."
                )
            super().__setattr__(name, value)

    sys.modules[__name__].__class__ = _Face

    def __getattr__(name: str) -> object:
        """Load a public name on first use."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = _function(name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
