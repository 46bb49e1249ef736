"""Class activation maps: where in the image a layer of a convolutional network saw the class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import ops
from handmill.explanation.asked import Asked
from handmill.explanation.explanation import Explanation
from handmill.explanation.layer_calls import find_call, name_of
from handmill.explanation.picture import resized
from handmill.explanation.program import gradients_of, run_model
from handmill.ir.graph import Value
from handmill.ir.op import Array
from handmill.runtime.function import Outputs

_CHANNELS = 64  # of Score-CAM that one call of a program hides


def grad_cam(
    model: Any, x: Any, target: Any = None, layer: Any = None, relu: bool = True, **options: Any
) -> Explanation:
    """Where a layer saw the class: its maps, weighted by how much the score gains from each.

    A map's weight is the mean of the gradient over its places; what speaks against the class is cut
    off. Layers are found in the traced model: inside models of the model, shared or loaded alike.

    Args:
        model: a handmill model, or an estimator that holds one.
        x: images, nested as the model takes them.
        target: see :func:`saliency`.
        layer: a layer; its name, or a path such as ``"encoder/conv"``, with ``":2"`` for the second
            call of a shared layer, as :func:`handmill.inspect` numbers them. Default: the last
            whose output has places.
        relu: whether what speaks against the class is cut off.
        **options: see :func:`saliency`.

    Returns:
        An :class:`Explanation` whose values (rows, height, width) have the size of the layer; the
        picture shows them in that of the image. A map without anything is told in ``notes``.

    Raises:
        ValueError: for a layer that does not exist, has no places, or is called several times.

    References:
        Selvaraju et al., "Grad-CAM: visual explanations from deep networks", 2017.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> inner = [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)]
        >>> model = handmill.Sequential([handmill.Input((8, 8, 1)), *inner])
        >>> handmill.explanation.grad_cam(model, np.ones((2, 8, 8, 1))).values.shape
        (2, 6, 6)
    """
    return _map("Grad-CAM", grad_cam, model, x, target, layer, "mean", relu, options)


def grad_cam_pp(
    model: Any, x: Any, target: Any = None, layer: Any = None, relu: bool = True, **options: Any
) -> Explanation:
    """Grad-CAM++: like :func:`grad_cam`, with weights for several objects of one class.

    The gradient of each place counts by ``g^2 / (2 g^2 + sum(A) g^3)``, where it is positive.

    Args:
        model: see :func:`grad_cam`.
        x: see :func:`grad_cam`.
        target: see :func:`saliency`.
        layer: see :func:`grad_cam`.
        relu: see :func:`grad_cam`.
        **options: see :func:`saliency`.

    Returns:
        See :func:`grad_cam`.

    References:
        Chattopadhay et al., "Grad-CAM++", 2018.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> inner = [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)]
        >>> model = handmill.Sequential([handmill.Input((8, 8, 1)), *inner])
        >>> handmill.explanation.grad_cam_pp(model, np.ones((2, 8, 8, 1))).method
        'Grad-CAM++'
    """
    return _map("Grad-CAM++", grad_cam_pp, model, x, target, layer, "plus", relu, options)


def layer_cam(
    model: Any, x: Any, target: Any = None, layer: Any = None, relu: bool = True, **options: Any
) -> Explanation:
    """LayerCAM: the layer's maps, each place times its own gradient where that is positive.

    It keeps places apart, so that early layers give fine maps.

    Args:
        model: see :func:`grad_cam`.
        x: see :func:`grad_cam`.
        target: see :func:`saliency`.
        layer: see :func:`grad_cam`.
        relu: see :func:`grad_cam`.
        **options: see :func:`saliency`.

    Returns:
        See :func:`grad_cam`.

    References:
        Jiang et al., "LayerCAM: exploring hierarchical class activation maps", 2021.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> inner = [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)]
        >>> model = handmill.Sequential([handmill.Input((8, 8, 1)), *inner])
        >>> handmill.explanation.layer_cam(model, np.ones((2, 8, 8, 1))).method
        'LayerCAM'
    """
    return _map("LayerCAM", layer_cam, model, x, target, layer, "positive", relu, options)


def hires_cam(
    model: Any, x: Any, target: Any = None, layer: Any = None, relu: bool = False, **options: Any
) -> Explanation:
    """HiResCAM: the layer's maps, each place times its own gradient.

    Of a layer that a single Dense follows, the values of a row sum to its score less the bias.

    Args:
        model: see :func:`grad_cam`.
        x: see :func:`grad_cam`.
        target: see :func:`saliency`.
        layer: see :func:`grad_cam`.
        relu: whether what speaks against the class is cut off; not so unless asked for.
        **options: see :func:`saliency`.

    Returns:
        See :func:`grad_cam`.

    References:
        Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations", 2020.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> inner = [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)]
        >>> model = handmill.Sequential([handmill.Input((8, 8, 1)), *inner])
        >>> found = handmill.explanation.hires_cam(model, np.ones((2, 8, 8, 1)))
        >>> bool(np.allclose(found.values.sum((1, 2)), found.scores, atol=1e-5))
        True
    """
    return _map("HiResCAM", hires_cam, model, x, target, layer, "product", relu, options)


def class_activation_map(
    model: Any, x: Any, target: Any = None, layer: Any = None, **options: Any
) -> Explanation:
    """CAM: the layer's maps, weighted by the Dense layer behind a global average pooling.

    It is Grad-CAM times the number of places, without its ReLU; other networks are refused, whose
    gradient differs from place to place.

    Args:
        model: see :func:`grad_cam`.
        x: see :func:`grad_cam`.
        target: see :func:`saliency`.
        layer: see :func:`grad_cam`.
        **options: see :func:`saliency`.

    Returns:
        See :func:`grad_cam`.

    Raises:
        ValueError: if what follows the layer is no global average pooling.

    References:
        Zhou et al., "Learning deep features for discriminative localization", 2016.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> inner = [layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(3)]
        >>> model = handmill.Sequential([handmill.Input((8, 8, 1)), *inner])
        >>> handmill.explanation.class_activation_map(model, np.ones((2, 8, 8, 1))).values.shape
        (2, 6, 6)
    """
    return _map("CAM", class_activation_map, model, x, target, layer, "sum", False, options)


def _map(
    method: str,
    function: Any,
    model: Any,
    x: Any,
    target: Any,
    layer: Any,
    weights: str,
    relu: bool,
    options: dict[str, Any],
) -> Explanation:
    asked = Asked(method, model, x, target, **options)
    layer = name_of(asked.model, layer)
    if not asked.rows:
        return _explained(asked, np.zeros((0, 0, 0), np.float32), "")
    program = asked.program(map_program, layer, weights, relu)
    found = []
    for rows, arrays in asked.blocks(1):
        values, spread = program(*arrays, asked.targets.seeds[rows])
        if weights == "sum" and float(spread.max(initial=0)) > 1e-4:
            raise ValueError(
                "class_activation_map needs a global average pooling behind the layer, but the "
                "gradient differs from place to place: use grad_cam"
            )
        found.append(values)
    where = program.structure([*asked.arrays, asked.targets.seeds])
    more = {**options, "layer": layer}
    if weights != "sum":
        more["relu"] = relu
    checks = asked.checks(function, target, more)
    return _explained(asked, np.concatenate(found), where, checks)


def _explained(asked: Asked, maps: Array, where: str, checks: Any = ()) -> Explanation:
    explanation = asked.explanation([maps] * len(asked.arrays), checks=checks)
    explanation.values = maps
    if len(asked.arrays) > 1:  # the maps are drawn over the first image among the inputs
        images = [a for a in asked.arrays if a.ndim == maps.ndim + 1]
        explanation.data = images[0] if images else asked.arrays[0]
    elif isinstance(explanation.data, list | dict):
        explanation.data = asked.arrays[0]
    explanation.details = {"layer": where}
    empty = np.flatnonzero(~maps.any(tuple(range(1, maps.ndim))))
    if len(empty):
        rows = f"{len(empty)} rows, first row {empty[0]}: " if len(maps) > 1 else ""
        explanation.notes += (f"{rows}no positive evidence for the target in layer {where!r}",)
    return explanation


def channels_last(call: Any, value: Value) -> Value:
    """The output of a layer, or its gradient, with the channels behind the places."""
    if getattr(call.layer, "data_format", None) == "channels_first":
        return ops.moveaxis(value, 1, -1)  # type: ignore[no-any-return]
    return value


def map_program(
    graph: Any,
    model: Any,
    layout: Any,
    question: Any,
    x: Sequence[Value],
    others: Sequence[Value],
    layer: Any,
    weights: str,
    relu: bool,
) -> Outputs:
    """A map of a layer, and how much the gradient differs from place to place (rows,)."""
    run = run_model(model, layout, x, question)
    call = find_call(run.calls, layer, spatial=True)
    assert call.output is not None  # noqa: S101
    (gradient,) = gradients_of(graph, run, others[0], [call.output])
    if gradient is None:
        raise ValueError(f"the score does not depend on layer {call.path!r}")
    maps, g = channels_last(call, call.output), channels_last(call, gradient)
    places = tuple(range(1, maps.ndim - 1))
    mean = ops.mean(g, axis=places, keepdims=True)
    if weights == "mean":
        factor = mean
    elif weights == "sum":
        factor = ops.sum(g, axis=places, keepdims=True)
    elif weights == "plus":
        squared = ops.square(g)
        below = squared * 2 + ops.sum(maps, axis=places, keepdims=True) * squared * g
        share = ops.where(below == 0, 0.0, squared / ops.where(below == 0, 1.0, below))
        factor = ops.sum(share * ops.relu(g), axis=places, keepdims=True)
    else:
        factor = ops.relu(g) if weights == "positive" else g
    found = ops.sum(maps * factor, axis=-1)
    every = tuple(range(1, g.ndim))
    largest = ops.max(ops.abs(g), axis=every)
    spread = ops.max(ops.abs(g - mean), axis=every) / ops.maximum(largest, 1e-30)
    return Outputs((ops.relu(found) if relu else found, spread), call.path)


def score_cam(
    model: Any, x: Any, target: Any = None, layer: Any = None, **options: Any
) -> Explanation:
    """Score-CAM: the layer's maps, weighted by the score of the image seen through each.

    No gradients: each map, stretched to 0..1 and to the size of the image, hides what it does not
    show; the weights are the softmax of the scores. A pass for each channel of the layer.

    Args:
        model: see :func:`grad_cam`.
        x: see :func:`grad_cam`.
        target: see :func:`saliency`.
        layer: see :func:`grad_cam`.
        **options: see :func:`saliency`.

    Returns:
        See :func:`grad_cam`.

    References:
        Wang et al., "Score-CAM: score-weighted visual explanations", 2020.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers
        >>> inner = [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)]
        >>> model = handmill.Sequential([handmill.Input((8, 8, 1)), *inner])
        >>> handmill.explanation.score_cam(model, np.ones((2, 8, 8, 1))).values.shape
        (2, 6, 6)
    """
    asked = Asked("Score-CAM", model, x, target, **options)
    layer = name_of(asked.model, layer)
    if not asked.rows:
        return _explained(asked, np.zeros((0, 0, 0), np.float32), "")
    seen = asked.program(layer_program, layer, True)
    found = []
    for row in range(asked.rows):
        arrays = [a[row : row + 1] for a in asked.arrays]
        maps = seen(*arrays)[0][0]
        channels = maps.shape[-1]
        size = min(channels, _CHANNELS)
        hidden = asked.program(hidden_program, layer, size)
        scores = np.zeros(channels)
        for start in range(0, channels, size):
            stop = min(start + size, channels)
            outputs = hidden(*arrays, np.array(start, np.int32))[0][: stop - start]
            seeds = np.repeat(asked.targets.seeds[row : row + 1], len(outputs), 0)
            scores[start:stop] = (seeds * outputs.astype(np.float64)).sum(1)
        powers = np.exp(scores - scores.max())
        found.append(np.maximum(maps @ (powers / powers.sum()), 0))
    where = seen.structure(asked.arrays)
    checks = asked.checks(score_cam, target, {**options, "layer": layer})
    return _explained(asked, np.stack(found).astype(np.float32), where, checks)


def layer_program(
    graph: Any,
    model: Any,
    layout: Any,
    question: Any,
    x: Sequence[Value],
    others: Sequence[Value],
    layer: Any,
    spatial: bool,
) -> Outputs:
    """The output of a layer."""
    run = run_model(model, layout, x, question)
    call = find_call(run.calls, layer, spatial)
    assert call.output is not None  # noqa: S101
    output = channels_last(call, call.output) if spatial else call.output
    return Outputs((output,), call.path)


def hidden_program(
    graph: Any,
    model: Any,
    layout: Any,
    question: Any,
    x: Sequence[Value],
    others: Sequence[Value],
    layer: Any,
    size: int,
) -> Outputs:
    """The scores of one image seen through some maps of a layer, from a channel on."""
    (start,) = others
    seen = run_model(model, layout, x, question)
    call = find_call(seen.calls, layer, spatial=True)
    assert call.output is not None  # noqa: S101
    maps = channels_last(call, call.output)[0]
    maps = ops.moveaxis(maps, -1, 0)  # (channels, places...)
    at = ops.minimum(ops.arange(size) + start, maps.shape[0] - 1)
    maps = ops.take(maps, at, axis=0)
    axes = tuple(range(1, maps.ndim))
    low = ops.min(maps, axis=axes, keepdims=True)
    range_ = ops.max(maps, axis=axes, keepdims=True) - low
    maps = (maps - low) / ops.where(range_ == 0, 1.0, range_)  # a constant map hides everything
    rank = maps.ndim + 1
    image = next((i for i, v in enumerate(x) if v.ndim == rank), None)
    if image is None:
        raise ValueError(
            "score_cam hides parts of images, and no input has the places of the layer"
        )
    first = getattr(call.layer, "data_format", None) == "channels_first"
    sizes = x[image].shape[2:] if first else x[image].shape[1:-1]
    for axis, wanted in enumerate(sizes, 1):
        have = maps.shape[axis]
        matrix = resized(np.eye(have, dtype=np.float32).T, (int(wanted), have))
        maps = ops.moveaxis(ops.tensordot(maps, ops.convert_to_tensor(
            matrix.T.astype(np.float32)), axes=[[axis], [0]]), -1, axis)  # fmt: skip
    maps = ops.expand_dims(maps, 1 if first else -1)
    copies = []
    for i, value in enumerate(x):
        wide = ops.broadcast_to(value[:1], (size, *value.shape[1:]))
        copies.append(ops.cast(wide, "float32") * maps if i == image else wide)
    return Outputs((run_model(model, layout, copies, question).scores,), None)


def activations(model: Any, x: Any, layer: Any, **options: Any) -> Explanation:
    """What a layer gives for each row.

    Args:
        model: a handmill model, or an estimator that holds one.
        x: rows, nested as the model takes them.
        layer: see :func:`grad_cam`.
        **options: see :func:`saliency`.

    Returns:
        An :class:`Explanation` whose values are the outputs of the layer.

    Raises:
        ValueError: for a layer that does not exist or is called several times.

    Example:
        >>> import numpy as np, handmill
        >>> inner = [handmill.layers.Dense(3, name="first"), handmill.layers.Dense(2)]
        >>> model = handmill.Sequential([handmill.Input((4,)), *inner])
        >>> handmill.explanation.activations(model, np.ones((5, 4)), "first").values.shape
        (5, 3)
    """
    asked = Asked("activations", model, x, **options)
    layer = name_of(asked.model, layer)
    program = asked.program(layer_program, layer, False)
    found = [program(*arrays)[0] for _, arrays in asked.blocks(1)]
    explanation = asked.explanation(asked.zeros())
    explanation.values = np.concatenate(found) if found else np.zeros((0, 0), np.float32)
    explanation.details = {"layer": program.structure(asked.arrays) if found else ""}
    return explanation
