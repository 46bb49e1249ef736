"""Combinations of categories by their hash."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.arguments import whole_number
from handmill.ir.arrays import array_of
from handmill.ir.op import Array
from handmill.ir.shapes import FLOATS
from handmill.ir.trace import apply
from handmill.layers.preprocessing.encoding import (
    encoded,
    encoded_on_host,
    encoded_shape,
    refuse_sparse,
)
from handmill.layers.preprocessing.strings import StringLayer, as_strings, is_string
from handmill.layers.preprocessing.tokens import as_bytes
from handmill.layers.symbolic import KerasTensor
from handmill.primitives.fingerprints import crossed, farm_hash
from handmill.primitives.hashing import CROSS_BIN


class HashedCrossing(StringLayer):
    """Sorts combinations of strings and whole numbers into bins by their hash.

    The bins are those of Keras. Whole numbers may come inside of a model, where NumPy hashes them
    between kernels; strings as in :class:`StringLookup`.

    Args:
        num_bins: how many bins there are.
        output_mode: ``"int"``: bins; ``"one_hot"``: a row for each.
        sparse: not supported; must be False.
        name: the layer's name.
        dtype: of the result; default: int64, of rows float32.
        **kwargs: ``trainable`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import HashedCrossing
        >>> layer = HashedCrossing(num_bins=5, output_mode="one_hot")
        >>> layer((np.array(["A", "B", "A"]), np.array([101, 101, 101])))
        array([[0., 1., 0., 0., 0.],
               [0., 0., 0., 0., 1.],
               [0., 1., 0., 0., 0.]], dtype=float32)
    """

    def __init__(
        self,
        num_bins: int,
        output_mode: str = "int",
        sparse: bool = False,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        if output_mode == "int" and dtype is None:
            dtype = "int64"
        super().__init__(name=name, dtype=dtype, **kwargs)
        refuse_sparse(sparse)
        if output_mode not in ("int", "one_hot"):
            raise ValueError(
                "Unknown value for `output_mode` argument of layer HashedCrossing. `output_mode` "
                f"must be 'int' or 'one_hot'. Received: output_mode={output_mode}"
            )
        if num_bins is None or whole_number("`num_bins`", num_bins) <= 0:
            raise ValueError(
                f"`num_bins` must be a positive integer. Received: num_bins={num_bins}"
            )
        self.num_bins = num_bins
        self.output_mode = output_mode
        self.sparse = sparse
        self.autocast = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = args[0] if args else kwargs.get("inputs")
        if not isinstance(inputs, list | tuple):
            raise ValueError(
                "`HashedCrossing` should be called on a list or tuple of inputs. "
                f"Received: inputs={inputs}"
            )
        if len(inputs) < 2:
            raise ValueError(
                "`HashedCrossing` should be called on at least two inputs. "
                f"Received: inputs={inputs}"
            )
        parts = [x if hasattr(x, "shape") else array_of(x) for x in inputs]
        _check([tuple(x.shape) for x in parts], [_kind(x) for x in parts])
        kwargs.pop("inputs", None)
        return super().__call__(parts, *args[1:], **kwargs)

    def call(self, inputs: Any) -> Any:
        """Computes the output for whole numbers."""
        found = apply(CROSS_BIN, *inputs, bins=self.num_bins)
        return self._encoded(found)

    def _encoded(self, found: Any) -> Any:
        return encoded(found, self.output_mode, self.num_bins, self.compute_dtype)

    def on_strings(self, inputs: Any) -> Array:
        """Computes the output where some inputs are strings, in Python."""
        parts = []
        for x in inputs:
            if is_string(x):
                parts.append(farm_hash(as_bytes(as_strings(x, self.describe()))))
            else:
                parts.append(np.asarray(x, np.int64).view(np.uint64).reshape(-1))
        found = crossed(parts, self.num_bins).reshape(inputs[0].shape)
        return encoded_on_host(found, self.output_mode, self.num_bins, self.compute_dtype)

    def string_output(self, inputs: Any) -> KerasTensor:
        """Returns what stands for the output in a model, where some inputs are strings."""
        shape = encoded_shape(inputs[0].shape, self.output_mode, self.num_bins)
        return KerasTensor(shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "num_bins": self.num_bins,
            "output_mode": self.output_mode,
            "sparse": self.sparse,
            "name": self.name,
            "dtype": self.dtype,
        }


def _kind(x: Any) -> str:
    if is_string(x):
        return "string"
    dtype = str(ops.dtype(x)) if not isinstance(x, np.ndarray) else x.dtype.name
    return "float" if dtype in FLOATS or "float" in dtype else dtype


def _check(shapes: list[tuple[Any, ...]], kinds: list[str]) -> None:
    first = shapes[0]
    if len(first) > 2 or (len(first) == 2 and first[-1] != 1):
        raise ValueError(
            "All `HashedCrossing` inputs should have shape `()`, `(batch_size)` or "
            f"`(batch_size, 1)`. Received: inputs of shapes {shapes}"
        )
    if any(len(s) != len(first) or (len(s) == 2 and s[-1] != 1) for s in shapes) or any(
        isinstance(a, int) and isinstance(b, int) and a != b
        for s in shapes
        for a, b in zip(s, first, strict=False)
    ):
        raise ValueError(
            "All `HashedCrossing` inputs should have equal shape. Received: inputs of shapes "
            f"{shapes}"
        )
    if any(kind in ("float", "bool", "object") for kind in kinds):
        raise ValueError(
            "All `HashedCrossing` inputs should have an integer or string dtype. Received: inputs "
            f"of dtypes {kinds}"
        )
