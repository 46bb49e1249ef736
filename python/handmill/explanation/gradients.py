"""Methods of gradients: saliency, input times gradient, guided backpropagation, deconvolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import ops
from handmill.explanation.asked import Asked
from handmill.explanation.explanation import Explanation
from handmill.explanation.program import (
    Point,
    Program,
    gradients_of,
    points_of,
    run_model,
)
from handmill.ir.dims import same
from handmill.ir.graph import Value

_NO_GRADIENT = "{} reaches the score only through operators without a gradient: its values are 0"


def saliency(model: Any, x: Any, target: Any = None, **options: Any) -> Explanation:
    """How fast the score changes with each input: ``|df/dx|``.

    Where an input holds numbers of words, the length of the gradient at their vectors.

    Args:
        model: a handmill model, or an estimator that holds one.
        x: rows, nested as the model takes them.
        target: None (the predicted class), a class, one a row, one-hot rows, a tuple (a, b) for
            "why a and not b", or a function of the outputs that gives one score a row.
        **options: ``score="logit"`` (before the softmax or sigmoid) or ``"output"``; ``output``,
            which of several; ``class_names``; ``feature_names``.

    Returns:
        An :class:`Explanation` whose values have the shape of ``x``.

    Raises:
        ValueError: for rows or a target that do not fit the model.
        TypeError: if ``model`` has no gradients.

    References:
        Simonyan et al., "Deep inside convolutional networks", 2013.

    Example:
        >>> import numpy as np, handmill
        >>> layer = handmill.layers.Dense(1, kernel_initializer="ones")
        >>> model = handmill.Sequential([handmill.Input((2,)), layer])
        >>> handmill.explanation.saliency(model, np.array([[3.0, -1.0]])).values
        array([[1., 1.]], dtype=float32)
    """
    return _by_gradient(saliency, "saliency", model, x, target, "absolute", None, options)


def input_x_gradient(model: Any, x: Any, target: Any = None, **options: Any) -> Explanation:
    """Each input times the gradient there: ``x * df/dx``.

    Of networks of ReLU without biases the values of a row sum to its score.

    Args:
        model: see :func:`saliency`.
        x: see :func:`saliency`.
        target: see :func:`saliency`.
        **options: see :func:`saliency`.

    Returns:
        An :class:`Explanation` whose values have the shape of ``x``.

    References:
        Shrikumar et al., "Not just a black box", 2016.

    Example:
        >>> import numpy as np, handmill
        >>> layer = handmill.layers.Dense(1, kernel_initializer="ones")
        >>> model = handmill.Sequential([handmill.Input((2,)), layer])
        >>> handmill.explanation.input_x_gradient(model, np.array([[3.0, -1.0]])).values
        array([[ 3., -1.]], dtype=float32)
    """
    return _by_gradient(
        input_x_gradient, "input x gradient", model, x, target, "product", None, options
    )


def guided_backpropagation(model: Any, x: Any, target: Any = None, **options: Any) -> Explanation:
    """The gradient, of which each ReLU hands back only what is positive.

    It draws sharp pictures of the input, also when the weights are random: see
    :func:`handmill.explanation.sanity`.

    Args:
        model: see :func:`saliency`.
        x: see :func:`saliency`.
        target: see :func:`saliency`.
        **options: see :func:`saliency`.

    Returns:
        An :class:`Explanation` whose values have the shape of ``x``.

    References:
        Springenberg et al., "Striving for simplicity", 2015.

    Example:
        >>> import numpy as np, handmill
        >>> layers = [handmill.layers.Dense(1, "relu", kernel_initializer="ones")]
        >>> model = handmill.Sequential([handmill.Input((2,)), *layers])
        >>> handmill.explanation.guided_backpropagation(model, np.array([[3.0, -1.0]])).values
        array([[1., 1.]], dtype=float32)
    """
    return _by_gradient(
        guided_backpropagation,
        "guided backpropagation",
        model,
        x,
        target,
        "plain",
        "guided",
        options,
    )


def deconvolution(model: Any, x: Any, target: Any = None, **options: Any) -> Explanation:
    """The gradient, with a ReLU of the gradient in the place of that of each ReLU.

    Args:
        model: see :func:`saliency`.
        x: see :func:`saliency`.
        target: see :func:`saliency`.
        **options: see :func:`saliency`.

    Returns:
        An :class:`Explanation` whose values have the shape of ``x``.

    References:
        Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014.

    Example:
        >>> import numpy as np, handmill
        >>> layers = [handmill.layers.Dense(1, "relu", kernel_initializer="ones")]
        >>> model = handmill.Sequential([handmill.Input((2,)), *layers])
        >>> handmill.explanation.deconvolution(model, np.array([[-3.0, -1.0]])).values
        array([[1., 1.]], dtype=float32)
    """
    return _by_gradient(
        deconvolution, "deconvolution", model, x, target, "plain", "deconvolution", options
    )


def _by_gradient(
    function: Any,
    method: str,
    model: Any,
    x: Any,
    target: Any,
    combined: str,
    rule: str | None,
    options: dict[str, Any],
) -> Explanation:
    asked = Asked(method, model, x, target, **options)
    values = asked.zeros()
    if not asked.rows:
        return asked.explanation(values)
    program = asked.program(gradient_program, combined, rule)
    for rows, arrays in asked.blocks(1):
        found = program(*arrays, asked.targets.seeds[rows])
        for whole, part in zip(values, found, strict=True):
            whole[rows] = part
    notes = notes_of(program, asked, [*asked.arrays, asked.targets.seeds])
    if rule is not None:
        notes += ("the picture may show the input more than the model: see check()",)
    return asked.explanation(values, notes=notes, checks=asked.checks(function, target, options))


def gradient_program(
    graph: Any,
    model: Any,
    layout: Any,
    question: Any,
    x: Sequence[Value],
    others: Sequence[Value],
    combined: str,
    rule: str | None,
) -> Any:
    """Gradients of the scores by each input: |g|, g, or the input times g."""
    run = run_model(model, layout, x, question)
    points = points_of(graph, run)
    wrt = [p.value for p in points if p.value is not None]
    found = iter(gradients_of(graph, run, others[0], wrt, rule))
    made = []
    for point, value in zip(points, x, strict=True):
        if point.value is None:
            made.append(ops.zeros_like(value, "float32"))
            continue
        g = next(found)
        assert g is not None  # noqa: S101
        if combined == "product":
            g = g * point.value
        if combined == "absolute":
            made.append(length_as_input(g, value))
        else:
            made.append(sum_as_input(g, value))
    return with_points(made, points, run)


def with_points(made: Sequence[Value], points: Sequence[Point], run: Any) -> Any:
    """The outputs of a program, and at which layer each input was explained."""
    from handmill.runtime.function import Outputs

    where = tuple(
        None if p.value is None else "" if p.call is None else run.calls[p.call].path
        for p in points
    )
    return Outputs(tuple(made), where)


def notes_of(program: Program, asked: Asked, arrays: Sequence[Any]) -> tuple[str, ...]:
    """What has to be said of where the inputs were explained, by a program called with arrays."""
    return notes_of_places(asked, program.structure(arrays))


def notes_of_places(asked: Asked, places: Sequence[str | None]) -> tuple[str, ...]:
    """What has to be said of the layers at which inputs were explained."""
    notes = []
    for name, place in zip(asked.names, places, strict=True):
        if place is None:
            notes.append(_NO_GRADIENT.format(name))
        elif place:
            notes.append(f"{name} is explained at what layer {place!r} makes of it")
    return tuple(notes)


def sum_as_input(values: Value, like: Value) -> Value:
    """Adds up what a layer made of each number of an input."""
    extra = _extra_axes(values, like)
    return ops.reshape(ops.sum(values, axis=extra) if extra else values, like.shape)  # type: ignore[no-any-return]


def length_as_input(values: Value, like: Value) -> Value:
    """The absolute values, or the lengths of what a layer made of each number of an input."""
    extra = _extra_axes(values, like)
    if not extra:
        return ops.abs(values)  # type: ignore[no-any-return]
    return ops.reshape(ops.sqrt(ops.sum(ops.square(values), axis=extra)), like.shape)  # type: ignore[no-any-return]


def _extra_axes(values: Value, like: Value) -> tuple[int, ...]:
    common = 0
    for mine, other in zip(values.shape, like.shape, strict=False):
        if not same(mine, other):
            break
        common += 1
    if any(d != 1 for d in like.shape[common:]):
        raise ValueError(
            f"an input of shape {like.shape} becomes floats of shape {values.shape}, which are no "
            "values for each of its numbers"
        )
    return tuple(range(common, values.ndim))
