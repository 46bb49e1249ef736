"""Numbers by the bins in which they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handmill import ops
from handmill.arguments import real_number, whole_number
from handmill.ir.op import Array
from handmill.layers.arguments import checked_numbers
from handmill.layers.layer import Layer
from handmill.layers.preprocessing.adapting import batches_of, check_not_empty, is_array, numbers_of
from handmill.layers.preprocessing.encoding import (
    ROWS,
    checked_mode,
    encoded,
    encoded_shape,
    refuse_sparse,
)
from handmill.layers.preprocessing.vocabulary import count_below
from handmill.layers.symbolic import KerasTensor


class Discretization(Layer):
    """Gives each number that of its bin. It runs inside of programs.

    Args:
        bin_boundaries: rising numbers: ``[0., 1., 2.]`` makes the bins ``(-inf, 0.)``,
            ``[0., 1.)``, ``[1., 2.)``, ``[2., +inf)``. NaN is in the last one.
        num_bins: instead, how many bins of equally many numbers :meth:`adapt` finds.
        epsilon: how exact it is there: the error of quantiles.
        output_mode: ``"int"``: numbers of bins; ``"one_hot"``: a row for each; ``"multi_hot"``,
            ``"count"``: a row for each sample.
        sparse: not supported; must be False.
        dtype: of the rows.
        name: the layer's name.

    Raises:
        ValueError: unless one of the first two is given.

    Example:
        >>> from handmill.layers import Discretization
        >>> Discretization(bin_boundaries=[0.0, 1.0, 2.0])([[-1.5, 1.0, 3.4, 0.5]])
        array([[0, 2, 3, 1]], dtype=int32)
    """

    def __init__(
        self,
        bin_boundaries: Sequence[float] | None = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        dtype: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if sparse and output_mode == "int":
            raise ValueError(
                "`sparse=True` may only be used if `output_mode` is `'one_hot'`, `'multi_hot'`, or "
                f"`'count'`. Received: sparse={sparse} and output_mode={output_mode}"
            )
        refuse_sparse(sparse)
        self.output_mode = checked_mode("Discretization", output_mode, ("int", *ROWS))
        real_number("`epsilon`", epsilon)
        if num_bins is not None and whole_number("`num_bins`", num_bins) < 0:
            raise ValueError(
                f"`num_bins` must be greater than or equal to 0. Received: `num_bins={num_bins}`"
            )
        if num_bins is not None and bin_boundaries is not None:
            raise ValueError(
                "Both `num_bins` and `bin_boundaries` should not be set. Received: "
                f"`num_bins={num_bins}` and `bin_boundaries={bin_boundaries}`"
            )
        if num_bins is None and bin_boundaries is None:
            raise ValueError("You need to set either `num_bins` or `bin_boundaries`.")
        self.bin_boundaries = None if bin_boundaries is None else _rising(bin_boundaries)
        self.num_bins = num_bins
        self.epsilon = epsilon
        self.sparse = sparse
        self.autocast = False  # edges are compared in float32
        self.summary: Array | None = None

    _undescribed = frozenset({"summary"})

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Finds the boundaries: quantiles of the data.

        Args:
            data: an array, or a data set or iterable of batches.
            steps: how many batches at most.

        Raises:
            ValueError: if the layer was given its boundaries; for no data, and for NaN.
        """
        if self.num_bins is None:
            raise ValueError(
                "Cannot adapt a Discretization layer that has been initialized with "
                "`bin_boundaries`, use `num_bins` instead."
            )
        self.reset_state()
        rows = 0
        for batch in [data] if is_array(data) else batches_of(data, steps):
            array = numbers_of(batch, self.describe())
            rows += array.size
            self.update_state(array)
        check_not_empty(rows, self.describe())
        self.finalize_state()

    def update_state(self, data: Any) -> None:
        """Adds a batch to the summary."""
        new = _summary(np.asarray(data, np.float32), self.epsilon)
        if self.summary is not None:
            new = np.concatenate([new, self.summary], axis=1)
        new = new[:, np.argsort(new[0])]
        self.summary = _compressed(new, self.epsilon)

    def finalize_state(self) -> None:
        """Makes the boundaries of the summary."""
        if self.num_bins == 0:
            raise ValueError(f"{self.describe()}: with `num_bins=0` there is nothing to learn")
        if self.num_bins is not None and self.summary is not None:
            edges = _compressed(self.summary, 1.0 / self.num_bins)[0, :-1]
            self.bin_boundaries = edges.astype(np.float32).tolist()

    def reset_state(self) -> None:
        """Forgets the summary."""
        if self.num_bins is not None:
            self.summary = None

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        if self.bin_boundaries is None:
            raise ValueError(
                "You need to either pass the `bin_boundaries` argument at construction time or call"
                " `adapt(dataset)` before you can start using the `Discretization` layer."
            )
        edges = np.asarray(self.bin_boundaries, np.float32)
        x = ops.cast(inputs, "float32")
        if len(edges):
            found = count_below(x, edges, inclusive=True)
        else:
            found = ops.cast(ops.zeros_like(x), "int32")
        return encoded(found, self.output_mode, len(edges) + 1, self.output_dtype)

    @property
    def output_dtype(self) -> str:
        """The dtype of the output."""
        return "int32" if self.output_mode == "int" else self.compute_dtype

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what a call on a KerasTensor returns; before :meth:`adapt` too."""
        if self.bin_boundaries is not None or not args:
            return super().compute_output_spec(*args, **kwargs)
        self.built = True
        shape = encoded_shape(args[0].shape, self.output_mode, self.num_bins)
        return KerasTensor(shape, self.output_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments and what was learned, as plain data."""
        return {
            "bin_boundaries": self.bin_boundaries,
            "num_bins": self.num_bins,
            "epsilon": self.epsilon,
            "output_mode": self.output_mode,
            "sparse": self.sparse,
            "name": self.name,
            "dtype": self.dtype,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        """Makes a layer from its config; boundaries that were learned are there again."""
        arguments = dict(config)
        learned = None
        if arguments.get("num_bins") is not None:
            learned = arguments.pop("bin_boundaries", None)
        layer = super().from_config(arguments)
        if learned is not None:
            layer.bin_boundaries = _rising(learned)
        return layer


def _rising(edges: Sequence[float]) -> list[float]:
    array = checked_numbers("bin_boundaries", edges)
    if array.ndim != 1 or not (array[1:] >= array[:-1]).all():
        raise ValueError(
            "`bin_boundaries` must be a list of numbers in rising order. "
            f"Received: bin_boundaries={edges}"
        )
    found: list[float] = array.tolist()
    return found


def _summary(values: Array, epsilon: float) -> Array:
    """Sorted numbers that stand for all of ``values``, and for how many each stands."""
    ordered = np.sort(values.reshape(-1))
    step = max(ordered.size * epsilon, 1)
    chosen = ordered[int(step - 1) :: int(step)]
    return np.stack([chosen, np.full_like(chosen, step)])


def _compressed(summary: Array, epsilon: float) -> Array:
    """A summary of about ``1 / epsilon`` numbers, at even steps of the cumulated weights."""
    if summary.shape[1] * epsilon < 1:
        return summary
    quantiles = epsilon + np.arange(0.0, 1.0, epsilon)
    weights = summary[1].cumsum()
    shares = weights / weights[-1]
    values = np.interp(quantiles, shares, summary[0])
    cumulated = np.interp(quantiles, shares, weights)
    return np.stack([values, np.diff(cumulated, prepend=0)]).astype(np.float32)
