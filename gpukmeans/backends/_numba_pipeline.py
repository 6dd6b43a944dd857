"""Numba's compiler without what kernels like these do not need.

* A function that only kernels call is lowered, and left to the kernels that it is linked into. Numba would optimise it
  by itself, make machine code of it, and then link it, to be optimised once more, into each of them.
* Passes for what does not occur here (closures, ``with``, array expressions, literals to unroll) are left out.
* What ``x[i]`` is, or ``a + b``, is found out once for each pair of types: Numba tries all there is that can be added,
  each time.
* Functions are only tidied up before their module is optimised as a whole: Numba would optimise each of them as well.
* Loops are not unrolled, nor are several rounds of them made side by side: what is hot is vector code that has as many
  vectors at once as it wants, and of the other loops LLVM would make four times the code, no faster (measured).
* What takes Python's arguments apart is not optimised: it runs once a call.

What is left to save is Python, more than half of the time: Numba's own (types, lowering, the text of LLVM's code),
spread evenly over the statements of all functions.

All of that stands on how Numba is made inside. Where it is made otherwise, it compiles as it always does (`works`);
where an older llvmlite cannot name the passes, LLVM does all that it does for Numba (`has_passes`).
"""

# Numba's classes have no types.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import functools
import logging
from typing import Any

import numba as nb
from numba.core.compiler import Compiler
from numba.core.errors import NumbaError

_log = logging.getLogger("gpukmeans")

_NOT_NEEDED = {
    "AnnotateTypes",
    "DeadBranchPrune",
    "DumpParforDiagnostics",
    "FindLiterallyCalls",
    "InlineClosureLikes",
    "InlineOverloads",
    "LiteralPropagationSubPipelinePass",
    "LiteralUnroll",
    "MakeFunctionToJitFunction",
    "NoPythonSupportedFeatureValidation",
    "NopythonRewrites",
    "RewriteDynamicRaises",
    "RewriteSemanticConstants",
    "WithLifting",
}

# what a Numba that is made otherwise raises
_OTHERWISE = (
    ImportError, AttributeError, TypeError, ValueError, LookupError, AssertionError, RuntimeError, NumbaError
)  # fmt: skip

_signatures: dict[Any, Any] = {}


class _Typing:
    """Numba's typing context, with a memory."""

    def __init__(self, typing: Any) -> None:
        self._typing = typing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._typing, name)

    def resolve_function_type(self, function: Any, args: Any, keywords: Any) -> Any:
        """Signature of a call."""
        if keywords:
            return self._typing.resolve_function_type(function, args, keywords)
        return self._signature(self._typing.resolve_function_type, (function, args), function, args, keywords)

    def resolve_setitem(self, *args: Any) -> Any:
        """Signature of ``target[index] = value``."""
        return self._signature(self._typing.resolve_setitem, args, *args)

    @staticmethod
    def _signature(resolve: Any, key: Any, *args: Any) -> Any:
        signature = _signatures.get(key)
        if signature is None:
            signature = resolve(*args)
            if signature is not None:
                _signatures[key] = signature
        return signature


class _Codegen:
    """Numba's code generator for a library without machine code: in it there is no place for an environment.

    Nothing needs that of an inner function: it neither makes Python's objects nor formats what it raises.
    """

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing."""


def _library(codegen: Any, *, inner: bool) -> Any:
    """Where the code of a function goes; that of an `inner` one is linked into that of others as it was lowered."""
    from llvmlite.binding import newpassmanagers as passes
    from numba.core.codegen import JITCodeLibrary

    class Code(JITCodeLibrary):
        def add_ir_module(self, module: Any) -> None:
            if module.name == "wrapper":
                for function in module.functions:
                    if not function.is_declaration:
                        function.attributes.add("noinline")
                        function.attributes.add("optnone")
            super().add_ir_module(module)

        def _optimize_functions(self, module: Any) -> None:
            module.data_layout = self._codegen._data_layout
            builder = self._codegen._pass_builder()
            manager = passes.create_new_function_pass_manager()
            manager.add_sroa_pass()
            manager.add_simplify_cfg_pass()
            manager.add_instruction_combine_pass()
            for function in module.functions:
                if not function.is_declaration:
                    manager.run(function, builder)

        def _optimize_final_module(self) -> None:
            manager, builder = self._codegen._module_pass_manager(
                loop_vectorize=False, slp_vectorize=False, opt=0, cost="cheap"
            )
            manager.run(self._final_module, builder)
            options = passes.create_pipeline_tuning_options(3)
            options.loop_vectorization = True
            options.slp_vectorization = options.loop_unrolling = options.loop_interleaving = False
            builder = passes.create_pass_builder(self._codegen._tm, options)
            builder.getModulePassManager().run(self._final_module, builder)

    base: Any = Code if has_passes() else JITCodeLibrary

    class Linked(base):  # type: ignore[misc]
        codegen = property(lambda self: _Codegen(self._codegen))

        def _optimize_final_module(self) -> None:
            pass

        def _finalize_final_module(self) -> None:
            self._finalize_dynamic_globals()
            self._finalized = True

    if inner:
        return Linked(codegen, "inner")
    library = base(codegen, "kernel")
    library.enable_object_caching()
    return library


def has_passes() -> bool:
    """Whether this llvmlite knows the passes that are chosen here."""
    from llvmlite.binding import newpassmanagers

    return hasattr(newpassmanagers.FunctionPassManager, "add_sroa_pass")


class _Short(Compiler):
    """For what Python calls."""

    inner = False

    def __init__(self, typing: Any, target: Any, library: Any, *rest: Any) -> None:
        super().__init__(_Typing(typing), target, _library(target.codegen(), inner=self.inner), *rest)
        # a copy; whenever an operation is not found in the first place, it would import all there is of Numba again
        own = self.state.targetctx
        own.refresh = lambda: [own.install_registry(registry) for registry in list(own._registries)]

    def define_pipelines(self) -> Any:
        pipelines = super().define_pipelines()
        for pipeline in pipelines:
            pipeline.passes = [one for one in pipeline.passes if one[0].__name__ not in _NOT_NEEDED]
            pipeline.finalize()
        return pipelines


class _ShortInner(_Short):
    """For what only kernels call."""

    inner = True


def kernel_pipeline(*args: Any) -> Any:
    """What `numba.njit` takes as `pipeline_class` for what Python calls."""
    return _Short(*args) if works() else Compiler(*args)


def inner_pipeline(*args: Any) -> Any:
    """The same for what only kernels call."""
    return _ShortInner(*args) if works() else Compiler(*args)


@functools.cache
def works() -> bool:
    """Whether this Numba can compile a kernel so. Asked only where there is something to compile."""
    options: dict[str, Any] = {"no_cfunc_wrapper": True, "_nrt": False}
    try:
        inner: Any = nb.njit(pipeline_class=_ShortInner, **{**options, "no_cpython_wrapper": True})(lambda x: x + 1)
        kernel: Any = nb.njit(pipeline_class=_Short, **options)(lambda x: 2 * inner(x))
        return bool(kernel(3) == 8)
    except _OTHERWISE as error:
        _log.debug("kernels are compiled by Numba's own pipeline: %s: %s", type(error).__name__, error)
        return False
