"""Which functions of handmill.ops have kernels, are composed of them, or run on the host.

Found by running the example of each function, on the NumPy executor operator by operator and, where
its first argument is an array, traced: what it applies is looked up in the records.
"""

from __future__ import annotations

import contextlib
import doctest
import inspect
import io
from collections.abc import Callable
from typing import Any

KINDS = {
    "kernel": "One operator with a kernel.",
    "composite": "Several operators with kernels, fused where they are element by element.",
    "host": (
        "At least one operator runs in NumPy, between the launches of a plan; its gradient, where "
        "there is one, may be made of kernels."
    ),
    "flow": "Loops and branches, part of a plan (see the architecture).",
    "outside": (
        "Nothing to compute while a program runs: shapes, constants, and what has a size that "
        "depends on numbers and is therefore found outside of programs."
    ),
}
"""The kinds of functions, and what they mean."""


def kinds() -> dict[str, list[str]]:
    """Kind -> the names of the functions, sorted."""
    from handmill import ops

    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name in sorted(dir(ops)):
        function = getattr(ops, name)
        if inspect.isfunction(function) and function.__module__.startswith("handmill.ops"):
            found[kind_of(function)].append(name)
    return found


def kind_of(function: Callable[..., Any]) -> str:
    """The kind of one function."""
    from handmill.ir.op import REGISTRY, never_native

    if function.__module__ == "handmill.ops.core.control":
        return "flow"
    records = [REGISTRY[n] for n in sorted(applied(function))]
    records = [op for op in records if not op.transparent]
    if any(op.native is never_native for op in records):
        return "host"
    # A change of dtype before it does not make an operator a composite.
    computing = [op for op in records if not op.view and op.name != "cast"]
    if not computing:
        return "kernel" if records else "outside"
    return "kernel" if len(computing) == 1 else "composite"


def applied(function: Callable[..., Any]) -> set[str]:
    """The names of the operators that a function applies in its example."""
    import handmill
    from handmill import ops
    from handmill.ir import trace
    from handmill.runtime import eager

    name = function.__name__  # an alias has the example of the function that it stands for
    found: set[str] = set()
    depth = 0

    def record(op: Any, operands: Any, attrs: Any) -> Any:
        if depth:
            found.add(op.name)
        return eager.run_eagerly(op, operands, attrs)

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        found.update(traced(function, args, kwargs))
        depth += 1
        try:
            return function(*args, **kwargs)
        finally:
            depth -= 1

    example = doctest.DocTestParser().get_doctest(
        inspect.getdoc(function) or "", {}, name, None, None
    )
    trace.set_eager(record)
    setattr(ops, name, called)
    try:
        with handmill.use_backend("numpy"), contextlib.redirect_stdout(io.StringIO()):
            for statement in example.examples:
                exec(compile(statement.source, name, "single"), example.globs)
    finally:
        setattr(ops, name, function)
        trace.set_eager(eager.run_eagerly)
    return found


def traced(function: Callable[..., Any], args: Any, kwargs: Any) -> set[str]:
    """The names of the operators in the graph of a call whose first argument is symbolic."""
    import numpy as np

    from handmill.ir.graph import Graph
    from handmill.ir.shapes import Spec
    from handmill.primitives.operands import tensor

    if not args or not isinstance(args[0], list | np.ndarray):
        return set()
    graph = Graph()
    try:
        x = tensor(args[0])
        with graph:
            function(graph.input(Spec(x.shape, x.dtype.name), "x"), *args[1:], **kwargs)
    except (TypeError, ValueError):  # a list of tensors, or a function that is refused inside
        return set()
    return {node.op.name for node in graph.nodes}
