"""Derivatives of functions: ``grad``, ``value_and_grad``, ``jacobian``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from handmill import tree
from handmill.ir.trace import recorder
from handmill.primitives.operands import shape_of
from handmill.runtime.recording import plain
from handmill.runtime.tape import GradientTape


def value_and_grad(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Makes a function that returns the value of ``fun`` and its gradient.

    Args:
        fun: returns a float scalar; written with operators, functions of ``handmill.ops`` and
            layers.
        argnums: the position of the argument to differentiate by, or several. Arguments are
            arrays or Variables, nested in any way.
        has_aux: whether ``fun`` returns a pair, whose second member is given back as it is.

    Returns:
        A function with the arguments of ``fun`` that returns ``(value, gradient)``, with
        ``has_aux`` ``((value, aux), gradient)``. The gradient has the structure of the argument,
        or is a tuple of such if ``argnums`` is a sequence.

    Raises:
        ValueError: (when called) if the value is not a float scalar, or an argument is not float.

    Example:
        >>> import handmill
        >>> import numpy as np
        >>> value, slope = handmill.value_and_grad(lambda x: x**3)(np.float32(2.0))
        >>> float(value), float(slope)
        (8.0, 12.0)
    """

    @functools.wraps(fun)
    def call(*args: Any, **kwargs: Any) -> Any:
        tape, given, found, wrt = _run(fun, argnums, args, kwargs)
        value, aux = found if has_aux else (found, None)
        if shape_of(value) != ():
            raise ValueError(
                f"a scalar was expected to be differentiated, got shape {shape_of(value)}; use "
                "handmill.jacobian, or reduce it, e.g. with ops.sum"
            )
        gradient = tape.gradient(value, given, unconnected_gradients="zero")
        value, aux = _result(value), _result(aux)
        gradient = gradient[0] if wrt else tuple(gradient)
        return ((value, aux), gradient) if has_aux else (value, gradient)

    return call


def grad(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Makes a function that returns the gradient of ``fun``.

    Args:
        fun: see :func:`value_and_grad`.
        argnums: see :func:`value_and_grad`.
        has_aux: whether ``fun`` returns a pair, whose second member is given back as it is.

    Returns:
        A function with the arguments of ``fun`` that returns its gradient, with ``has_aux``
        ``(gradient, aux)``.

    Example:
        >>> import handmill
        >>> import numpy as np
        >>> curvature = handmill.grad(handmill.grad(lambda x: x**3))
        >>> float(curvature(np.float32(2.0)))
        12.0
    """
    both = value_and_grad(fun, argnums, has_aux)

    @functools.wraps(fun)
    def call(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return call


def jacobian(fun: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Makes a function that returns the Jacobian of ``fun``.

    Args:
        fun: returns a float tensor.
        argnums: see :func:`value_and_grad`.

    Returns:
        A function with the arguments of ``fun`` that returns, in the structure of its argument,
        arrays of shape ``value.shape + argument.shape``.

    Example:
        >>> import handmill
        >>> import numpy as np
        >>> handmill.jacobian(lambda x: x * x)(np.float32([1.0, 2.0]))
        array([[2., 0.],
               [0., 4.]], dtype=float32)
    """

    @functools.wraps(fun)
    def call(*args: Any, **kwargs: Any) -> Any:
        tape, given, value, single = _run(fun, argnums, args, kwargs)
        found = tape.jacobian(value, given, unconnected_gradients="zero")
        return found[0] if single else tuple(found)

    return call


def _run(
    fun: Callable[..., Any], argnums: int | Sequence[int], args: Sequence[Any], kwargs: Any
) -> tuple[GradientTape, list[Any], Any, bool]:
    """Calls ``fun`` under a tape: the tape, the arguments watched, the result, if there is one."""
    single = isinstance(argnums, int)
    positions = [argnums] if isinstance(argnums, int) else list(argnums)
    given = list(args)
    for position in positions:
        if not -len(args) <= position < len(args):
            raise ValueError(f"argnums={argnums!r}, but the call has {len(args)} arguments")
    with GradientTape(watch_accessed_variables=False) as tape:
        for position in positions:
            given[position] = tape.watch(given[position])
        found = fun(*given, **kwargs)
    return tape, [given[p] for p in positions], found, single


def _result(found: Any) -> Any:
    """What a caller gets: arrays, unless an outer tape or trace goes on with it."""
    return found if recorder() is not None else tree.map_structure(plain, found)
