"""Which tensor of a file is which weight of a model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handmill.hub.presets.settings import Settings
from handmill.ir.op import Array
from handmill.runtime.variable import Variable


@dataclass(frozen=True)
class Part:
    """A tensor, and the weights that it holds.

    Attributes:
        name: of the tensor, without the prefix of its library.
        weights: the variables; several stand side by side along the last axis.
        rows: the first axis of each of them as a matrix; None for a vector.
        transposed: whether the file has columns first: (out, in).
    """

    name: str
    weights: Sequence[Variable]
    rows: int | None = None
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        width = sum(v.size for v in self.weights) // (self.rows or 1)
        if self.rows is None:
            return (width,)
        return (width, self.rows) if self.transposed else (self.rows, width)

    def take_apart(self, array: Array) -> Iterator[tuple[Variable, Array]]:
        """The content of each weight."""
        whole = array.T if self.transposed else array
        end = 0
        for variable in self.weights:
            start, end = end, end + variable.size // (self.rows or 1)
            yield variable, whole[..., start:end].reshape(variable.shape)

    def put_together(self, content: Callable[[Variable], Array]) -> Array:
        """The tensor, as float32."""
        shape = (-1,) if self.rows is None else (self.rows, -1)
        pieces = [np.asarray(content(v), "float32").reshape(shape) for v in self.weights]
        whole = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-1)
        return np.ascontiguousarray(whole.T if self.transposed else whole)


@dataclass(frozen=True)
class Task:
    """A model around a backbone, as it lies in a folder.

    Attributes:
        architecture: what ``config.json`` calls it.
        parts: its tensors beside the backbone's.
        lacks: beginnings of names of the backbone's tensors that its folder does not have.
        arguments: settings -> arguments of the class.
        settings: the model -> further settings.
    """

    architecture: str
    parts: Callable[[Any], Iterator[Part]]
    lacks: tuple[str, ...] = ()
    arguments: Callable[[Settings], dict[str, Any]] = lambda settings: {}
    settings: Callable[[Any], dict[str, Any]] = lambda model: {}


@dataclass(frozen=True)
class Layout:
    """How a family of models lies in a folder.

    Attributes:
        model_type: what ``config.json`` calls it.
        architecture: what it calls the backbone alone.
        backbone: name of the class of the backbone.
        prefix: what names of tensors of the backbone begin with where a task is around it.
        heads: beginnings of names of tensors of tasks, which have no prefix.
        ignored: names of tensors that are computed, and no weights.
        arguments: settings, and names of arguments that the caller gives -> those of the backbone.
        settings: a backbone -> settings.
        parts: a backbone -> its tensors.
        tasks: name of the class of a task -> the task.
        embedding: the tensor with the vectors of the tokens.
        renamed: endings of names in older files -> in newer ones.
        optional: beginnings of names that folders of other tasks lack.
    """

    model_type: str
    architecture: str
    backbone: str
    prefix: str
    heads: tuple[str, ...]
    ignored: re.Pattern[str]
    arguments: Callable[[Settings, frozenset[str]], dict[str, Any]]
    settings: Callable[[Any], dict[str, Any]]
    parts: Callable[[Any], Iterator[Part]]
    tasks: Mapping[str, Task]
    embedding: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()


def side_by_side(name: str, layers: Sequence[Any], transposed: bool) -> Part:
    """The kernels of layers with the same input, as ``NAME.weight``."""
    tables = [layer._table for layer in layers]
    rows = tables[0].size // _units(layers[0])
    return Part(f"{name}.weight", tables, rows, transposed)


def dense(name: str, layer: Any, transposed: bool) -> Iterator[Part]:
    """Kernel and bias of a Dense or EinsumDense, as ``NAME.weight`` and ``NAME.bias``."""
    yield side_by_side(name, (layer,), transposed)
    if layer.bias is not None:
        yield Part(f"{name}.bias", (layer.bias,))


def _units(layer: Any) -> int:
    """How many outputs a layer has for each row of its kernel."""
    shape = layer._table.shape
    equation = getattr(layer, "equation", None)
    if equation is None:
        return int(shape[-1])
    operands, _, outputs = equation.partition("->")
    letters = operands.partition(",")[2]
    return math.prod(n for c, n in zip(letters, shape, strict=True) if c in outputs)


def norm(name: str, layer: Any) -> Iterator[Part]:
    """Factor and shift of a LayerNormalization, as ``NAME.weight`` and ``NAME.bias``."""
    yield Part(f"{name}.weight", (layer.gamma,))
    yield Part(f"{name}.bias", (layer.beta,))


def table(name: str, variable: Variable) -> Part:
    """A table with a vector in each row."""
    return Part(name, (variable,), rows=variable.shape[0])


def untied_head(model: Any) -> Iterator[Part]:
    """The matrix of a head that does not use the vectors of the tokens."""
    embedding = model.backbone.token_embedding
    if not embedding.tie_weights:
        matrix = embedding.reverse_embeddings
        yield Part("lm_head.weight", (matrix,), rows=matrix.shape[0], transposed=True)
