"""What a layer asks of its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handmill import tree
from handmill.errors import ShapeError
from handmill.ir.dims import as_none, same
from handmill.ir.shapes import standardize_dtype
from handmill.ir.trace import dtype_of
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
        allow_last_axis_squeeze: whether a last axis of size 1 may be missing or be there.
        name: of the input, where inputs come in a dict.
        optional: whether None may come instead.

    Raises:
        TypeError: if ``axes`` is not a dict with integer keys.
        ValueError: if it names an axis that ``ndim`` or ``max_ndim`` does not have.
    """

    def __init__(
        self,
        dtype: str | None = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: Mapping[int, int | None] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ) -> None:
        shape = tuple(shape) if shape is not None else None
        ndim = ndim if shape is None else len(shape)
        try:
            sizes = {int(axis): size for axis, size in dict(axes or {}).items()}
        except (TypeError, ValueError):
            raise TypeError(
                f"Argument `axes` must be a dict with integer keys. Received: axes={axes}"
            ) from None
        most = ndim if ndim is not None else max_ndim
        if sizes and most is not None and max(sizes) > most - 1:
            raise ValueError(
                f"Axis {max(sizes)} is greater than the maximum allowed value: {most - 1}"
            )
        self._start(
            dtype=None if dtype is None else standardize_dtype(dtype),
            shape=shape,
            ndim=ndim,
            max_ndim=max_ndim,
            min_ndim=min_ndim,
            axes=sizes,
            allow_last_axis_squeeze=allow_last_axis_squeeze,
            name=name,
            optional=optional,
        )

    dtype: str | None
    shape: tuple[int | None, ...] | None
    ndim: int | None
    max_ndim: int | None
    min_ndim: int | None
    axes: TrackedDict
    allow_last_axis_squeeze: bool
    name: str | None
    optional: bool

    def describe_structure(self, walk: Walk) -> None:
        """Adds to a description what is asked (runtime/structure.py)."""
        walk.watched += (self, self.axes)
        ranks = (self.ndim, self.min_ndim, self.max_ndim, self.allow_last_axis_squeeze)
        walk.add(InputSpec, self.dtype, self.shape, ranks, tuple(self.axes.items()))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "dtype": self.dtype,
            "shape": self.shape,
            "ndim": self.ndim,
            "max_ndim": self.max_ndim,
            "min_ndim": self.min_ndim,
            "axes": dict(self.axes),
            "optional": self.optional,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> InputSpec:
        """Makes a spec from its config."""
        return cls(**config)

    def __repr__(self) -> str:
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        wanted = {name: getattr(self, name) for name in names}
        shown = {k: v for k, v in wanted.items() if v not in (None, {})}
        return f"InputSpec({', '.join(f'{k}={v}' for k, v in shown.items())})"


def check_inputs(spec: Any, args: Sequence[Any], layer: Any) -> None:
    """Compares what a layer is called on with what it asks, if it asks anything.

    Raises:
        ShapeError: naming layer, expected and received.
    """
    if spec is None:
        return
    specs = tree.flatten(spec)
    values = _by_name(specs, args[0], layer)
    if len(specs) != len(values):
        raise ShapeError(
            f'Layer "{layer.name}" expects {len(specs)} input(s), but it received '
            f"{len(values)} input tensors."
        )
    for i, (wanted, value) in enumerate(zip(specs, values, strict=True)):
        if wanted is None or (value is None and wanted.optional):
            continue
        if not hasattr(value, "shape"):
            raise ValueError(
                f"Inputs to a layer should be tensors. Got '{value}' (of type {type(value)}) as "
                f"input for layer '{layer.name}'."
            )
        if problem := _problem(wanted, value):
            shape = tuple(None if d is None else as_none((d,))[0] for d in value.shape)
            named = f' ("{wanted.name}")' if wanted.name else ""
            raise ShapeError(
                f'Input {i}{named} of layer "{layer.name}" is incompatible with the layer: '
                f"{problem}, but received input with shape {shape}"
                f"{layer_hint(layer, wanted, shape)}"
            )


def _by_name(specs: Sequence[Any], inputs: Any, layer: Any) -> list[Any]:
    """The inputs as a flat list; those of a dict in the order of the names of the specs."""
    names = [getattr(spec, "name", None) for spec in specs]
    if not isinstance(inputs, dict) or not all(names):
        return tree.flatten(inputs)
    if missing := [name for name in names if name not in inputs]:
        raise ValueError(
            f'Missing data for input "{missing[0]}" of layer "{layer.name}". You passed a data '
            f"dictionary with keys {list(inputs)}. Expected the following keys: {names}"
        )
    return [inputs[name] for name in names]


def _problem(spec: InputSpec, value: Any) -> str:
    shape = tuple(value.shape)
    ndim = len(shape)
    if spec.ndim is not None and ndim != spec.ndim and not spec.allow_last_axis_squeeze:
        return f"expected ndim={spec.ndim}, found ndim={ndim}"
    if spec.max_ndim is not None and ndim > spec.max_ndim:
        return f"expected max_ndim={spec.max_ndim}, found ndim={ndim}"
    if spec.min_ndim is not None and ndim < spec.min_ndim:
        return f"expected min_ndim={spec.min_ndim}, found ndim={ndim}"
    if spec.dtype is not None and dtype_of(value) != spec.dtype:
        return f"expected dtype={spec.dtype}, found dtype={dtype_of(value)}"
    for axis, size in spec.axes.items():
        found = shape[axis] if -ndim <= axis < ndim else None
        if size is not None and found is not None and not same(found, size):
            return f"expected axis {axis} of input shape to have value {size}"
    wanted = spec.shape
    if wanted is None:
        return ""
    if spec.allow_last_axis_squeeze:
        shape = shape[:-1] if shape and shape[-1] == 1 else shape
        wanted = wanted[:-1] if wanted and wanted[-1] == 1 else wanted
    sizes = zip(wanted, shape, strict=False)
    if len(wanted) != len(shape) or any(
        size is not None and found is not None and not same(found, size) for size, found in sizes
    ):
        found = as_none(tuple(value.shape))
        told = f"expected shape={spec.shape}, found shape={found}"
        if len(wanted) == len(found) and wanted[1:] == found[1:]:
            told += f": the batch size was fixed to {wanted[0]}"
        return told
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
