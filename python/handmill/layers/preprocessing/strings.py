"""Arrays of strings, and the layers that take them.

Programs hold numbers only. A layer that takes strings therefore computes in Python: called on
arrays, at once; inside a functional model, before the model's program runs
(``models/host_part.py``).
"""

from __future__ import annotations

import codecs
import math
from typing import Any

import numpy as np

from handmill import tree
from handmill.ir.arrays import check_readable
from handmill.ir.graph import Value
from handmill.ir.op import Array
from handmill.layers.layer import Layer
from handmill.layers.symbolic import STRING, KerasTensor


def is_string(x: Any) -> bool:
    """Whether ``x`` is, or holds, strings: an array, a nested list, a symbolic tensor, a column."""
    if isinstance(x, str | bytes):
        return True
    if isinstance(x, KerasTensor):
        return x.dtype == STRING
    if isinstance(x, list | tuple):
        return any(map(is_string, x))
    if isinstance(x, np.ndarray):
        kind, array = x.dtype.kind, x
    elif hasattr(x, "to_numpy"):
        array = x.to_numpy()
        kind = array.dtype.kind
    else:
        return False
    if kind in "SUT":
        return True
    return kind == "O" and any(isinstance(v, str | bytes) for v in array.reshape(-1)[:100])


def _holds_objects(x: Any) -> bool:
    if isinstance(x, list | tuple):
        return any(map(_holds_objects, x))
    return x is None or (isinstance(x, np.ndarray) and x.dtype.kind == "O")


def checked_encoding(encoding: Any) -> str:
    """Returns the name of an encoding of bytes.

    Raises:
        ValueError: for one that Python does not know.
    """
    try:
        codecs.lookup(encoding)
    except (LookupError, TypeError):
        raise ValueError(
            f"`encoding` must be that of bytes, such as 'utf-8'. Received: {encoding!r}"
        ) from None
    return str(encoding)


def as_strings(x: Any, subject: str, encoding: str = "utf-8") -> Array:
    """Returns strings as an array of objects, each a ``str``.

    Args:
        x: an array, a list or a column of strings or bytes.
        subject: what errors call the layer.
        encoding: of bytes. Those that it cannot read are kept, as surrogates.

    Raises:
        ValueError: for rows of different lengths, and for what is no string.
    """
    check_readable(x)
    try:
        array = np.asarray(x, object) if isinstance(x, list | tuple) else np.asarray(x)
    except ValueError:
        array = np.asarray(None)
    if isinstance(x, list | tuple) and any(isinstance(v, list) for v in array.reshape(-1)[:1000]):
        array = np.asarray(None)
    if array.dtype.kind == "S":
        array = np.char.decode(array, encoding, "surrogateescape")
    flat = array.reshape(-1).tolist()
    found = np.empty(len(flat), object)
    if array.dtype.kind in "SU" or set(map(type, flat)) <= {str}:
        found[:] = flat
        return found.reshape(array.shape)
    for i, value in enumerate(flat):
        if isinstance(value, bytes):
            value = value.decode(encoding, "surrogateescape")
        elif not isinstance(value, str):
            raise ValueError(
                f"{subject} takes strings: a NumPy array or a list of one shape. Received "
                f"{_shown(x)}{_place(value, i, array)}"
            )
        found[i] = value
    return found.reshape(array.shape)


def _shown(x: Any) -> str:
    text = " ".join(repr(x).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _place(value: Any, index: int, array: Array) -> str:
    if array.ndim == 0:
        return ", which is no rectangle of strings; pad its rows to one length"
    if array.ndim > 1:
        index = index * len(array) // array.size  # the row
    is_nan = isinstance(value, float) and math.isnan(value)
    if value is None or is_nan or type(value).__name__ == "NAType":  # that of pandas
        return (
            f": entry {index} is a missing value ({value!r}); replace missing values first, e.g. "
            "with ''"
        )
    return f": entry {index} is a {type(value).__name__} ({value!r})"


def text_array(strings: list[str], shape: tuple[int, ...]) -> Array:
    """Returns strings as an array that keeps them as they are."""
    found = np.empty(len(strings), object)
    found[:] = strings
    return found.reshape(shape)


class StringLayer(Layer):
    """Base of layers that may take strings: subclasses define :meth:`on_strings`.

    ``call`` is for numbers, and traced like that of any other layer.
    """

    _convert_input_args = False

    def takes_strings(self, inputs: Any) -> bool:
        """Whether these inputs are for :meth:`on_strings`, which refuses objects by name."""
        several = inputs if isinstance(inputs, list | tuple) else [inputs]
        return any(is_string(x) or _holds_objects(x) for x in several)

    def on_strings(self, inputs: Any) -> Array:
        """Computes the output, in Python."""
        raise NotImplementedError

    def string_output(self, inputs: Any) -> KerasTensor:
        """Returns what stands for the output of :meth:`on_strings` in a model."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = args[0] if args else kwargs.get("inputs")
        if any(isinstance(x, Value) for x in tree.flatten(inputs)) or not self.takes_strings(
            inputs
        ):
            return super().__call__(*args, **kwargs)
        if unknown := set(kwargs) - {"inputs", "training", "mask"} or args[1:]:
            raise TypeError(
                f"{self.describe()}: strings are all that it is called with. Received also: "
                f"{unknown}"
            )
        if any(isinstance(x, KerasTensor) for x in tree.flatten(inputs)):
            return self._call_symbolically((inputs,), {})
        self.built = True
        return self.on_strings(inputs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what a call on KerasTensors returns; builds the layer."""
        if args and self.takes_strings(args[0]):
            self._build_shapes = tree.map_structure(lambda t: t.shape, args[0])
            self.built = True
            return self.string_output(args[0])
        return super().compute_output_spec(*args, **kwargs)
