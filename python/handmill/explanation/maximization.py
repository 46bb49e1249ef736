"""Activation maximisation: the input that a unit of a network answers to most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import ops
from handmill.arguments import finite_number, whole_number
from handmill.explanation.asked import model_of
from handmill.explanation.explanation import Explanation
from handmill.explanation.layer_calls import find_call, name_of
from handmill.explanation.program import Program, Question, run_model
from handmill.ir.gradient import pullback
from handmill.ir.graph import Value
from handmill.models.layout import split
from handmill.random import uniform
from handmill.runtime.function import Outputs


def maximize(
    model: Any,
    unit: int = 0,
    layer: Any = None,
    start: Any = None,
    steps: int = 200,
    rate: float = 0.02,
    bounds: tuple[float, float] | None = None,
    norm: float | None = None,
    total_variation: float = 0.0,
    seed: int = 0,
) -> Explanation:
    """Climbs from a start to an input that a unit of a layer answers to most.

    Each step goes ``rate`` times the range of the input along the gradient, whatever its length.

    Args:
        model: a handmill model of one input.
        unit: the number of the unit, or of the channel: then the mean over its places is climbed.
        layer: see :func:`grad_cam`; default: the scores of the model, before the softmax.
        start: rows to start at, one result each; default: one row of small numbers about the middle
            of ``bounds``, or 0.
        steps: how many steps.
        rate: the length of a step.
        bounds: the least and largest number that the input may hold.
        norm: the length that the input may have; None for any.
        total_variation: how much differences between neighbours in an image are punished.
        seed: of the start.

    Returns:
        An :class:`Explanation`: ``values`` are the inputs found, ``scores`` what the unit gives
        there, ``details["path"]`` what it gave at each step, (steps + 1, rows).

    Raises:
        ValueError: for a unit or layer that does not exist.
        TypeError: if ``model`` has no gradients.

    References:
        Erhan et al., "Visualizing higher-layer features of a deep network", 2009.

    Example:
        >>> import numpy as np, handmill
        >>> model = handmill.Sequential([handmill.Input((2,)), handmill.layers.Dense(1)])
        >>> model.set_weights([np.array([[3.0], [4.0]]), np.zeros(1)])
        >>> handmill.explanation.maximize(model, norm=1).values.round(2)
        array([[0.6, 0.8]], dtype=float32)
    """
    model = model_of("maximize", model)
    layer = name_of(model, layer)
    unit = whole_number("maximize: `unit`", unit, 0)
    steps = whole_number("maximize: `steps`", steps, 1)
    rate = finite_number("maximize: `rate`", rate)
    low, high = (-np.inf, np.inf) if bounds is None else bounds
    if not low < high:
        raise ValueError(f"maximize: `bounds` must be (low, high). Received: {bounds!r}")
    if norm is not None and not norm > 0:
        raise ValueError(f"maximize: `norm` must be positive. Received: {norm!r}")
    if start is None:
        shape = (1, *_shape_of(model))
        middle = 0.0 if bounds is None else (low + high) / 2
        spread = 0.01 if bounds is None else (high - low) / 100
        start = middle + spread * np.asarray(uniform(shape, -1.0, 1.0, seed=seed))
    layout, arrays = split(start, None, None)
    if len(arrays) != 1:
        raise ValueError(f"maximize climbs by one input, `start` holds {len(arrays)}")
    begun = np.asarray(arrays[0], np.float32)
    range_ = 1.0 if bounds is None else high - low
    settings = (layer, unit, float(norm) if norm else None, float(total_variation))
    program = Program(model, layout, Question(), climbing_program, settings)
    x, path = begun, []
    step = np.array(rate * range_, np.float32)
    ends = np.array(low, np.float32), np.array(high, np.float32)
    for _ in range(steps):
        x, score = program(x, step, *ends)
        path.append(score)
    path.append(program(x, step, *ends)[1])
    where = program.structure([begun, step, *ends])
    stuck = not np.any(np.ptp(path, axis=0)) and steps > 1
    note = "the unit gave the same at each step, without a gradient: pass another `start`"
    return Explanation(
        notes=(note,) if stuck else (),
        values=x,
        data=begun,
        method="activation maximization",
        scores=path[-1].astype(np.float64),
        targets=(f"unit {unit} of {where}",) * len(x),
        details={"path": np.array(path), "steps": steps, "seed": seed},
    )


def _shape_of(model: Any) -> tuple[int, ...]:
    graph = getattr(model, "_graph", None)
    shape = None if graph is None or len(graph.inputs) != 1 else graph.inputs[0].shape[1:]
    if shape is None or any(not isinstance(d, int) for d in shape):
        raise ValueError("maximize: the model does not say which shape its input has: pass `start`")
    return tuple(shape)


def climbing_program(
    graph: Any,
    model: Any,
    layout: Any,
    question: Any,
    x: Sequence[Value],
    others: Sequence[Value],
    layer: Any,
    unit: int,
    norm: float | None,
    variation: float,
) -> Outputs:
    """One step up: the input after it, and what the unit gave before it."""
    rate, low, high = others
    run = run_model(model, layout, x, question)
    call = None if layer is None else find_call(run.calls, layer)
    output = run.scores if call is None or call.output is None else call.output
    first = call is not None and getattr(call.layer, "data_format", None) == "channels_first"
    if first:
        output = ops.moveaxis(output, 1, -1)
    if unit >= output.shape[-1]:
        raise ValueError(f"maximize: unit {unit}, but there are {output.shape[-1]}")
    found = output[..., unit]
    if found.ndim > 1:
        found = ops.mean(found, axis=tuple(range(1, found.ndim)))
    aim = found
    if variation and x[0].ndim == 4:
        image = run.inputs[0]
        vertical = ops.square(image[:, 1:] - image[:, :-1])
        horizontal = ops.square(image[:, :, 1:] - image[:, :, :-1])
        aim = aim - variation * (
            ops.sum(vertical, axis=(1, 2, 3)) + ops.sum(horizontal, axis=(1, 2, 3))
        )
    (g,) = pullback(graph, [ops.sum(aim)], [None], [run.inputs[0]])
    if g is None:
        raise ValueError("maximize: the unit does not depend on the input")
    axes = tuple(range(1, g.ndim))
    size = ops.sqrt(ops.mean(ops.square(g), axis=axes, keepdims=True))
    moved = run.inputs[0] + rate * g / ops.maximum(size, 1e-12)
    if norm is not None:
        length = ops.sqrt(ops.sum(ops.square(moved), axis=axes, keepdims=True))
        moved = moved * ops.minimum(1.0, norm / ops.maximum(length, 1e-12))
    moved = ops.minimum(ops.maximum(moved, low), high)
    return Outputs((moved, found), "the scores" if call is None else f"layer {call.path!r}")
