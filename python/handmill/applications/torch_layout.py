"""Weights of torchvision's and timm's networks: names of tensors, and the order of their axes.

A kernel of torch is (O, I, KH, KW), here (KH, KW, I, O); a depthwise one (C, 1, KH, KW), here
(KH, KW, C, 1); a matrix of a dense layer (O, I), here (I, O).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.layers.convolutional.conv import Conv2D
from handmill.layers.convolutional.depthwise_conv import DepthwiseConv2D
from handmill.layers.core.dense import Dense
from handmill.layers.normalization.batch_normalization import BatchNormalization
from handmill.runtime.variable import Variable

_OWN = re.compile(r"[0-9]{5,}\.")
_COUNTER = ".num_batches_tracked"
_SHOWN = 12


@dataclass(frozen=True)
class Naming:
    """How torch's libraries call the layers of a network.

    Attributes:
        styles: functions from the name of a layer to that of its module, one for each library;
            None for a layer that has no module.
        head: what the names of the classifier begin with.
        flattened: names of dense layers that follow a Flatten -> channels of the images.
    """

    styles: Sequence[Callable[[str], str | None]]
    head: tuple[str, ...]
    flattened: Mapping[str, int] = field(default_factory=dict)


def is_own(tensors: Mapping[str, Array]) -> bool:
    """Whether names of tensors are those that ``Model.save_weights`` writes."""
    return all(_OWN.match(name) for name in tensors)


def assign(
    model: Any, tensors: Mapping[str, Array], naming: Naming, path: str, include_top: bool
) -> None:
    """Gives a model the weights of a network of torch, all or none.

    Args:
        model: the model.
        tensors: the tensors of a file, by name.
        naming: how its layers are called.
        path: what errors call the file.
        include_top: whether the model has the classifier; else that of the file is left out.

    Raises:
        ValueError: naming every tensor that is missing, left over or of another shape; no weight
            is changed then.
    """
    layers = [x for x in model.layers if x.weights]

    def known(style: Callable[[str], str | None]) -> int:
        return sum(f"{style(layer.name)}.weight" in tensors for layer in layers)

    style = max(naming.styles, key=known)
    pairs: list[tuple[Variable, Array]] = []
    problems: list[str] = []
    left = {name for name in tensors if not name.endswith(_COUNTER)}
    if not include_top:
        left = {name for name in left if not name.startswith(naming.head)}
    for layer in layers:
        module = style(layer.name)
        for suffix, variable, arrange in _parts(layer, naming.flattened.get(layer.name, 1)):
            name = f"{module}.{suffix}"
            if name not in tensors:
                problems.append(f"{name} is missing (for {variable.path}, {variable.shape})")
                continue
            left.discard(name)
            array = tensors[name]
            is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
            found = arrange(array) if is_float else None
            if found is None or found.shape != variable.shape:
                problems.append(
                    f"{name} has shape {array.shape} and dtype {array.dtype}, which does not fit "
                    f"{variable.path}, {variable.shape}"
                )
            else:
                pairs.append((variable, found))
    problems += [f"{name} is left over, with shape {tensors[name].shape}" for name in sorted(left)]
    if problems:
        more = len(problems) - _SHOWN
        raise ValueError(
            f"{path} does not fit model {model.name!r}: {len(problems)} of its tensors.\n  "
            + "\n  ".join(problems[:_SHOWN])
            + (f"\n  ... and {more} more" if more > 0 else "")
        )
    for variable, array in pairs:
        variable.assign(np.ascontiguousarray(array))


_Part = tuple[str, Variable, Callable[[Array], Any]]


def _parts(layer: Any, channels: int) -> Iterator[_Part]:
    """The tensors of a module: what its name ends with, the variable, how its axes are put."""
    if isinstance(layer, BatchNormalization):
        yield "weight", layer.gamma, _as_it_is
        yield "bias", layer.beta, _as_it_is
        yield "running_mean", layer.moving_mean, _as_it_is
        yield "running_var", layer.moving_variance, _as_it_is
        return
    if isinstance(layer, DepthwiseConv2D):
        yield "weight", layer.kernel, lambda a: a.transpose(2, 3, 0, 1) if a.ndim == 4 else None
    elif isinstance(layer, Conv2D):
        yield "weight", layer.kernel, lambda a: a.transpose(2, 3, 1, 0) if a.ndim == 4 else None
    elif isinstance(layer, Dense):
        yield "weight", layer.kernel, lambda a: _matrix(a, channels)
    else:
        raise TypeError(f"{layer.describe()} has no counterpart in torch")
    if layer.use_bias:
        yield "bias", layer.bias, _as_it_is


def _as_it_is(array: Array) -> Array:
    return array


def _matrix(array: Array, channels: int) -> Array | None:
    """A matrix, which may be a convolution over the whole image; rows by place, then channel."""
    if array.ndim not in (2, 4) or array[0].size % channels:
        return None
    matrix: Array = array.reshape(len(array), channels, -1).transpose(2, 1, 0)
    return matrix.reshape(-1, len(array))
