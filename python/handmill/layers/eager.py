"""Layers called on arrays: each keeps the programs that such calls need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from handmill import tree
from handmill.errors import ShapeError
from handmill.ir.arrays import array_of, check_readable
from handmill.ir.graph import current_graph
from handmill.ir.shapes import Spec, name_of_dtype
from handmill.ir.trace import array_masks, mask_of, recorder, recorders, with_mask
from handmill.layers.context import collected_losses
from handmill.layers.masks import warn_of_blank_rows
from handmill.runtime.structure import Constant
from handmill.runtime.variable import Variable


class _Array:
    """Stands for an array in the description of a call."""

    def __repr__(self) -> str:
        return "*"


_ARRAY = _Array()
_MASKED = _Array()
"""Stands for an array and for its mask."""


def call_on_arrays(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs ``layer`` on arrays; traced at the first call of each kind.

    Args:
        layer: a layer.
        args: nested arrays and plain arguments.
        kwargs: the same, by name.
    """
    leaves: list[Any] = []
    as_numbers = getattr(layer, "_as_numbers", None)  # of models, which may take strings
    if args and as_numbers is not None:
        args = (as_numbers(args[0]), *args[1:])
    if kwargs:
        warn_of_blank_rows(layer, kwargs.items())
    if args and type(args[0]) is dict:
        warn_of_blank_rows(layer, args[0].items())
    pattern = _split((_numbers(args, layer._convert_input_args), kwargs), leaves)
    recording = recorder() if recorders else None
    if recording is not None:
        found = _record(recording, layer, pattern, leaves)
        if found is not None:
            return found.value
    arrays = [x if isinstance(x, np.ndarray) else array_of(x) for x in leaves]
    if not arrays:
        raise ValueError(
            f"{layer.describe()} was called without any array or tensor: it received "
            f"{args!r}. Pass a NumPy array, or a tensor made by handmill.Input."
        )
    key = _key(pattern)
    run = layer._programs.get(key)
    if run is None:
        if len(layer._programs) >= _MOST_KINDS:
            layer._programs.clear()
        run = layer._programs[key] = _Call(layer, pattern)
        if key == _PLAIN and getattr(layer, "_host", None) is None:
            layer._programs[None] = run
    return run(*arrays)


_MOST_KINDS = 64
"""Kinds of calls of one layer whose programs it remembers."""


class _Recorded(NamedTuple):
    value: Any


def _record(recording: Any, layer: Any, pattern: Any, leaves: list[Any]) -> _Recorded | None:
    """Calls ``layer`` under a tape; None if nothing that the tape watches is involved."""
    key = "recorded", _key(pattern)
    call = layer._programs.get(key)
    if call is None:
        call = layer._programs[key] = _Call(layer, pattern, batched=False)
    operands = [recording.operand(x) for x in leaves]
    bound = call.bound(operands)
    variables = {slot: bound.variables[slot.index] for slot in bound.traced.variables}
    results = recording.inline(bound.traced, variables, operands)
    return None if results is None else _Recorded(call.nested(results, bound.trace.structure))


class _Call:
    """The program of one kind of call of one layer."""

    ignores_trainable = False

    def __init__(self, layer: Any, pattern: Any, batched: bool = True) -> None:
        from handmill.runtime.function import TracedFunction

        self._layer = layer
        self._pattern = pattern
        self._constant = Constant(pattern)
        self._function = TracedFunction(self._trace, layer.name, batched=batched, subject=self)

    def parts(self) -> tuple[Any, ...]:
        """What the program depends on."""
        return self._layer, self._constant, names_for(self._layer, self._pattern[0])

    def memo(self, before: Any) -> None:
        """Nothing: a call makes nothing but what it returns."""

    def prepare(self, memo: None, before: Any) -> tuple[()]:
        """There is nothing to make."""
        return ()

    def _trace(self, *values: Any) -> Any:
        from handmill.runtime.function import Outputs

        args, kwargs = _join(self._pattern, iter(values))
        with collected_losses() as added:
            outputs = self._layer._call_traced(current_graph(), args, kwargs)
        losses = [value for _, value in added]
        flat = [x for x in tree.flatten(outputs) if x is not None]
        masks = {i: mask for i, x in enumerate(flat) if (mask := mask_of(x)) is not None}
        if outputs is not None and not tree.is_nested(outputs) and not losses and not masks:
            return outputs
        nesting = tree.map_structure(lambda x: x is not None, outputs)
        return Outputs((*flat, *masks.values(), *losses), (nesting, len(flat), tuple(masks)))

    def __call__(self, *arrays: Any) -> Any:
        try:
            results = self._function(*arrays)
        except ShapeError as error:
            raise self._with_sizes(error, arrays)  # noqa: B904  (the same error, with all sizes)
        structure = self._function.structure_for(arrays)
        if structure is None and not self._layer._eager_losses:
            return results
        found = results if isinstance(results, tuple) else (results,)
        return self.nested(found, structure)

    def _with_sizes(self, error: ShapeError, arrays: Sequence[Any]) -> ShapeError:
        """The error of a call that takes exactly these sizes, so that it names the batch size."""
        if not self._layer.built:
            return error
        try:
            _Call(self._layer, self._pattern, batched=False).bound(arrays)
        except ShapeError as exact:
            return exact
        except Exception:  # what such a call lacks says less than the error that there is
            return error
        return error

    def bound(self, operands: Sequence[Any]) -> Any:
        """The traced program for operands of exactly these shapes, with its variables."""
        return self._function.signature(tuple(spec_of(x) for x in operands))

    def nested(self, results: Sequence[Any], structure: Any) -> Any:
        """Returns flat results as the layer does; takes the losses that it added."""
        if structure is None:
            if self._layer._eager_losses:
                self._layer._eager_losses = []
            return results[0]
        nesting, count, masked = structure
        losses = list(results[count + len(masked) :])
        if losses:
            forget_losses(self._layer)
        self._layer._eager_losses = losses
        for i, mask in zip(masked, results[count:], strict=False):
            with_mask(results[i], mask)
        values = iter(results[:count])
        leaves = [next(values) if filled else None for filled in tree.flatten(nesting)]
        return tree.pack_sequence_as(nesting, leaves)


def forget_losses(layer: Any) -> None:
    """Drops what earlier calls of ``layer``, and of layers inside, have added."""
    from handmill.layers.layer import all_layers

    for inner in all_layers(layer):
        if inner._eager_losses:
            inner._eager_losses = []


def spec_of(x: Any) -> Spec:
    """The spec of an array, a Variable or a recorded tensor."""
    return x.spec if hasattr(x, "spec") else Spec(x.shape, name_of_dtype(x.dtype))


def names_for(layer: Any, nesting: Any) -> tuple[str, ...]:
    """The names of all layers inside ``layer``, if data are matched to some of them by name."""
    from handmill.layers.layer import all_layers

    return tuple(x.name for x in all_layers(layer)) if _has_dict(nesting) else ()


def _has_dict(nesting: Any) -> bool:
    if isinstance(nesting, list | tuple):
        return any(_has_dict(item) for item in nesting)
    return isinstance(nesting, dict) and bool(nesting)


def _numbers(args: tuple[Any, ...], as_floats: bool) -> tuple[Any, ...]:
    """Returns ``args`` with lists of numbers made arrays.

    Args:
        args: nested arrays, lists and plain arguments.
        as_floats: whether numbers become float32; else whole ones stay whole.
    """

    def convert(x: Any) -> Any:
        if isinstance(x, list | tuple) and x and _holds_numbers(x):
            return array_of(x, np.float32 if as_floats else None)
        return x if as_floats or not _is_number(x) else np.asarray(x)

    return tuple(convert(x) for x in args)


def _holds_numbers(x: Any) -> bool:
    """Whether nested lists hold numbers alone."""
    return all(_holds_numbers(v) if isinstance(v, list | tuple) else _is_number(v) for v in x)


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float | np.number)


def _split(structure: Any, arrays: list[Any]) -> Any:
    def part(x: Any) -> Any:
        if isinstance(x, Variable | np.ndarray | np.generic) or (
            (hasattr(x, "__array__") or hasattr(x, "__dlpack__")) and not isinstance(x, type)
        ):
            if type(x) is not np.ndarray:
                check_readable(x)
            arrays.append(x)
            mask = None if type(x) is np.ndarray and not array_masks else mask_of(x)
            if mask is None:
                return _ARRAY
            arrays.append(mask)
            return _MASKED
        return x

    return tree.map_structure(part, structure)


def _join(pattern: Any, values: Any) -> Any:
    def part(x: Any) -> Any:
        if x is _MASKED:
            return with_mask(next(values), next(values))
        return next(values) if x is _ARRAY else x

    return tree.map_structure(part, pattern)


def _key(pattern: Any) -> Any:
    if isinstance(pattern, dict):
        return ("dict", *((key, _key(item)) for key, item in pattern.items()))
    if isinstance(pattern, list | tuple):
        return (type(pattern).__name__, *map(_key, pattern))
    try:
        hash(pattern)
    except TypeError:
        return id(pattern)
    return pattern


_PLAIN = _key(((_ARRAY,), {}))
