"""Batch normalizations that become a part of the layer before them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import activations
from handmill.compress.quantization_aware import refuse_adapted
from handmill.compress.rebuilding import cloned
from handmill.ir.op import Array
from handmill.layers import BatchNormalization, Identity
from handmill.layers.core.weight_integers import block_of
from handmill.layers.layer import all_layers
from handmill.quantizers import pack_int4, unpack_int4
from handmill.runtime.watch import is_ours

_LAST = {
    "Dense": "kernel",
    "Conv1D": "kernel",
    "Conv2D": "kernel",
    "Conv3D": "kernel",
    "DepthwiseConv1D": "kernel",
    "DepthwiseConv2D": "kernel",
    "SeparableConv1D": "pointwise_kernel",
    "SeparableConv2D": "pointwise_kernel",
}
"""Layers -> the table whose last axes are outputs."""

_NOTHING = 1e-20  # factors below it leave the bias alone


@dataclass(frozen=True)
class Folding:
    """What :func:`fold_report` did.

    Attributes:
        model: the model without the normalizations that were folded.
        rows: (name of a normalization, that of the layer it went into, why it stayed or "").
    """

    model: Any
    rows: tuple[tuple[str, str, str], ...]

    def __str__(self) -> str:
        lines = [
            f"  {name}: {f'stays: {why}' if why else f'a part of {into}'}"
            for name, into, why in self.rows
        ]
        count = sum(not why for *_, why in self.rows)
        return "\n".join([f"{count} of {len(self.rows)} batch normalizations folded", *lines])


def fold_batch_normalization(model: Any) -> Any:
    """A model whose batch normalizations are a part of the layers before them.

    In inference a normalization is a factor and an offset for each channel, which the weights and
    the bias of the dense or convolutional layer before it can hold (Jacob et al., CVPR 2018,
    section 3.2). Of quantized weights the scales hold the factor, and all integers stay what they
    are, up to their sign: with one scale for each output it makes no difference whether weights are
    rounded before or after it. So train with normalizations (with
    :class:`handmill.callbacks.FreezeStatistics` in the end, say), quantize, and fold; or fold a
    trained model before :func:`quantize_aware`, which then trains with statistics that are fixed.

    Args:
        model: a built functional or sequential model, float or quantized; it stays as it is.

    Returns:
        A new model; where a normalization was stands an Identity. Compiled like the other one,
        with an optimizer that begins anew.

    Raises:
        ValueError: if none can be folded, the first reason named; for a model without a graph, one
            that simulates quantization or has LoRA.

    Example:
        >>> import handmill, numpy as np
        >>> from handmill import compress, layers
        >>> model = handmill.Sequential(
        ...     [handmill.Input((4,)), layers.Dense(3), layers.BatchNormalization()])
        >>> made = compress.fold_batch_normalization(model)
        >>> made.count_params(), model.count_params()
        (15, 27)
        >>> x = np.ones((2, 4), "float32")
        >>> bool(np.allclose(made(x), model(x), atol=1e-6))
        True
    """
    return fold_report(model).model


def fold_report(model: Any) -> Folding:
    """As :func:`fold_batch_normalization`, with what became of each normalization.

    Args:
        model: see there.

    Example:
        >>> import handmill
        >>> from handmill import compress, layers
        >>> model = handmill.Sequential([handmill.Input((4,)), layers.Dense(3, name="a"),
        ...     layers.BatchNormalization(name="b"), layers.ReLU(),
        ...     layers.BatchNormalization(name="c")])
        >>> print(compress.fold_report(model))
        1 of 2 batch normalizations folded
          b: a part of a
          c: stays: there is no dense or convolutional layer right before it
    """
    refuse_adapted(model, "fold normalizations of")
    rows, folded = [], {}
    for norm, layer, why in _pairs(model):
        rows.append((norm.name, "" if why else layer.name, why))
        if not why:
            folded[id(layer)] = norm
    if not folded:
        reasons = "; ".join(f"{name}: {why}" for name, _, why in rows)
        raise ValueError(
            f"model {model.name!r} has no batch normalization that can be folded"
            + (f": {reasons}" if reasons else "")
        )
    return Folding(_made(model, folded), tuple(rows))


def _pairs(model: Any) -> Iterator[tuple[Any, Any, str]]:
    """Each normalization, the layer before it, and why the one cannot go into the other."""
    graphs = [
        layer._graph
        for layer in dict.fromkeys((model, *all_layers(model)))
        if getattr(layer, "_graph", None) is not None
    ]
    nodes = [node for graph in graphs for node in graph.nodes]
    calls = Counter(id(node.operation) for node in nodes)
    uses = Counter(id(t) for node in nodes for t in node.input_tensors)
    uses.update(id(t) for graph in graphs for t in graph.outputs)
    seen = set()
    for node in nodes:
        norm = node.operation
        if type(norm) is not BatchNormalization or norm in seen:
            continue
        seen.add(norm)
        tensor = node.input_tensors[0]
        history = tensor._keras_history
        layer = None if history is None else history.operation
        if layer is None or not is_ours(type(layer)) or type(layer).__name__ not in _LAST:
            yield norm, layer, "there is no dense or convolutional layer right before it"
        elif uses[id(tensor)] > 1:
            yield norm, layer, f"others use what {layer.name!r} gives, too"
        elif max(calls[id(layer)], calls[id(norm)]) > 1:
            yield norm, layer, "it or the layer before it is used several times"
        else:
            yield norm, layer, _reason(layer, norm)


def _reason(layer: Any, norm: Any) -> str:
    """Why a normalization right behind a layer cannot be a part of it; "" if it can."""
    if layer.activation not in (None, activations.linear):
        return f"{layer.name!r} has an activation before it"
    rank = norm.input_spec.ndim
    first = getattr(layer, "data_format", None) == "channels_first"
    if norm.axis % rank != (1 if first else rank - 1):
        return f"it normalizes axis {norm.axis}, which is not that of the channels"
    factor, shift = _factor_and_shift(norm)
    if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
        return "its numbers are NaN or infinite"
    values, name = _values(layer), _LAST[type(layer).__name__]
    if layer.quantization_mode is not None and f"{name}_zero" not in values:
        lowest = -8 if layer.quantization_mode == "int4" else -128
        if np.any(_integers(layer, values)[:, factor < 0] == lowest):
            return f"a factor below 0 turns the integer {lowest}, and there is no {-lowest}"
    return ""


def _factor_and_shift(norm: Any) -> tuple[Array, Array]:
    """What a normalization multiplies by and adds in inference, float64."""
    mean, variance = (
        v.numpy().astype(np.float64) for v in (norm.moving_mean, norm.moving_variance)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.gamma is not None:
        factor = factor * norm.gamma.numpy()
    shift = -mean * factor
    return factor, shift if norm.beta is None else shift + norm.beta.numpy()


def _values(layer: Any) -> dict[str, Array]:
    return {v.name: v.numpy() for v in layer._own_variables()}


def _integers(layer: Any, values: dict[str, Array]) -> Array:
    """The integers of a quantized table, a matrix with outputs last, int8."""
    name = _LAST[type(layer).__name__]
    count = values[f"{name}_scale"].shape[-1]
    if layer.quantization_mode == "int4":
        return np.array(unpack_int4(values[name], count, axis=-1))
    return np.array(values[name].reshape(-1, count))


def _folded(layer: Any, norm: Any) -> dict[str, Array]:
    """The content of a layer that does what a normalization behind it did."""
    factor, shift = _factor_and_shift(norm)
    values, name = _values(layer), _LAST[type(layer).__name__]
    bias = values.get("bias", np.zeros(len(shift))) * factor + shift
    values["bias"] = bias.astype(np.float32)
    if layer.quantization_mode is None:
        shape = values[name].shape
        values[name] = (values[name].reshape(-1, len(factor)) * factor).reshape(shape)
        return values
    size, gone = np.abs(factor), np.abs(factor) < _NOTHING
    size[gone] = 1.0
    integers, zero = _integers(layer, values), values.get(f"{name}_zero")
    turned = factor < 0
    if zero is None:
        values[f"{name}_scale"] = (values[f"{name}_scale"] / size).astype(np.float32)
        integers[:, turned] *= -1
        integers[:, gone] = 0
    else:  # what stands for 0 turns with the integers: -1 - q runs from -8 to 7 as q does
        values[f"{name}_scale"] = (values[f"{name}_scale"] * size).astype(np.float32)
        zero = np.where(turned, -1 - zero, zero).astype(np.int8)
        integers[:, turned] = -1 - integers[:, turned]
        groups = values.get("g_idx")
        if groups is None:
            groups = np.arange(len(integers)) // block_of(layer._dtype_policy.of_path(layer.path))
        integers[:, gone] = zero[groups.astype(int)][:, gone]
        values[f"{name}_zero"] = zero
    if layer.quantization_mode == "int4":
        values[name] = np.asarray(pack_int4(integers, axis=-1)[0])
    else:
        values[name] = integers.reshape(values[name].shape)
    return values


def _made(model: Any, folded: dict[int, Any]) -> Any:
    """The model anew, without the normalizations that are folded."""
    norms = {id(norm) for norm in folded.values()}
    pairs: list[tuple[Any, Any]] = []

    def anew(layer: Any) -> Any:
        if id(layer) in norms:
            return Identity(name=layer.name, dtype=layer.compute_dtype)
        config = json.loads(json.dumps(layer.get_config()))
        if id(layer) in folded:
            config["use_bias"] = True
        made = type(layer).from_config(config)
        if hasattr(layer, "get_vocabulary"):
            made.build_from_config(json.loads(json.dumps(layer.get_build_config())) or {})
        pairs.append((layer, made))
        return made

    made = cloned(model, anew)
    for old, new in pairs:
        if id(old) not in folded:
            for before, after in zip(old.weights, new.weights, strict=True):
                after.assign(before.numpy())
            continue
        values = _folded(old, folded[id(old)])
        for variable in new._own_variables():
            variable.assign(values[variable.name])
    return made
