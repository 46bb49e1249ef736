"""What a layer asks of its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handmill import tree
from handmill.errors import ShapeError
from handmill.ir.dims import as_none, same
from handmill.runtime.structure import Walk
from handmill.runtime.watch import TrackedDict, Watched


class InputSpec(Watched):
    """Rank, dtype and sizes that a layer asks of an input.

    Args:
        dtype: the dtype; None for any.
        shape: the shape; None in it for any size.
        ndim: the number of dimensions.
        max_ndim: the largest number of dimensions.
        min_ndim: the smallest number of dimensions.
        axes: axis -> size.
    """

    def __init__(
        self,
        dtype: str | None = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: Mapping[int, int | None] | None = None,
    ) -> None:
        shape = tuple(shape) if shape is not None else None
        self._start(
            dtype=dtype,
            shape=shape,
            ndim=ndim if shape is None else len(shape),
            max_ndim=max_ndim,
            min_ndim=min_ndim,
            axes=dict(axes or {}),
        )

    dtype: str | None
    shape: tuple[int | None, ...] | None
    ndim: int | None
    max_ndim: int | None
    min_ndim: int | None
    axes: TrackedDict

    def describe_structure(self, walk: Walk) -> None:
        """Adds to a description what is asked (runtime/structure.py)."""
        walk.watched += (self, self.axes)
        ranks = (self.ndim, self.min_ndim, self.max_ndim)
        walk.add(InputSpec, self.dtype, self.shape, ranks, tuple(self.axes.items()))

    def __repr__(self) -> str:
        wanted = {k: v for k, v in vars(self).items() if v not in (None, {})}
        return f"InputSpec({', '.join(f'{k}={v}' for k, v in wanted.items())})"


def check_inputs(spec: Any, inputs: Any, layer: Any) -> None:
    """Compares inputs with what a layer asks.

    Raises:
        ShapeError: naming layer, expected and received.
    """
    specs = tree.flatten(spec)
    values = tree.flatten(inputs)
    if len(specs) != len(values):
        raise ShapeError(
            f'Layer "{layer.name}" expects {len(specs)} input(s), but it received '
            f"{len(values)} input tensors."
        )
    for i, (wanted, value) in enumerate(zip(specs, values, strict=True)):
        if wanted is None or value is None:
            continue
        if problem := _problem(wanted, tuple(value.shape)):
            shape = tuple(None if d is None else as_none((d,))[0] for d in value.shape)
            raise ShapeError(
                f'Input {i} of layer "{layer.name}" is incompatible with the layer: {problem}, '
                f"but received input with shape {shape}{layer_hint(layer, wanted, shape)}"
            )


def _problem(spec: InputSpec, shape: tuple[Any, ...]) -> str:
    ndim = len(shape)
    if spec.ndim is not None and ndim != spec.ndim:
        return f"expected ndim={spec.ndim}, found ndim={ndim}"
    if spec.max_ndim is not None and ndim > spec.max_ndim:
        return f"expected max_ndim={spec.max_ndim}, found ndim={ndim}"
    if spec.min_ndim is not None and ndim < spec.min_ndim:
        return f"expected min_ndim={spec.min_ndim}, found ndim={ndim}"
    wanted = dict(spec.axes)
    if spec.shape is not None:
        wanted.update(enumerate(spec.shape))
    for axis, size in wanted.items():
        found = shape[axis] if -ndim <= axis < ndim else None
        if size is not None and found is not None and not same(found, size):
            return f"expected axis {axis} of input shape to have value {size}"
    return ""


def layer_hint(layer: Any, spec: InputSpec, shape: tuple[Any, ...]) -> str:
    """Says how to mend a size that does not fit, where that is known."""
    size = spec.axes.get(-1)
    known = [d for d in shape[1:] if d is not None]
    if size is None or len(known) < 2:
        return ""
    product = 1
    for dim in known:
        product *= dim
    if product == size:
        return f"\n  hint: add a Flatten layer before it: {' * '.join(map(str, known))} = {size}"
    return ""
