"""Weights under torch's names, in torch's order of axes: read, and written.

A kernel of torch is (O, I, *K), here (*K, I, O); a depthwise one (C m, 1, *K), here (*K, C, m);
a transposed one (I, O, *K), here (*K, O, I); a matrix (O, I), here (I, O). A Dense layer behind a
Flatten of images has its rows by place, then channel; torch has channel, then place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from handmill.ir.op import Array
from handmill.layers.convolutional.conv import Conv1D, Conv2D, Conv3D
from handmill.layers.convolutional.conv_transpose import (
    Conv1DTranspose,
    Conv2DTranspose,
    Conv3DTranspose,
)
from handmill.layers.convolutional.depthwise_conv import DepthwiseConv1D, DepthwiseConv2D
from handmill.layers.core.dense import Dense
from handmill.layers.core.embedding import Embedding
from handmill.layers.normalization.batch_normalization import BatchNormalization
from handmill.layers.normalization.group_normalization import GroupNormalization
from handmill.layers.normalization.layer_normalization import LayerNormalization
from handmill.layers.reshaping.flatten import Flatten
from handmill.layers.rnn.bidirectional import Bidirectional
from handmill.layers.rnn.gru import GRU
from handmill.layers.rnn.lstm import LSTM
from handmill.layers.rnn.simple_rnn import SimpleRNN
from handmill.saving.atomic_file import write_bytes
from handmill.saving.model_file import read_tensors, save_weights
from handmill.saving.tensors import to_tensors

_CONVS = (Conv1D, Conv2D, Conv3D)
_TRANSPOSED = (Conv1DTranspose, Conv2DTranspose, Conv3DTranspose)
_DEPTHWISE = (DepthwiseConv1D, DepthwiseConv2D)
_RECURRENT = {SimpleRNN: (0,), GRU: (1, 0, 2), LSTM: (0, 1, 2, 3)}
"""Layer -> for each gate of torch its place here; for a GRU also the other way round."""
_COUNTER = "num_batches_tracked"
_SHOWN = 12


class Part(NamedTuple):
    """A tensor of torch and where its numbers are here.

    Attributes:
        name: its name there.
        variable: the variable that holds it.
        there: turns the variable's array into that of torch.
        here: turns that of torch into a new content of the variable, given the one before.
    """

    name: str
    variable: Any
    there: Callable[[Array], Array]
    here: Callable[[Array, Array], Array]


def _part(name: str, variable: Any, there: Any = None, here: Any = None) -> Part:
    same: Callable[[Array], Array] = lambda a: a  # noqa: E731
    given = here or same
    return Part(name, variable, there or same, lambda a, before: given(a))


def _moved(first: Callable[[int], tuple[int, ...]]) -> tuple[Any, Any]:
    """Both ways of an order of axes, which depends on how many there are."""
    return (
        lambda a: a.transpose(first(a.ndim)),
        lambda a: a.transpose(np.argsort(first(a.ndim))),
    )


_KERNEL = _moved(lambda n: (n - 1, n - 2, *range(n - 2)))


def _depthwise(layer: Any) -> tuple[Any, Any]:
    m = layer.depth_multiplier

    def there(a: Array) -> Array:
        kernel = a.reshape(*a.shape[:-2], -1)
        return np.moveaxis(kernel, -1, 0)[:, None]

    def here(a: Array) -> Array:
        kernel = np.moveaxis(a[:, 0], 0, -1)
        return np.reshape(kernel, (*kernel.shape[:-1], -1, m))

    return there, here


def _dense(channels: int) -> tuple[Any, Any]:
    def there(a: Array) -> Array:
        apart = np.reshape(a, (-1, channels, a.shape[1])).transpose(2, 1, 0)
        return np.reshape(apart, (a.shape[1], -1))

    def here(a: Array) -> Array:
        apart = np.reshape(a, (len(a), channels, -1)).transpose(2, 1, 0)
        return np.reshape(apart, (-1, len(a)))

    return there, here


def _recurrent(layer: Any, order: tuple[int, ...]) -> Iterator[Part]:
    cell = layer.cell

    def turned(a: Array) -> Array:
        gates = np.split(a, len(order), axis=-1)
        return np.asarray(np.concatenate([gates[i] for i in order], axis=-1).T)

    def back(a: Array) -> Array:
        gates = np.split(a.T, len(order), axis=-1)
        return np.concatenate([gates[i] for i in order], axis=-1)

    yield _part("weight_ih_l0", cell.kernel, turned, back)
    yield _part("weight_hh_l0", cell.recurrent_kernel, turned, back)
    if not layer.use_bias:
        return
    if isinstance(layer, GRU):
        for row, name in enumerate(("bias_ih_l0", "bias_hh_l0")):

            def put(a: Array, before: Array, row: int = row) -> Array:
                found = np.array(before)
                found[row] = back(a)
                return found

            yield Part(name, cell.bias, partial(_row, turned, row), put)
        return
    # Two biases there, whose sum counts; one here.
    yield _part("bias_ih_l0", cell.bias, turned, back)
    yield Part(
        "bias_hh_l0", cell.bias, lambda a: np.zeros_like(turned(a)), lambda a, now: now + back(a)
    )


def _row(function: Callable[[Array], Array], row: int, array: Array) -> Array:
    return function(array[row])


def _parts(layer: Any, channels: int) -> Iterator[Part] | None:
    """The tensors of a layer; None if torch has no such layer."""
    if isinstance(layer, BatchNormalization | LayerNormalization | GroupNormalization):
        return _normalization(layer)
    if isinstance(layer, Bidirectional):
        return _both_ways(layer)
    kind = type(layer)
    if kind in _RECURRENT and (kind is not GRU or layer.reset_after):
        return _recurrent(layer, _RECURRENT[kind])
    ways: tuple[Any, Any] | None = None
    if isinstance(layer, _DEPTHWISE):
        ways = _depthwise(layer)
    elif isinstance(layer, (*_CONVS, *_TRANSPOSED)):
        ways = _KERNEL
    elif isinstance(layer, Dense):
        ways = _dense(channels)
    elif isinstance(layer, Embedding):
        return iter([_part("weight", layer.embeddings)])
    return None if ways is None else _with_bias(layer, ways)


def _both_ways(layer: Any) -> Iterator[Part] | None:
    """Both directions are one module of torch, if they are of one kind and put together."""
    forward, backward = _parts(layer.forward_layer, 1), _parts(layer.backward_layer, 1)
    kinds = {type(layer.forward_layer), type(layer.backward_layer)}
    if forward is None or backward is None or len(kinds) > 1 or layer.merge_mode != "concat":
        return None
    return chain(forward, (part._replace(name=f"{part.name}_reverse") for part in backward))


def _with_bias(layer: Any, ways: tuple[Any, Any]) -> Iterator[Part]:
    yield _part("weight", layer.kernel, *ways)
    if layer.use_bias:
        yield _part("bias", layer.bias)


def _normalization(layer: Any) -> Iterator[Part]:
    if layer.gamma is not None:
        yield _part("weight", layer.gamma)
    if layer.beta is not None:
        yield _part("bias", layer.beta)
    if isinstance(layer, BatchNormalization):
        yield _part("running_mean", layer.moving_mean)
        yield _part("running_var", layer.moving_variance)


def _flattened(model: Any, channels: int | None = None) -> tuple[dict[str, int], int | None]:
    """For Dense layers behind a Flatten of images, how many channels these have.

    Args:
        model: the model, or one inside of it.
        channels: of the images that its only input was made flat from, if it was.

    Returns:
        The path of a layer -> channels; and ``channels`` of its only output.
    """
    found: dict[str, int] = {}
    graph = getattr(model, "_graph", None)
    if graph is None:
        return found, None
    behind: dict[int, int] = {}
    if channels is not None and len(graph.inputs) == 1:
        behind[id(graph.inputs[0])] = channels
    for node in graph.nodes:
        layer = node.operation
        if not node.input_tensors:
            continue
        given = [behind[id(t)] for t in node.input_tensors if id(t) in behind]
        after = given[0] if len(given) == 1 else None
        if isinstance(layer, Flatten) and len(node.input_tensors[0].shape) > 2:
            after = int(node.input_tensors[0].shape[-1])
        if isinstance(layer, Dense):
            if given:
                found[str(layer.path)] = given[0]
        elif getattr(layer, "_graph", None) is not None:
            inner, after = _flattened(layer, after)
            found.update(inner)
            if after is not None:
                behind.update((id(t), after) for t in node.output_tensors)
        elif after is not None and len(node.output_tensors[0].shape) == 2:
            behind.update((id(t), after) for t in node.output_tensors)
    return found, behind.get(id(graph.outputs[0])) if len(graph.outputs) == 1 else None


def _all_parts(
    model: Any, names: Mapping[str, str] | Callable[[str], str] | None
) -> tuple[list[Part], list[str]]:
    """The tensors of a model under torch's names, and the layers that have none."""
    if not model.built:
        raise ValueError(f"{model.name} has no weights yet: call it on data, or give it an Input")
    flattened, _ = _flattened(model)
    found: list[Part] = []
    without: list[str] = []
    seen: set[int] = set()

    def look_into(layer: Any) -> None:
        if id(layer) in seen or not layer.weights:
            return
        seen.add(id(layer))
        parts = None if layer is model else _parts(layer, flattened.get(layer.path, 1))
        if parts is not None:
            module = _module(model, layer, names)
            found.extend(part._replace(name=f"{module}.{part.name}") for part in parts)
            return
        within = list(layer._flatten_layers())
        own = {id(v) for inner in within for v in inner.weights}
        if any(id(v) not in own for v in layer.weights):
            without.append(f"{layer.name} ({type(layer).__name__})")
        for inner in within:
            look_into(inner)

    look_into(model)
    return found, without


def _module(model: Any, layer: Any, names: Any) -> str:
    path: str = layer.path.removeprefix(f"{model.name}/")
    if callable(names):
        return str(names(path))
    known = names or {}
    found: str = known.get(path, known.get(layer.name, path.replace("/", ".")))
    return found


def export_weights(
    model: Any,
    filepath: Any,
    names: str = "keras",
    modules: Mapping[str, str] | Callable[[str], str] | None = None,
) -> list[str]:
    """Writes the weights of a model as safetensors, under names of Keras or of torch.

    Args:
        model: a built model.
        filepath: the file, which ends in ``.safetensors``.
        names: ``"keras"``: what ``save_weights`` writes; ``"torch"``: a ``state_dict`` with
            torch's order of axes and gates, in which a layer is a module of the same name.
        modules: for ``"torch"`` other names of modules, by the names or paths of layers, or a
            function of a layer's path within the model.

    Returns:
        Layers whose weights are not in the file, as torch has no such module.

    Raises:
        ValueError: for other names, or another suffix.

    Example:
        >>> import os, tempfile
        >>> import handmill as keras
        >>> from handmill.exchange import export_weights
        >>> dense = keras.layers.Dense(2, name="fc")
        >>> model = keras.Sequential([keras.Input((4,)), dense])
        >>> export_weights(
        ...     model, os.path.join(tempfile.mkdtemp(), "w.safetensors"), names="torch"
        ... )
        []

    Source: https://pytorch.org/docs/stable/nn.html names the tensors and their axes.
    """
    path = Path(filepath)
    if names not in ("keras", "torch"):
        raise ValueError(f"`names` must be 'keras' or 'torch', got {names!r}")
    if path.suffix != ".safetensors":
        raise ValueError(f"the name of the file must end in .safetensors, got {filepath}")
    if names == "keras":
        save_weights(model, path)
        return []
    parts, without = _all_parts(model, modules)
    tensors = {part.name: np.ascontiguousarray(part.there(part.variable.read())) for part in parts}
    write_bytes(path, to_tensors(tensors))
    return without


def load_torch_weights(
    model: Any,
    source: Any,
    modules: Mapping[str, str] | Callable[[str], str] | None = None,
) -> None:
    """Gives a model the weights of a ``state_dict`` of torch, all or none.

    Args:
        model: a built model.
        source: a file of safetensors, or what ``state_dict()`` gives: tensors or arrays by name.
        modules: names of torch's modules by the names or paths of layers, or a function of a
            layer's path within the model; default: those of the layers.

    Raises:
        ValueError: naming every tensor that is missing, left over, or of another shape, and every
            layer that torch has no module for. Nothing is changed then.

    Example:
        >>> import numpy as np
        >>> import handmill as keras
        >>> from handmill.exchange import load_torch_weights
        >>> dense = keras.layers.Dense(2, name="head")
        >>> model = keras.Sequential([keras.Input((4,)), dense])
        >>> state = {"fc.weight": np.ones((2, 4)), "fc.bias": np.zeros(2)}
        >>> load_torch_weights(model, state, {"head": "fc"})
        >>> model.predict(np.ones((1, 4)), verbose=0)
        array([[4., 4.]], dtype=float32)

    Source: https://pytorch.org/docs/stable/nn.html names the tensors and their axes.
    """
    if isinstance(source, Mapping):
        given = {name: np.asarray(x.detach() if hasattr(x, "detach") else x)
                 for name, x in source.items()}  # fmt: skip
        what = "the state_dict"
    else:
        given, what = read_tensors(Path(source)), str(source)
    parts, without = _all_parts(model, modules)
    problems = [f"{layer} has no counterpart in torch" for layer in without]
    left = {name for name in given if not name.endswith(_COUNTER)}
    made: dict[int, tuple[Any, Array]] = {}
    for part in parts:
        wanted = part.there(part.variable.read())
        array = given.get(part.name)
        if array is None:
            problems.append(f"{part.name} is missing (for {part.variable.path}, {wanted.shape})")
            continue
        left.discard(part.name)
        if array.shape != wanted.shape or array.dtype.kind != "f":
            problems.append(
                f"{part.name} has shape {array.shape} and dtype {array.dtype}, "
                f"{wanted.shape} was expected for {part.variable.path}"
            )
            continue
        _, before = made.get(id(part.variable), (None, part.variable.read()))
        made[id(part.variable)] = (part.variable, part.here(array.astype(np.float32), before))
    problems += [f"{name} is left over, with shape {given[name].shape}" for name in sorted(left)]
    if problems:
        more = len(problems) - _SHOWN
        raise ValueError(
            f"{what} does not fit model {model.name!r}:\n  "
            + "\n  ".join(problems[:_SHOWN])
            + (f"\n  ... and {more} more" if more > 0 else "")
            + "\n  hint: `modules` says which module of torch a layer is"
        )
    for variable, array in made.values():
        variable.assign(np.ascontiguousarray(array))
