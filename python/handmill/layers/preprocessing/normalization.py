"""Inputs of mean 0 and variance 1."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handmill import config as process
from handmill import ops
from handmill.arguments import whole_number
from handmill.ir.op import Array
from handmill.ir.shapes import numpy_dtype
from handmill.layers.arguments import as_tuples, checked_numbers
from handmill.layers.layer import Layer
from handmill.layers.preprocessing.adapting import batches_of, is_array, numbers_of


class Normalization(Layer):
    """Computes ``(inputs - mean) / sqrt(variance)``. It runs inside of programs.

    Args:
        axis: the axes that have a mean and a variance for each index; None: one for all.
        mean: the mean, instead of calling :meth:`adapt`.
        variance: the variance, then needed too.
        invert: whether ``mean + inputs * sqrt(variance)`` is computed.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if only one of mean and variance is given, or they do not fit.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Normalization
        >>> layer = Normalization()
        >>> layer.adapt(np.array([[0.0, 7.0], [2.0, 9.0], [0.0, 7.0], [2.0, 9.0]]))
        >>> layer(np.array([[0.0, 10.0]]))
        array([[-1.,  2.]], dtype=float32)
    """

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        axes = () if axis is None else (axis,) if isinstance(axis, int | str) else tuple(axis)
        self.axis = tuple(whole_number("`axis`", a) for a in axes)
        if (mean is not None) != (variance is not None):
            raise ValueError(
                "When setting values directly, both `mean` and `variance` must be set. Received: "
                f"mean={mean} and variance={variance}"
            )
        if mean is not None:
            if np.shape(mean) != np.shape(variance):
                raise ValueError(
                    "When setting values directly, `mean` and `variance` must have the same shape. "
                    f"Received: mean shape {np.shape(mean)} and variance shape "
                    f"{np.shape(variance)}"
                )
            if len(np.shape(mean)) > len(self.axis):
                raise ValueError(
                    "The rank of `mean` must be less than or equal to the number of axes "
                    f"({len(self.axis)}). Received: mean shape {np.shape(mean)} for axis "
                    f"{self.axis}"
                )
        self.input_mean = None if mean is None else checked_numbers("mean", mean)
        self.input_variance = None if variance is None else checked_numbers("variance", variance)
        if self.input_variance is not None and (self.input_variance < 0).any():
            raise ValueError(f"`variance` must not be negative. Received: variance={variance!r}")
        self.invert = invert
        self.supports_masking = True
        self._kept: tuple[int, ...] = ()
        self._broadcast_shape: tuple[int, ...] = ()

    def build(self, input_shape: Any) -> None:
        """Makes mean and variance."""
        shape = tuple(input_shape)
        rank = len(shape)
        if any(not -rank <= a < rank for a in self.axis):
            raise ValueError(
                "All `axis` values must be in the range [-ndim, ndim). Received inputs with "
                f"ndim={rank}, while axis={self.axis}"
            )
        kept = tuple(sorted({a % rank for a in self.axis}))
        for a in kept:
            if shape[a] is None:
                raise ValueError(
                    "All `axis` values to be kept must have a known shape. Received "
                    f"axis={self.axis}, inputs.shape={shape}, with unknown axis at index {a}"
                )
        self._kept = kept
        self._broadcast_shape = tuple(shape[a] if a in kept else 1 for a in range(rank))
        if self.input_mean is None:
            sizes = tuple(shape[a] for a in kept)
            self.adapt_mean = self.add_weight(
                name="mean", shape=sizes, initializer="zeros", trainable=False
            )
            self.adapt_variance = self.add_weight(
                name="variance", shape=sizes, initializer="ones", trainable=False
            )
            # Files of Keras have it: it is part of the order of the weights.
            self.count = self.add_weight(
                name="count", shape=(), dtype="int32", initializer="zeros", trainable=False
            )
        else:
            for given in (self.input_mean, self.input_variance):
                self._spread(given)  # so that what does not fit is refused here

    def _spread(self, given: Any) -> Array:
        """What the user gave, along the axes that are kept."""
        shape = [1] * len(self._broadcast_shape)
        for axis, size in zip(reversed(self._kept), reversed(given.shape), strict=False):
            shape[axis] = size
        return np.broadcast_to(given.reshape(shape), self._broadcast_shape).astype(np.float32)

    @property
    def mean(self) -> Array | None:
        """The mean, broadcast along the input; None before the layer is built."""
        return self._statistic(self.input_mean, "adapt_mean")

    @property
    def variance(self) -> Array | None:
        """The variance, broadcast along the input; None before the layer is built."""
        return self._statistic(self.input_variance, "adapt_variance")

    def _statistic(self, given: Any, name: str) -> Array | None:
        if not self.built:
            return None
        if given is not None:
            return self._spread(given)
        found: Array = getattr(self, name).numpy().reshape(self._broadcast_shape)
        return found

    def adapt(self, data: Any) -> None:
        """Learns mean and variance from data.

        Sums are taken in float64, however the data come.

        Args:
            data: an array, or a data set, a PyDataset or an iterable of batches; of batches
                ``(x, y)`` only ``x`` counts.

        Raises:
            ValueError: for shapes that do not fit, no data, and what is no finite number.
            TypeError: for other data.
        """
        batches = iter([data]) if is_array(data) else batches_of(data)
        first = next(batches, None)
        if first is None:
            raise ValueError(
                "adapt() received an empty iterable (no batches). Expected at least one batch. "
                "Pass a non-empty iterable of arrays, e.g. layer.adapt([x])."
            )
        shape = getattr(_x_of(first), "shape", None)
        if shape is None:
            raise TypeError(
                "adapt() expects an iterable that yields arrays with a `.shape` attribute (e.g. "
                f"numpy arrays). Got an element of type {type(_x_of(first)).__name__}."
            )
        self._check_adapts(tuple(shape))
        if not self.built:
            self.build((None, *shape[1:]) if 0 not in self._kept_in(len(shape)) else shape)
        sums = _Moments(tuple(a for a in range(len(shape)) if a not in self._kept))
        for batch in itertools.chain([first], batches):
            array = numbers_of(_x_of(batch), self.describe(), infinite=False)
            self._check_fits(array.shape, given=batch is first)
            sums.add(array)
        if not sums.count:
            raise ValueError("adapt() received arrays without rows: there is no mean of nothing")
        self.adapt_mean.assign(sums.mean.astype(np.float32))
        self.adapt_variance.assign(sums.variance.astype(np.float32))

    def _check_adapts(self, shape: tuple[int, ...]) -> None:
        if self.input_mean is not None:
            raise ValueError(
                f"{self.describe()} was given its `mean` and `variance`; adapt() would change "
                "nothing. Leave them out."
            )

    def _kept_in(self, rank: int) -> tuple[int, ...]:
        return tuple(a % rank for a in self.axis if -rank <= a < rank)

    def _check_fits(self, shape: tuple[int, ...], given: bool) -> None:
        wanted = self._broadcast_shape
        if len(shape) == len(wanted) and all(shape[a] == wanted[a] for a in self._kept):
            return
        built = tuple(wanted[a] if a in self._kept else None for a in range(len(wanted)))
        if given:
            raise ValueError(
                f"The layer was built with input_shape={built}, but adapt() is being called with "
                f"data with an incompatible shape, data.shape={shape}"
            )
        raise ValueError(
            f"adapt() yielded a batch with incompatible shape. Expected {built}, got {shape}."
        )

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        if 0 in self._kept:
            raise ValueError(
                f"{self.describe()}: axis 0 is that of the samples, and programs take any number "
                f"of them, so it cannot have a mean for each index. Received: axis={self.axis} for "
                f"an input of {len(self._broadcast_shape)} dimensions; axis=None takes one mean "
                "for all"
            )
        dtype = self.compute_dtype
        x = ops.cast(inputs, dtype)
        if self.input_mean is None:
            mean = ops.reshape(self.adapt_mean, self._broadcast_shape)
            variance = ops.reshape(self.adapt_variance, self._broadcast_shape)
        else:
            mean = self._spread(self.input_mean).astype(numpy_dtype(dtype))
            variance = self._spread(self.input_variance).astype(numpy_dtype(dtype))
        scale = ops.maximum(ops.sqrt(variance), process.epsilon())
        if self.invert:
            return ops.add(mean, ops.multiply(x, scale))
        return ops.divide(ops.subtract(x, mean), scale)

    def finalize_state(self) -> None:
        """Nothing: mean and variance are read from the weights at each call."""

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        given = (self.input_mean, self.input_variance)
        mean, variance = (None if v is None else v.tolist() for v in given)
        return {
            **super().get_config(),
            "axis": self.axis,
            "invert": self.invert,
            "mean": mean,
            "variance": variance,
        }

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Builds the layer for the input shape stored in ``config``."""
        shape = config.get("input_shape") if config else None
        if shape is not None and not self.built:
            self.build(as_tuples(shape))


def _x_of(batch: Any) -> Any:
    return batch[0] if isinstance(batch, list | tuple) else batch


_BLOCK = 1 << 18
"""Elements whose sums are taken at a time: what they need of float64 stays in cache."""


class _Moments:
    """Mean and variance of what was added, over some axes."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    @property
    def variance(self) -> Any:
        return self.squares / self.count

    def add(self, array: Array) -> None:
        """Adds an array; by blocks of rows, where rows are summed over."""
        rows = len(array) if array.ndim else 0
        if 0 not in self.axes or not rows:
            self._add_block(array)
            return
        size = max(1, _BLOCK // max(1, array.size // rows))
        for start in range(0, rows, size):
            self._add_block(array[start : start + size])

    def _add_block(self, array: Array) -> None:
        block = np.asarray(array, np.float64)
        count = math.prod(block.shape[a] for a in self.axes)
        if not count:
            return
        mean = block.mean(axis=self.axes)
        squares = np.square(block - np.expand_dims(mean, self.axes)).sum(axis=self.axes)
        total = self.count + count
        shift = mean - self.mean
        self.mean = self.mean + shift * (count / total)
        self.squares = self.squares + squares + shift**2 * (self.count * count / total)
        self.count = total
