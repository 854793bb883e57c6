"""Numba's way from a function to machine code, for functions that are only compiled into others.

Each function becomes a module of LLVM that holds all functions it calls, and Numba optimises each such module in full
and makes machine code of it, so that a function at the bottom is optimised once for every one above it.  Only what
Python calls is run, and needs that.  The environments of the others, which Numba sets with their machine code, are set
with that of the one that is run, as Numba does itself when it loads code from the disk.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.typed_passes import NativeLowering


@register_pass(mutates_CFG=False, analysis_only=True)
class _PartOfOthers(LoweringPass):  # type: ignore[misc]
    """Gives the function a library that is neither optimised by itself nor made machine code of."""

    _name = "flashstill_part_of_others"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """As Numba's `NativeLowering` makes it, which takes the one that is there."""
        if state.library is None:
            library = _library(state)
            library._optimize_final_module = lambda: None
            library._finalize_final_module = MethodType(_finalize, library)
            library._codegen = _WithoutEnvironments(library._codegen)
            state.library = library
        return True


@register_pass(mutates_CFG=False, analysis_only=True)
class _OptimisedOnce(LoweringPass):  # type: ignore[misc]
    """Gives the function a library that is optimised in one go.

    Numba first runs a cheaper optimisation, after which counts of references are cancelled; there are none here.
    """

    _name = "flashstill_optimised_once"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """As above."""
        if state.library is None:
            state.library = _library(state)
            state.library._optimize_final_module = MethodType(_optimise, state.library)
        return True


def _library(state: Any) -> Any:
    library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
    library.enable_object_caching()
    return library


def _optimise(library: Any) -> None:
    passes, builder = library._codegen._module_pass_manager()
    passes.run(library._final_module, builder)


def _finalize(library: Any) -> None:
    """What Numba does to a module before it makes machine code."""
    library._finalize_dynamic_globals()
    library._verify_declare_only_symbols()
    library._finalized = True


class _WithoutEnvironments:
    """Numba's code generator for a library without machine code, in which nothing has an address."""

    def __init__(self, codegen: Any) -> None:
        self._of_numba = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of_numba, name)

    def set_env(self, name: str, environment: Any) -> None:
        """Left to the function that is run."""


class Part(CompilerBase):  # type: ignore[misc]
    """Numba's own passes with one before machine code is made."""

    before: Any = _PartOfOthers

    def define_pipelines(self) -> list[Any]:
        """Numba asks for these."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        kinds = [kind for kind, _ in passes.passes]
        passes.add_pass_after(self.before, kinds[kinds.index(NativeLowering) - 1])
        passes.finalize()
        return [passes]


class Whole(Part):
    """The same for a function that is run."""

    before = _OptimisedOnce


def set_environments(result: Any) -> None:
    """Set the environments of all functions that are compiled into this one."""
    for environment in result._find_referenced_environments():
        result.library.codegen.set_env(environment.env_name, environment)
