"""A smaller model from a larger one: layers made anew with smaller arguments, weights cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from handmill.errors import keep_warnings
from handmill.ir.op import Array
from handmill.layers.layer import Layer
from handmill.models.cloning import clone_model
from handmill.naming import kept_names
from handmill.runtime.variable import Variable
from handmill.runtime.watch import is_ours


class Sizes:
    """The sizes of what is made anew.

    Args:
        weights: the weights of the model.
        kept: for each of them and each axis, which entries stay.
        outputs: name of a layer that reshapes -> sizes of what it gives, rows left out.
    """

    def __init__(
        self,
        weights: Sequence[Variable],
        kept: Sequence[tuple[Array, ...]],
        outputs: Mapping[str, tuple[int, ...]],
    ) -> None:
        pairs = zip(weights, kept, strict=True)
        self._shapes = {id(w): tuple(len(entries) for entries in axes) for w, axes in pairs}
        self.outputs = outputs

    def __call__(self, variable: Variable) -> tuple[int, ...]:
        """The new shape of a weight."""
        return self._shapes[id(variable)]


def _size(argument: str, variable: str, axis: int) -> Callable[[Any, Sizes], dict[str, Any]]:
    def changed(layer: Any, sizes: Sizes) -> dict[str, Any]:
        holder = getattr(layer, "cell", layer)
        return {argument: sizes(getattr(holder, variable))[axis]}

    return changed


def _heads(layer: Any, sizes: Sizes) -> dict[str, Any]:
    return {"num_heads": sizes(layer.query_dense.kernel)[1]}


def _groups(layer: Any, sizes: Sizes) -> dict[str, Any]:
    own = next(iter(layer._own_variables()), None)
    if own is None:
        return {}
    return {"groups": max(1, layer.groups * sizes(own)[0] // own.shape[0])}


def _target(layer: Any, sizes: Sizes) -> dict[str, Any]:
    return {"target_shape": sizes.outputs.get(layer.name, layer.target_shape)}


def _nothing(layer: Any, sizes: Sizes) -> dict[str, Any]:
    return {}


ARGUMENTS: Mapping[str, Callable[[Any, Sizes], dict[str, Any]]] = {
    "Dense": _size("units", "kernel", -1),
    "Conv1D": _size("filters", "kernel", -1),
    "Conv2D": _size("filters", "kernel", -1),
    "Conv3D": _size("filters", "kernel", -1),
    "Conv1DTranspose": _size("filters", "kernel", -2),
    "Conv2DTranspose": _size("filters", "kernel", -2),
    "SeparableConv1D": _size("filters", "pointwise_kernel", -1),
    "SeparableConv2D": _size("filters", "pointwise_kernel", -1),
    "Embedding": _size("output_dim", "embeddings", -1),
    "SimpleRNN": _size("units", "recurrent_kernel", 0),
    "GRU": _size("units", "recurrent_kernel", 0),
    "LSTM": _size("units", "recurrent_kernel", 0),
    "SimpleRNNCell": _size("units", "recurrent_kernel", 0),
    "GRUCell": _size("units", "recurrent_kernel", 0),
    "LSTMCell": _size("units", "recurrent_kernel", 0),
    "EinsumDense": _nothing,
    "MultiHeadAttention": _heads,
    "GroupNormalization": _groups,
    "BatchNormalization": _nothing,
    "LayerNormalization": _nothing,
    "RMSNormalization": _nothing,
    "PReLU": _nothing,
    "Reshape": _target,
    "DepthwiseConv1D": _nothing,
    "DepthwiseConv2D": _nothing,
}
"""Layers with weights -> how the sizes of their weights make their arguments; others must stay."""


def can_be_resized(layer: Layer) -> bool:
    """Whether it is known what the arguments of a layer say of the sizes of its weights."""
    return is_ours(type(layer)) and type(layer).__name__ in ARGUMENTS


def rebuilt(
    model: Any,
    weights: Sequence[Variable],
    kept: Sequence[tuple[Array, ...]],
    outputs: Mapping[str, tuple[int, ...]],
) -> Any:
    """A model whose weights are those of ``model``, cut.

    Args:
        model: the model; it stays as it is.
        weights: its weights.
        kept: for each of them and each axis, which entries stay.
        outputs: see :class:`Sizes`.

    Raises:
        ValueError: if the layers cannot be made so; the first of them is named.
    """
    sizes = Sizes(weights, kept, outputs)

    def smaller(layer: Any) -> Any:
        config = _unbuilt(json.loads(json.dumps(layer.get_config())))
        _resize(config, layer, sizes)
        made = type(layer).from_config(config)
        if hasattr(layer, "get_vocabulary"):
            made.build_from_config(json.loads(json.dumps(layer.get_build_config())) or {})
        return made

    made = cloned(model, smaller)
    for old, new in zip(weights, made.weights, strict=True):
        if new.shape != sizes(old):
            raise ValueError(
                f"{old.path!r} of shape {old.shape} should become {sizes(old)}, but the layer "
                f"made anew has {new.shape}: a size is fixed by an argument that shrink() does not "
                "know. Leave the layer out with `keep`"
            )
    for old, new, axes in zip(weights, made.weights, kept, strict=True):
        new.assign(old.numpy()[np.ix_(*axes)] if axes else old.numpy())
    _take_over_optimizer(model, made, weights, kept)
    return made


def _resize(config: dict[str, Any], layer: Any, sizes: Sizes) -> None:
    """Writes sizes into the config of a layer, and of those inside (of a wrapper, of cells)."""
    if is_ours(type(layer)):
        config.update(ARGUMENTS.get(type(layer).__name__, _nothing)(layer, sizes))
    inside = {part.name: part for part in layer._flatten_layers()}
    if inside:
        _resize_parts(list(config.values()), inside, sizes)


def _resize_parts(found: Any, inside: Mapping[str, Any], sizes: Sizes) -> None:
    if isinstance(found, list):
        for part in found:
            _resize_parts(part, inside, sizes)
    elif isinstance(found, dict):
        config = found.get("config")
        part = inside.get(str(config.get("name"))) if isinstance(config, dict) else None
        if isinstance(config, dict) and type(part).__name__ == found.get("class_name"):
            _resize(config, part, sizes)
        else:
            _resize_parts(list(found.values()), inside, sizes)


def _unbuilt(config: Any) -> Any:
    """A config whose layers inside (of a wrapper) are built when they are called, not before."""
    if isinstance(config, list):
        return [_unbuilt(part) for part in config]
    if not isinstance(config, dict):
        return config
    sized = {"input_shape", "shapes_dict"} >= set(config.get("build_config") or ())
    return {k: _unbuilt(v) for k, v in config.items() if k != "build_config" or not sized}


def cloned(model: Any, make: Callable[[Any], Any] | None = None) -> Any:
    """The model made anew, with layers that ``make`` makes of its own; names are not counted.

    Raises:
        ValueError: if its configuration does not make it again.
    """
    if getattr(model, "_graph", None) is None and not hasattr(model, "_layers"):
        raise ValueError(
            f"{type(model).__name__} {model.name!r} must be a functional or sequential model: "
            "layers of a call() of one's own cannot be made anew"
        )
    with kept_names(), keep_warnings():
        try:
            made = clone_model(model, clone_function=make, recursive=True)
            if not made.built:
                made.build(model.input_shape)
        except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
            raise ValueError(
                f"model {model.name!r} cannot be made anew from its configuration: {error}"
            ) from error
    return made


def _take_over_optimizer(
    model: Any, made: Any, weights: Sequence[Variable], kept: Sequence[tuple[Array, ...]]
) -> None:
    """Cuts the state of the optimizer, so that training goes on where it was."""
    if not made.compiled or model.optimizer is None or not model.optimizer.built:
        return
    if not made.optimizer.built:
        made.optimizer.build(made.trainable_variables)
    by_slot = sorted(
        (
            (w.path.replace("/", "_") + "_", w.shape, axes)
            for w, axes in zip(weights, kept, strict=True)
        ),
        key=lambda row: -len(row[0]),
    )
    for old, new in zip(model.optimizer.variables, made.optimizer.variables, strict=True):
        if old.shape == new.shape:
            new.assign(old.numpy())
            continue
        axes = next(
            (a for name, shape, a in by_slot if old.name.startswith(name) and shape == old.shape),
            None,
        )
        if axes is not None and tuple(map(len, axes)) == new.shape:
            new.assign(old.numpy()[np.ix_(*axes)])
